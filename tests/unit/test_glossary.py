"""The glossary: every term once, in both languages, in order, from all five families; the README leads to it."""

import re

from coursekit.course.units import course_root

FAMILIES = {"sharing", "low rank", "pruning", "quantization", "distillation"}
SUBJECTS = FAMILIES | {"measuring", "models"}


def rows(heading: str) -> list[list[str]]:
    text = (course_root() / "docs" / "glossary.md").read_text(encoding="utf-8")
    section = text.split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_every_term_is_there_once_with_both_languages_and_a_definition_in_each():
    terms = rows("By English term")
    assert len(terms) >= 60 and {len(row) for row in terms} == {5}
    for column in (0, 1):
        names = [row[column].casefold() for row in terms]
        assert all(names) and len(set(names)) == len(names)
    for english, korean, subject, definition, meaning in terms:
        assert subject in SUBJECTS, english
        assert re.search("[가-힣]", korean) or korean == english, english  # a name such as GPTQ stays
        assert re.search("[가-힣]", meaning) and meaning.endswith("."), english
        assert len(definition.split()) >= 4 and definition.endswith(".") and definition[0].isupper(), english


def test_it_is_sorted_in_both_languages():
    terms = rows("By English term")
    assert [row[0] for row in terms] == sorted((row[0] for row in terms), key=str.casefold)
    korean = rows("가나다순")
    assert korean == sorted([row[1], row[0]] for row in terms)


def test_the_five_families_are_in_it():
    terms = rows("By English term")
    for family in FAMILIES:
        assert sum(row[2] == family for row in terms) >= 5, family
    named = {row[0]: row[1] for row in terms}
    assert named["knowledge distillation"] == "지식 증류" and named["pruning"] == "가지치기"
    assert named["quantization"] == "양자화" and named["low-rank factorization"] == "저랭크 분해"
    assert named["weight sharing"] == "가중치 공유"


def test_the_readme_leads_to_it():
    assert "(docs/glossary.md)" in (course_root() / "README.md").read_text(encoding="utf-8")

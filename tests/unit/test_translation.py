"""Pairs of verses: parsed as data, aligned, split by chapter; and the vocabulary learned from them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coursekit.data import SubwordTokenizer, load_translation, train_tokenizer, without_brackets
from coursekit.data import translation as module
from coursekit.data.translation import _clean, _read_kjv


@pytest.fixture(scope="module")
def task():
    return load_translation("kjv-web")


@pytest.fixture(scope="module")
def tokenizer(task, tmp_path_factory):
    texts = [*task.train.sources, *task.train.targets]
    return train_tokenizer(texts, 1000, tmp_path_factory.mktemp("tokenizer") / "tokenizer.json")


def test_sizes_are_as_documented(task):
    splits = (task.train, task.validation, task.test)
    assert [len(split) for split in splits] == [13_992, 974, 1_015]
    assert [len(set(split.groups)) for split in splits] == [1_026, 81, 75]
    for split in splits:
        assert len(split.sources) == len(split.targets) == len(split.groups)
        assert all(1 <= len(text.split()) <= 24 for text in (*split.sources, *split.targets))


def test_no_chapter_and_no_source_is_in_two_splits(task):
    splits = (task.train, task.validation, task.test)
    for kind in ("groups", "sources"):
        held = [{text.lower() for text in getattr(split, kind)} for split in splits]
        assert not (held[0] & held[1] or held[0] & held[2] or held[1] & held[2])


def test_verses_are_aligned_and_clean(task):
    verses = {}
    for split in (task.train, task.validation, task.test):
        verses |= dict(zip(split.sources, zip(split.targets, split.groups, strict=True), strict=True))
    assert verses["Jesus wept."] == ("Jesus wept.", "John 11")
    assert verses["Thou shalt not steal."] == ('"You shall not steal.', "Exodus 20")
    texts = [*verses, *(target for target, _ in verses.values())]
    assert not any(mark in text for text in texts for mark in "{}<>’\n&")


def test_max_words_limits_both_sides():
    short = load_translation("kjv-web", max_words=6)
    assert 0 < len(short.train) < 1000
    assert max(len(text.split()) for text in (*short.train.sources, *short.train.targets)) == 6


@pytest.mark.parametrize(
    ("name", "words", "message"),
    [
        ("kjv-wb", 24, "unknown translation task 'kjv-wb'; nearest: kjv-web"),
        ("kjv-web", 0, "max_words must be at least 1, got 0"),
        ("kjv-web", 1, "no pair of kjv-web has at most 1 words a side"),
    ],
)
def test_bad_requests(name, words, message):
    with pytest.raises(ValueError, match=message):
        load_translation(name, max_words=words)


def test_the_python_file_is_parsed_and_never_run(tmp_path):
    file = tmp_path / "bible.py"
    file.write_text(
        'import no_such_module\nraise SystemExit\nbible = Bible(Version.X, """\nIn [the] one. So’s two.""", '
        "{1001001: 1, 1001002: 15}, {1001001: 14, 1001002: 24}, {Book.GENESIS: 1})\n"
    )
    assert _read_kjv(file) == {1001001: "In [the] one.", 1001002: "So's two."}


def test_footnotes_of_both_kinds_go(tmp_path, monkeypatch):
    rows = [["field"] * 5, ["01001001", "1", "1", "1", 'In{a ""note""} the {b}beginning']]
    monkeypatch.setattr(
        module, "_rows", lambda file: rows[1:] if "t_web" in file.name else [["1", "Genesis", "OT", "1"]]
    )
    assert module._read_web(tmp_path) == ({1001001: "In the beginning"}, {1: "Genesis"})


def test_cleaning_and_brackets():
    assert _clean(" &gt; Give  ear,\nO LORD’s &amp; ") == "Give ear, O LORD's &"
    assert without_brackets("God saw that [it was] good") == "God saw that it was good"


def test_tokenizer_gives_the_text_back(task, tokenizer):
    assert tokenizer.vocab_size == 1000
    assert (tokenizer.pad_id, tokenizer.start_id, tokenizer.end_id, tokenizer.unk_id) == (0, 1, 2, 3)
    for texts in (task.test.sources, task.test.targets):
        ids = tokenizer.encode(texts)
        assert all(row[-1] == tokenizer.end_id and tokenizer.unk_id not in row for row in ids)
        assert tokenizer.decode(ids) == texts


def test_tokenizer_of_an_empty_text_and_of_a_strange_character(tokenizer):
    assert tokenizer.encode([""]) == [[tokenizer.end_id]]
    assert tokenizer.unk_id in tokenizer.encode(["\u0f40"])[0]
    assert tokenizer.decode([[tokenizer.start_id, tokenizer.end_id, tokenizer.pad_id]]) == [""]


def test_the_same_texts_give_the_same_file(task, tmp_path):
    for name in ("a.json", "b.json"):
        train_tokenizer(task.validation.targets, 400, tmp_path / name)
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    again = SubwordTokenizer(tmp_path / "a.json")
    again.save(tmp_path / "c.json")
    assert SubwordTokenizer(tmp_path / "c.json").encode(["Behold"]) == again.encode(["Behold"])


@settings(deadline=None, max_examples=30)
@given(st.lists(st.text("abc ,.'", max_size=12), min_size=1, max_size=4))
def test_known_characters_survive(tokenizer, texts):
    cleaned = [" ".join(text.split()) for text in texts]
    assert tokenizer.decode(tokenizer.encode(cleaned)) == cleaned


def test_tokenizer_errors(tokenizer, tmp_path):
    with pytest.raises(ValueError, match="a vocabulary of 10 cannot hold 4 special pieces"):
        train_tokenizer(["the quick brown fox jumps over the lazy dog"], 10, tmp_path / "t.json")
    assert not (tmp_path / "t.json").exists()
    with pytest.raises(ValueError, match="texts must be a list of strings, got one string"):
        tokenizer.encode("Jesus wept.")
    with pytest.raises(ValueError, match="id 1000 is outside the vocabulary of 1000"):
        tokenizer.decode([[1000]])
    with pytest.raises(FileNotFoundError, match="no tokenizer at"):
        SubwordTokenizer(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(ValueError, match="is not a tokenizer file"):
        SubwordTokenizer(tmp_path / "bad.json")

"""The site: every lesson with its outputs, links that lead somewhere, formulas without a network, a search index."""

import json
import re
from html import unescape
from itertools import product

import nbformat
import pytest

from coursekit.course.book import build_book
from coursekit.course.book.pages import lesson_page
from coursekit.course.book.text import PageText, mathml
from coursekit.course.sources import read_source
from coursekit.course.units import FOLDERS, UNITS, course_root
from coursekit.viz.colours import contrast

BUILT = [unit for unit in UNITS if unit.open_in(course_root())]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The book of a checkout that has only the units whose notebooks are built."""
    root = tmp_path_factory.mktemp("course")
    for unit in BUILT:
        for kind in FOLDERS:
            for path in (unit.source(kind, course_root()), unit.notebook(kind, course_root())):
                copy = root / path.relative_to(course_root())
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_bytes(path.read_bytes())
    (root / "docs").mkdir()
    (root / "docs" / "glossary.md").write_bytes((course_root() / "docs" / "glossary.md").read_bytes())
    folder = root / "build" / "book"
    build_book(folder, root=root)
    return {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.*")}, folder, root


def test_there_is_a_page_for_each_lesson_and_the_glossary(site):
    pages, folder, _ = site
    lessons = [f"{unit.stem}.html" for unit in BUILT]
    assert set(pages) == {"index.html", "glossary.html", "book.css", "book.js", "search.js", *lessons}
    for unit in BUILT:
        assert f"<title>{unit.number} · {unit.title} · " in pages[f"{unit.stem}.html"]
        assert (folder / "exercises" / f"{unit.stem}.ipynb").is_file()


def test_every_figure_and_output_is_there_and_the_cell_for_colab_is_not(site):
    pages, _, _ = site
    for unit in BUILT:
        page = pages[f"{unit.stem}.html"]
        cells = nbformat.read(unit.notebook("lesson", course_root()), as_version=4).cells
        outputs = [output for cell in cells for output in cell.get("outputs", [])]
        images = [output for output in outputs if "image/png" in output.get("data", {})]
        assert page.count("<img ") == len(images)
        for output in images:
            alt = re.search(re.escape(output.data["image/png"].strip()[-60:]) + r'" alt="([^"]+)"', page)
            assert alt and unescape(alt[1]) == output.metadata["image/png"]["alt"]
        assert page.count('class="printed"') >= sum(output.output_type == "stream" for output in outputs)
        assert "google.colab" not in page


def test_every_address_is_in_the_site_or_elsewhere_on_purpose(site):
    pages, folder, _ = site
    anchors = {name: set(re.findall(r'id="([^"]+)"', page)) for name, page in pages.items()}
    for name in (name for name in pages if name.endswith(".html")):
        for address in re.findall(r'(?:href|src)="([^"]+)"', pages[name]):
            if re.match("https?://|data:", address):
                assert (
                    not re.search(rf'(src|stylesheet" href)="{re.escape(address)}', pages[name]) or "data:" in address
                )
                continue
            file, _, anchor = address.partition("#")
            assert not file or (folder / file).is_file(), f"{name}: {address}"
            assert not anchor or anchor in anchors[file or name], f"{name}: {address}"


def test_pages_follow_each_other_and_headings_are_in_order(site):
    pages, _, _ = site
    names = [f"{unit.stem}.html" for unit in BUILT] + ["glossary.html"]
    for name, after in zip(names, names[1:], strict=False):
        assert f'rel="next" href="{after}"' in pages[name] and f'rel="prev" href="{name}"' in pages[after]
    for name in names:
        levels = [int(level) for level in re.findall(r"<h([1-6]) id=", pages[name])]
        assert levels[0] == 1 and levels.count(1) == 1
        assert all(after <= before + 1 for before, after in zip(levels, levels[1:], strict=False))


def test_the_search_knows_every_section(site):
    pages, _, _ = site
    sections = json.loads(pages["search.js"].removeprefix("const SECTIONS = ").removesuffix(";\n"))
    for unit in BUILT:
        page = f"{unit.stem}.html"
        headings = re.findall(r'<h\d id="([^"]+)"', pages[page])
        assert [section["anchor"] for section in sections if section["page"] == page] == headings
    assert any("Sandwich" in section["text"] for section in sections)
    assert not any("<details>" in section["text"] or "\\frac" in section["text"] for section in sections)


def test_a_second_book_takes_the_place_of_the_first_and_nothing_else(site, tmp_path):
    pages, folder, root = site
    (folder / "old.html").write_text("")
    build_book(folder, root=root)
    assert not (folder / "old.html").exists() and (folder / "index.html").is_file()
    (tmp_path / "photo.jpg").write_text("")
    with pytest.raises(ValueError, match="holds something else"):
        build_book(tmp_path, root=root)
    assert (tmp_path / "photo.jpg").exists()


def test_every_formula_of_the_course_can_be_drawn():
    count = 0
    for unit in UNITS:
        for kind in ("lesson", "solution"):
            if unit.source(kind, course_root()).is_file():
                text = PageText(lambda url: url)
                cells = read_source(unit, kind, course_root()).cells
                made = "".join(text.to_html(cell.source) for cell in cells if cell.cell_type == "markdown")
                count += made.count("<math ")
                assert "$" not in re.sub(r"<code>.*?</code>|alttext=\"[^\"]*\"", "", made, flags=re.DOTALL), unit.stem
    assert count > 100


def test_formulas():
    assert "<msup><mi>x</mi><mn>2</mn></msup>" in mathml("x^2", "inline") and 'display="inline"' in mathml(
        "x", "inline"
    )
    matrix = mathml(r"\begin{pmatrix} 1 & 2 \\ 0 & 1 \end{pmatrix}", "block")
    assert matrix.count('stretchy="true"') == 2 and matrix.count("<mtd>") == 4 and 'display="block"' in matrix
    assert 'alttext="a &lt; b"' in mathml("a &lt; b", "inline")
    with pytest.raises(ValueError, match=r"'\\\\nonsense\{x\}' cannot be converted"):
        mathml(r"\nonsense{x}", "inline")


def test_text():
    text = PageText({"01.ipynb": "01.html"}.get)
    assert '<a href="01.html">one</a>' in text.to_html("[one](01.ipynb)")
    assert text.to_html("[two](02.ipynb)") == "<p>two</p>\n"
    text.to_html("## A `b`\n\n## A b\n")
    assert text.headings == [(2, "a-b", "A b"), (2, "a-b-2", "A b")]


def test_an_output_that_cannot_be_shown_is_named():
    output = nbformat.v4.new_output("display_data", {"application/json": {}})
    cell = nbformat.v4.new_code_cell("x", id="odd", outputs=[output])
    with pytest.raises(ValueError, match="cell 'odd' has an output that the book cannot show: application/json"):
        lesson_page(nbformat.v4.new_notebook(cells=[cell]), lambda url: url)


def test_a_lesson_that_is_not_built_is_named(tmp_path):
    for kind in ("lesson", "solution"):
        path = UNITS[0].source(kind, tmp_path)
        path.parent.mkdir(parents=True)
        path.write_text("# %%\nx = 1\n")
    with pytest.raises(ValueError, match="notebooks/00_measuring.ipynb or its exercise is not built; run `coursekit"):
        build_book(tmp_path / "book", root=tmp_path)


def _long(colour):
    return "#" + "".join(2 * digit for digit in colour[1:]) if len(colour) == 4 else colour


def test_words_and_the_focus_can_be_seen():
    """Words need a contrast of 4.5 to every ground they may stand on, the frame around what has the focus 3."""
    sheet = (course_root() / "coursekit" / "course" / "book" / "assets" / "book.css").read_text(encoding="utf-8")
    named = {name: _long(colour) for name, colour in re.findall(r"--(\w+): (#[0-9a-f]{3,6});", sheet)}
    grounds = {named["ground"], named["code"]} | {_long(c) for c in re.findall(r"background: (#[0-9a-f]{3,6});", sheet)}
    words = {named[name] for name in ("ink", "soft", "link")} | {
        _long(colour) for colour in re.findall(r"[{ ;]color: (#[0-9a-f]{3,6});", sheet)
    }
    assert len(words) >= 4 and len(grounds) >= 3
    assert [pair for pair in product(words, grounds) if contrast(*pair) < 4.5] == []
    [frame] = re.findall(r":focus-visible \{ outline: 3px solid (#[0-9a-f]{6})", sheet)
    assert min(contrast(frame, ground) for ground in grounds) >= 3

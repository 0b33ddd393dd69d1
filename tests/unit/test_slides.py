"""Headings and figures of a lesson are slides, as `jupyter nbconvert --to slides` makes them."""

import re

import nbformat
import pytest
from nbconvert import SlidesExporter

from coursekit.course.slides import slide_type
from coursekit.course.units import UNITS, course_root

BUILT = [unit for unit in UNITS if unit.open_in(course_root())]


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        (nbformat.v4.new_markdown_cell("# Title\n\nWords."), "slide"),
        (nbformat.v4.new_markdown_cell("## Section"), "slide"),
        (nbformat.v4.new_markdown_cell("### Part"), "subslide"),
        (nbformat.v4.new_markdown_cell("#### Deep"), "skip"),
        (nbformat.v4.new_markdown_cell("Words, then\n## no heading of the cell"), "skip"),
        (nbformat.v4.new_code_cell("x = 1\nshow(draw(x), alt='a', caption='c')"), "subslide"),
        (nbformat.v4.new_code_cell("explore(draw, x=(1, 2), alt='a', caption='c')"), "subslide"),
        (nbformat.v4.new_code_cell("print('show(this)')"), "skip"),
    ],
)
def test_what_is_a_slide(cell, expected):
    assert slide_type(cell) == expected


@pytest.mark.parametrize("unit", BUILT, ids=[unit.number for unit in BUILT])
def test_every_figure_of_a_lesson_is_on_a_slide(unit):
    lesson = nbformat.read(unit.notebook("lesson", course_root()), as_version=4)
    for cell in lesson.cells:
        if any("image/png" in output.get("data", {}) for output in cell.get("outputs", [])):
            assert cell.metadata.slideshow.slide_type == "subslide", cell.id


def test_nbconvert_makes_them():
    lesson = nbformat.read(BUILT[0].notebook("lesson", course_root()), as_version=4)
    page = SlidesExporter(exclude_input=True).from_notebook_node(lesson)[0]
    kinds = [cell.metadata.slideshow.slide_type for cell in lesson.cells]
    assert page.count("<section>") == kinds.count("slide") + kinds.count("subslide") + kinds.count("slide")
    assert len(re.findall(r"<img[^>]+data:image/png", page)) == sum(
        "image/png" in output.get("data", {}) for cell in lesson.cells for output in cell.get("outputs", [])
    )
    assert "import torch" not in page and "google.colab" not in page

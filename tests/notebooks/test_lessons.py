"""Every lesson runs from top to bottom and prints what is stored where it says so."""

import nbformat
import pytest

from coursekit.course.units import UNITS, course_root

READY = [unit for unit in UNITS if unit.ready]
COMPARED_AT_LEAST = 5


@pytest.mark.parametrize("unit", READY, ids=[unit.stem for unit in READY])
def test_enough_of_the_lesson_is_compared(unit, compared):
    lesson = nbformat.read(unit.notebook("lesson", course_root()), as_version=4)
    assert len(compared(lesson)) >= COMPARED_AT_LEAST


@pytest.mark.parametrize("unit", READY, ids=[unit.stem for unit in READY])
def test_lesson(unit, validate):
    path = unit.notebook("lesson", course_root())
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    result = validate(path)
    assert result.ok and result.passed == len(cells), result.report

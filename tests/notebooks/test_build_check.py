"""The notebooks are what their sources make, with outputs of the code they show."""

import nbformat

from coursekit.course.build import build
from coursekit.course.units import find_unit

WRITTEN = ("00", "01", "02", "03", "04", "05", "06", "07", "08", "09", "10")


def test_the_written_units_are_there():
    assert [number for number in WRITTEN if not find_unit(number).ready] == []


def test_every_notebook_matches_its_source():
    assert build(check=True).problems == []


def test_validation_runs_cells_and_compares_tagged_ones(validate, tmp_path):
    """The tests beside this one can fail: a stored output that the code does not print is found."""
    stored = nbformat.v4.new_output("stream", text="5\n")
    tags = {"tags": ["nbval-check-output"]}
    cells = [
        nbformat.v4.new_code_cell("print(2 + 3)", execution_count=1, outputs=[stored], metadata=tags),
        nbformat.v4.new_code_cell("print(2 + 4)", execution_count=2, outputs=[stored]),
    ]
    path = tmp_path / "sum.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    right = validate(path)
    assert right.ok and right.passed == 2, right.report
    cells[0].source = "print(2 + 4)"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    wrong = validate(path)
    assert not wrong.ok and "Cell outputs differ" in wrong.report

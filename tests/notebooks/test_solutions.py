"""Every solution runs and its checks say right; every fresh exercise runs and its checks say not attempted."""

import nbformat
import pytest

from coursekit.course.execute import execute_notebook
from coursekit.course.progress import separate_progress
from coursekit.course.run import start
from coursekit.course.tasks import unit_tasks
from coursekit.course.units import UNITS, course_root

READY = [unit for unit in UNITS if unit.ready]


def checks(notebook):
    return [cell for cell in notebook.cells if cell.metadata.get("nbgrader", {}).get("grade")]


def answers(notebook):
    """What each check cell says, by its grade id."""
    said = {cell.metadata.nbgrader.grade_id: cell.outputs for cell in checks(notebook)}
    texts = {name: [output.get("data", {}).get("text/plain", "") for output in said[name]] for name in said}
    return {name: " ".join(parts).strip() for name, parts in texts.items()}


def expected(unit, answer):
    return {f"{task.id.replace('.', '_')}_check": f"{task.id} {answer}" for task in unit_tasks(unit.number)}


@pytest.mark.parametrize("unit", READY, ids=[unit.stem for unit in READY])
def test_every_task_has_a_stored_check_that_is_compared(unit, compared):
    solution = nbformat.read(unit.notebook("solution", course_root()), as_version=4)
    assert 4 <= len(unit_tasks(unit.number)) <= 8
    assert answers(solution) == expected(unit, "right")
    assert {cell.id for cell in checks(solution)} <= set(compared(solution))


@pytest.mark.parametrize("unit", READY, ids=[unit.stem for unit in READY])
def test_solution(unit, validate):
    path = unit.notebook("solution", course_root())
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    result = validate(path)
    assert result.ok and result.passed == len(cells), result.report


@pytest.mark.parametrize("unit", READY, ids=[unit.stem for unit in READY])
def test_a_fresh_exercise_runs_to_its_end(unit, tmp_path):
    exercise = unit.notebook("exercise", course_root())
    copy = unit.notebook("exercise", tmp_path)
    copy.parent.mkdir()
    copy.write_bytes(exercise.read_bytes())
    path = start(unit.number, root=tmp_path).path
    fresh = nbformat.read(path, as_version=4)
    with separate_progress():
        done = execute_notebook(fresh, name=f"my-work/{path.name}", folder=path.parent, timeout=600)
    assert answers(done) == expected(unit, "not attempted")

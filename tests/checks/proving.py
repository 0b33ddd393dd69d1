"""Proof of a check: the reference is right, and wrong answers fail, each with its own message."""

import ast
from collections.abc import Mapping
from functools import cache

from coursekit.course.check import run_check
from coursekit.course.sources import read_source
from coursekit.course.tasks import find_task
from coursekit.course.units import course_root, find_unit

SEEDS = range(12)


@cache
def solution_cells(unit: str) -> tuple[list, dict[str, object]]:
    """Cells of a unit's solution, and the namespace after its first code cell and its answer cells have run."""
    cells = [cell for cell in read_source(find_unit(unit), "solution", course_root()).cells if cell.cell_type == "code"]
    names: dict[str, object] = {"__name__": "solution"}
    for cell in cells:
        if cell is cells[0] or _marks(cell).get("solution"):
            exec(compile(cell.source, f"<{cell.id}>", "exec"), names)
    return cells, names


def _marks(cell) -> dict:
    return cell.metadata.get("nbgrader", {})


def reference(task_id: str) -> object:
    """What the solution's check cell gives to `check`, evaluated after all answer cells."""
    cells, names = solution_cells(task_id[:2])
    (cell,) = (cell for cell in cells if _marks(cell).get("grade_id") == f"{task_id.replace('.', '_')}_check")
    calls = [node for node in ast.walk(ast.parse(cell.source)) if isinstance(node, ast.Call)]
    (call,) = (node for node in calls if ast.unparse(node.func) == "check" and node.args[0].value == task_id)
    return eval(ast.unparse(call.args[1]), names)


def prove(task_id: str, wrong: Mapping[str, object]) -> None:
    """Reference and stand-in are right for every seed; each answer in `wrong`, keyed by a part of the message it
    must get, is wrong for every seed; no two get one message; nothing attempted is said so.
    """
    task = find_task(task_id)
    for name, answer in (("the reference", reference(task_id)), ("the stand-in", task.stand_in())):
        for seed in SEEDS:
            result = run_check(task, answer, seed=1000 * seed)
            assert result.status == "right", f"{name}, seed {seed}: {result}"
    assert run_check(task, None).status == "not attempted"
    result = run_check(task, _stub)
    assert result.status == ("not attempted" if task.signature else "wrong"), f"a stub: {result}"
    assert len(wrong) >= 3, f"{task_id}: at least three wrong answers expected, got {len(wrong)}"
    for words, answer in wrong.items():
        for seed in SEEDS:
            result = run_check(task, answer, seed=1000 * seed)
            assert result.status == "wrong", f"{words!r}, seed {seed}: {result}"
            assert words in result.message, f"expected {words!r}, seed {seed}: {result}"
            others = [other for other in wrong if other != words and other in result.message]
            assert not others, f"{words!r} also reads as {others}: {result}"


def _stub(*args, **kwargs):
    raise NotImplementedError  # your code here

"""A check says of a function across the wire what it says of the function itself, for every task there is."""

import importlib.util
import socket
import threading
from functools import cache
from types import ModuleType

import pytest

from coursekit.course.check import run_check
from coursekit.course.grading import packing
from coursekit.course.grading.peer import Peer
from coursekit.course.grading.wire import Channel, WireError
from coursekit.course.tasks import find_task, task_units, unit_tasks
from coursekit.course.units import course_root

CHECKS = course_root() / "tests" / "checks"
TASKS = [task.id for unit in task_units() for task in unit_tasks(unit)]
SEED = 11


@cache
def module(name: str) -> ModuleType:
    """A module of tests/checks."""
    spec = importlib.util.spec_from_file_location(name, CHECKS / f"{name}.py")
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def across(task, answer):
    """The check's result with the answer on the other side of a wire."""
    ours, theirs = socket.socketpair()

    def serve():
        try:
            Peer(Channel(theirs), "w").serve(lambda peer, message: answer)
        except WireError:  # we hung up
            pass

    other = threading.Thread(target=serve, daemon=True)
    other.start()
    try:
        return run_check(task, Peer(Channel(ours), "j").ask({"op": "load"}), seed=SEED)
    finally:
        ours.close()
        other.join(10)
        theirs.close()


@pytest.mark.parametrize("task_id", TASKS)
def test_every_answer_is_judged_alike(task_id, monkeypatch):
    monkeypatch.syspath_prepend(str(CHECKS))
    private = packing.is_private  # classes of test modules stand for a learner's
    monkeypatch.setattr(packing, "is_private", lambda kind: private(kind) or kind.__module__.startswith("test_unit_"))
    proving, unit = module("proving"), module(f"test_unit_{task_id[:2]}")
    task = find_task(task_id)
    assert across(task, proving.reference(task_id)).status == "right"
    for words, answer in unit.WRONG[task_id].items():
        here, there = run_check(task, answer, seed=SEED), across(task, answer)
        assert there.status == "wrong", f"{words}: {there}"
        if ", raises " not in here.message:  # which names lines that are not those of a notebook
            assert there.message == here.message

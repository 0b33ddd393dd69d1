"""The checked tasks: one module `unit_NN` per unit, each with a tuple `TASKS`."""

import pkgutil
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module

from coursekit.errors import unknown_name

Hints = tuple[str, str, str]


@dataclass(frozen=True)
class Task:
    """One exercise that can be checked.

    `check(answer, draw)` gets the learner's object and a `coursekit.course.expect.Draw` of fresh inputs; it
    returns, or raises `Wrong` with a message that names the mistake. It runs `draws` times, `seconds` in all.
    `stand_in()` returns the library's own object for learners who go on without theirs.
    `signature` is the function's, as in the exercise ("f(x, *, bits=8)"); empty if the answer is no function.
    """

    id: str
    title: str
    minutes: int
    difficulty: int
    importance: int
    points: int
    hints: Hints
    check: Callable[..., None]
    stand_in: Callable[[], object]
    signature: str = ""
    draws: int = 3
    seconds: float = 10.0

    def __post_init__(self):
        if not re.fullmatch(r"\d\d\.[1-9]\d*", self.id):
            raise ValueError(f"a task id is unit.task, like 01.1; got {self.id!r}")
        for name in ("difficulty", "importance"):
            if not 1 <= getattr(self, name) <= 5:
                raise ValueError(f"task {self.id}: {name} is 1 to 5, got {getattr(self, name)}")
        if len(self.hints) != 3:
            raise ValueError(f"task {self.id}: three hints expected, got {len(self.hints)}")

    @property
    def unit(self) -> str:
        """The unit's number, two digits."""
        return self.id[:2]


def task_units() -> list[str]:
    """Numbers of the units that have checked tasks, in order."""
    names = (module.name for module in pkgutil.iter_modules(__path__))
    return sorted(name[5:] for name in names if re.fullmatch(r"unit_\d\d", name))


@cache
def unit_tasks(unit: str) -> tuple[Task, ...]:
    """The tasks of a unit ("01"); raises ValueError for a unit without tasks or a module that breaks the rules."""
    if unit not in task_units():
        raise unknown_name("unit with checked tasks", unit, task_units())
    tasks = import_module(f"{__name__}.unit_{unit}").TASKS
    expected = [f"{unit}.{number}" for number in range(1, len(tasks) + 1)]
    if [task.id for task in tasks] != expected:
        raise ValueError(f"unit {unit}: task ids should be {expected}, got {[task.id for task in tasks]}")
    return tuple(tasks)


def find_task(task_id: str) -> Task:
    """The task with this id ("01.1"); raises ValueError with the nearest ids for an unknown one."""
    text = str(task_id)
    known = unit_tasks(text[:2]) if text[:2] in task_units() else ()
    for task in known:
        if task.id == text:
            return task
    names = known or [task for unit in task_units() for task in unit_tasks(unit)]
    raise unknown_name("task", text, [task.id for task in names])

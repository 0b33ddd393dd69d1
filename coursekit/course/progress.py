"""What a learner has done so far: a local JSON file that several kernels can write to."""

import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import platformdirs
from filelock import FileLock

from coursekit.course import page
from coursekit.course.tasks import Task, task_units, unit_tasks
from coursekit.course.units import course_root, find_unit
from coursekit.files import write_json

LOCK_SECONDS = 10
Entry = dict[str, Any]


def progress_file() -> Path:
    """COURSEKIT_PROGRESS, or my-work/progress.json in the course, or, without a course, in the user's data folder."""
    if given := os.environ.get("COURSEKIT_PROGRESS"):
        return Path(given)
    try:
        return course_root() / "my-work" / "progress.json"
    except FileNotFoundError:
        return Path(platformdirs.user_data_dir("coursekit")) / "progress.json"


def read_progress() -> dict[str, Entry]:
    """What is recorded of each task: `status` and `message` of the last check, how many `checks` and `hints`,
    and `solved`, the time it was first right.

    A file that is not what we wrote is set aside, with one line on stderr, and progress starts anew.
    """
    path = progress_file()
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except UnicodeDecodeError:
        text = ""
    try:
        tasks = json.loads(text)["tasks"]
        if all(_is_entry(entry) for entry in tasks.values()):
            return tasks
    except (ValueError, LookupError, TypeError, AttributeError):
        pass
    aside = _free_name(path)
    os.replace(path, aside)
    print(f"coursekit: {path} could not be read; it is kept as {aside.name}, progress starts anew", file=sys.stderr)
    return {}


def _is_entry(entry: object) -> bool:
    return isinstance(entry, dict) and all(type(entry.get(name, 0)) is int for name in ("checks", "hints"))


def _free_name(path: Path) -> Path:
    number = 1
    while (aside := path.with_name(f"{path.stem}.unreadable-{number}.json")).exists():
        number += 1
    return aside


@contextmanager
def _entry(task_id: str) -> Iterator[Entry]:
    """The task's entry, to be changed in place; read and written under a lock, so no other kernel's is lost."""
    path = progress_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(path.name + ".lock"), timeout=LOCK_SECONDS):
        tasks = read_progress()
        entry = {"status": "not attempted", "checks": 0, "hints": 0, "solved": None} | tasks.get(task_id, {})
        yield entry
        write_json(path, {"version": 1, "tasks": dict(sorted((tasks | {task_id: entry}).items()))})


@contextmanager
def separate_progress() -> Iterator[None]:
    """Checks that run meanwhile, here or in kernels started from here, are recorded in a file of their own."""
    before = os.environ.get("COURSEKIT_PROGRESS")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["COURSEKIT_PROGRESS"] = str(Path(folder) / "progress.json")
        try:
            yield
        finally:
            if before is None:
                del os.environ["COURSEKIT_PROGRESS"]
            else:
                os.environ["COURSEKIT_PROGRESS"] = before


def record_check(task_id: str, status: str, message: str = "") -> None:
    """Note the result of a check; a file that cannot be written costs one line, not the check."""
    try:
        with _entry(task_id) as entry:
            entry |= {"status": status, "message": message}
            if status != "not attempted":
                entry["checks"] += 1
            if status == "right":
                entry["solved"] = entry["solved"] or datetime.now(UTC).isoformat(timespec="seconds")
    except OSError as error:
        print(f"coursekit: progress is not recorded: {error}", file=sys.stderr)


def next_hint(task_id: str) -> int:
    """Count one more hint of this task as used and return which it is: 1, 2, 3, and 4 for the answer."""
    number = 1
    try:
        with _entry(task_id) as entry:
            number = entry["hints"] = min(entry["hints"] + 1, 4)
    except OSError as error:
        print(f"coursekit: progress is not recorded: {error}", file=sys.stderr)
    return number


@dataclass(frozen=True)
class UnitProgress:
    """One unit's line: tasks right (now or before), attempted, in all; points; hints and answers looked at."""

    unit: str
    title: str
    right: int
    attempted: int
    total: int
    points: int
    possible: int
    hints: int


@dataclass(frozen=True)
class TaskProgress:
    """One task: what it is, and where the learner stands. `hints` is 4 where the answer was shown."""

    task: str
    title: str
    difficulty: int
    importance: int
    minutes: int
    state: str
    hints: int


COLUMNS = ("unit", "title", "right", "attempted", "tasks", "points", "of", "hints")
TASK_COLUMNS = ("task", "title", "state", "difficulty", "importance", "minutes", "help")


@dataclass(frozen=True, repr=False)
class Progress:
    """Per unit and task what is done; a table in a notebook and in a terminal."""

    units: tuple[UnitProgress, ...]
    tasks: tuple[TaskProgress, ...] = ()

    def rows(self) -> list[tuple[str, ...]]:
        """The cells of the table, as COLUMNS."""
        return [tuple(str(cell) for cell in asdict(unit).values()) for unit in self.units]

    def __repr__(self) -> str:
        rows = [COLUMNS, *self.rows()]
        widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
        lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
        return "\n".join(lines)

    def __rich__(self):
        from rich.table import Table

        table = Table(*COLUMNS)
        for row in self.rows():
            table.add_row(*row)
        return table

    def _repr_html_(self) -> str:
        rows = [
            (page.text(f"{unit.unit} · {unit.title}"), page.bar(unit.right, unit.total), *map(str, _counts(unit)))
            for unit in self.units
        ]
        right, total = sum(unit.right for unit in self.units), sum(unit.total for unit in self.units)
        caption = f"{right} of {total} tasks are right."
        folds = "".join(self._task_fold(unit) for unit in self.units)
        return page.table(("unit", "tasks right", "points", "hints"), rows, caption) + folds

    def _task_fold(self, unit: UnitProgress) -> str:
        rows = []
        for each in self.tasks:
            if each.task.startswith(f"{unit.unit}."):
                numbers = (f"{each.difficulty} of 5", f"{each.importance} of 5", str(each.minutes))
                cells = (each.title, each.state, *numbers, _help(each.hints))
                rows.append([page.text(cell) for cell in (each.task, *cells)])
        return page.fold(f"{unit.unit} · {unit.title}, task by task", page.table(TASK_COLUMNS, rows)) if rows else ""


def _counts(unit: UnitProgress) -> tuple[str, int]:
    return f"{unit.points} of {unit.possible}", unit.hints


def _help(hints: int) -> str:
    return "the answer" if hints > 3 else f"{hints} of 3 hints" if hints else ""


def progress() -> Progress:
    """What is done of every unit that has checked tasks."""
    entries = read_progress()
    units = task_units()
    tasks = (_task_progress(task, entries.get(task.id, {})) for unit in units for task in unit_tasks(unit))
    return Progress(tuple(_unit_progress(unit, entries) for unit in units), tuple(tasks))


def _task_progress(task: Task, entry: Entry) -> TaskProgress:
    state = "right" if entry.get("solved") else entry.get("status", "not attempted")
    if state == "wrong" and entry.get("message"):
        state = f"wrong: {entry['message']}"
    about = (task.id, task.title, task.difficulty, task.importance, task.minutes)
    return TaskProgress(*about, state=state, hints=entry.get("hints", 0))


def _unit_progress(unit: str, entries: dict[str, Entry]) -> UnitProgress:
    tasks = unit_tasks(unit)
    solved = [task for task in tasks if entries.get(task.id, {}).get("solved")]
    return UnitProgress(
        unit=unit,
        title=find_unit(unit).title,
        right=len(solved),
        attempted=sum(1 for task in tasks if entries.get(task.id, {}).get("checks")),
        total=len(tasks),
        points=sum(task.points for task in solved),
        possible=sum(task.points for task in tasks),
        hints=sum(entries.get(task.id, {}).get("hints", 0) for task in tasks),
    )

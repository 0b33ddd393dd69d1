"""Running units without a browser, the work profile, and starting a unit's exercise."""

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from coursekit.course import page
from coursekit.course.units import UNITS, course_root, find_unit
from coursekit.errors import unknown_name
from coursekit.files import atomic_file

if TYPE_CHECKING:
    from coursekit.course.execute import Progress

T = TypeVar("T")
PROFILES = ("quick", "full")


def profile() -> str:
    """How much work to do, from COURSEKIT_PROFILE: "quick" (the default) or "full"; ValueError for others."""
    name = os.environ.get("COURSEKIT_PROFILE") or "quick"
    if name not in PROFILES:
        raise unknown_name("profile (COURSEKIT_PROFILE)", name, PROFILES)
    return name


def by_profile(*, quick: T, full: T) -> T:
    """The value for the profile in force.

    >>> steps = by_profile(quick=60, full=600)
    """
    return {"quick": quick, "full": full}[profile()]


@dataclass(frozen=True)
class UnitResult:
    """How one notebook ran: `kind` is "lesson" or "solution"; `error` is one line, empty if `ok`."""

    unit: str
    kind: str
    seconds: float
    ok: bool
    error: str = ""


def run(
    units: Iterable[str | int] | None = None,
    *,
    profile: str = "quick",
    record: bool = False,
    root: Path | None = None,
    progress: "Progress | None" = None,
) -> list[UnitResult]:
    """Run lesson and solution of `units` (by default of all that are ready), one after the other.

    The stored notebooks stay as they are, but for the time, which is noted in them with `record` and goes into time
    plans. A notebook fails if a cell raises or if a check is not answered right.
    Raises ValueError for an unknown unit, one that is not written yet, an unknown profile, or a time to be noted of
    another profile than "quick"; RuntimeError for one to be noted on a busy machine.
    """
    if profile not in PROFILES:
        raise unknown_name("profile", profile, PROFILES)
    if record:
        _can_record(profile)
    root = root or course_root()
    chosen = [unit for unit in UNITS if unit.ready_in(root)] if units is None else [find_unit(u) for u in units]
    for unit in chosen:
        if not unit.ready_in(root):
            raise ValueError(f"unit {unit.stem} is not written yet; ready: {_ready_names(root)}")
    results = []
    for unit in chosen:
        for kind in ("lesson", "solution"):
            start = time.perf_counter()
            error = _run_notebook(unit.notebook(kind, root), root, profile, progress)
            seconds = time.perf_counter() - start
            if record and not error:
                _record(unit.notebook(kind, root), seconds)
            results.append(UnitResult(unit.number, kind, seconds, not error, error))
    return results


def _run_notebook(path: Path, root: Path, profile: str, progress: "Progress | None") -> str:
    """Run a copy of one notebook; what went wrong in one line, or an empty string."""
    import nbformat  # together half a second: not for `coursekit --help`, nor for lessons that ask for the profile

    from coursekit.course.execute import NotebookFailed, execute_notebook
    from coursekit.course.progress import separate_progress

    name = path.relative_to(root).as_posix()
    try:
        stored = nbformat.read(path, as_version=4)
        with separate_progress():  # its right answers are not the learner's
            done = execute_notebook(stored, name=name, folder=path.parent, profile=profile, progress=progress)
    except FileNotFoundError:
        return f"{name}: missing; run `coursekit build`"
    except NotebookFailed as error:
        return str(error)
    for cell in done.cells:
        if cell.metadata.get("nbgrader", {}).get("grade"):
            said = " ".join(output.get("data", {}).get("text/plain", "") for output in cell.outputs)
            if said.split()[1:2] != ["right"]:  # as in "01.1 right"
                return f"{name}, cell {cell.id!r}: {said.strip() or 'the check says nothing'}"
    return ""


def _can_record(profile: str) -> None:
    from coursekit.course.outputs import busy

    if profile != "quick":
        raise ValueError(f"times are noted of the quick profile; got {profile!r}")
    if busy():
        raise RuntimeError("other programs keep this machine busy: the times would not be the lessons'; try later")


def _record(path: Path, seconds: float) -> None:
    import nbformat

    from coursekit.course.outputs import note_time

    stored = nbformat.read(path, as_version=4)
    note_time(stored, seconds)
    with atomic_file(path) as part:
        part.write_text(nbformat.writes(stored) + "\n", encoding="utf-8")


def _ready_names(root: Path) -> str:
    return ", ".join(unit.stem for unit in UNITS if unit.ready_in(root)) or "none"


@dataclass(frozen=True, repr=False)
class Started:
    """Where the learner's copy of an exercise is, whether it was there before, and the backup made, if any."""

    path: Path
    kept: bool
    backup: Path | None = None

    def __repr__(self) -> str:
        return f"{self.path}: {'there already, kept' if self.kept else 'ready'}"

    def _repr_html_(self) -> str:
        opens = page.link(page.towards(self.path), f"my-work/{self.path.name}")
        return f"{opens}: {'there already, kept' if self.kept else 'ready'}; click to open it"


def start(unit: str | int, *, fresh: bool = False, root: Path | None = None) -> Started:
    """Copy the exercise of a unit to `my-work/`; a copy that is there already is kept.

    With `fresh` it is moved aside under today's date and time, and a new copy made. Raises ValueError for an unknown
    unit or one that is not written yet.
    """
    root = root or course_root()
    found = find_unit(unit)
    exercise = found.notebook("exercise", root)
    if not exercise.is_file():
        raise ValueError(f"unit {found.stem} has no exercise yet; ready: {_ready_names(root)}")
    path = root / "my-work" / exercise.name
    if path.exists() and not fresh:
        return Started(path, kept=True)
    backup = _move_aside(path) if path.exists() else None
    with atomic_file(path) as part:
        part.write_bytes(exercise.read_bytes())
    return Started(path, kept=False, backup=backup)


def _move_aside(path: Path) -> Path:
    """Rename the file to one that carries the time and is not taken."""
    stamp = datetime.now().strftime("%Y-%m-%d-%H%M%S")
    backup, number = path.with_stem(f"{path.stem}-{stamp}"), 1
    while backup.exists():
        number += 1
        backup = path.with_stem(f"{path.stem}-{stamp}-{number}")
    return path.rename(backup)

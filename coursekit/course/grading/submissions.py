"""Finding submitted notebooks, and reading them without trusting them."""

import ast
import json
import os
import re
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from coursekit.course.sources import exercise_of, read_source
from coursekit.course.tasks import task_units
from coursekit.course.units import UNITS, course_root, find_unit

MOST_BYTES, MOST_CELLS = 20 << 20, 2000
SKIPPED = ("__MACOSX",)


class Unreadable(ValueError):
    """A submission that cannot be graded; the message says why."""


@dataclass(frozen=True)
class Submission:
    """One student's notebook of one unit; `problem`: why there is nothing to grade; `notes`: what was passed over."""

    student: str
    unit: str
    path: Path | None
    problem: str = ""
    notes: tuple[str, ...] = ()


def find_submissions(folder: Path, units: list[str] | None = None) -> list[Submission]:
    """One submission for each student and unit, in order; units are all that anybody handed in, unless given.

    A student is a folder, with notebooks in it or, as nbgrader's submitted/STUDENT/ASSIGNMENT/, one folder deeper;
    or a single notebook NAME.ipynb. Raises ValueError if there is none, or a unit has no checked tasks.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder; expected one with a folder or a notebook per student")
    wanted = [_checked(unit) for unit in units or ()]
    found: dict[str, list[Submission]] = {}
    for entry in sorted(folder.iterdir(), key=lambda path: path.name):
        if entry.name.startswith(".") or entry.name in SKIPPED:
            continue
        if entry.is_symlink() and entry.suffix != ".ipynb":
            found[entry.name] = [Submission(entry.name, "", entry, f"{entry.name} is a link; links are not followed")]
        elif entry.is_dir():
            found.setdefault(entry.name, []).extend(_read(entry.name, path) for path in _notebooks(entry))
        elif entry.suffix == ".ipynb":
            student, _ = _named(entry.stem)
            found.setdefault(student or entry.stem, []).append(_read(student or entry.stem, entry))
    if not found:
        raise ValueError(f"{folder} holds no submissions; expected a folder or a notebook (.ipynb) per student")
    handed_in = {each.unit for all_of_one in found.values() for each in all_of_one if each.unit}
    chosen = wanted or sorted(handed_in & set(task_units()))
    if not chosen:
        raise ValueError(f"no notebook in {folder} can be told to be of a unit; name it as 01_parameters.ipynb")
    return [_one(student, unit, found[student]) for student in found for unit in chosen]


def _checked(unit: str) -> str:
    number = find_unit(unit).number
    if number not in task_units():
        raise ValueError(f"unit {number} has no checked tasks; those that have: {', '.join(task_units())}")
    return number


def _notebooks(folder: Path) -> Iterator[Path]:
    """Notebooks in a student's folder and one level below, the links among them too."""
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.name in SKIPPED:
            continue
        if path.suffix == ".ipynb":
            yield path
        elif path.is_dir() and not path.is_symlink():
            yield from sorted(deeper for deeper in path.glob("*.ipynb") if not deeper.name.startswith("."))


def _named(stem: str) -> tuple[str, str]:
    """Who and which unit a file name speaks of: ("ada", "01") for ada_01_parameters; "" where it does not."""
    for unit in UNITS:
        if match := re.search(rf"(?<![a-z0-9]){unit.stem}(?![a-z0-9])", stem, re.IGNORECASE):
            rest = re.sub(r"[\s(]*\d*[)\s]*$", "", stem[match.end() :]) if match.start() == 0 else ""
            return (stem[: match.start()] or rest).strip(" _-"), unit.number
    return "", ""


def _read(student: str, path: Path) -> Submission:
    """A file's bytes and its unit, by its name or by the checks in it; a problem instead of an exception."""
    unit = _named(path.stem)[1] or _named(path.parent.name)[1]
    try:
        data = read_bytes(path)
        return Submission(student, unit or _unit_of(data), path)
    except Unreadable as error:
        return Submission(student, unit, path, str(error))


def read_bytes(path: Path) -> bytes:
    """Bytes of an ordinary file of a bearable size; links are not followed."""
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except OSError:
        raise Unreadable(f"{path.name} is a link or cannot be read; hand in the file itself") from None
    try:
        about = os.fstat(handle)
        if not stat.S_ISREG(about.st_mode):
            raise Unreadable(f"{path.name} is not an ordinary file")
        if about.st_size > MOST_BYTES:
            size = f"{about.st_size / 2**20:.0f} MB, more than {MOST_BYTES >> 20}"
            raise Unreadable(f"{path.name} has {size}; clear its outputs and hand it in again")
        with os.fdopen(os.dup(handle), "rb") as file:
            return file.read(MOST_BYTES)
    finally:
        os.close(handle)


def _unit_of(data: bytes) -> str:
    """The unit whose checks a notebook calls most, or ""."""
    units = Counter(re.findall(rb"check\(\\?[\"'](\d\d)\.\d", data))
    return units.most_common(1)[0][0].decode() if units else ""


def _one(student: str, unit: str, files: list[Submission]) -> Submission:
    """The student's notebook of a unit: the newest that can be read, if there are several."""
    mine = [each for each in files if each.unit == unit]
    if not mine:
        unknown = [each for each in files if each.problem and not each.unit]
        problem = unknown[0].problem if unknown else "nothing was handed in"
        return Submission(student, unit, None, problem)
    mine.sort(key=lambda each: (not each.problem, each.path.lstat().st_mtime, each.path.name))
    chosen, others = mine[-1], [each.path.name for each in mine[:-1]]
    note = (f"{chosen.path.name} was graded, as the newest; not {', '.join(others)}",) if others else ()
    return Submission(student, unit, chosen.path, chosen.problem, note)


def code_cells(data: bytes, unit: str) -> list[dict]:
    """A notebook's code cells as `load` expects them; raises Unreadable for what is no notebook."""
    try:
        cells = json.loads(data)["cells"]
        code = [(_source(cell), cell.get("metadata")) for cell in cells if cell.get("cell_type") == "code"]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise Unreadable(
            f"it is not a notebook ({type(error).__name__}); save it in Jupyter and hand it in again"
        ) from None
    if len(code) > MOST_CELLS:
        raise Unreadable(f"it has {len(code)} code cells, more than {MOST_CELLS}")
    exercise = handed_out(unit)
    return [
        {"source": text, "answer": _is_answer(text, metadata, exercise), "given": text.strip() in exercise.cells}
        for text, metadata in code
    ]


def _source(cell: dict) -> str:
    source = cell["source"]
    text = "".join(source) if isinstance(source, list) else source
    if type(text) is not str:
        raise TypeError
    return text


def _is_answer(text: str, metadata: object, exercise: "Exercise") -> bool:
    """Whether a cell holds an answer: by its mark, or, where marks were lost, because it defines one."""
    marks = metadata.get("nbgrader") if isinstance(metadata, dict) else None
    if isinstance(marks, dict) and marks.get("solution") is True:
        return True
    defined = any(re.search(rf"^(def|class) +{name}\b", text, re.MULTILINE) for name in exercise.answers.values())
    return defined and text.strip() not in exercise.cells


@dataclass(frozen=True)
class Exercise:
    """What was handed out: its code cells, and for each task the expression that its check is given."""

    cells: frozenset[str]
    answers: dict[str, str]

    @property
    def imports(self) -> list[str]:
        """The import statements of its cells."""
        statements = [statement for cell in self.cells for statement in ast.parse(cell).body]
        return [ast.unparse(each) for each in statements if isinstance(each, ast.Import | ast.ImportFrom)]


@cache
def handed_out(unit: str) -> Exercise:
    """The exercise of a unit, made from the course's source."""
    exercise = exercise_of(read_source(find_unit(unit), "solution", course_root()))
    cells = [cell for cell in exercise.cells if cell.cell_type == "code"]
    answers = {}
    for cell in cells:
        marks = cell.metadata.get("nbgrader", {})
        if marks.get("grade"):
            call = ast.parse(cell.source).body[-1].value
            answers[call.args[0].value] = ast.unparse(call.args[1])
    return Exercise(frozenset(cell.source.strip() for cell in cells), answers)

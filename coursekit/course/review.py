"""Running a learner's exercise notebook without a browser, to list what its checks say."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from coursekit.course.check import CheckResult
from coursekit.course.progress import read_progress, record_check, separate_progress
from coursekit.course.tasks import unit_tasks
from coursekit.course.units import UNITS, Unit, course_root, find_unit

if TYPE_CHECKING:
    from coursekit.course.execute import Progress


@dataclass(frozen=True)
class Review:
    """What the checks of one notebook said, one result per task of the unit, and the cells that raised."""

    unit: str
    results: tuple[CheckResult, ...]
    errors: tuple[str, ...]

    @property
    def right(self) -> bool:
        """Whether every task is right and no cell raised."""
        return not self.errors and all(result.status == "right" for result in self.results)


def started_units(root: Path | None = None) -> list[Unit]:
    """Units whose exercise is in my-work/."""
    root = root or course_root()
    return [unit for unit in UNITS if _path(unit, root).is_file()]


def _path(unit: Unit, root: Path) -> Path:
    return root / "my-work" / unit.notebook("exercise", root).name


def review(unit: str | int, *, root: Path | None = None, progress: "Progress | None" = None) -> Review:
    """Run a copy of the learner's notebook of a unit to its end, and note its results in their progress.

    The file itself stays as it is. Raises ValueError for an unknown unit, one that has not been started, or a
    file that is not a notebook.
    """
    import nbformat

    from coursekit.course.execute import execute_notebook

    root = root or course_root()
    found = find_unit(unit)
    path = _path(found, root)
    name = path.relative_to(root).as_posix()
    try:
        notebook = nbformat.reads(path.read_text(encoding="utf-8"), as_version=4)
    except FileNotFoundError:
        raise ValueError(f"{name} is not there; `coursekit start {found.number}` puts it there") from None
    except (nbformat.reader.NotJSONError, nbformat.ValidationError, UnicodeDecodeError):
        raise ValueError(
            f"{name} is not a notebook; `coursekit start {found.number} --fresh` makes a new one"
        ) from None
    for cell in notebook.cells:
        if cell.cell_type == "code":  # go on after a cell that raises
            cell.metadata.setdefault("tags", []).append("raises-exception")
    with separate_progress():
        notebook = execute_notebook(notebook, name=name, folder=path.parent, progress=progress)
        entries = read_progress()
    results = []
    for task in unit_tasks(found.number):
        entry = entries.get(task.id, {"status": "not attempted", "message": ""})
        results.append(CheckResult(task.id, entry["status"], entry["message"]))
        if task.id in entries:
            record_check(task.id, entry["status"], entry["message"])
    return Review(found.number, tuple(results), tuple(_errors(notebook)))


def _errors(notebook) -> list[str]:
    """One line for each cell that raised."""
    lines = []
    for number, cell in enumerate(notebook.cells, 1):
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                said = (output.evalue.strip().splitlines() or [""])[-1][:200]
                lines.append(f"cell {cell.get('id', number)!r}: {output.ename}: {said}")
    return lines

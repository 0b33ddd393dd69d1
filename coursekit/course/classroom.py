"""An nbgrader course from the solutions.

nbgrader's own grading runs a whole notebook, and its checks, in one kernel: convenient, and easy to deceive by whoever
sets out to. The score to trust is `coursekit grade`'s.
"""

from dataclasses import dataclass
from pathlib import Path

import nbformat

from coursekit.course.sources import STUB, read_source
from coursekit.course.units import UNITS, Unit, course_root
from coursekit.files import atomic_file

CONFIG = f'''"""nbgrader's settings for this course; its commands run in this folder."""

from nbconvert.preprocessors import TagRemovePreprocessor

c = get_config()
c.CourseDirectory.course_id = "small-transformers"

# What only the solution shows stays out of what is handed out; answers become the exercises' own stub.
c.GenerateAssignment.preprocessors.prepend([TagRemovePreprocessor])
c.TagRemovePreprocessor.enabled = True
c.TagRemovePreprocessor.remove_cell_tags = {{"solution-only"}}
c.ClearSolutions.code_stub = {{"python": {STUB!r}}}

# A cell may take this many seconds; a check that is not answered right raises, so that nbgrader gives no points.
c.ExecutePreprocessor.timeout = 600
'''


@dataclass(frozen=True)
class ClassFolder:
    """A course for nbgrader: its folder, and the assignments that are new in it."""

    folder: Path
    assignments: tuple[str, ...]


def init_class(folder: Path, *, root: Path | None = None) -> ClassFolder:
    """Make an nbgrader course in `folder`: its settings, and source/ASSIGNMENT/ for every unit that is ready.

    What is there already stays as it is, so that a later run adds the units that have become ready since. Points
    are in the cells' metadata. Raises ValueError if `folder` is a file or another nbgrader course.
    """
    root, folder = root or course_root(), Path(folder)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; expected a folder, or a name that is free")
    config = folder / "nbgrader_config.py"
    if config.exists() and "small-transformers" not in config.read_text(encoding="utf-8"):
        raise ValueError(f"{config} belongs to another course; choose another folder")
    if not config.exists():
        with atomic_file(config) as part:
            part.write_text(CONFIG, encoding="utf-8")
    ready = [unit for unit in UNITS if unit.ready_in(root)]
    return ClassFolder(folder, tuple(unit.stem for unit in ready if _add(unit, folder, root)))


def _add(unit: Unit, folder: Path, root: Path) -> bool:
    """Write a unit's assignment unless it is there; whether it was written."""
    path = folder / "source" / unit.stem / f"{unit.stem}.ipynb"
    if path.exists():
        return False
    with atomic_file(path) as part:
        part.write_text(nbformat.writes(read_source(unit, "solution", root)) + "\n", encoding="utf-8")
    return True

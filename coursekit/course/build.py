"""Lessons, exercises and solutions made from their sources, and the proof that they still match them."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from coursekit.course.accessibility import accessibility_faults
from coursekit.course.colab import CELL_ID, cell_source
from coursekit.course.execute import CELL_SECONDS, NotebookFailed, Progress, execute_notebook
from coursekit.course.outputs import (
    busy,
    clean_outputs,
    code_hash,
    keep_outputs,
    note_time,
    output_faults,
    working_cells,
)
from coursekit.course.progress import separate_progress
from coursekit.course.slides import mark_slides
from coursekit.course.sources import exercise_of, read_source
from coursekit.course.units import FOLDERS, UNITS, Unit, course_root, find_unit
from coursekit.files import atomic_file


@dataclass(frozen=True)
class BuildResult:
    """What `build` did: paths written and run, notebooks whose outputs are of other code, faults found."""

    written: list[Path] = field(default_factory=list)
    executed: list[Path] = field(default_factory=list)
    stale: list[Path] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def build(
    units: Iterable[str | int] | None = None,
    *,
    check: bool = False,
    execute: bool = False,
    root: Path | None = None,
    timeout: int = CELL_SECONDS,
    progress: Progress | None = None,
) -> BuildResult:
    """Make the notebooks of `units` (by default of all that have sources) from their sources.

    Outputs of cells whose code is unchanged are kept. With `execute`, lessons and solutions whose outputs are not
    those of their code are run in the quick profile. With `check` nothing is written: `problems` has one line for
    every notebook or cell that is missing, edited by hand, stale or not run. Raises SourceError for a source that
    cannot be built, NotebookFailed for a cell that fails, ValueError for an unknown unit or one without sources.
    """
    root = root or course_root()
    result = BuildResult()
    if units is None:
        result.problems.extend(_strays(root))
        if result.problems and not check:
            raise ValueError(result.problems[0])
    run = partial(_run, root=root, timeout=timeout, progress=progress) if execute else None
    for unit in _with_sources(units, root):
        for kind, notebook in _expected(unit, root).items():
            if check:
                result.problems.extend(check_notebook(notebook, unit, kind, root))
            else:
                _make(notebook, kind, unit.notebook(kind, root), run, result)
    return result


def _with_sources(units: Iterable[str | int] | None, root: Path) -> list[Unit]:
    """The units asked for, or all that have a source."""
    if units is None:
        return [unit for unit in UNITS if any(unit.source(kind, root).is_file() for kind in FOLDERS)]
    chosen = [find_unit(name) for name in units]
    for unit in chosen:
        if not any(unit.source(kind, root).is_file() for kind in FOLDERS):
            expected = unit.source("lesson", root).relative_to(root).as_posix()
            raise ValueError(f"unit {unit.stem} is not written yet: expected {expected}")
    return chosen


def _strays(root: Path) -> list[str]:
    """Sources that belong to no unit, and notebooks that no source makes."""
    known = {unit.source(kind, root) for unit in UNITS for kind in FOLDERS}
    made = {unit.notebook(kind, root) for unit in UNITS for kind in FOLDERS if unit.source(kind, root).is_file()}
    found = []
    for folder in FOLDERS.values():
        for path in sorted((root / folder / "_src").glob("*.py")):
            if path not in known:
                names = ", ".join(unit.stem for unit in UNITS)
                found.append(f"{_relative(path, root)}: not a unit of the course; expected one of {names}")
        for path in sorted((root / folder).glob("*.ipynb")):
            if path not in made:
                found.append(f"{_relative(path, root)}: made by no source")
    return found


def _expected(unit: Unit, root: Path) -> dict[str, NotebookNode]:
    """The notebooks that the sources of a unit make, without outputs, by kind."""
    notebooks = {}
    if unit.source("lesson", root).is_file():
        notebooks["lesson"] = read_source(unit, "lesson", root)
        mark_slides(notebooks["lesson"])
    if unit.source("solution", root).is_file():
        notebooks["solution"] = read_source(unit, "solution", root)
        notebooks["exercise"] = exercise_of(notebooks["solution"])
    for kind, notebook in notebooks.items():
        notebook.cells.insert(1, _colab_cell(root, slides=kind == "lesson"))
    return notebooks


def _colab_cell(root: Path, slides: bool) -> NotebookNode:
    """The cell under the title that makes the notebook run on Colab; folded in JupyterLab."""
    metadata = {"jupyter": {"source_hidden": True}} | ({"slideshow": {"slide_type": "skip"}} if slides else {})
    return nbformat.v4.new_code_cell(cell_source(root), id=CELL_ID, metadata=metadata)


def _make(
    notebook: NotebookNode,
    kind: str,
    path: Path,
    run: Callable[[NotebookNode, Path], NotebookNode] | None,
    result: BuildResult,
) -> None:
    """Write one notebook with the outputs that are still right, or after `run`; notes in `result` what was done."""
    if kind != "exercise":
        if stored := _read(path):
            keep_outputs(notebook, stored)
        if _is_stale(notebook):
            notebook = run(notebook, path) if run else notebook
            (result.executed if run else result.stale).append(path)
    text = _bytes(notebook)
    if not path.is_file() or path.read_bytes() != text:
        with atomic_file(path) as part:
            part.write_bytes(text)
        result.written.append(path)


def _run(notebook: NotebookNode, path: Path, *, root: Path, timeout: int, progress: Progress | None) -> NotebookNode:
    """The notebook with the outputs of a run, fit to be stored."""
    name, quiet, start = _relative(path, root), not busy(), time.perf_counter()
    with separate_progress():  # its right answers are not the learner's
        notebook = execute_notebook(notebook, name=name, folder=path.parent, timeout=timeout, progress=progress)
    seconds = time.perf_counter() - start
    clean_outputs(notebook)
    if quiet:
        note_time(notebook, seconds)
    if faults := output_faults(notebook, root):
        raise NotebookFailed(f"{name}: {faults[0]}")
    return notebook


def check_notebook(expected: NotebookNode, unit: Unit, kind: str, root: Path) -> list[str]:
    """Every way in which the stored notebook is not what its source makes, one line each."""
    path = unit.notebook(kind, root)
    name = _relative(path, root)
    if not path.is_file():
        return [f"{name}: missing; run `coursekit build {unit.number}`"]
    stored = _read(path)
    if stored is None:
        return [f"{name}: not a notebook; run `coursekit build {unit.number}`"]
    problems = [
        f"{name}: {fault}; edited by hand or older than its source: "
        f"change {unit.source(kind, root).relative_to(root).as_posix()}, then `coursekit build {unit.number}`"
        for fault in _differences(expected, stored)
    ]
    if kind == "exercise":
        with_outputs = [cell for cell in stored.cells if cell.get("outputs") or cell.get("execution_count")]
        problems += [f"{name}: cell {cell.id!r} has outputs; exercises have none" for cell in with_outputs]
    elif _is_stale(stored):
        problems.append(f"{name}: outputs are of other code; run `coursekit build {unit.number} --execute`")
    problems += [f"{name}: {fault}" for fault in output_faults(stored, root) + accessibility_faults(stored)]
    if not problems:
        keep_outputs(expected, stored)
        if path.read_bytes() != _bytes(expected):
            problems.append(f"{name}: not as the builder writes it; run `coursekit build {unit.number}`")
    return problems


def _is_stale(notebook: NotebookNode) -> bool:
    """Whether the outputs were made by other code, or some code cell was never run."""
    unrun = [cell for cell in working_cells(notebook) if cell.execution_count is None]
    return bool(unrun) or notebook.metadata.get("coursekit", {}).get("code") != code_hash(notebook)


def _differences(expected: NotebookNode, stored: NotebookNode) -> list[str]:
    """Cells missing, added, moved or changed, by id."""
    have = {cell.get("id"): cell for cell in stored.cells}
    want = {cell.id: cell for cell in expected.cells}
    found = [f"cell {name!r} is missing" for name in want if name not in have]
    found += [f"cell {name!r} is not in the source" for name in have if name not in want]
    for name in want.keys() & have.keys():
        if have[name].source != want[name].source or have[name].cell_type != want[name].cell_type:
            found.append(f"cell {name!r} differs from the source")
        elif have[name].metadata != want[name].metadata:
            found.append(f"cell {name!r} has other tags than the source")
    if not found and [cell.id for cell in stored.cells] != list(want):
        found.append("the cells are in another order")
    return sorted(found)


def _read(path: Path) -> NotebookNode | None:
    """The notebook at `path`, or None where there is none that can be read."""
    try:
        return nbformat.reads(path.read_text(encoding="utf-8"), as_version=4)
    except (FileNotFoundError, nbformat.reader.NotJSONError, nbformat.ValidationError, UnicodeDecodeError):
        return None


def _bytes(notebook: NotebookNode) -> bytes:
    nbformat.validate(notebook)
    return (nbformat.writes(notebook) + "\n").encode()


def _relative(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()

r"""The sources of a unit: py:percent files, read, validated and turned into notebooks without outputs.

A lesson source holds cells and nothing special. A solution source also holds the answers:

    # %% task="01.1"
    def table_parameters(vocabulary: int, hidden: int) -> int:
        '''Number of parameters of a (V, H) table.'''
        ### BEGIN SOLUTION
        return vocabulary * hidden
        ### END SOLUTION

    # %% check="01.1"
    ### BEGIN HIDDEN TESTS
    assert table_parameters(3, 4) == 12
    ### END HIDDEN TESTS
    check("01.1", table_parameters)

    # %% [markdown] tags=["solution-only"]
    # One row per word.

The exercise has `raise NotImplementedError  # your code here` for the region, and neither hidden tests nor the last
cell. Task and check cells carry nbgrader's cell metadata (schema 3), so that nbgrader can start from the solution.
"""

import ast
import re
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

import jupytext
import nbformat
from nbformat import NotebookNode

from coursekit.course.tasks import find_task
from coursekit.course.units import Unit

COMPARED = "nbval-check-output"
SOLUTION_ONLY = "solution-only"
STUB = "raise NotImplementedError  # your code here"
KEYS = {"name", "tags", "task", "check"}
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
SOLUTION = ("### BEGIN SOLUTION", "### END SOLUTION")
HIDDEN = ("### BEGIN HIDDEN TESTS", "### END HIDDEN TESTS")


class SourceError(ValueError):
    """A source that cannot be built; names the file, the cell and the line."""


@dataclass(frozen=True)
class _Place:
    """Where a cell stands, for error messages."""

    path: Path
    cell: str
    header: int  # line of the file, from 1
    first: int  # line of the cell's first line of text

    def error(self, message: str, line: int | None = None) -> SourceError:
        """The error, at the cell's line `line` (from 0), or at its header."""
        number = self.header if line is None else self.first + line
        return SourceError(f"{'/'.join(self.path.parts[-3:])}, cell {self.cell!r}, line {number}: {message}")


def read_source(unit: Unit, kind: str, root: Path) -> NotebookNode:
    """The lesson or the solution (`kind`) of a unit as a notebook without outputs.

    Raises SourceError for a cell header, a marker, a task or code that cannot be built.
    """
    path = unit.source(kind, root)
    text = path.read_text(encoding="utf-8")
    raw = jupytext.reads(text, {"extension": ".py", "format_name": "percent", "comment_magics": False})
    lines = text.splitlines()
    headers = [number for number, line in enumerate(lines, 1) if re.match(r"#\s*%%", line)]
    if len(headers) != len(raw.cells):
        raise SourceError(
            f"{'/'.join(path.parts[-3:])}, line 1: {len(headers)} `# %%` headers but {len(raw.cells)} cells; "
            "the file begins with a header, and none stands inside a string"
        )
    places, counts = {}, {"code": 0, "markdown": 0, "raw": 0}
    for header, cell in zip(headers, raw.cells, strict=True):
        counts[cell.cell_type] += 1
        position = f"{unit.number}-{'lesson' if kind == 'lesson' else 'exercise'}-{cell.cell_type[0]}"
        name = _cell_id(cell.metadata, f"{position}{counts[cell.cell_type]:02d}")
        blank = sum(1 for _ in takewhile(lambda line: not line.strip(), lines[header:]))
        place = _Place(path, name, header, header + 1 + blank)
        if name in places:
            raise place.error(f"a second cell with the id {name!r}; names are used once")
        places[name] = place
        _validate(cell, kind, place)
    _pair_tasks(raw.cells, list(places.values()), unit)
    return _notebook([_cell(cell, name) for name, cell in zip(places, raw.cells, strict=True)])


def exercise_of(solution: NotebookNode) -> NotebookNode:
    """The exercise: answers replaced by a stub, hidden tests and solution-only cells left out, no outputs."""
    cells = []
    for cell in solution.cells:
        if SOLUTION_ONLY in cell.metadata.get("tags", []):
            continue
        cell = nbformat.from_dict(cell)
        if cell.cell_type == "code":
            cell.source = _exercise_code(cell.source)
            cell.outputs, cell.execution_count = [], None
        cells.append(cell)
    return _notebook(cells)


def _notebook(cells: list[NotebookNode]) -> NotebookNode:
    return nbformat.from_dict({"cells": cells, "metadata": METADATA, "nbformat": 4, "nbformat_minor": 5})


def _cell_id(metadata: dict, otherwise: str) -> str:
    for key in ("task", "check"):
        if key in metadata:
            otherwise = f"{key}-{metadata[key]}".replace(".", "-")
    return str(metadata.get("name", otherwise))


def _cell(cell: NotebookNode, name: str) -> NotebookNode:
    """The cell with a fixed id and only the metadata that is stored."""
    task, check = cell.metadata.get("task"), cell.metadata.get("check")
    tags = list(cell.metadata.get("tags", []))
    metadata = {}
    if task or check:
        if check and COMPARED not in tags:
            tags.append(COMPARED)  # a wrong answer does not raise: only its text shows it
        metadata["nbgrader"] = {
            "grade": bool(check),
            "grade_id": (task or f"{check}_check").replace(".", "_"),
            "locked": bool(check),
            "schema_version": 3,
            "solution": bool(task),
            "task": False,  # nbgrader's word for a written answer marked by hand
        }
    if check:
        metadata["nbgrader"]["points"] = find_task(check).points
    if tags:
        metadata["tags"] = tags
    new = {"id": name, "cell_type": cell.cell_type, "metadata": metadata, "source": cell.source}
    if cell.cell_type == "code":
        new |= {"execution_count": None, "outputs": []}
    return nbformat.from_dict(new)


def _validate(cell: NotebookNode, kind: str, place: _Place) -> None:
    """Refuse what cannot be built, in the header and in the text of one cell."""
    metadata = {key: value for key, value in cell.metadata.items() if key != "lines_to_next_cell"}
    allowed = KEYS if kind != "lesson" else {"name", "tags"}
    if unknown := sorted(set(metadata) - allowed):
        raise place.error(f"unknown key {unknown[0]!r} in the cell's header; expected {', '.join(sorted(allowed))}")
    known_tags = {COMPARED} if kind == "lesson" else {COMPARED, SOLUTION_ONLY}
    if unknown := [tag for tag in metadata.get("tags", []) if tag not in known_tags]:
        raise place.error(f"unknown tag {unknown[0]!r}; expected {', '.join(sorted(known_tags))}")
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,63}", place.cell):
        raise place.error(f"the name {place.cell!r} is not 1 to 64 of a-z, 0-9 and -")
    if cell.cell_type == "raw" or not cell.source.strip():
        raise place.error(f"expected markdown or code, got {'a raw' if cell.cell_type == 'raw' else 'an empty'} cell")
    if cell.cell_type == "markdown":
        if "task" in metadata or "check" in metadata:
            raise place.error("task= and check= belong to code cells")
        if match := re.search(r"!\[\s*\]\(|<img(?![^>]*alt=)[^>]*>", cell.source):
            raise place.error(f"an image without alt text: {match.group()}")
        return
    _validate_markers(cell, kind, place)
    _validate_code(cell.source, place)
    if "check" in metadata:
        shown = ast.unparse(ast.parse(cell.source).body[-1])
        if not shown.startswith(f"check({str(metadata['check'])!r}, "):
            raise place.error(f'a check cell ends with check("{metadata["check"]}", ...), so that its result is shown')
    if kind != "lesson":
        _validate_code(_exercise_code(cell.source), place, stub=True)


def _validate_markers(cell: NotebookNode, kind: str, place: _Place) -> None:
    """Markers are known, balanced and in the right kind of cell."""
    opened, since, found = None, 0, set()
    for number, line in enumerate(cell.source.splitlines()):
        marker = line.strip()
        if not marker.startswith("###"):
            continue
        if kind == "lesson" or marker not in SOLUTION + HIDDEN:
            known = "none in a lesson" if kind == "lesson" else ", ".join(SOLUTION + HIDDEN)
            raise place.error(f"unknown marker {marker!r}; expected {known}", number)
        begins = marker in (SOLUTION[0], HIDDEN[0])
        ends = {SOLUTION[0]: SOLUTION[1], HIDDEN[0]: HIDDEN[1]}.get(opened)
        if (begins and opened) or (not begins and marker != ends):
            raise place.error(f"{marker!r} where {ends or 'a BEGIN marker'!r} was expected", number)
        opened, since = (marker if begins else None), number
        found.add(marker)
    if opened:
        raise place.error(f"{opened!r} without its END", since)
    if (SOLUTION[0] in found) != ("task" in cell.metadata):
        raise place.error("a cell has task= exactly when it has a `### BEGIN SOLUTION` region")
    if HIDDEN[0] in found and "check" not in cell.metadata:
        raise place.error("hidden tests belong to a cell with check=")


def _validate_code(code: str, place: _Place, stub: bool = False) -> None:
    """The code compiles, leaves figures to `show` with alt text, and (exercise) raises only inside functions."""
    try:
        tree = ast.parse(code)
        compile(tree, place.cell, "exec")
    except SyntaxError as error:
        line = (error.lineno or 1) - 1
        text = code.splitlines()[line].strip() if code else ""
        if text.startswith(("%", "!")):
            raise place.error(f"magics and shell commands are not used: {text}", line) from None
        if stub:  # whose lines are not the source's
            raise place.error(f"the exercise's cell does not compile: {error.msg}: {text}") from None
        raise place.error(f"the cell does not compile: {error.msg}", line) from None
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        function = ast.unparse(call.func)
        keywords = {keyword.arg: keyword.value for keyword in call.keywords}
        if function in ("plt.show", "pyplot.show"):
            raise place.error("show figures with coursekit.viz.show(figure, alt=..., caption=...)")
        if function in ("show", "viz.show"):
            given = {key for key, value in keywords.items() if ast.unparse(value).strip("'\" ")}
            if None not in keywords and not {"alt", "caption"} <= given:
                raise place.error("show(...) needs alt= and caption=, both with text")
    if stub and any(ast.unparse(node) == "raise NotImplementedError" for node in _outside_functions(tree)):
        raise place.error("a solution region must lie inside a function")


def _outside_functions(node: ast.AST) -> list[ast.AST]:
    """Every node below `node` that runs when the cell does."""
    found = []
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            found += [child, *_outside_functions(child)]
    return found


def _exercise_code(code: str) -> str:
    """The code with every solution region replaced by the stub and every hidden test left out."""
    kept, inside = [], False
    for line in code.splitlines():
        marker = line.strip()
        if marker in (SOLUTION[0], HIDDEN[0]):
            inside = True
            if marker == SOLUTION[0]:
                kept.append(line[: len(line) - len(line.lstrip())] + STUB)
        elif marker in (SOLUTION[1], HIDDEN[1]):
            inside = False
        elif not inside:
            kept.append(line)
    return "\n".join(kept).rstrip("\n")


def _pair_tasks(cells: list[NotebookNode], places: list[_Place], unit: Unit) -> None:
    """Task numbers belong to the unit, occur once, and each has one check after it."""
    tasks: set[str] = set()
    checks: set[str] = set()
    for cell, place in zip(cells, places, strict=True):
        for key, seen in (("task", tasks), ("check", checks)):
            if key not in cell.metadata:
                continue
            number = cell.metadata[key]
            if not re.fullmatch(rf"{unit.number}\.[1-9]\d?", str(number)) or not isinstance(number, str):
                raise place.error(f"{key}={number!r}, expected {unit.number}.1, {unit.number}.2, ... in quotes")
            try:
                find_task(number)
            except ValueError as error:
                raise place.error(str(error)) from None
            if number in seen:
                raise place.error(f"{key} {number} occurs twice")
            if key == "check" and number not in tasks:
                raise place.error(f"the check of task {number} has no task cell before it")
            seen.add(number)
    for cell, place in zip(cells, places, strict=True):
        if cell.metadata.get("task", "") not in checks | {""}:
            raise place.error(f"task {cell.metadata['task']} has no check cell")

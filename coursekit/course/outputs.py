"""What is stored of a notebook's outputs: kept with their code, cleaned, and without traces of the machine."""

import hashlib
import os
import re
import sys
from pathlib import Path

from nbformat import NotebookNode, from_dict

from coursekit.course.colab import CELL_ID
from coursekit.course.sources import METADATA

WIDGET = "application/vnd.jupyter.widget-view+json"


def working_cells(notebook: NotebookNode) -> list[NotebookNode]:
    """The code cells, without the one for Colab, which does nothing where outputs are made."""
    return [cell for cell in notebook.cells if cell.cell_type == "code" and cell.get("id") != CELL_ID]


def code_hash(notebook: NotebookNode, profile: str = "quick") -> str:
    """SHA-256 of the profile and of all working cells' sources in order: what made the outputs."""
    sources = [cell.source for cell in working_cells(notebook)]
    return "sha256:" + hashlib.sha256("\0".join([profile, *sources]).encode()).hexdigest()


def keep_outputs(notebook: NotebookNode, stored: NotebookNode) -> None:
    """Give every code cell of `notebook` the outputs of the stored cell with the same source, if any.

    The n-th of several equal cells takes those of the n-th; the recorded hash comes along unchanged.
    """
    waiting: dict[str, list[NotebookNode]] = {}
    for cell in working_cells(stored):
        waiting.setdefault(cell.source, []).append(cell)
    for cell in working_cells(notebook):
        if waiting.get(cell.source):
            old = waiting[cell.source].pop(0)
            cell.outputs, cell.execution_count = old.outputs, old.execution_count
    if "coursekit" in stored.metadata:
        notebook.metadata["coursekit"] = stored.metadata["coursekit"]


def clean_outputs(notebook: NotebookNode) -> None:
    """Make the outputs of a run fit to be stored: counted 1..n, no stderr, no live widgets, hash recorded.

    A widget needs a kernel: its static twin is what a stored notebook shows. The cell for Colab is stored unrun.
    """
    for cell in notebook.cells:
        if cell.get("id") == CELL_ID:
            cell.execution_count, cell.outputs = None, []
    for count, cell in enumerate(working_cells(notebook), 1):
        cell.execution_count = count
        cell.outputs = [output for output in cell.outputs if _is_stored(output)]
        for output in cell.outputs:
            if output.output_type == "execute_result":
                output.execution_count = count
    notebook.metadata = from_dict({**METADATA, "coursekit": {"code": code_hash(notebook)}})


def busy() -> bool:
    """Whether other programs would make a time measured now meaningless: much more waits than there are cores."""
    return hasattr(os, "getloadavg") and os.getloadavg()[0] > 1.5 * (os.cpu_count() or 1)


def note_time(notebook: NotebookNode, seconds: float) -> None:
    """Record how long a run of the whole notebook took on this machine, for time plans."""
    notebook.metadata.setdefault("coursekit", {}).update(seconds=round(seconds), cores=os.cpu_count())


def _is_stored(output: NotebookNode) -> bool:
    if output.output_type == "stream":
        return output.name == "stdout" and bool(output.text.strip())
    return WIDGET not in output.get("data", {})


def comparable(output: NotebookNode) -> bool:
    """Whether an output has text that means something when compared: no picture, not empty."""
    return not any(kind.startswith("image/") for kind in output.get("data", {})) and bool(_text(output).strip())


def output_faults(notebook: NotebookNode, root: Path) -> list[str]:
    """What must not be stored, one line each naming the cell: errors, images without alt text, machine paths."""
    faults = []
    paths = _machine_paths(root)
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                faults.append(f"cell {cell.id!r} stores an error: {output.ename}: {output.evalue}")
            for kind in output.get("data", {}):
                if kind.startswith("image/") and not output.metadata.get(kind, {}).get("alt", "").strip():
                    faults.append(f"cell {cell.id!r} stores an image without alt text; use coursekit.viz.show")
            if found := paths.search(_text(output)):
                faults.append(f"cell {cell.id!r} prints a path of this machine: {found.group()}")
    return faults


def _machine_paths(root: Path) -> re.Pattern[str]:
    """Matches the home folder, the checkout and the environment as whole path components."""
    folders = {str(folder) for folder in (Path.home(), root.resolve(), Path(sys.prefix)) if len(folder.parts) > 1}
    either = "|".join(re.escape(folder) for folder in sorted(folders, key=len, reverse=True))
    return re.compile(rf"(?<![\w.]){'(?:' + either + ')' if either else '(?!)'}(?![\w.-])")


def _text(output: NotebookNode) -> str:
    """Everything readable in an output."""
    data = output.get("data", {})
    texts = [text for kind, text in data.items() if isinstance(text, str) and not kind.startswith("image/")]
    return "\n".join([output.get("text", ""), *output.get("traceback", []), *texts])

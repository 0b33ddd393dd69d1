"""Running one notebook from top to bottom, in this environment's Python."""

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import nbformat
from ipykernel.kernelspec import RESOURCES, get_kernel_dict
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError
from nbformat import NotebookNode

Progress = Callable[[str, int, int], None]
"""Called with the notebook's name, the code cells run so far and how many there are."""

CELL_SECONDS = 1200


class NotebookFailed(RuntimeError):
    """A cell that raised, took too long or lost its kernel; names notebook and cell in one line."""


class _ThisPython(AsyncKernelManager):
    """Starts the interpreter that runs this code, whatever kernels the user has installed."""

    @property
    def kernel_spec(self) -> KernelSpec:
        return KernelSpec(resource_dir=RESOURCES, **get_kernel_dict())


def execute_notebook(
    notebook: NotebookNode,
    *,
    name: str,
    folder: Path,
    profile: str = "quick",
    timeout: int = CELL_SECONDS,
    progress: Progress | None = None,
) -> NotebookNode:
    """Run a copy of `notebook` with `folder` as working directory and return it with its outputs.

    `name` stands in messages; `timeout` is in seconds for each cell; COURSEKIT_PROFILE is `profile`.
    Raises NotebookFailed at the first cell that raises.
    """
    notebook = nbformat.from_dict(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    current = {"cell": None, "done": 0}

    def started(cell: NotebookNode, cell_index: int) -> None:
        current["cell"] = cell.id

    def finished(cell: NotebookNode, cell_index: int, execute_reply: dict) -> None:
        current["done"] += 1
        if progress:
            progress(name, current["done"], len(cells))

    client = NotebookClient(
        notebook,
        kernel_manager_class=_ThisPython,
        kernel_name="python3",
        timeout=timeout,
        record_timing=False,
        coalesce_streams=True,
        store_widget_state=False,
        resources={"metadata": {"path": str(folder)}},
        on_cell_execute=started,
        on_cell_executed=finished,
    )
    client.log.disabled = True  # what goes wrong is said once, by the exception
    if progress:
        progress(name, 0, len(cells))
    try:
        client.execute(
            env=os.environ | {"COURSEKIT_PROFILE": profile},
            stderr=subprocess.DEVNULL,  # the kernel's own; what cells write goes to their outputs
        )
    except CellExecutionError as error:
        raise _failed(name, current, f"{error.ename}: {_last_line(error.evalue)}") from None
    except CellTimeoutError:
        raise _failed(name, current, f"not finished after {timeout} seconds") from None
    except RuntimeError:  # a DeadKernelError, or a kernel that never answered
        if hasattr(client, "_async_cleanup_kernel_future"):  # nbclient stopped the kernel: it was interrupted
            raise KeyboardInterrupt from None
        raise _failed(name, current, "the kernel died, probably for want of memory") from None
    return notebook


def _failed(name: str, current: dict, message: str) -> NotebookFailed:
    place = f"{name}, cell {current['cell']!r}" if current["cell"] else name
    return NotebookFailed(f"{place}: {message}")


def _last_line(text: str) -> str:
    lines = [line for line in re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines() if line.strip()]
    return lines[-1].strip() if lines else ""

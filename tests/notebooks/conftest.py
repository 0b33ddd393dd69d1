"""Re-running stored notebooks with nbval, each in a process of its own, one after the other."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pytest

from coursekit.course.outputs import comparable
from coursekit.course.sources import COMPARED
from coursekit.course.units import course_root

CELL_SECONDS = 600


@dataclass(frozen=True)
class Validation:
    """What nbval said of a notebook: cells that ran and agreed, and its report."""

    ok: bool
    passed: int
    report: str


@pytest.fixture
def validate(tmp_path) -> Callable[[Path], Validation]:
    """Run every cell in this interpreter; those tagged nbval-check-output must print what is stored."""

    def run(path: Path) -> Validation:
        nbval = ["--nbval-lax", "--nbval-current-env", f"--nbval-cell-timeout={CELL_SECONDS}"]
        quiet = ["-p", "no:cacheprovider", "-o", "addopts=", "--color=no", "--maxfail=1"]
        environment = {"COURSEKIT_PROFILE": "quick", "COURSEKIT_PROGRESS": str(tmp_path / "progress.json")}
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *nbval, *quiet, str(path)],
            cwd=course_root(),
            env=os.environ | environment,
            capture_output=True,
            text=True,
        )
        counts = re.findall(r"(\d+) passed", done.stdout)
        return Validation(done.returncode == 0, int(counts[-1]) if counts else 0, done.stdout[-4000:] + done.stderr)

    return run


@pytest.fixture
def compared() -> Callable[[nbformat.NotebookNode], list[str]]:
    """Ids of the cells whose stored text is compared when the notebook is validated."""

    def cells(notebook: nbformat.NotebookNode) -> list[str]:
        tagged = [cell for cell in notebook.cells if COMPARED in cell.metadata.get("tags", [])]
        return [cell.id for cell in tagged if any(comparable(output) for output in cell.outputs)]

    return cells

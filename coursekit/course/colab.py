"""Google Colab: the cell that `coursekit build` puts under every title, and what that cell runs there.

The cell clones the course and then runs this file as a script, before anything of the course can be imported: only
the standard library and `packaging` are used here.
"""

import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

CELL_ID = "colab"
CELL = """\
# On Google Colab run this cell first: it fetches the course and installs what is missing. Elsewhere it does nothing.
import sys

if "google.colab" in sys.modules:
    import os
    import subprocess

    address = os.environ.get("COURSEKIT_REPOSITORY") or "{address}"  # of the course, as `git clone` takes it
    folder = "/content/course"
    if not os.path.isdir(folder):
        if not address:
            raise ValueError("write the address of the course's repository between the quotation marks of this cell")
        subprocess.run(["git", "clone", "--depth=1", address, folder], check=True)
        subprocess.run([sys.executable, "-I", f"{{folder}}/coursekit/course/colab.py"], check=True)
    sys.path.insert(0, folder)
    os.chdir(f"{{folder}}/notebooks")"""

COLABS_OWN = {"torch", "numpy", "matplotlib", "ipykernel", "ipywidgets", "jupyterlab"}
"""Loaded in the running kernel, or part of it: another version would need a restart, or break the page."""


def cell_source(root: Path) -> str:
    """The cell's code, with the address of the checkout at `root`: `[project.urls] Repository` of its pyproject.toml,
    empty where that is not there; in Colab the environment variable COURSEKIT_REPOSITORY goes before it.
    """
    file = root / "pyproject.toml"
    project = tomllib.loads(file.read_text(encoding="utf-8"))["project"] if file.is_file() else {}
    return CELL.format(address=project.get("urls", {}).get("Repository", ""))


def missing(requirements: list[str]) -> list[str]:
    """Those of the requirements that are not installed here, or not in the version asked for; Colab's own are left."""
    from packaging.requirements import Requirement

    found = []
    for line in requirements:
        wanted = Requirement(line)
        if wanted.name in COLABS_OWN:
            continue
        try:
            if not wanted.specifier.contains(metadata.version(wanted.name), prereleases=True):
                found.append(line)
        except metadata.PackageNotFoundError:
            found.append(line)
    return found


def install(root: Path) -> None:
    """Install the checkout at `root`, and of what the lessons need only what is missing. Raises CalledProcessError."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = project["dependencies"] + project["optional-dependencies"]["export"]  # lesson 10 exports
    pip = [sys.executable, "-m", "pip", "install", "--quiet"]
    if lines := missing(asked):
        subprocess.run([*pip, *lines], check=True)
    subprocess.run([*pip, "--no-deps", "--editable", str(root)], check=True)


if __name__ == "__main__":
    install(Path(__file__).resolve().parents[2])

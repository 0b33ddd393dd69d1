"""The folder that a workshop's host carries into the room: packages, assets, the course, and a script to install."""

import platform
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

from coursekit.course.units import course_root
from coursekit.course.workshop.install import kind_of_machine
from coursekit.files import atomic_folder

LEFT_OUT = shutil.ignore_patterns(".*", "my-work", "welcome.ipynb", "build", "dist", "__pycache__", "*.egg-info")


def fill_folder(folder: Path, *, torch_index: str | None = None, root: Path | None = None) -> Path:
    """Put all that a machine like this one needs into `folder`, and return the script there that installs it.

    wheels/ is what pip downloads for this system and this Python; a later call on another kind of machine adds to it.
    assets/ are the models and texts, course/ is this checkout without the learner's work. `torch_index` is the address
    of an index that torch is taken from. What is there already is not fetched again. Raises ValueError if `folder` is
    a file or lies in the checkout, RuntimeError if pip fails, AssetError if an asset cannot be had.
    """
    from coursekit.data import fetch

    root, folder = root or course_root(), Path(folder).expanduser().resolve()
    if folder.is_file() or folder.is_relative_to(root):
        raise ValueError(f"{folder} is a file or lies in the course itself; expected a folder elsewhere")
    folder.mkdir(parents=True, exist_ok=True)
    download_wheels(root, folder / "wheels", torch_index)
    fetch(to=folder / "assets")
    with atomic_folder(folder / "course") as part:
        shutil.copytree(root, part, ignore=LEFT_OUT, dirs_exist_ok=True)
    script = folder / "install.py"
    shutil.copy(Path(__file__).with_name("install.py"), script)
    kinds = folder / "machines.txt"
    lines = set(kinds.read_text(encoding="utf-8").splitlines()) if kinds.is_file() else set()
    kinds.write_text("\n".join(sorted(lines | {kind_of_machine()})) + "\n", encoding="utf-8")
    return script


def download_wheels(root: Path, wheels: Path, torch_index: str | None = None) -> None:
    """Download what the lessons of the checkout at `root` need, in the versions of its constraints.txt, and what
    builds it.
    """
    about = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    project = about["project"]
    export = project["optional-dependencies"]["export"]  # lesson 10 exports
    asked = [*project["dependencies"], *export, *about["build-system"]["requires"]]
    torch = [line for line in asked if line.startswith("torch")]
    if torch and torch_index:
        _pip_download(root, wheels, ["--no-deps", "--index-url", torch_index, *torch])
    _pip_download(root, wheels, asked)


def _pip_download(root: Path, wheels: Path, arguments: list[str]) -> None:
    wheels.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--only-binary", ":all:"]
    command += ["--constraint", str(root / "constraints.txt"), "--find-links", str(wheels), "--dest", str(wheels)]
    done = subprocess.run([*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        said = [line for line in done.stdout.splitlines() if line.startswith("ERROR: ")] or [done.stdout[-300:]]
        raise RuntimeError(f"pip could not download the packages for {platform.platform()}: {said[-1]}")

"""What `coursekit lab` does: everything the first lesson needs, then JupyterLab on the welcome page."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from coursekit.course.units import course_root
from coursekit.course.welcome import WELCOME, write_welcome
from coursekit.files import cache_folder, write_json

HIDDEN = {"disabledExtensions": {"@jupyter/nbgrader": True, "@jupyterlab/apputils-extension:announcements": True}}
"""What `coursekit lab` does not show: nbgrader's menus and panels, which are a lecturer's and come with the tests, and
the question whether one wants Jupyter's news."""


def lab(*, prepare: bool = False) -> int:
    """Fetch the assets, make the quick teacher and the welcome page, and (unless only `prepare`) run JupyterLab.

    Returns its exit status. A welcome page that cannot be made is said in a line, and left out.
    Raises FileNotFoundError where only the library is installed, AssetError if an asset cannot be had.
    """
    from coursekit.data import fetch
    from coursekit.train import load_teacher

    root = course_root()
    fetch()
    load_teacher("quick")
    try:
        write_welcome(root)
    except (OSError, ValueError) as error:  # of a read-only folder, of a lesson that cannot be read
        print(f"no welcome page: {error}", file=sys.stderr)
    if prepare:
        return 0
    command = lab_command(root, display=has_display(os.environ), root_user=is_root())
    paths = hide_panels(cache_folder() / "jupyter", os.environ.get("JUPYTER_CONFIG_PATH", ""))
    return _serve(command, root, os.environ | {"JUPYTER_CONFIG_PATH": paths})


def lab_command(root: Path, *, display: bool, root_user: bool) -> list[str]:
    """The command that serves the course folder; token and port are Jupyter's own choice."""
    page = f"/lab/tree/{WELCOME}" if (root / WELCOME).is_file() else "/lab"
    command = [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={root}", f"--LabApp.default_url={page}"]
    if root_user:
        command.append("--allow-root")
    if not display:
        command.append("--no-browser")
    return command


def hide_panels(folder: Path, before: str = "") -> str:
    """Write a configuration for learners to `folder`; JUPYTER_CONFIG_PATH, until now `before`, with it in front.

    Only a server that is started with it is concerned: elsewhere, `jupyter lab` shows what is installed.
    """
    write_json(folder / "labconfig" / "page_config.json", HIDDEN)
    return os.pathsep.join(filter(None, (str(folder), before)))


def is_root() -> bool:
    """Whether this process runs as root, for which Jupyter wants to be told."""
    return hasattr(os, "geteuid") and os.geteuid() == 0


def has_display(environment: Mapping[str, str], platform: str = sys.platform, marks: str = "/") -> bool:
    """Whether a browser opened here would be seen: not over SSH, not in a container, not without a screen.

    `marks` is the folder in which containers leave their marks.
    """
    if any(environment.get(name) for name in ("SSH_CONNECTION", "SSH_TTY")):
        return False
    if platform in ("darwin", "win32"):
        return True
    container = environment.get("container") or environment.get("KUBERNETES_SERVICE_HOST")
    if container or any(Path(marks, mark).exists() for mark in (".dockerenv", "run/.containerenv")):
        return False
    return bool(environment.get("DISPLAY") or environment.get("WAYLAND_DISPLAY"))


def _serve(command: list[str], root: Path, environment: Mapping[str, str]) -> int:
    """Run the server until it ends; Ctrl-C is its to answer."""
    process = subprocess.Popen(command, cwd=root, env=environment)
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue

"""Set up the course on this machine from the folder this file lies in, without internet.

    python3 install.py [TARGET]

TARGET (by default small-transformers in your home folder) gets the course and its own environment; your earlier work
there stays. Only Python's standard library is used.
"""

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path


def kind_of_machine() -> str:
    """What packages depend on, as "Python 3.11, Linux x86_64"."""
    return f"Python {sys.version_info[0]}.{sys.version_info[1]}, {platform.system()} {platform.machine()}"


def install(source: Path, target: Path) -> Path:
    """Install from `source` into `target`; the command that opens the course. Raises SystemExit with one line."""
    known = (source / "machines.txt").read_text(encoding="utf-8").splitlines()
    if kind_of_machine() not in known:
        raise SystemExit(
            f"this folder is for {' and for '.join(known)}; this is {kind_of_machine()}. Take another Python, or run "
            "`coursekit workshop FOLDER` once more on a machine like this one that has internet"
        )
    shutil.copytree(source / "course", target, dirs_exist_ok=True)
    bin_folder = target / ".venv" / ("Scripts" if os.name == "nt" else "bin")
    python = bin_folder / ("python.exe" if os.name == "nt" else "python")
    if not python.exists():
        run(sys.executable, "-m", "venv", target / ".venv")
    pip = [python, "-m", "pip", "install", "--quiet", "--no-index", "--find-links", source / "wheels"]
    pip += ["--disable-pip-version-check", "--constraint", target / "constraints.txt"]
    run(*pip, "--editable", f"{target}[export]")
    asked = "from coursekit.data import assets_folder; print(assets_folder())"
    assets = subprocess.run([python, "-I", "-c", asked], check=True, capture_output=True, text=True).stdout.strip()
    shutil.copytree(source / "assets", assets, dirs_exist_ok=True)
    run(bin_folder / "coursekit", "lab", "--prepare")
    return bin_folder / "coursekit"


def run(*command: object) -> None:
    """Run a command, saying so; one line if it fails. pip's own settings are not used: they may name an index."""
    words = [str(word) for word in command]
    print("$", " ".join(words), flush=True)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    done = subprocess.run(words, env=environment | {"PIP_CONFIG_FILE": os.devnull})
    if done.returncode:
        raise SystemExit(f"this failed: {' '.join(words)}")


if __name__ == "__main__":
    place = Path(sys.argv[1]) if len(sys.argv) > 1 else Path.home() / "small-transformers"
    command = install(Path(__file__).resolve().parent, place.expanduser().resolve())
    print(f"ready; to open the course:\n{command} lab")

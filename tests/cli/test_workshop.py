"""A room without internet: a folder is filled here, and installed from with the network cut.

Packages of the real course are too large to be downloaded in every run of the tests. So what pip does is tried with a
small course that stands in, with two packages that are really downloaded; its `coursekit` does what install.py asks of
the real one. And the real course, with its real assets, is set up where its packages are there already.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import nbformat
import pytest

from coursekit.course.workshop import folder, install
from coursekit.course.workshop.folder import download_wheels, fill_folder
from coursekit.data import assets, assets_folder, fetch
from coursekit.files import cache_folder
from coursekit.train import load_teacher

CUT = ["unshare", "--map-root-user", "--net"]
PYPROJECT = """
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "coursekit"
version = "0"
dependencies = ["platformdirs>=4"]
optional-dependencies.export = ["packaging>=23"]
optional-dependencies.test = ["pytest>=8"]
scripts.coursekit = "coursekit:main"

[tool.setuptools.packages.find]
include = ["coursekit*"]
"""
PACKAGE = """
import os, sys
from pathlib import Path
import packaging, platformdirs

def main():
    from coursekit.data import assets_folder
    found = sorted(path.name for path in assets_folder().iterdir())
    Path(os.environ["SAID"]).write_text(" ".join(sys.argv[1:] + found))
"""
DATA = """
import os
from pathlib import Path

def assets_folder():
    return Path(os.environ["COURSEKIT_CACHE"]) / "assets"
"""


@pytest.fixture
def small_course(tmp_path):
    root = tmp_path / "course"
    for name, text in {
        "pyproject.toml": PYPROJECT,
        "constraints.txt": "platformdirs==4.3.6\n",
        "coursekit/__init__.py": PACKAGE,
        "coursekit/data.py": DATA,
        "my-work/01_parameters.ipynb": "mine",
        ".git/config": "secret",
    }.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def cut_off(command, **environment):
    """Run with no network at all and no configuration of pip; COURSEKIT_SANDBOX=1 demands that it can be cut."""
    tried = subprocess.run([*CUT, "true"], capture_output=True, text=True)
    if tried.returncode:
        if os.environ.get("COURSEKIT_SANDBOX") == "1":
            pytest.fail(f"the network cannot be cut here: {tried.stderr}")
        pytest.skip("the network cannot be cut here")
    clean = {"PATH": "/usr/bin:/bin", "PIP_CONFIG_FILE": "/dev/null"} | environment
    return subprocess.run([*CUT, *map(str, command)], env=clean, capture_output=True, text=True)


def test_a_machine_is_set_up_without_a_network(small_course, tmp_path, monkeypatch):
    monkeypatch.setattr("coursekit.data.fetch", lambda *, to: shutil.copytree(fetch("rotten-tomatoes"), to / "words"))
    script = fill_folder(tmp_path / "stick", root=small_course)
    stick = script.parent
    wheels = [path.name.split("-")[0] for path in (stick / "wheels").glob("*.whl")]
    assert sorted(wheels) == ["packaging", "platformdirs", "setuptools"]
    assert any(path.name.startswith("platformdirs-4.3.6-") for path in (stick / "wheels").iterdir())
    assert not (stick / "course" / "my-work").exists() and not (stick / "course" / ".git").exists()

    target, said = tmp_path / "room" / "small-transformers", tmp_path / "said"
    (target / "my-work").mkdir(parents=True)
    (target / "my-work" / "mine.ipynb").write_text("earlier")
    done = cut_off([sys.executable, script, target], COURSEKIT_CACHE=tmp_path / "cache", SAID=said, HOME=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert said.read_text() == "lab --prepare words"
    assert done.stdout.splitlines()[-1] == f"{target}/.venv/bin/coursekit lab"
    assert (target / "my-work" / "mine.ipynb").read_text() == "earlier"


@pytest.fixture
def packages_here(tmp_path):
    """What is installed here, but for the course itself, as a folder of links."""
    links = tmp_path / "packages"
    links.mkdir()
    for place in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        for path in Path(place).iterdir():
            if "coursekit" not in path.name and path.suffix != ".pth":
                (links / path.name).symlink_to(path)
    return links


@pytest.fixture
def prepared_cache(tmp_path):
    """A cache with the teacher that lessons use, which takes minutes to train, and without assets."""
    load_teacher("quick")
    cache = tmp_path / "cache"
    for path in (cache_folder() / "teachers").glob("*-quick-*"):
        if path.is_dir():
            shutil.copytree(path, cache / "teachers" / path.name)
    return cache


def test_the_real_course_is_set_up_without_a_network(packages_here, prepared_cache, tmp_path, monkeypatch):
    """All of the course and its assets. Of the packages only what builds the course comes from the folder."""
    fetch(quiet=True)
    monkeypatch.setattr("coursekit.data.fetch", lambda *, to: shutil.copytree(assets_folder(), to))

    def build_tools(root, wheels, index):
        folder._pip_download(root, wheels, ["setuptools>=77"])

    monkeypatch.setattr(folder, "download_wheels", build_tools)
    script = fill_folder(tmp_path / "stick")
    course, target = tmp_path / "stick" / "course", tmp_path / "room" / "small-transformers"
    assert not (course / "my-work").exists() and not (course / ".git").exists()

    subprocess.run([sys.executable, "-m", "venv", "--without-pip", target / ".venv"], check=True)
    (target / ".venv" / "share").symlink_to(Path(sys.prefix, "share"))  # JupyterLab's part of the widgets
    (site_packages,) = target.glob(".venv/lib/*/site-packages")
    (site_packages / "here.pth").write_text(f"{packages_here}\n")
    room = {"COURSEKIT_CACHE": prepared_cache, "HOME": tmp_path, "OMP_NUM_THREADS": "1"}
    done = cut_off([sys.executable, script, target], **room)
    assert done.returncode == 0, done.stdout + done.stderr
    (page,) = nbformat.read(target / "welcome.ipynb", as_version=4).cells[1].outputs
    assert page.data["text/plain"].startswith("This machine is ready for the course.")

    code = "import coursekit, coursekit.data as data; print(coursekit.__file__, *map(data.verify, data.assets()))"
    done = cut_off([target / ".venv" / "bin" / "python", "-I", "-c", code], **room)
    assert done.stdout.split() == [str(target / "coursekit" / "__init__.py"), *["[]"] * len(assets())], done.stderr


def test_the_network_is_really_cut():
    code = "import socket; socket.create_connection(('192.0.2.1', 80), 3)"
    done = cut_off([sys.executable, "-c", code])
    assert done.returncode and "unreachable" in done.stderr


def test_prepared_assets_serve_without_a_network(tmp_path):
    """The course's own environment, with `coursekit fetch --to` of a real asset and an empty cache."""
    prepared = fetch("rotten-tomatoes", to=tmp_path / "assets").parent
    code = "from coursekit.data import load_task; print(len(load_task('rotten-tomatoes').test.texts))"
    done = cut_off([sys.executable, "-c", code], COURSEKIT_ASSETS=prepared, COURSEKIT_CACHE=tmp_path / "cache")
    assert done.returncode == 0 and int(done.stdout) > 2000, done.stderr


def test_another_kind_of_machine_adds_to_the_folder_and_is_known(small_course, tmp_path, monkeypatch):
    monkeypatch.setattr("coursekit.data.fetch", lambda *, to: to.mkdir(exist_ok=True))
    monkeypatch.setattr(folder, "download_wheels", lambda root, wheels, index: wheels.mkdir(exist_ok=True))
    monkeypatch.setattr(folder, "kind_of_machine", lambda: "Python 3.13, Windows AMD64")
    fill_folder(tmp_path / "stick", root=small_course)
    with pytest.raises(SystemExit, match=r"this folder is for Python 3.13, Windows AMD64; this is Python 3\.\d+, "):
        install.install(tmp_path / "stick", tmp_path / "target")
    assert not (tmp_path / "target").exists()
    monkeypatch.undo()
    monkeypatch.setattr("coursekit.data.fetch", lambda *, to: to.mkdir(exist_ok=True))
    monkeypatch.setattr(folder, "download_wheels", lambda root, wheels, index: None)
    fill_folder(tmp_path / "stick", root=small_course)
    known = (tmp_path / "stick" / "machines.txt").read_text().splitlines()
    assert sorted(known) == sorted(["Python 3.13, Windows AMD64", install.kind_of_machine()])


def test_what_cannot_be_downloaded_is_one_line(small_course, tmp_path):
    project = small_course / "pyproject.toml"
    project.write_text(PYPROJECT.replace("packaging>=23", "packaging>=9999"))
    with pytest.raises(RuntimeError, match="pip could not download the packages for .*packaging>=9999") as caught:
        download_wheels(small_course, tmp_path / "wheels")
    assert "\n" not in str(caught.value)


def test_a_folder_inside_the_course_is_refused(small_course):
    with pytest.raises(ValueError, match="lies in the course itself"):
        fill_folder(small_course / "stick", root=small_course)
    assert not (small_course / "stick").exists()


def test_install_py_stands_alone():
    """It runs before anything is installed: only the standard library, and no other file of the course."""
    source = Path(install.__file__)
    done = subprocess.run([sys.executable, "-I", "-S", source, "nowhere"], capture_output=True, text=True)
    assert "FileNotFoundError" in done.stderr and "machines.txt" in done.stderr

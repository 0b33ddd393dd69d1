"""The cell for Google Colab: nothing elsewhere; there it fetches and installs. Colab itself is faked here: a module
`google.colab`, and a `subprocess.run` that only records.
"""

import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import nbformat
import pytest

from coursekit.course import colab
from coursekit.course.units import FOLDERS, UNITS, course_root

BUILT = [(unit, kind) for unit in UNITS for kind in FOLDERS if unit.notebook(kind, course_root()).is_file()]


@pytest.fixture
def commands(monkeypatch):
    """What would have been run."""
    recorded = []
    monkeypatch.setattr(subprocess, "run", lambda command, **_: recorded.append(command))
    return recorded


@pytest.fixture
def on_colab(monkeypatch):
    monkeypatch.setitem(sys.modules, "google.colab", ModuleType("google.colab"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    folders = []
    monkeypatch.setattr("os.chdir", folders.append)
    return folders


def run_cell(source):
    exec(compile(source, "<colab>", "exec"), {})


@pytest.mark.parametrize(("unit", "kind"), BUILT, ids=[f"{kind}-{unit.number}" for unit, kind in BUILT])
def test_it_is_the_first_code_cell_of_every_notebook_and_does_nothing_here(unit, kind, commands):
    before = list(sys.path), Path.cwd()
    notebook = nbformat.read(unit.notebook(kind, course_root()), as_version=4)
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    assert first.id == colab.CELL_ID
    run_cell(first.source)
    assert commands == [] and before == (list(sys.path), Path.cwd())


def test_no_other_cell_installs():
    for unit, kind in BUILT:
        for cell in nbformat.read(unit.notebook(kind, course_root()), as_version=4).cells:
            assert cell.get("id") == colab.CELL_ID or cell.cell_type != "code" or '"pip"' not in cell.source


def test_on_colab_it_clones_and_installs_and_goes_there(commands, on_colab, monkeypatch):
    monkeypatch.setenv("COURSEKIT_REPOSITORY", "https://example.org/course.git")
    run_cell(colab.cell_source(course_root()))
    folder = "/content/course"
    assert commands == [
        ["git", "clone", "--depth=1", "https://example.org/course.git", folder],
        [sys.executable, "-I", f"{folder}/coursekit/course/colab.py"],
    ]
    assert sys.path[0] == folder and on_colab == [f"{folder}/notebooks"]
    assert (course_root() / "coursekit/course/colab.py").is_file()


def test_without_an_address_it_says_what_is_missing(commands, on_colab, monkeypatch, tmp_path):
    monkeypatch.delenv("COURSEKIT_REPOSITORY", raising=False)
    with pytest.raises(ValueError, match="write the address of the course's repository"):
        run_cell(colab.cell_source(tmp_path))
    assert commands == []


def test_the_address_is_the_projects(commands, on_colab, monkeypatch, tmp_path):
    monkeypatch.delenv("COURSEKIT_REPOSITORY", raising=False)
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "x"\nurls.Repository = "https://example.org/a.git"\n')
    run_cell(colab.cell_source(tmp_path))
    assert commands[0][3] == "https://example.org/a.git"


def test_only_what_is_missing_is_installed_and_colabs_own_is_left(commands, monkeypatch, tmp_path):
    have = {"torch": "2.5", "numpy": "1.0", "tqdm": "4.66", "rich": "12.0"}

    def version(name):
        if name not in have:
            raise colab.metadata.PackageNotFoundError
        return have[name]

    monkeypatch.setattr(colab, "metadata", SimpleNamespace(**vars(colab.metadata) | {"version": version}))
    asked = ["torch>=2.6", "numpy>=1.26", "tqdm>=4.66", "rich>=13", "sacrebleu>=2.4", "jupyterlab>=4.2"]
    assert colab.missing(asked) == ["rich>=13", "sacrebleu>=2.4"]
    project = f'[project]\nname = "x"\ndependencies = {asked}\n'
    project += 'optional-dependencies.export = ["onnx>=1.17", "tqdm>=4"]\noptional-dependencies.test = ["pytest"]\n'
    (tmp_path / "pyproject.toml").write_text(project)
    colab.install(tmp_path)
    pip = [sys.executable, "-m", "pip", "install", "--quiet"]
    needed = ["rich>=13", "sacrebleu>=2.4", "onnx>=1.17"]  # lesson 10 exports; nobody tests there
    assert commands == [[*pip, *needed], [*pip, "--no-deps", "--editable", str(tmp_path)]]


def test_the_script_runs_before_the_course_can_be_imported():
    """As Colab runs it, apart from pip: alone, from its file, with nothing of coursekit loaded."""
    code = (
        "import runpy, subprocess, sys; subprocess.run = lambda command, **_: print(command[-1])\n"
        f"runpy.run_path({str(course_root() / 'coursekit/course/colab.py')!r}, run_name='__main__')\n"
        "assert not any(name.startswith('coursekit') for name in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == str(course_root()), done.stderr

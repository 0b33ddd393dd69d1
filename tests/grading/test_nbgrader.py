"""`coursekit class init` makes a course on which nbgrader's own commands work, and whose points follow the checks."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from classroom import answer_cells, notebook, partly, write

from coursekit.course.check import check
from coursekit.course.classroom import init_class
from coursekit.course.sources import STUB

UNIT = "01_parameters"


def only_graded(book: dict) -> dict:
    """The imports and the cells that nbgrader knows: enough to be graded, and quick."""
    first = next(cell for cell in book["cells"] if cell["cell_type"] == "code")
    book["cells"] = [cell for cell in book["cells"] if cell is first or "nbgrader" in cell["metadata"]]
    return book


def nbgrader(folder: Path, *words: str) -> str:
    """Run one of nbgrader's commands in the course's folder."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # it calls alembic by name
    environment = os.environ | {"PATH": path, "COURSEKIT_PROGRESS": str(folder / "progress.json")}
    done = subprocess.run(
        [sys.executable, "-m", "nbgrader", *words], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stderr


@pytest.fixture(scope="module")
def graded(tmp_path_factory) -> Path:
    """A course, released and graded: `ada` answered three tasks, `bob` all, `cleo` what the first hidden test wants."""
    pytest.importorskip("nbgrader")
    folder = tmp_path_factory.mktemp("course")
    init_class(folder)
    nbgrader(folder, "generate_assignment", UNIT, "--create")
    released = json.loads((folder / "release" / UNIT / f"{UNIT}.ipynb").read_text())
    constant = notebook("exercise")
    answer_cells(constant)[0]["source"] = "def factorised(vocabulary, hidden, width):\n    return 550"
    for student, source in (("ada", partly(3)), ("bob", notebook("solution")), ("cleo", constant)):
        handed_in = json.loads(json.dumps(released))
        for ours, theirs in zip(answer_cells(handed_in), answer_cells(source), strict=True):
            ours["source"] = theirs["source"]
        write(only_graded(handed_in), folder / "submitted" / student / UNIT / f"{UNIT}.ipynb")
    nbgrader(folder, "autograde", UNIT)
    nbgrader(folder, "generate_feedback", UNIT)
    return folder


def test_what_is_released_holds_no_answers(graded):
    text = (graded / "release" / UNIT / f"{UNIT}.ipynb").read_text()
    assert text.count(STUB) == 8
    assert "BEGIN SOLUTION" not in text and "HIDDEN TESTS" not in text and "solution-only" not in text
    points = [
        cell["metadata"]["nbgrader"].get("points", 0)
        for cell in json.loads(text)["cells"]
        if "nbgrader" in cell["metadata"]
    ]
    assert sum(points) == 15


def test_points_follow_the_checks(graded):
    from nbgrader.api import Gradebook

    with Gradebook(f"sqlite:///{graded}/gradebook.db") as book:
        scores = {each.student.id: (each.score, each.max_score) for each in book.assignment_submissions(UNIT)}
    assert scores == {"ada": (4, 15), "bob": (15, 15), "cleo": (0, 15)}


def test_feedback_shows_what_the_check_said(graded):
    text = (graded / "feedback" / "cleo" / UNIT / f"{UNIT}.html").read_text()
    assert "01.1 wrong: expected" in text


def test_a_second_init_keeps_what_is_there(graded):
    (graded / "source" / UNIT / f"{UNIT}.ipynb").write_text("mine")
    assert init_class(graded).assignments == ()
    assert (graded / "source" / UNIT / f"{UNIT}.ipynb").read_text() == "mine"


def test_init_refuses_a_file_and_another_course(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="is a file"):
        init_class(tmp_path / "file")
    (tmp_path / "nbgrader_config.py").write_text("c = get_config()")
    with pytest.raises(ValueError, match="another course"):
        init_class(tmp_path)


def test_a_check_raises_only_while_nbgrader_grades(monkeypatch):
    assert check("01.1", lambda vocabulary, hidden, width: 0).status == "wrong"
    monkeypatch.setenv("NBGRADER_EXECUTION", "autograde")
    with pytest.raises(AssertionError, match="01.1 wrong: "):
        check("01.1", lambda vocabulary, hidden, width: 0)
    with pytest.raises(AssertionError, match="01.1 not attempted"):
        check("01.1", None)
    right = lambda vocabulary, hidden, width: vocabulary * width + width * hidden  # noqa: E731
    assert check("01.1", right).status == "right"

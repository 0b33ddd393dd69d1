"""Finding submissions in the layouts a lecturer meets, and what of a notebook is run."""

import json
import os

import pytest
from classroom import notebook, partly, write

from coursekit.course.grading.load import load
from coursekit.course.grading.run import feedback
from coursekit.course.grading.submissions import Unreadable, code_cells, find_submissions, handed_out


def found(folder, units=None):
    """Who handed in what, as (student, unit, file's name or problem)."""
    return [(s.student, s.unit, s.problem or s.path.name) for s in find_submissions(folder, units)]


def test_layouts(tmp_path):
    write(partly(0), tmp_path / "ada" / "01_parameters.ipynb")
    write(partly(0), tmp_path / "bob" / "01_parameters" / "01_parameters.ipynb")
    write(partly(0), tmp_path / "Cleo Ng_1234_assignsubmission_file_" / "my homework.ipynb")
    write(partly(0), tmp_path / "dan_01_parameters.ipynb")
    write(partly(0), tmp_path / "eve.ipynb")
    write(partly(0), tmp_path / ".ipynb_checkpoints" / "01_parameters.ipynb")
    write(partly(0), tmp_path / "ada" / ".ipynb_checkpoints" / "01_parameters.ipynb")
    (tmp_path / "fay").mkdir()
    (tmp_path / "readme.txt").write_text("")
    assert found(tmp_path) == [
        ("Cleo Ng_1234_assignsubmission_file_", "01", "my homework.ipynb"),
        ("ada", "01", "01_parameters.ipynb"),
        ("bob", "01", "01_parameters.ipynb"),
        ("dan", "01", "dan_01_parameters.ipynb"),
        ("eve", "01", "eve.ipynb"),
        ("fay", "01", "nothing was handed in"),
    ]


def test_units(tmp_path):
    write(partly(0), tmp_path / "ada" / "01_parameters.ipynb")
    write(partly(0, "00"), tmp_path / "ada" / "00_measuring.ipynb")
    write(partly(0, "00"), tmp_path / "bob" / "00_measuring.ipynb")
    assert [(s.student, s.unit, bool(s.problem)) for s in find_submissions(tmp_path)] == [
        ("ada", "00", False),
        ("ada", "01", False),
        ("bob", "00", False),
        ("bob", "01", True),
    ]
    assert [s.unit for s in find_submissions(tmp_path, ["measuring"])] == ["00", "00"]
    with pytest.raises(ValueError, match="unknown unit"):
        find_submissions(tmp_path, ["99"])


def test_of_several_files_the_newest_counts(tmp_path):
    old = write(partly(0), tmp_path / "ada" / "01_parameters.ipynb")
    new = write(partly(1), tmp_path / "ada" / "01_parameters (1).ipynb")
    os.utime(old, (1, 1))
    (one,) = find_submissions(tmp_path)
    assert one.path == new and "01_parameters.ipynb" in one.notes[0]


def test_empty_and_missing_folders(tmp_path):
    with pytest.raises(ValueError, match="is not a folder"):
        find_submissions(tmp_path / "none")
    with pytest.raises(ValueError, match="holds no submissions"):
        find_submissions(tmp_path)
    (tmp_path / "ada").mkdir()
    with pytest.raises(ValueError, match="can be told to be of a unit"):
        find_submissions(tmp_path)


def test_cells_are_told_apart():
    cells = code_cells(json.dumps(partly(1)).encode(), "01")
    answers = [cell for cell in cells if cell["answer"]]
    assert len(answers) == 8 and [cell["given"] for cell in answers] == [False] + [True] * 7
    bare = notebook("solution")
    for cell in bare["cells"]:
        cell["metadata"] = {}
    assert sum(cell["answer"] for cell in code_cells(json.dumps(bare).encode(), "01")) == 8
    with pytest.raises(Unreadable):
        code_cells(b"[]", "01")


def test_every_task_of_an_exercise_has_its_expression():
    assert handed_out("01").answers["01.5"] == "tied_output" and len(handed_out("01").answers) == 8
    assert "import torch" in handed_out("01").imports


def cell(source, answer=False, given=False):
    """A cell as `load` gets it."""
    return {"source": source, "answer": answer, "given": given}


def test_definitions_run_and_the_rest_does_not(monkeypatch):
    monkeypatch.setattr("sys.modules", {**__import__("sys").modules})
    names, problems = load(
        [
            cell("import math\n%matplotlib inline\n!ls\nmodel = train()\nSIZES = [1, 2]", given=True),
            cell("SCALE = math.sqrt(4)\nraise SystemExit\nfor i in range(3):\n    started = i"),
            cell("def f(x):\n    return x * SCALE\nf(undefined)\nf(1)", answer=True),
            cell("f = stand_in('01.1', f)\ncheck('01.1', f)"),
            cell("def broken(:"),
            cell("late = missing + 1"),
        ]
    )
    assert names["f"](3) == 6 and names["SIZES"] == [1, 2]
    assert "model" not in names and "started" not in names
    assert [problem.split(":")[0] for problem in problems] == [
        "cell 3, line 3",
        "cell 5 cannot be read",
        "cell 6, line 1",
    ]


def test_feedback_is_text_whatever_it_quotes():
    from coursekit.course.grading import Grade, TaskGrade

    task = TaskGrade("01.1", "wrong", 0, 1, "expected 3, got <script>alert(1)</script> | [x](y) `z`")
    text = feedback(Grade("_ada_ <b>", "01", 0, 1, (task,), ("cell 1: *x*",), 0.1, ""))
    assert "<script>" not in text and "<b>" not in text and "[x]" not in text
    row = next(line for line in text.splitlines() if line.startswith("| 01.1"))
    assert row.count("|") == 5

"""A lecturer with 30 submissions, 12 of them hostile, grades them with the README's command."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from classroom import answer_cells, code_cell, hostile, notebook, partly, write

pytestmark = pytest.mark.usefixtures("sandbox")
HOSTILE = [
    "endless_loop_at_once",
    "exit",
    "memory_of_many",
    "fork_bomb",
    "equal_to_everything",
    "prints_the_line",
    "reads_the_disk",
    "edits_its_score",
    "patches_the_checker",
    "hundred_megabytes",
    "broken_json",
    "link_out",
]


def class_of_thirty(folder):
    """Write the submissions; returns the points that each student should get."""
    expected = dict.fromkeys(hostile(folder, HOSTILE), 0)
    points = [0, 1, 2, 4, 7, 9, 12, 13, 15]  # of unit 01, for so many tasks from the first
    for number in range(9):  # a folder each, with the notebook in it
        write(partly(number), folder / f"folder_{number}" / "01_parameters.ipynb")
        expected[f"folder_{number}"] = points[number]
    for number in (0, 4, 8):  # as nbgrader collects them
        write(partly(number), folder / f"nbgrader_{number}" / "01_parameters" / "01_parameters.ipynb")
        expected[f"nbgrader_{number}"] = points[number]
    for number in (0, 8):  # single files
        write(partly(number), folder / f"single{number}_01_parameters.ipynb")
        expected[f"single{number}"] = points[number]
    for name, unit in (("renamed", "01"), ("other_unit", "00")):  # told by its checks
        write(notebook("solution", unit), folder / name / "homework.ipynb")
        expected[name] = 15 if unit == "01" else 0
    wrong = notebook("exercise")
    answer_cells(wrong)[0]["source"] = "def factorised(vocabulary, hidden, width):\n    return vocabulary * width"
    write(wrong, folder / "wrong" / "01_parameters.ipynb")
    own = notebook("solution")
    answer_cells(own)[1]["source"] = "import math\nwidest_that_pays = lambda V, H: helper(V * H, V + H)"
    own["cells"].append(
        code_cell("%matplotlib inline\ndef helper(a, b):\n    return (a - 1) // b\nprint(encoder.nothing)")
    )
    for cell in own["cells"]:
        cell["metadata"] = {}  # as some tools save it
    write(own, folder / "own_way" / "01_parameters (2).ipynb")
    return expected | {"wrong": 0, "own_way": 15}


def start(folder, *options):
    """The command as the README has it, from the folder that holds the submissions. With two threads, wherever this
    runs: a task is judged in a fork, which a pool of threads does not survive."""
    return subprocess.Popen(
        [sys.executable, "-m", "coursekit.cli", "grade", "submissions", "--out", "grades.csv", *options],
        cwd=folder,
        env=os.environ | {"COLUMNS": "200", "OMP_NUM_THREADS": "2"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def run(folder, *options):
    """The command, to its end; what it printed."""
    process = start(folder, *options)
    out, err = process.communicate()
    assert process.returncode == 0, err
    return out


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    """The class, the folder it was graded in, and what the command printed."""
    folder = tmp_path_factory.mktemp("lecturer")
    expected = class_of_thirty(folder / "submissions")
    return folder, expected, run(folder, "--units", "01", "--seconds", "4", "--memory", "512")


def table(folder):
    """The rows of grades.csv by student."""
    with open(folder / "grades.csv", newline="") as file:
        return {row["student"]: row for row in csv.DictReader(file)}


def test_everybody_gets_what_they_earned(graded):
    folder, expected, printed = graded
    assert len(expected) == 30
    rows = table(folder)
    assert {name: int(row["points"]) for name, row in rows.items()} == expected
    assert rows["folder_3"]["01.3"] == "right" and rows["folder_3"]["01.4"] == "not attempted"
    assert rows["broken_json"]["01.1"] == "not graded" and rows["other_unit"]["01.1"] == "missing"
    assert "30 submissions" in printed and "s each" in printed


def test_everybody_gets_feedback(graded):
    folder, expected, _ = graded
    for student in expected:
        assert (folder / "grades" / student / "01_parameters.md").is_file()
    text = (folder / "grades" / "wrong" / "01_parameters.md").read_text()
    assert "**0 of 15 points**" in text and "but not the map from E to H" in text


def test_a_grader_that_is_killed_loses_no_grade(tmp_path):
    points = {"a": 0, "b": 7, "c": 13, "d": 15, "e": 4}
    for student, number in zip(points, (0, 4, 7, 8, 3), strict=True):
        write(partly(number), tmp_path / "submissions" / student / "01_parameters.ipynb")
    process, results = start(tmp_path, "--units", "01"), tmp_path / "grades"
    while not (stored := list(results.glob("*/*.json"))) and process.poll() is None:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    before = {path: path.stat().st_mtime_ns for path in results.glob("*/*.json")}
    assert set(stored) <= set(before) and len(before) < len(points)
    assert not (tmp_path / "grades.csv").exists()
    run(tmp_path, "--units", "01")
    assert {name: int(row["points"]) for name, row in table(tmp_path).items()} == points
    assert {path: path.stat().st_mtime_ns for path in before} == before  # kept, not graded anew


def test_a_second_run_takes_over_what_is_there(graded):
    """One result is gone, as after a crash, and one notebook was handed in again: only these two are graded."""
    folder, expected, _ = graded
    results = folder / "grades"
    (results / "folder_8" / "01_parameters.json").unlink()
    (results / "folder_7" / "01_parameters.json").write_text("{")
    (folder / "grades.csv").unlink()
    write(notebook("solution"), folder / "submissions" / "folder_1" / "01_parameters.ipynb")
    before = {path: path.stat().st_mtime_ns for path in results.glob("*/*.json")}
    again = json.loads(run(folder, "--units", "01", "--seconds", "4", "--memory", "512", "--json"))
    assert {each["student"]: each["points"] for each in again} == expected | {"folder_1": 15}
    changed = {path.parent.name for path in results.glob("*/*.json") if before.get(path) != path.stat().st_mtime_ns}
    assert changed == {"folder_1", "folder_7", "folder_8"}
    assert {name: int(row["points"]) for name, row in table(folder).items()} == expected | {"folder_1": 15}
    shutil.rmtree(results)

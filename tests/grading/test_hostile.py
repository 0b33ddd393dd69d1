"""Submissions that set out to score without an answer, to stop the others, or to look where they should not."""

import csv
import json
import os
from contextlib import suppress

import psutil
import pytest
from classroom import hostile, notebook, partly, write

from coursekit.course.grading import Limits, grade, judge
from coursekit.course.tasks import unit_tasks

pytestmark = pytest.mark.usefixtures("sandbox")
LIMITS = Limits(seconds=4, megabytes=512, stops=1)


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    """A class of hostile students with three honest ones before, among and after them, in three of the tasks."""
    folder = tmp_path_factory.mktemp("class")
    names = hostile(folder / "submitted")
    write(notebook("solution"), folder / "submitted" / "aaa_first" / "01_parameters.ipynb")
    write(partly(3), folder / "submitted" / "m_partly" / "01_parameters.ipynb")
    write(notebook("solution"), folder / "submitted" / "zzz_last" / "01_parameters.ipynb")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(judge, "unit_tasks", lambda unit: [unit_tasks(unit)[number] for number in (0, 4, 6)])
        patch.setenv("PATH", f"{os.environ['PATH']}:{folder}")  # by which its processes are known
        grades = grade(folder / "submitted", folder / "out" / "grades.csv", limits=LIMITS)
    return folder, names, {each.student: each for each in grades}


def test_none_scores(graded):
    _, names, grades = graded
    assert not {name: grades[name] for name in names if grades[name].points or grades[name].of != 4}
    assert len(names) >= 20


def test_none_stops_or_helps_the_others(graded):
    _, names, grades = graded
    assert len(grades) == len(names) + 3
    assert grades["aaa_first"].points == grades["zzz_last"].points == 4
    assert [task.status for task in grades["m_partly"].tasks] == ["right", "not attempted", "not attempted"]


def test_none_leaves_a_process(graded):
    left = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            left += [process] if str(graded[0]) in process.environ().get("PATH", "") else []
    assert not left


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("endless_loop", "still running"),
        ("endless_loop_at_once", "still running"),
        ("deaf_loop", "still running"),
        ("exit", "the process has ended"),
        ("memory_of_many", "more than 512 MB"),
        ("fork_bomb", "still running"),
        ("hundred_megabytes", "100 MB, more than 20"),
        ("broken_json", "not a notebook"),
        ("link_out", "is a link"),
        ("equal_class", "expected an int, got a Liar"),
    ],
)
def test_the_message_says_what_happened(graded, name, words):
    assert words in " ".join(task.message for task in graded[2][name].tasks)


def test_the_table_and_the_feedback_are_the_graders(graded):
    folder, names, grades = graded
    with open(folder / "out" / "grades.csv", newline="") as file:
        rows = {row["student"]: row for row in csv.DictReader(file)}
    assert {name: int(row["points"]) for name, row in rows.items()} == {n: g.points for n, g in grades.items()}
    for name in [*names, "zzz_last"]:
        text = (folder / "out" / "grades" / name / "01_parameters.md").read_text()
        assert f"**{grades[name].points} of 4 points**" in text
        assert json.loads((folder / "out" / "grades" / name / "01_parameters.json").read_text())["student"] == name

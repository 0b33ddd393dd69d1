"""The progress file: whole, shared by several kernels, and never in the way."""

import json
import multiprocessing
import os

import pytest
from filelock import FileLock
from rich.console import Console

from coursekit.course import progress
from coursekit.course.progress import (
    LOCK_SECONDS,
    Progress,
    UnitProgress,
    next_hint,
    progress_file,
    read_progress,
    record_check,
    separate_progress,
)
from coursekit.course.tasks import Task


@pytest.fixture(autouse=True)
def own_file(monkeypatch, tmp_path):
    path = tmp_path / "here" / "progress.json"
    monkeypatch.setenv("COURSEKIT_PROGRESS", str(path))
    return path


def test_a_right_answer_stays_solved(own_file):
    record_check("00.1", "not attempted")
    record_check("00.1", "wrong", "too large")
    assert read_progress()["00.1"] == {
        "status": "wrong",
        "message": "too large",
        "checks": 1,
        "hints": 0,
        "solved": None,
    }
    record_check("00.1", "right")
    solved = read_progress()["00.1"]["solved"]
    record_check("00.1", "wrong")
    entry = read_progress()["00.1"]
    assert (entry["status"], entry["checks"], entry["solved"]) == ("wrong", 3, solved)
    assert json.loads(own_file.read_text())["version"] == 1


def test_hints_count_to_the_answer():
    assert [next_hint("00.2") for _ in range(6)] == [1, 2, 3, 4, 4, 4]
    assert next_hint("00.3") == 1


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'"text"',
        b"null",
        b"{}",
        b'{"tasks": [1]}',
        b'{"tasks": {"00.1": 3}}',
        b'{"tasks": {"00.1": {"status": "right", "checks": "many"}}}',
        b'{"tasks": {"00.1": {"hints": null}}}',
        b"\xff\xfe\x00",
    ],
)
def test_a_corrupted_file_is_set_aside(own_file, capsys, content):
    own_file.parent.mkdir()
    for number in (1, 2):
        own_file.write_bytes(content)
        record_check("00.1", "right")
        assert own_file.with_name(f"progress.unreadable-{number}.json").read_bytes() == content
        assert capsys.readouterr().err.count("\n") == 1
        assert list(read_progress()) == ["00.1"]
        assert next_hint("00.1") == 1


def test_an_older_files_unknown_fields_are_kept(own_file):
    own_file.parent.mkdir()
    own_file.write_text('{"tasks": {"00.1": {"status": "wrong", "note": "mine"}, "99.9": {}}}')
    record_check("00.1", "right")
    assert read_progress()["00.1"]["note"] == "mine"
    assert "99.9" in read_progress()


def _record_many(start, worker):
    start.wait()
    for number in range(10):
        record_check(f"{worker:02}.{number + 1}", "right")
        record_check("99.1", "wrong")


def test_kernels_do_not_lose_each_others_entries():
    context = multiprocessing.get_context("fork" if os.name == "posix" else "spawn")
    start = context.Event()
    workers = [context.Process(target=_record_many, args=(start, worker)) for worker in range(4)]
    for worker in workers:
        worker.start()
    start.set()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 4
    entries = read_progress()
    assert len(entries) == 41
    assert entries["99.1"]["checks"] == 40


def test_a_held_lock_costs_one_line(own_file, capsys, monkeypatch):
    monkeypatch.setitem(record_check.__globals__, "LOCK_SECONDS", 0.05)
    own_file.parent.mkdir()
    with FileLock(str(own_file) + ".lock"):
        record_check("00.1", "right")
        assert next_hint("00.1") == 1
    error = capsys.readouterr().err
    assert error.count("progress is not recorded") == 2
    assert LOCK_SECONDS > 1


def test_an_unwritable_place_costs_one_line(tmp_path, capsys, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("COURSEKIT_PROGRESS", str(tmp_path / "file" / "progress.json"))
    record_check("00.1", "right")
    assert capsys.readouterr().err.count("\n") == 1


def test_where_the_file_is(monkeypatch, tmp_path):
    monkeypatch.delenv("COURSEKIT_PROGRESS")
    monkeypatch.setitem(progress_file.__globals__, "course_root", lambda: tmp_path)
    monkeypatch.setattr("platformdirs.user_data_dir", lambda name: str(tmp_path / "data" / name))
    assert progress_file() == tmp_path / "my-work" / "progress.json"

    def no_course():
        raise FileNotFoundError

    monkeypatch.setitem(progress_file.__globals__, "course_root", no_course)
    assert progress_file() == tmp_path / "data" / "coursekit" / "progress.json"


def test_separate_progress_leaves_no_trace(own_file):
    record_check("00.1", "wrong")
    with separate_progress():
        assert read_progress() == {}
        record_check("00.1", "right")
        assert read_progress()["00.1"]["status"] == "right"
    assert read_progress()["00.1"]["status"] == "wrong"
    assert os.environ["COURSEKIT_PROGRESS"] == str(own_file)


@pytest.fixture
def two_tasks(monkeypatch):
    def task(number, points):
        names = dict(title="t", minutes=1, difficulty=1, importance=1, hints=("a", "b", "c"))
        return Task(id=f"00.{number}", points=points, check=print, stand_in=print, **names)

    monkeypatch.setitem(progress.__globals__, "task_units", lambda: ["00"])
    monkeypatch.setitem(progress.__globals__, "unit_tasks", lambda unit: (task(1, 2), task(2, 3), task(3, 4)))


def test_table(two_tasks):
    record_check("00.1", "right")
    record_check("00.2", "wrong", "off by one, as in x < y")
    record_check("00.3", "not attempted")
    next_hint("00.2")
    next_hint("00.2")
    shown = progress()
    assert shown.units == (UnitProgress("00", "Measuring honestly", 1, 2, 3, 2, 9, 2),)
    assert shown.rows() == [("00", "Measuring honestly", "1", "2", "3", "2", "9", "2")]
    assert repr(shown).splitlines()[1].split() == ["00", "Measuring", "honestly", "1", "2", "3", "2", "9", "2"]
    assert [(task.task, task.state, task.hints) for task in shown.tasks] == [
        ("00.1", "right", 0),
        ("00.2", "wrong: off by one, as in x < y", 2),
        ("00.3", "not attempted", 0),
    ]
    html = shown._repr_html_()
    assert "1 of 3 tasks are right." in html and "■□□ 1 of 3" in html and ">2 of 9</td>" in html
    assert "as in x &lt; y</td>" in html and ">2 of 3 hints</td>" in html
    assert "<summary>00 · Measuring honestly, task by task</summary>" in html
    console = Console(width=100, record=True)
    console.print(shown)
    assert "Measuring honestly" in console.export_text()


def test_nothing_yet(two_tasks):
    assert progress().units[0].attempted == 0
    assert repr(Progress(())).split()[0] == "unit"


def test_a_task_once_right_stays_right_and_a_look_at_the_answer_is_said(two_tasks):
    record_check("00.1", "right")
    record_check("00.1", "wrong", "broken since")
    for _ in range(4):
        next_hint("00.3")
    shown = progress()
    assert [task.state for task in shown.tasks] == ["right", "not attempted", "not attempted"]
    assert ">the answer</td>" in shown._repr_html_()

"""What code inside a sandbox can see and use, asked from inside."""

import os
import socket

import pytest
from classroom import partly, write

from coursekit.course.grading import grade, sandbox
from coursekit.course.grading.peer import Peer
from coursekit.course.grading.sandbox import Limits, Workshop, bubblewrap
from coursekit.course.units import course_root

INSIDE = """
import os, resource, socket, sys

def listing(path):
    try:
        return sorted(os.listdir(path))
    except OSError as error:
        return type(error).__name__

def reach(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=2)
        return "reached"
    except OSError:
        return "not reached"

def write_to(path):
    try:
        with open(path, "w") as file:
            file.write("x")
        return "written"
    except OSError as error:
        return type(error).__name__

def processes():
    made = 0
    while made < 500:
        try:
            if os.fork() == 0:
                os.setsid()
                while True:
                    pass
        except OSError:
            return made
        made += 1
    return made

def signals():
    reached = []
    for number in range(1, 40_000):
        try:
            os.kill(number, 0)
            reached.append(number)
        except ProcessLookupError:
            pass
        except PermissionError:
            pass
    return len(reached)

def facts():
    import coursekit.models, coursekit.course
    return {"environment": dict(os.environ), "uid": os.getuid(), "argv": sys.argv, "ppid": os.getppid(),
            "modules": [name for name in sys.modules if ".tasks." in name or "solution" in name]}
"""


@pytest.fixture(scope="module")
def workshop(sandbox):  # noqa: F811
    """A warm process with sandboxes that do not show the course."""
    os.environ["A_SECRET"] = "token"
    try:
        with Workshop(bubblewrap([course_root()]), Limits(seconds=20), []) as made:
            yield made
    finally:
        del os.environ["A_SECRET"]


@pytest.fixture
def inside(workshop):
    """inside("f", *args): what a function of INSIDE returns in a fresh sandbox."""

    def ask(name, *args):
        with workshop.place() as place:
            message = {"op": "load", "answer": name, "cells": [{"source": INSIDE, "answer": True, "given": False}]}
            loaded = Peer(place.channel, "j").ask(message)
            assert loaded["problems"] == []
            return loaded["answer"](*args)

    return ask


pytestmark = pytest.mark.usefixtures("sandbox")


def test_the_library_is_there_and_the_course_is_not(inside):
    root = course_root()
    assert "models" in inside("listing", str(root / "coursekit"))
    assert "course" not in inside("listing", str(root / "coursekit"))
    for hidden in ("solutions", "exercises", "tests", "coursekit/course/tasks", ".git"):
        assert inside("listing", str(root / hidden)) == "FileNotFoundError"
    assert inside("listing", "/proc") == ["cpuinfo"]
    assert inside("listing", os.path.expanduser("~")) != sorted(os.listdir(os.path.expanduser("~")))


def test_nothing_can_be_written_but_tmp_and_that_is_gone(inside):
    for path in ("/x", str(course_root() / "coursekit" / "x"), "/usr/x", "/dev/x"):
        assert inside("write_to", path) in ("OSError", "PermissionError")
    assert inside("write_to", "/tmp/x") == "written"
    shown = [course_root().relative_to("/tmp").parts[0]] if course_root().is_relative_to("/tmp") else []
    assert inside("listing", "/tmp") == shown


def test_there_is_no_network(inside):
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert inside("reach", server.getsockname()[1]) == "not reached"


def test_there_are_few_processes_and_no_others(inside):
    assert inside("processes") < 40
    assert inside("signals") <= 3


def test_nothing_of_the_graders_is_known(inside):
    facts = inside("facts")
    assert "A_SECRET" not in facts["environment"] and facts["modules"] == []
    assert facts["ppid"] == 0 and (os.getuid() != 0 or facts["uid"] != 0)


def test_without_bubblewrap_it_refuses_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(sandbox.shutil, "which", lambda name: None)
    write(partly(1), tmp_path / "in" / "ada" / "01_parameters.ipynb")
    with pytest.raises(RuntimeError, match="bubblewrap is needed.*--trusted") as caught:
        grade(tmp_path / "in", tmp_path / "grades.csv")
    assert "\n" not in str(caught.value) and not (tmp_path / "grades.csv").exists()


def test_where_bubblewrap_may_not_it_says_so(tmp_path, monkeypatch):
    program = tmp_path / "bwrap"
    program.write_text("#!/bin/sh\necho bwrap: No permissions to create new namespace >&2; exit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr(sandbox.shutil, "which", lambda name: str(program))
    with pytest.raises(RuntimeError, match="cannot make a sandbox here .*No permissions.*--trusted"):
        bubblewrap([])


def test_trusted_needs_no_sandbox(tmp_path, monkeypatch):
    monkeypatch.setattr(sandbox.shutil, "which", lambda name: None)
    write(partly(2), tmp_path / "in" / "ada" / "01_parameters.ipynb")
    (result,) = grade(tmp_path / "in", tmp_path / "grades.csv", trusted=True)
    assert result.points == 2 and [task.status for task in result.tasks[:3]] == ["right", "right", "not attempted"]


def test_the_table_may_not_lie_among_the_submissions(tmp_path):
    write(partly(1), tmp_path / "ada" / "01_parameters.ipynb")
    with pytest.raises(ValueError, match="among the submissions"):
        grade(tmp_path, tmp_path / "grades.csv", trusted=True)

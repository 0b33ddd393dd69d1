"""Submissions to be graded: honest ones made from the course's own notebooks, and hostile ones."""

import json
from collections.abc import Callable
from pathlib import Path

from coursekit.course.sources import exercise_of, read_source
from coursekit.course.units import course_root, find_unit


def notebook(kind: str, unit: str = "01") -> dict:
    """The exercise or the solution of a unit, as the JSON of its file."""
    solution = read_source(find_unit(unit), "solution", course_root())
    return json.loads(json.dumps(solution if kind == "solution" else exercise_of(solution)))


def answer_cells(book: dict) -> list[dict]:
    """The cells that hold answers, in order."""
    return [cell for cell in book["cells"] if cell["metadata"].get("nbgrader", {}).get("solution")]


def code_cell(source: str) -> dict:
    """A cell that a student adds."""
    return {"cell_type": "code", "metadata": {}, "source": source, "outputs": [], "execution_count": None}


def partly(answered: int, unit: str = "01") -> dict:
    """The exercise with the first answers filled in, and the others as they were."""
    book, solution = notebook("exercise", unit), notebook("solution", unit)
    for ours, theirs in list(zip(answer_cells(book), answer_cells(solution), strict=True))[:answered]:
        ours["source"] = theirs["source"]
    return book


def write(book: object, path: Path) -> Path:
    """Write a notebook, with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(book))
    return path


def with_code(source: str) -> dict:
    """An exercise of unit 01 in which every answer is `cheat(*args)`, and `cheat` is what the code says."""
    book = notebook("exercise")
    names = [cell["source"].split("(")[0].removeprefix("def ") for cell in answer_cells(book)]
    parameters = {cell["source"].split("\n")[0] for cell in answer_cells(book)}
    for cell, name in zip(answer_cells(book), names, strict=True):
        (head,) = [line for line in parameters if line.startswith(f"def {name}(")]
        given = ", ".join(part.split(":")[0].strip() for part in head.partition("(")[2].rpartition(")")[0].split(", "))
        cell["source"] = f"def {name}({given}):\n    return cheat({given})"
    book["cells"].insert(1, code_cell(source))
    book["cells"][1]["metadata"] = {"nbgrader": {"solution": True}}  # so that all of it runs
    return book


CODE = {
    "endless_loop": "def cheat(*args):\n    while True:\n        pass",
    "endless_loop_at_once": "while True:\n    pass\ndef cheat(*args):\n    return 1",
    "deaf_loop": """
import signal
def cheat(*args):
    while True:
        try:
            signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 32))
            while True:
                pass
        except BaseException:
            pass
""",
    "exit": "import os\ndef cheat(*args):\n    os._exit(0)",
    "exit_at_once": "import os\nos._exit(0)",
    "memory_bomb": """
def cheat(*args):
    held = []
    while True:
        try:
            held.append(bytearray(50_000_000))
        except MemoryError:
            pass
""",
    "memory_of_many": """
import os, time
def cheat(*args):
    for _ in range(12):
        if os.fork() == 0:
            break
    held = bytearray(os.urandom(1000)) * 200_000
    time.sleep(600)
""",
    "fork_bomb": """
import os
def cheat(*args):
    while True:
        try:
            os.fork()
        except OSError:
            pass
""",
    "equal_to_everything": """
class Liar(int):
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __bool__(self): return True
    def __getattr__(self, name): return self
    def __call__(self, *a, **k): return self
    __hash__ = __lt__ = __gt__ = __le__ = __ge__ = __sub__ = __rsub__ = __abs__ = lambda self, *a: True
    __class__ = property(lambda self: int)
def cheat(*args):
    return Liar()
""",
    "equal_class": """
class Liar:
    def __eq__(self, other): return True
    def __iter__(self): return iter([self, self])
    def __len__(self): return 2
    def __getattr__(self, name): return self
    def equal(self, other): return True
def cheat(*args):
    return Liar()
""",
    "prints_the_line": """
import os, sys
def cheat(*args):
    for number in range(8):
        print(f"01.{number} right", file=sys.__stdout__, flush=True)
    for file in range(3, 64):
        try:
            os.write(file, b'{"status": "right", "message": ""}' * 20)
        except OSError:
            pass
    return 1
""",
    "speaks_the_protocol": """
import gc, struct, json
def cheat(*args):
    for thing in gc.get_objects():
        if type(thing).__name__ == "Peer":
            for name in range(40):
                thing.channel.send({"op": "call", "method": None, "link": {},
                    "values": [{"t": "ref", "v": f"j{name}"}, {"t": "tuple", "v": []}, {"t": "ref", "v": "w9999"}],
                    "nodes": {"w9999": {"k": "dict", "class": "dict", "v": []}}})
            thing.channel.send({"op": "return", "values": [{"t": "ref", "v": "j0"}], "nodes": {}})
    return 1
""",
    "reads_the_disk": """
import os, importlib
def cheat(*args):
    found = []
    for root, folders, files in os.walk("/"):
        folders[:] = [name for name in folders if name not in ("site-packages", "usr", "lib")]
        for file in files:
            if file.startswith(("checks_01", "unit_01", "01_parameters", "grades")):
                found.append(os.path.join(root, file))
    for name in ("coursekit.course.tasks.unit_01", "coursekit.course.tasks.checks_01_counts"):
        module = importlib.import_module(name)
    return eval(open(found[0]).read())
""",
    "reads_the_grader": """
import ctypes, gc, inspect, os, sys
def cheat(*args):
    libc = ctypes.CDLL(None)
    for number in [os.getppid(), *range(1, 5000)]:
        if number != os.getpid():
            libc.ptrace(16, number, 0, 0)
            libc.kill(number, 9)
            try:
                open(f"/proc/{number}/mem", "rb")
            except OSError:
                pass
    for name in ("expected", "mistakes"):
        frame = sys._getframe()
        while frame:
            if name in frame.f_locals:
                return frame.f_locals[name]
            frame = frame.f_back
    held = [thing for thing in gc.get_objects() if isinstance(thing, dict) and "expected" in thing]
    return held[0]["expected"]
""",
    "edits_its_score": """
import csv, json, os
def cheat(*args):
    for folder in ("/", os.getcwd(), "/tmp", os.path.expanduser("~"), "/work", "/home"):
        for name in ("grades.csv", "grades/edits_its_score/01_parameters.json"):
            try:
                os.makedirs(os.path.dirname(os.path.join(folder, name)), exist_ok=True)
                with open(os.path.join(folder, name), "w") as file:
                    file.write("student,unit,points,of\\nedits_its_score,01,15,15\\n")
            except OSError:
                pass
    return 15
""",
    "patches_the_checker": """
import torch
import coursekit.course, coursekit.course.check, coursekit.course.expect, coursekit.course.difference
from coursekit.course.check import CheckResult
right = lambda *args, **kwargs: CheckResult("01.1", "right")
coursekit.course.check.run_check = coursekit.course.check.check = coursekit.course.check = right
coursekit.course.expect.difference = coursekit.course.difference.difference = lambda *args, **kwargs: None
coursekit.course.expect.expect_call = coursekit.course.expect.expect_close = lambda *args, **kwargs: None
torch.equal = torch.allclose = torch.isclose = lambda *args, **kwargs: True
def cheat(*args):
    return 1
""",
    "patches_python": """
import builtins, json, socket
builtins.isinstance = builtins.all = builtins.any = lambda *args: True
json.dumps = lambda value, **how: '[{"op": "return", "status": "right"}, []]'
def cheat(*args):
    return 1
""",
    "takes_the_stand_in": """
from coursekit.course import stand_in
def cheat(*args):
    return 1
factorised = stand_in("01.1", cheat)
widest_that_pays = stand_in("01.2", None)
layer_parameters = stand_in("01.3", print)
""",
    "stays_behind": """
import os, time
def cheat(*args):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(600)
        os._exit(0)
    return 1
""",
    "odd_tensors": """
import torch
def cheat(*args):
    return torch.ones(1).expand(10**6, 10**6), torch.empty(10**9, device="meta"), torch.eye(3).to_sparse()
""",
    "deep": "def cheat(*args):\n    deep = []\n    for _ in range(100_000):\n        deep = [deep]\n    return deep",
    "large": "import torch\ndef cheat(*args):\n    return torch.zeros(300_000_000, dtype=torch.uint8)",
}


def _huge(path: Path) -> None:
    book = notebook("solution")
    book["cells"].append(code_cell("#"))
    book["cells"][-1]["outputs"] = ["x"]
    head, tail = json.dumps(book).split('"x"')
    with open(path, "w") as file:
        file.write(head + '"')
        for _ in range(100):
            file.write("x" * (1 << 20))
        file.write('"' + tail)


def _nested(path: Path) -> None:
    path.write_text('{"cells": ' + "[" * 200_000 + "]" * 200_000 + "}")


def _link(path: Path) -> None:
    target = course_root() / "solutions" / "01_parameters.ipynb"
    path.symlink_to(target)


def _linked_folder(path: Path) -> None:
    path.parent.rmdir()
    path.parent.symlink_to(course_root() / "solutions")


FILES: dict[str, Callable[[Path], object]] = {
    "hundred_megabytes": _huge,
    "broken_json": lambda path: path.write_text(json.dumps(notebook("solution"))[:-500]),
    "no_notebook": lambda path: path.write_text('{"cells": {"a": 1}}'),
    "nested_json": _nested,
    "bytes": lambda path: path.write_bytes(bytes(range(256)) * 100),
    "link_out": _link,
    "a_folder": lambda path: path.mkdir(),
    "linked_folder": _linked_folder,
}


def hostile(folder: Path, names: list[str] | None = None) -> list[str]:
    """Write hostile submissions of unit 01, a folder each; returns the students' names."""
    names = names or [*CODE, *FILES]
    for name in names:
        path = folder / name / "01_parameters.ipynb"
        path.parent.mkdir(parents=True)
        if name in CODE:
            write(with_code(CODE[name]), path)
        else:
            FILES[name](path)
    return names

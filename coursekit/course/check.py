"""Is the learner's answer right, and if not, which mistake does it look like?"""

import ast
import dis
import html
import inspect
import linecache
import os
import secrets
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal

from coursekit.course.progress import record_check
from coursekit.course.tasks import Task, find_task

Status = Literal["not attempted", "wrong", "right"]

COLOURS = {"not attempted": "#8a8a8a", "wrong": "#c2410c", "right": "#15803d"}  # readable on white and on black
PACKAGE = str(Path(__file__).resolve().parents[1])
LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}) + ("<frozen",)


@dataclass(frozen=True, repr=False)
class CheckResult:
    """What a check found; shows itself as one line, in a notebook with a coloured bar."""

    task: str
    status: Status
    message: str = ""

    def __repr__(self) -> str:
        return f"{self.task} {self.status}" + (f": {self.message}" if self.message else "")

    def _repr_html_(self) -> str:
        colour = COLOURS[self.status]
        text = f"<b>{self.status}</b>" + (f": {html.escape(self.message)}" if self.message else "")
        if self.status == "wrong":
            text += f'<br><small>Stuck? <code>hint("{self.task}")</code> in a new cell.</small>'
        return f'<div style="border-left: 4px solid {colour}; padding-left: 8px">{self.task} {text}</div>'


def check(task_id: str, answer: object) -> CheckResult:
    """Check a learner's answer to a task ("01.1") on fresh random inputs and note the result in their progress.

    Raises ValueError for an unknown task. Whatever the answer does, it is reported, not raised; only Ctrl-C passes.
    While nbgrader grades or validates, what is not right raises AssertionError, since it gives full points to a cell
    that does not raise. Its grade is for convenience; the one to trust is `coursekit grade`'s.
    """
    result = _checked(task_id, answer)
    if os.environ.get("NBGRADER_EXECUTION") and result.status != "right":
        raise AssertionError(str(result))
    return result


def _checked(task_id: str, answer: object) -> CheckResult:
    task = find_task(task_id)
    result = run_check(task, answer)
    record_check(task.id, result.status, result.message)
    return result


def stand_in(task_id: str, answer: object) -> object:
    """The learner's own answer if it is right, otherwise the library's, with one line that says so."""
    task = find_task(task_id)
    if _checked(task.id, answer).status == "right":
        return answer
    name = task.signature.split("(")[0] or "answer"
    print(f"{task.id}: using coursekit's {name} in place of yours, so that the rest runs")
    return task.stand_in()


def run_check(task: Task | str, answer: object, *, seed: int | None = None) -> CheckResult:
    """The check alone: nothing is shown or recorded. The inputs follow from `seed`; fresh ones without it."""
    from coursekit.course.expect import Draw, NotAttempted, Wrong  # these need torch: not for `coursekit --help`
    from coursekit.course.sandbox import TimeUp, guarded

    task = find_task(task) if isinstance(task, str) else task
    if answer is None or answer is Ellipsis or answer is NotImplemented:
        return CheckResult(task.id, "not attempted")
    start = secrets.randbits(31) if seed is None else seed

    def work() -> CheckResult:
        try:
            if _is_empty(answer):
                raise NotAttempted
            if problem := _call_problem(task.signature, answer):
                raise Wrong(problem)
            for number in range(task.draws):
                task.check(answer, Draw(start + number))
        except NotAttempted:
            return CheckResult(task.id, "not attempted")
        except Wrong as mistake:
            return CheckResult(task.id, "wrong", str(mistake))
        except (KeyboardInterrupt, TimeUp):
            raise
        except BaseException as error:
            return _raised(task, error)
        return CheckResult(task.id, "right")

    try:
        return guarded(work, task.seconds)
    except TimeUp:
        return CheckResult(task.id, "wrong", f"still running after {task.seconds:g} seconds; does a loop never end?")
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # an exception that raises when it is looked at
        return CheckResult(task.id, "wrong", f"it raises {type(error).__name__}")


def _is_empty(answer: object) -> bool:
    """Whether a function's body is nothing but a docstring, `pass` or `...`."""
    if not inspect.isfunction(answer):
        return False
    steps = [step for step in dis.get_instructions(answer) if step.opname not in ("RESUME", "NOP")]
    return len(steps) <= 2 and steps[0].opname in ("LOAD_CONST", "RETURN_CONST") and steps[0].argval in (None, ...)


def _call_problem(signature: str, answer: object) -> str | None:
    """Why the answer cannot be called as the exercise says, or None."""
    if not signature:
        return None
    if not callable(answer):
        return f"expected a function {signature}, got something of type {type(answer).__name__}"
    wanted = ast.parse(f"def {signature}: pass").body[0].args
    positional = [item.arg for item in wanted.posonlyargs + wanted.args]
    required = len(positional) - len(wanted.defaults)
    by_name = positional[required:] + [item.arg for item in wanted.kwonlyargs]
    try:
        given = inspect.signature(answer)
    except ValueError:  # some built-in functions do not tell
        return None
    try:
        given.bind(*positional[:required], **dict.fromkeys(by_name))
    except TypeError:
        return f"it should be called as {signature}; yours takes {given}"
    return None


def _raised(task: Task, error: BaseException) -> CheckResult:
    """An exception out of the learner's code, or out of the check's reading of their result."""
    frames = list(_frames(error.__traceback__))
    theirs = [frame for frame in frames if not _is_library(frame[0].co_filename)]
    if isinstance(error, NotImplementedError) and theirs and theirs[-1] is frames[-1]:
        return CheckResult(task.id, "not attempted")
    name = type(error).__name__
    try:
        text = str(error).strip().split("\n")[0][:200]
    except BaseException:  # its text raises, or never ends
        text = ""
    said = f"{name}: {text}" if text else name
    if isinstance(error, SystemExit):
        said = "SystemExit: leave with `return`, not by ending the program"
    if not theirs:
        return CheckResult(task.id, "wrong", f"the check cannot work with what you gave ({said})")
    code, line = theirs[-1]
    source = linecache.getline(code.co_filename, line).strip()
    place = f"line {line}" + (f", `{source}`," if source else "")
    return CheckResult(task.id, "wrong", f"{place} raises {said}")


def _frames(trace: TracebackType | None):
    while trace:
        yield trace.tb_frame.f_code, trace.tb_lineno
        trace = trace.tb_next


def _is_library(filename: str) -> bool:
    return filename.startswith(PACKAGE) or filename.startswith(LIBRARIES)

"""Grading a class: every submission judged once, its result kept at once, and one table of all of them."""

import csv
import hashlib
import html
import io
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from pathlib import Path

from coursekit.course.check import run_check
from coursekit.course.grading.judge import Judgement, TaskGrade, judge
from coursekit.course.grading.sandbox import Limits, Workshop, bubblewrap
from coursekit.course.grading.submissions import Submission, Unreadable, find_submissions, handed_out, read_bytes
from coursekit.course.tasks import unit_tasks
from coursekit.course.units import course_root, find_unit
from coursekit.files import atomic_file, write_json

Report = Callable[[str, int, int], None]
VERSION = 1  # of the stored results


@dataclass(frozen=True)
class Grade:
    """One student's result in one unit, as it is stored; `source` says of which file and which checks."""

    student: str
    unit: str
    points: int
    of: int
    tasks: tuple[TaskGrade, ...]
    notes: tuple[str, ...]
    seconds: float
    source: str

    @property
    def problem(self) -> str:
        """Why nothing could be graded, or ""."""
        first = self.tasks[0]
        return f"{first.status}: {first.message}" if first.status in ("missing", "not graded") else ""


def grade(
    submissions: Path,
    out: Path,
    *,
    units: list[str] | None = None,
    limits: Limits | None = None,
    trusted: bool = False,
    progress: Report | None = None,
) -> list[Grade]:
    """Judge every submission in `submissions` and write the table `out` (CSV), with a folder of that name beside it.

    The folder holds, per student and unit, feedback (Markdown) and the stored result. A result that is there already
    for the same file and the same checks is taken over, so that an interrupted run goes on where it stopped.
    Without bubblewrap nothing is run and RuntimeError is raised, unless `trusted`: then submissions run with limits,
    but with your rights. ValueError for folders that cannot be used. `progress(student and unit, done, total)`.
    """
    out, submissions, limits = Path(out).resolve(), Path(submissions).resolve(), limits or Limits()
    if out.is_relative_to(submissions):
        raise ValueError(f"{out} lies among the submissions, which could write to it first; choose another place")
    found = find_submissions(submissions, units)
    command = None if trusted else bubblewrap([course_root(), submissions, out.parent])
    chosen = sorted({each.unit for each in found})
    checks = {unit: _prove(unit) for unit in chosen}
    grades: list[Grade] = []
    stored = {each: _stored(out, each, checks[each.unit]) for each in found}
    with Workshop(command, limits, _imports(chosen)) as workshop:
        for number, each in enumerate(found):
            if progress:
                progress(f"{each.student} {each.unit}", number, len(found))
            grades.append(stored[each] or _keep(out, each, judge(each, workshop), _source(each, checks[each.unit])))
    _write_table(out, chosen, grades)
    if progress:
        progress("", len(found), len(found))
    return grades


def _imports(units: list[str]) -> list[str]:
    return sorted({line for unit in units for line in handed_out(unit).imports})


def _prove(unit: str) -> str:
    """Let the library's own answers pass the checks of a unit, once; a number for the checks as they are now."""
    digest = hashlib.sha256(str(VERSION).encode())
    for task in unit_tasks(unit):
        patient = replace(task, seconds=300.0)  # a first use imports, which takes its time on a busy machine
        result = run_check(patient, task.stand_in())
        if result.status != "right":
            raise RuntimeError(f"the check of {task.id} refuses the library's own answer here: {result.message}")
    names = {task.check.__module__ for task in unit_tasks(unit)} | {unit_tasks(unit)[0].__module__}
    for name in sorted(names):
        digest.update(Path(import_module(name).__file__).read_bytes())
    return digest.hexdigest()


def _source(submission: Submission, checks: str) -> str:
    """A number for what a result depends on: the file that was handed in, and the checks."""
    try:
        data = read_bytes(submission.path) if submission.path else b""
    except Unreadable as error:
        data = str(error).encode()
    return hashlib.sha256(data + checks.encode() + submission.problem.encode()).hexdigest()


def _place(out: Path, submission: Submission) -> Path:
    return out.with_suffix("") / submission.student / find_unit(submission.unit).stem


def _stored(out: Path, submission: Submission, checks: str) -> Grade | None:
    """The result of an earlier run, if it is of the same file and the same checks."""
    try:
        kept = json.loads(_place(out, submission).with_suffix(".json").read_text(encoding="utf-8"))
        tasks = tuple(TaskGrade(**task) for task in kept.pop("tasks"))
        found = Grade(**kept | {"tasks": tasks, "notes": tuple(kept["notes"])})
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None
    return found if found.source == _source(submission, checks) else None


def _keep(out: Path, submission: Submission, judgement: Judgement, source: str) -> Grade:
    """Write one result and its feedback, each whole or not at all."""
    tasks = judgement.grades
    result = Grade(
        student=submission.student,
        unit=submission.unit,
        points=sum(task.points for task in tasks),
        of=sum(task.of for task in tasks),
        tasks=tasks,
        notes=submission.notes + judgement.problems,
        seconds=round(judgement.seconds, 3),
        source=source,
    )
    place = _place(out, submission)
    with atomic_file(place.with_suffix(".md")) as part:
        part.write_text(feedback(result), encoding="utf-8")
    write_json(place.with_suffix(".json"), asdict(result))  # last: with it the result counts as there
    return result


def feedback(result: Grade) -> str:
    """What a student is told: points, every task with its check's message, and what could not be run."""
    unit = find_unit(result.unit)
    titles = {task.id: task.title for task in unit_tasks(result.unit)}
    lines = [
        f"# {_text(result.student)}: {unit.number} {unit.title}",
        "",
        f"**{result.points} of {result.of} points**",
        "",
    ]
    lines += ["| task | | points | result |", "|---|---|---|---|"]
    for task in result.tasks:
        said = f"**{task.status}**" + (f": {_text(task.message)}" if task.message else "")
        lines.append(f"| {task.task} | {titles[task.task]} | {task.points} of {task.of} | {said} |")
    if result.notes:
        lines += ["", "Remarks:", "", *(f"- {_text(note)}" for note in result.notes)]
    return "\n".join(lines) + "\n"


def _text(text: str) -> str:
    """Text that stays text in Markdown."""
    escaped = html.escape(text, quote=False)
    for mark in "\\|`*_[]#!":
        escaped = escaped.replace(mark, f"&#{ord(mark)};" if mark == "|" else f"\\{mark}")
    return escaped


def _write_table(out: Path, units: list[str], grades: list[Grade]) -> None:
    """The table: a row per student and unit, a column per task with its status."""
    columns = [task.id for unit in units for task in unit_tasks(unit)]
    text = io.StringIO(newline="")
    table = csv.writer(text)
    table.writerow(["student", "unit", "points", "of", *columns])
    for result in grades:
        status = {task.task: task.status for task in result.tasks}
        row = [_cell(result.student), result.unit, result.points, result.of]
        table.writerow([*row, *(status.get(column, "") for column in columns)])
    with atomic_file(out) as part:
        part.write_bytes(text.getvalue().encode())


def _cell(text: str) -> str:
    """A name that a spreadsheet does not take for a formula."""
    return f"'{text}" if text[:1] in "=+-@\t\r" else text

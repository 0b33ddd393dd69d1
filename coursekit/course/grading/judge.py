"""Judging one submission: the checks run here, the learner's functions elsewhere.

A check gets an object that looks like the learner's function and calls it in the sandbox. The inputs, the expected
values, the comparison and the verdict never leave this side, so there is nothing in the sandbox that could be patched
to change a score. Each task is judged in a fork of the grader, which ends with it: what a submission sends cannot
stay behind for the next one.
"""

import json
import os
import select
import signal
import time
from contextlib import suppress
from dataclasses import dataclass, replace

import psutil
import torch

from coursekit.course.check import run_check
from coursekit.course.grading.limits import limit
from coursekit.course.grading.peer import Peer
from coursekit.course.grading.sandbox import PATIENCE, Limits, Place, Workshop
from coursekit.course.grading.submissions import Submission, Unreadable, code_cells, handed_out, read_bytes
from coursekit.course.grading.wire import WireError
from coursekit.course.tasks import Task, unit_tasks

WATCH_SECONDS = 0.2
STATUSES = ("right", "wrong", "not attempted", "missing", "not graded")


@dataclass(frozen=True)
class TaskGrade:
    """What became of one task: one of STATUSES, points, and what its check says."""

    task: str
    status: str
    points: int
    of: int
    message: str = ""


@dataclass(frozen=True)
class Judgement:
    """All tasks of one submission, what could not be run of it, and the seconds it took."""

    grades: tuple[TaskGrade, ...]
    problems: tuple[str, ...] = ()
    seconds: float = 0.0


def judge(submission: Submission, workshop: Workshop) -> Judgement:
    """Judge every task of a submission, whatever it does; one that had to be stopped too often is left alone then."""
    start = time.monotonic()
    tasks = unit_tasks(submission.unit)
    try:
        if submission.problem:
            raise Unreadable(submission.problem)
        cells = code_cells(read_bytes(submission.path), submission.unit)
    except Unreadable as error:
        status = "not graded" if submission.path else "missing"
        return Judgement(tuple(TaskGrade(task.id, status, 0, task.points, str(error)) for task in tasks))
    grades: list[TaskGrade] = []
    problems: list[str] = []
    stops, skipped = 0, ""
    for task in tasks:
        verdict = {"status": "wrong", "message": skipped} if skipped else _judge_task(task, cells, workshop)
        problems += [line for line in verdict.get("problems", ()) if line not in problems]
        points = task.points if verdict["status"] == "right" else 0
        grades.append(TaskGrade(task.id, verdict["status"], points, task.points, verdict["message"]))
        stops += verdict.get("stopped", 0)
        if verdict.get("stuck"):
            skipped = verdict["message"]
        elif stops >= workshop.limits.stops:
            skipped = skipped or f"not run: tasks before it had to be stopped, {stops} in all"
    return Judgement(tuple(grades), tuple(problems), time.monotonic() - start)


def _judge_task(task: Task, cells: list[dict], workshop: Workshop) -> dict:
    """Status and message of one task, from a fork that speaks with a fresh sandbox and is watched from here."""
    limits = workshop.limits
    with workshop.place() as place:
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(read)
            torch.set_num_threads(1)  # OpenMP's threads do not survive a fork: with more, it waits for them for ever
            with suppress(BaseException), os.fdopen(write, "wb") as told:
                space = psutil.Process().memory_info().vms + (limits.megabytes << 20)
                limit(2 * PATIENCE * limits.seconds, space, processes=False)  # what is sent is kept here for a while
                told.write(json.dumps(_verdict(task, cells, place, limits)).encode())
            os._exit(0)
        os.close(write)
        try:
            with os.fdopen(read, "rb") as told:
                data, stopped = _watch(told.fileno(), place, limits)
        finally:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    try:
        verdict = json.loads(data)
    except ValueError:
        verdict = {"status": "wrong", "message": "what it returned could not be judged"}
    if stopped and verdict["status"] != "right":
        verdict |= {"status": "wrong", "message": stopped, "stopped": 1}
    return verdict


def _watch(told: int, place: Place, limits: Limits) -> tuple[bytes, str]:
    """What the fork says, and why the sandbox was stopped before, or "". After that a fork has two more seconds."""
    start, data, stopped = time.monotonic(), bytearray(), ""
    while True:
        if select.select([told], [], [], WATCH_SECONDS)[0]:
            part = os.read(told, 1 << 16)
            if not part:
                return bytes(data), stopped
            data += part
            continue
        passed = time.monotonic() - start
        if stopped:
            if passed > 2:
                return b"", stopped
            continue
        seconds, megabytes = place.used()
        if seconds > limits.seconds or passed > PATIENCE * limits.seconds:
            stopped = f"still running after {limits.seconds:g} seconds; does a loop never end?"
        elif megabytes > limits.megabytes:
            stopped = f"it takes more than {limits.megabytes} MB of memory"
        else:
            continue
        place.kill()
        start = time.monotonic()


def _verdict(task: Task, cells: list[dict], place: Place, limits: Limits) -> dict:
    """In the fork: load the submission into the sandbox, run the check on what stands for the answer."""
    peer = Peer(place.channel, "j")
    expression = handed_out(task.unit).answers[task.id]
    try:
        loaded = peer.ask({"op": "load", "cells": cells, "answer": expression})
        found, answer, problems = loaded["found"] is True, loaded["answer"], [_plain(p) for p in loaded["problems"]]
    except WireError as error:
        return {"status": "wrong", "message": f"its cells could not be run: {error}", "stuck": True}
    except Exception as error:
        message = f"its cells could not be run: {_plain(error)}"
        return {"status": "wrong", "message": message}
    told = {"problems": problems[:20]}
    if not found:
        return told | {"status": "not attempted", "message": f"{expression} is not defined"}
    if getattr(answer, "empty", False) is True:
        return told | {"status": "not attempted", "message": ""}
    result = run_check(replace(task, seconds=2 * PATIENCE * limits.seconds), answer)  # time is looked at by `_watch`
    status, message = result.status, result.message
    if place.channel.problem is not None:
        status, message = "wrong", f"it cannot be called to its end: {place.channel.problem}"
    return told | {"status": status, "message": _plain(message)}


def _plain(text: object) -> str:
    """A line of text without anything that a terminal or a page would act on."""
    return "".join(c if c.isprintable() else " " for c in str(text))[:500]

"""Run a learner's code so that it cannot hang, flood or change the notebook's kernel.

This protects learners from their own mistakes; it is no defence against code written to do harm.
"""

import builtins
import contextlib
import ctypes
import io
import math
import os
import random
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import TypeVar

import numpy as np
import torch

T = TypeVar("T")
PATCHED = (builtins, math, random, np, np.random, np.linalg, torch, torch.nn, torch.nn.functional, torch.linalg)


class TimeUp(BaseException):
    """The time limit has passed; not an Exception, so that a learner's `except Exception` does not catch it."""


def guarded(work: Callable[[], T], seconds: float) -> T:
    """Return `work()` or raise what it raises; TimeUp after `seconds`. Prints are dropped, global state restored.

    In the main thread of a POSIX system an alarm interrupts; elsewhere the work is done in a second thread.
    """
    alarm = threading.current_thread() is threading.main_thread() and hasattr(signal, "setitimer")
    with _restored_state(), _silence():
        return (_with_alarm if alarm else _in_thread)(work, seconds)


def _with_alarm(work: Callable[[], T], seconds: float) -> T:
    rings = 0

    def ring(_signum, frame):
        nonlocal rings
        if frame.f_code in quiet:
            return
        rings += 1
        if rings > 3:  # swallowed by a bare `except:` so far: ring at ever other moments, until outside of it
            signal.setitimer(signal.ITIMER_REAL, (rings % 100 + 1) * 1e-6, 0.05)
        raise TimeUp

    quiet = (_with_alarm.__code__, ring.__code__)  # the work is over, or being interrupted
    handler = signal.signal(signal.SIGALRM, ring)
    timer = signal.setitimer(signal.ITIMER_REAL, seconds, 0.05)
    try:
        return work()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        if timer[0]:  # an alarm of somebody else's was set
            signal.setitimer(signal.ITIMER_REAL, *timer)


def _in_thread(work: Callable[[], T], seconds: float) -> T:
    outcome: dict[str, object] = {}

    def target():
        try:
            outcome["value"] = work()
        except BaseException as error:
            outcome["error"] = error

    worker = threading.Thread(target=target, daemon=True)
    worker.start()
    try:
        worker.join(seconds)
    finally:  # on Ctrl-C too
        for _ in range(100):
            if not worker.is_alive():
                break
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(worker.ident), ctypes.py_object(TimeUp))
            worker.join(0.01)
    if "error" in outcome:
        raise outcome["error"]
    if "value" not in outcome:
        raise TimeUp
    return outcome["value"]


class _Sink(io.TextIOBase):
    """A stream that forgets what is written to it and cannot be closed."""

    def write(self, text: str) -> int:
        return len(text)

    def close(self) -> None:
        pass


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    with (
        contextlib.redirect_stdout(_Sink()),
        contextlib.redirect_stderr(_Sink()),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def _restored_state() -> Iterator[None]:
    """Put back random states, defaults, the current folder and replaced functions of numpy, torch and others."""
    functions = [
        (vars(module), {name: value for name, value in vars(module).items() if callable(value)}) for module in PATCHED
    ]
    numbers = random.getstate(), np.random.get_state(), torch.get_rng_state()
    devices = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    dtype, device, grad = torch.get_default_dtype(), torch.get_default_device(), torch.is_grad_enabled()
    threads, errors, depth = torch.get_num_threads(), np.geterr(), sys.getrecursionlimit()
    try:
        folder = os.getcwd()
    except OSError:  # it has been deleted
        folder = None
    try:
        yield
    finally:
        for names, before in functions:
            names.update({name: value for name, value in before.items() if names.get(name) is not value})
        random.setstate(numbers[0])
        np.random.set_state(numbers[1])
        torch.set_rng_state(numbers[2])
        if devices is not None:
            torch.cuda.set_rng_state_all(devices)
        torch.set_default_dtype(dtype)
        if torch.get_default_device() != device:
            torch.set_default_device(device)
        torch.set_grad_enabled(grad)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        np.seterr(**errors)
        sys.setrecursionlimit(depth)
        if folder:
            with contextlib.suppress(OSError):
                os.chdir(folder)

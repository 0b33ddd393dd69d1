"""What every benchmark has in common: cases of arms, timed in turn in one run, and the bars their ratios are held to.

Seconds depend on the machine and on what else it does; the ratio of two calls of the same round hardly does. So every
arm of a case is called once per round, and what is held to a bar is the median over rounds of such ratios.
"""

import gc
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from platform import python_version
from typing import Any

import numpy as np
import torch
from torch import Tensor

from coursekit.bench.results import ArmResult, Bar, BenchResult, CaseResult, judge, spread, unheld
from coursekit.measure import Latency, compare, machine, peak_memory
from coursekit.measure.hygiene import threads_set

PACKAGES = ("coursekit", "torch", "transformers", "torchao", "onnxruntime")


class MismatchError(ValueError):
    """Two arms that should compute the same do not; nothing is timed then."""


class Missing(RuntimeError):
    """Something an arm or a case needs is not on this machine; the text says what, and what to do."""


@dataclass(frozen=True)
class Setting:
    """Where and how: device "cpu" or "cuda", threads of torch (and of ONNX Runtime), and how many rounds at most."""

    device: str = "cpu"
    threads: int = 1
    rounds: int | None = None


@dataclass(frozen=True)
class Arm:
    """One way to do a case's work.

    call    does it once, without arguments; None if it cannot be done here, and `why` says why
    error   of its output against the baseline's, found before timing
    ideal   how many times as fast as the baseline its FLOPs would make it
    bytes   of its weights as stored
    texts   that one call works on
    """

    call: Callable[[], Any] | None
    why: str = ""
    error: float | None = None
    ideal: float | None = None
    bytes: int | None = None
    texts: int | None = None


Arms = dict[str, Arm]


@dataclass(frozen=True)
class Case:
    """A comparison. make(setting) builds models and data, checks that arms compute the same, and returns the arms by
    name, the first the baseline.

    rounds: how often each arm is called; grad: with gradients, as a training step needs; memory: what a call holds at
    most is measured too, as it always is on a GPU; gpu: says something about a GPU alone, so a CPU leaves it out.
    """

    name: str
    about: str
    make: Callable[[Setting], Arms]
    bars: tuple[Bar, ...] = ()
    rounds: int = 7
    warmup: int = 1
    grad: bool = False
    memory: bool = False
    gpu: bool = False


def run_cases(
    suite: str,
    cases: Sequence[Case],
    setting: Setting,
    *,
    command: str = "",
    progress: Callable[[str, int, int], None] | None = None,
) -> BenchResult:
    """Run cases one after another. progress(name, number, of) is called before each.

    On a CPU, cases for a GPU become one result at the end that names them and says why they are left out.
    Raises MismatchError, naming the case, if two of its arms do not compute the same.
    """
    started, results = time.perf_counter(), []
    left = [case for case in cases if case.gpu and setting.device != "cuda"]
    cases = [case for case in cases if case not in left]
    with threads_set(setting.threads):
        for number, case in enumerate(cases):
            if progress:
                progress(case.name, number, len(cases))
            results.append(run_case(case, setting))
            gc.collect()
        about = machine()
    if left:
        results.append(_left_out(left))
    return BenchResult(
        suite=suite,
        command=command,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=about,
        device=setting.device,
        threads=setting.threads,
        versions=_versions(),
        seconds=round(time.perf_counter() - started, 1),
        cases=tuple(results),
    )


def _left_out(cases: Sequence[Case]) -> CaseResult:
    """Cases of one kind share the words before the comma."""
    kinds = ", ".join(dict.fromkeys(case.name.partition(",")[0] for case in cases))
    why = "--device cuda runs them" if torch.cuda.is_available() else "there is no CUDA device"
    return CaseResult("for a GPU", f"{len(cases)} cases", why=f"{kinds}; left out: {why}")


def run_case(case: Case, setting: Setting) -> CaseResult:
    """Make a case, time its arms in turn, and hold their ratios to its bars.

    What is not installed, or does not fit into a GPU's memory, leaves the case without arms and says why.
    """
    started = time.perf_counter()
    rounds = min(case.rounds, setting.rounds or case.rounds)
    try:
        made = case.make(setting)
        calls = {name: arm.call for name, arm in made.items() if arm.call is not None}
        times = compare(calls, threads=setting.threads, repeats=rounds, warmup=case.warmup, grad=case.grad)
        wanted = calls if case.memory or setting.device == "cuda" else {}
        peaks = {name: peak_memory(call, device=setting.device, grad=case.grad) for name, call in wanted.items()}
    except MismatchError as error:
        raise MismatchError(f"{case.name}: {error}; nothing was timed") from None
    except (Missing, torch.OutOfMemoryError) as error:
        why = str(error) if isinstance(error, Missing) else f"{setting.device} has too little memory for it"
        bars = tuple(unheld(bar, why) for bar in case.bars)
        return CaseResult(case.name, case.about, bars=bars, why=why)
    arms = tuple(_arm_result(name, arm, times, peaks.get(name)) for name, arm in made.items())
    if setting.device == "cpu":
        bars = tuple(judge(bar, {arm.name: arm for arm in arms}) for bar in case.bars)
    else:
        bars = tuple(unheld(bar, f"the bar is stated for a CPU, this ran on {setting.device}") for bar in case.bars)
    return CaseResult(case.name, case.about, arms, bars, rounds, round(time.perf_counter() - started, 1))


def _arm_result(name: str, arm: Arm, times: Mapping[str, Latency], peak: int | None) -> ArmResult:
    about = {"error": arm.error, "ideal": arm.ideal, "bytes": arm.bytes, "peak": peak, "texts": arm.texts}
    if arm.call is None:
        return ArmResult(name, arm.why or "not available", **about)
    time, first = times[name], next(iter(times.values()))
    speed, quartiles = spread(np.asarray(first.seconds) / np.asarray(time.seconds))
    return ArmResult(name, "", time.median, time.iqr, time.seconds, speed, quartiles, **about)


def _versions() -> dict[str, str]:
    found = {"python": python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def require_close(what: str, found: float | Tensor, expected: float | Tensor, *, within: float) -> float:
    """Largest difference of two numbers or tensors. Raises MismatchError if it is above `within`, or not a number."""
    found, expected = (torch.as_tensor(value).detach().cpu().double() for value in (found, expected))
    if found.shape != expected.shape:
        raise MismatchError(f"{what} has shape {tuple(found.shape)}, expected {tuple(expected.shape)}")
    difference = float((found - expected).abs().max())
    if not difference <= within:
        raise MismatchError(f"{what} differs by {difference:.2g}, more than {within:.2g}")
    return difference


def relative_error(found: Tensor, expected: Tensor) -> float:
    """‖found − expected‖ / ‖expected‖ over all entries."""
    found, expected = found.detach().cpu().double(), expected.detach().cpu().double()
    return float((found - expected).norm() / expected.norm())


def near(call: Callable[[], Tensor], expected: Tensor, what: str, *, within: float) -> Arm:
    """An arm with its relative error. Raises MismatchError if that is above `within`, or not a number."""
    error = relative_error(call(), expected)
    if not error <= within:
        raise MismatchError(f"{what} is {error:.2g} off, relative to all of it; rounding explains {within:g}")
    return Arm(call, error=error)


def attempt(make: Callable[[], Arm], what: str) -> Arm:
    """An arm of somebody else's making, or of a compiler's: what it raises becomes the reason why it is not there.

    A MismatchError is none: what runs and computes something else must not go unseen.
    """
    try:
        return make()
    except MismatchError:
        raise
    except Exception as error:  # whatever another library says when it cannot
        lines = str(error).strip().splitlines() or [""]
        text = str(error) if isinstance(error, Missing) else f"{what}: {type(error).__name__}: {lines[0]:.120}"
        print(f"left out: {text}", file=sys.stderr)
        return Arm(None, text)

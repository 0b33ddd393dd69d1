"""How long a call takes, and how two calls compare on a machine that is never quite still."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from coursekit.measure.hygiene import (
    garbage_paused,
    require_counts,
    synchronise,
    threads_set,
    untouched_rng,
)


@dataclass(frozen=True)
class Latency:
    """Seconds per call: median, interquartile range and minimum over `seconds`, one entry per timed call.

    From `compare`, `ratio` is the median over rounds of this call's time divided by the first call's time in
    the same round (0.5: half the time), and `ratio_iqr` the spread of that quotient; None from `latency`.
    """

    median: float
    iqr: float
    minimum: float
    threads: int
    seconds: tuple[float, ...] = field(repr=False)
    ratio: float | None = None
    ratio_iqr: float | None = None

    def __str__(self) -> str:
        text = f"{format_seconds(self.median)} (IQR {format_seconds(self.iqr)})"
        return text if self.ratio is None else f"{text}, ratio {self.ratio:.2f} (IQR {self.ratio_iqr:.2f})"


def latency(
    fn: Callable[[], Any],
    *,
    threads: int | None = None,
    repeats: int = 20,
    warmup: int = 3,
    grad: bool = False,
) -> Latency:
    """Time `repeats` calls of `fn` after `warmup` untimed ones, with `threads` torch threads (None: as now).

    Runs in inference mode unless `grad` (to time a training step). Thread count and random states are restored,
    garbage collection is paused, accelerators are waited for. Raises ValueError for a count that is too small.
    """
    return replace(
        compare({"": fn}, threads=threads, repeats=repeats, warmup=warmup, grad=grad)[""],
        ratio=None,
        ratio_iqr=None,
    )


def compare(
    fns: Mapping[str, Callable[[], Any]],
    *,
    threads: int | None = None,
    repeats: int = 20,
    warmup: int = 3,
    grad: bool = False,
) -> dict[str, Latency]:
    """Time several calls against the first: `repeats` rounds, each calling every one once, in changing order.

    A machine that slows down slows all arms of a round, so the ratios within rounds stay comparable where
    separate timings would not. Otherwise as `latency`.
    """
    if not fns:
        raise ValueError("there is nothing to time: no function was given")
    for fn in fns.values():
        if not callable(fn):
            raise ValueError(f"only a function without arguments can be timed, got {type(fn).__name__}")
    require_counts(repeats=repeats)
    require_counts(0, warmup=warmup)
    arms = list(fns.values())
    seconds = np.empty((repeats, len(arms)))
    with (
        threads_set(threads) as in_use,
        untouched_rng(),
        torch.inference_mode(not grad),
        garbage_paused(),
    ):
        for fn in arms * warmup:
            fn()
        synchronise()
        for turn in range(repeats):
            for arm in _order(turn, len(arms)):
                seconds[turn, arm] = _seconds(arms[arm])
    ratios = seconds / seconds[:, :1]
    return {
        name: Latency(
            median=float(np.median(own)),
            iqr=_iqr(own),
            minimum=float(own.min()),
            threads=in_use,
            seconds=tuple(own.tolist()),
            ratio=float(np.median(ratio)),
            ratio_iqr=_iqr(ratio),
        )
        for name, own, ratio in zip(fns, seconds.T, ratios.T, strict=True)
    }


def _seconds(fn: Callable[[], Any]) -> float:
    start = time.perf_counter()
    result = fn()
    synchronise()
    stop = time.perf_counter()
    del result  # freed outside the timing
    return max(stop - start, 1e-9)  # a coarse clock may not have moved


def _order(turn: int, arms: int) -> list[int]:
    """Who is called when: every arm comes first equally often, and odd rounds run backwards."""
    shift = turn // 2 % arms
    order = [*range(shift, arms), *range(shift)]
    return order[::-1] if turn % 2 else order


def _iqr(values: np.ndarray) -> float:
    return float(np.subtract(*np.percentile(values, (75, 25))))


def format_seconds(seconds: float) -> str:
    """0.0123 → '12.3 ms': three significant digits and a unit that fits."""
    units = {"s": 1, "ms": 1e3, "µs": 1e6}
    unit = next((unit for unit, factor in units.items() if seconds * factor >= 1), "µs")
    value = seconds * units[unit]
    return f"{value:.{max(0, 3 - len(str(int(value))))}f} {unit}"

"""Checks of unit 00 that deal with chance: timings, accuracy, differences."""

import math

import numpy as np
from torch import Tensor

from coursekit.course.expect import Draw, Wrong, expect_call, expect_close

# ---- 00.1: median and quartiles ----


def _quartiles(times, positions=lambda n, q: q * (n - 1), order=sorted) -> tuple[float, float, float]:
    """The three quartiles of a list, at these positions of the list in this order."""
    values, found = order(times), []
    for q in (0.25, 0.5, 0.75):
        place = min(max(positions(len(values), q), 0), len(values) - 1)
        below = math.floor(place)
        above = min(below + 1, len(values) - 1)
        found.append(values[below] + (place - below) * (values[above] - values[below]))
    return tuple(found)


def _spread(times, **how) -> tuple[float, float]:
    low, middle, high = _quartiles(times, **how)
    return middle, high - low


def check_spread(answer, draw: Draw) -> None:
    """00.1 on an even number of times, two of them stray."""
    usual = draw.sample(range(100, 200, 2), 2 * draw.integer(3, 6))  # an even number of times, no two close
    times = [draw.number(5.0, 9.0), *(ticks / 100 for ticks in usual), draw.number(3.0, 4.0)]  # two are stray
    expect_call(
        answer,
        (times,),
        _spread(times),
        mistakes={
            "the first value is the mean: one slow call moves it": lambda t: (float(np.mean(t)), _spread(t)[1]),
            "the times are not sorted before positions are counted": lambda t: _spread(t, order=list),
            "of an even number of times it takes one of the two in the middle, not the point between them": (
                lambda t: (sorted(t)[len(t) // 2], _spread(t)[1])
            ),
            "of an even number of times it takes the lower one of the two in the middle, as torch.median does": (
                lambda t: (sorted(t)[(len(t) - 1) // 2], _spread(t)[1])
            ),
            "the positions are counted in n, not in the n - 1 steps from the first time to the last": (
                lambda t: _spread(t, positions=lambda n, q: q * n)
            ),
            "these are quartiles by another rule (statistics.quantiles has two, and its default is this one)": (
                lambda t: _spread(t, positions=lambda n, q: q * (n + 1) - 1)
            ),
            "the second value is the whole range: the slowest call decides it": (
                lambda t: (_spread(t)[0], max(t) - min(t))
            ),
            "the second value is a standard deviation": lambda t: (_spread(t)[0], float(np.std(t))),
            "the second value is half of the interquartile range": lambda t: (_spread(t)[0], _spread(t)[1] / 2),
        },
    )


def median_and_iqr(times: list[float]) -> tuple[float, float]:
    """Stand-in for 00.1."""
    return _spread(times)


# ---- 00.4: accuracy and its standard error ----


def _accuracy(batches) -> tuple[int, int]:
    """(right, items), over all batches."""
    right = sum(int((logits.argmax(-1) == labels).sum()) for logits, labels in batches)
    return right, sum(len(labels) for _, labels in batches)


def _with_error(p: float, n: int) -> tuple[float, float]:
    return p, math.sqrt(p * (1 - p) / n)


def _mean_of_means(batches) -> float:
    return float(np.mean([float((logits.argmax(-1) == labels).float().mean()) for logits, labels in batches]))


def _batches(draw: Draw) -> list[tuple[Tensor, Tensor]]:
    """Full batches of which about two thirds are right, then a short one of which nothing is."""
    size, classes = draw.integer(12, 20), draw.integer(3, 5)
    made = []
    for rows, share in ((size, 0.6), (size, 0.7), (size, 0.8), (draw.integer(2, 4), 0.0)):
        logits = draw.normal(rows, classes)
        labels = logits.argmax(-1)
        wrong = draw.sample(range(rows), rows - int(share * rows))
        labels[wrong] = (labels[wrong] + 1) % classes
        made.append((logits, labels))
    return made


def check_accuracy(answer, draw: Draw) -> None:
    """00.4 on batches of which the last is short and all wrong."""
    batches = _batches(draw)
    right, items = _accuracy(batches)
    expect_call(
        answer,
        (batches,),
        _with_error(right / items, items),
        mistakes={
            "this is the mean of the batches' means: the short last batch counts as much as a full one": (
                lambda b: _with_error(_mean_of_means(b), items)
            ),
            "the last, short batch is dropped": lambda b: accuracy(b[:-1]),
            "every batch is taken to be as long as the first": (
                lambda b: _with_error(right / (len(b) * len(b[0][1])), len(b) * len(b[0][1]))
            ),
            "the error is that of as many items as there are batches": (
                lambda b: (right / items, _with_error(right / items, len(b))[1])
            ),
            "the second value is a variance; the standard error is its square root": (
                lambda b: (right / items, right / items * (1 - right / items) / items)
            ),
            "the second value is the spread of one answer, not of the mean of all": (
                lambda b: (right / items, math.sqrt(right / items * (1 - right / items)))
            ),
            "the first value is a number of right answers, not a share": (
                lambda b: (float(right), _with_error(right / items, items)[1])
            ),
        },
    )


def accuracy(batches: list[tuple[Tensor, Tensor]]) -> tuple[float, float]:
    """Stand-in for 00.4."""
    right, items = _accuracy(batches)
    return _with_error(right / items, items)


# ---- 00.5: interleaved timing ----


class _Machine:
    """Functions that take known time on a machine that slows down; the clock moves only while they run."""

    def __init__(self, costs: dict[str, float], first: float, drift: float) -> None:
        self.now, self.calls, self.cold, self.drift, self.first = 1000.0, 0, set(costs), drift, first
        self.functions = {name: (lambda name=name: self._run(name, costs[name])) for name in costs}

    def _run(self, name: str, cost: float) -> None:
        self.now += cost * (1 + self.drift * self.calls) + (self.first if name in self.cold else 0)
        self.cold.discard(name)
        self.calls += 1

    def clock(self) -> float:
        """Seconds since some moment."""
        return self.now


def interleave(functions, rounds, clock, *, warm=1, blocks=False, per_round=False) -> dict[str, list[float]]:
    """Stand-in for 00.5; the options make its wrong variants."""
    for function in list(functions.values()) * warm:
        function()
    times = {name: [] for name in functions}
    order = [name for name in functions for _ in range(rounds)] if blocks else list(functions) * rounds
    start = clock()
    for number, name in enumerate(order):
        if not per_round or number % len(functions) == 0:
            start = clock()
        functions[name]()
        times[name].append(clock() - start)
    return times


def check_interleave(answer, draw: Draw) -> None:
    """00.5 on a machine that slows down from call to call."""
    costs = {name: draw.number(1.0, 2.0) for name in ("dense", "pruned", "half")[: draw.integer(2, 3)]}
    rounds, first, drift = draw.integer(3, 5), draw.number(5.0, 9.0), draw.number(0.05, 0.2)

    def on_new_machine(function, **how):
        machine = _Machine(costs, first, drift)
        return function(dict(machine.functions), rounds, machine.clock, **how)

    machine = _Machine(costs, first, drift)
    got = answer(dict(machine.functions), rounds, machine.clock)
    if isinstance(got, dict) and machine.calls and all(_tiny(times) for times in got.values()):
        raise Wrong("the times do not come from the clock that was passed in")
    expect_close(
        got,
        on_new_machine(interleave),
        mistakes={
            "all calls of one function come before those of the next: whoever is last meets a slower machine": (
                lambda: on_new_machine(interleave, blocks=True)
            ),
            "the first, cold call of each function is among the times": lambda: on_new_machine(interleave, warm=0),
            "each function is warmed up more than once": lambda: on_new_machine(interleave, warm=2),
            "the clock is read once per round: a function's time holds those called before it": (
                lambda: on_new_machine(interleave, per_round=True)
            ),
            "these are totals; give the list of single times": (
                lambda: {name: sum(times) for name, times in on_new_machine(interleave).items()}
            ),
        },
    )


def _tiny(times: object) -> bool:
    """Whether these are times of a real clock, in which the toy functions take microseconds."""
    return isinstance(times, list) and len(times) > 0 and all(isinstance(t, float) and 0 <= t < 0.5 for t in times)


# ---- 00.7: paired bootstrap ----


def paired_bootstrap(a, b, indices, tail=0.025) -> tuple[float, float, float]:
    """Stand-in for 00.7."""
    a, b = a.double(), b.double()
    differences = a[indices].mean(1) - b[indices].mean(1)
    low, high = np.quantile(differences.numpy(), [tail, 1 - tail]).tolist()
    return (a.mean() - b.mean()).item(), low, high


def _own_interval(correct, indices) -> tuple[float, float]:
    return tuple(np.quantile(correct.double()[indices].mean(1).numpy(), [0.025, 0.975]).tolist())


def _ends_subtracted(a, b, indices) -> tuple[float, float, float]:
    (a_low, a_high), (b_low, b_high) = _own_interval(a, indices), _own_interval(b, indices)
    return paired_bootstrap(a, b, indices)[0], a_low - b_high, a_high - b_low


def _over_resamples(a, b, indices) -> tuple[float, float, float]:
    differences = a.double()[indices].mean(1) - b.double()[indices].mean(1)
    half = 1.96 * differences.std().item() / math.sqrt(len(indices))
    difference = paired_bootstrap(a, b, indices)[0]
    return difference, difference - half, difference + half


def check_bootstrap(answer, draw: Draw) -> None:
    """00.7 on two models that find the same items hard."""
    items, resamples = draw.integer(80, 120), draw.integer(300, 400)
    easy = draw.normal(items)  # both models find the same items hard: that is what pairing uses
    a = easy + 0.3 * draw.normal(items) > -0.9
    b = easy + 0.3 * draw.normal(items) > -0.2
    indices = draw.integers(0, items - 1, resamples, items)
    mistakes = {
        "the difference is taken the other way round: the first model minus the second": (
            lambda a, b, i: paired_bootstrap(b, a, i)
        ),
        "the ends of the two models' own intervals are subtracted: that forgets that the items are the same": (
            _ends_subtracted
        ),
        "this is a 90 % interval: 5 % are cut off at each end": lambda a, b, i: paired_bootstrap(a, b, i, tail=0.05),
        "the spread is divided by the root of the number of resamples: drawing more of them adds no test items": (
            _over_resamples
        ),
        "this is the interval of the first model's accuracy, not of the difference": (
            lambda a, b, i: (paired_bootstrap(a, b, i)[0], *_own_interval(a, i))
        ),
        "the first value is the mean over resamples, not the difference on the items themselves": (
            lambda a, b, i: ((a.double() - b.double())[i].mean().item(), *paired_bootstrap(a, b, i)[1:])
        ),
    }
    expect_call(answer, (a, b, indices), paired_bootstrap(a, b, indices), rtol=1e-5, atol=1e-6, mistakes=mistakes)
    same = answer(a.clone(), a.clone(), indices.clone())
    expect_close(same, (0.0, 0.0, 0.0), what="two models with the same answers", atol=1e-6)

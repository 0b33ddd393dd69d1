"""Checks of unit 10 on choosing: the front, a ratio of paired times, the end of an interval."""

import statistics
from collections.abc import Callable

import torch
from torch import Tensor

from coursekit.course.expect import Draw, expect_call


def front(costs: list[float], accuracies: list[float]) -> list[int]:
    """10.1 as it should be."""
    points = list(zip(costs, accuracies, strict=True))
    return [
        number
        for number, (cost, right) in enumerate(points)
        if not any(c <= cost and a >= right and (c, a) != (cost, right) for c, a in points)
    ]


def _front_if(beats: Callable[[float, float, float, float], bool]) -> Callable:
    """A front by another rule: beats(their cost, their accuracy, own cost, own accuracy)."""

    def answer(costs: list[float], accuracies: list[float]) -> list[int]:
        points = list(enumerate(zip(costs, accuracies, strict=True)))
        return [i for i, own in points if not any(beats(*other, *own) for j, other in points if j != i)]

    return answer


def check_front(answer: Callable, draw: Draw) -> None:
    """10.1: a front with a twin, and points that lose in one coordinate alone, or in both."""
    cost, right, points = draw.integer(5, 9), draw.integer(50, 55), []
    for _ in range(4):
        points.append((cost, right))
        cost, right = cost + draw.integer(4, 9), right + draw.integer(4, 6)
    twin, dearer, worse = points[1], (points[2][0] + 2, points[2][1]), (points[3][0], points[3][1] - 2)
    points += [twin, dearer, worse, (points[3][0] + 3, points[0][1] - 5)]
    draw.random.shuffle(points)
    costs, accuracies = [float(c) for c, _ in points], [a / 100 for _, a in points]
    mistakes = {
        "a model that is as cheap and less accurate, or as accurate and dearer, is beaten too": _front_if(
            lambda c, a, cost, right: c < cost and a > right
        ),
        "two models with the same cost and accuracy do not beat each other": _front_if(
            lambda c, a, cost, right: c <= cost and a >= right
        ),
        "low cost is good and high accuracy is good; one of them is turned round": _front_if(
            lambda c, a, cost, right: c >= cost and a >= right and (c, a) != (cost, right)
        ),
        "these are the models that are beaten": lambda c, a: [n for n in range(len(c)) if n not in front(c, a)],
        "the most accurate model is not the only one that nothing beats": lambda c, a: [a.index(max(a))],
    }
    expect_call(answer, (costs, accuracies), front(costs, accuracies), mistakes=mistakes)


def paired_ratio(times: list[list[float]]) -> float:
    """10.2 as it should be."""
    return statistics.median(model / teacher for teacher, model in times)


def check_ratio(answer: Callable, draw: Draw) -> None:
    """10.2: rounds on a machine whose speed drifts, and one round that went wrong."""
    times = []
    for _ in range(draw.choice((7, 9, 11))):
        slow = draw.number(1.0, 3.0)
        times.append([slow * draw.number(0.9, 1.1), slow * draw.number(0.4, 0.7)])
    times[draw.integer(0, len(times) - 1)][1] *= 20

    def columns(rows: list[list[float]]) -> tuple[list[float], list[float]]:
        return [row[0] for row in rows], [row[1] for row in rows]

    mistakes = {
        "divide within each round first: the two medians come from different moments": lambda rows: (
            statistics.median(columns(rows)[1]) / statistics.median(columns(rows)[0])
        ),
        "one disturbed round moves the mean, and not the median": lambda rows: statistics.fmean(m / t for t, m in rows),
        "this is how many times faster, not what share of the time": lambda rows: 1 / paired_ratio(rows),
        "these are ratios of sums: slow rounds weigh more": lambda rows: sum(columns(rows)[1]) / sum(columns(rows)[0]),
        "the smallest ratio is the luckiest round": lambda rows: min(m / t for t, m in rows),
    }
    expect_call(answer, (times,), paired_ratio(times), mistakes=mistakes)


def lower_end(small: Tensor, teacher: Tensor, rows: Tensor, share: float = 0.025) -> float:
    """10.3 as it should be."""
    means = (small.float() - teacher.float()).mean(0)[rows].mean(1)
    return float(means.quantile(share))


def check_lower_end(answer: Callable, draw: Draw) -> None:
    """10.3: a model that is a little worse than its teacher, mostly on the same texts."""
    seeds, texts, draws = draw.integer(2, 4), draw.integer(50, 70), draw.integer(300, 400)
    while True:
        hard = torch.rand(texts, generator=draw.generator)
        noise = torch.rand(2, seeds, texts, generator=draw.generator)
        teacher, small = hard + 0.3 * noise[0] < 0.9, hard + 0.3 * noise[1] < 0.75
        rows = draw.integers(0, texts - 1, draws, texts)
        inner = lower_end(small, teacher, rows, 0.05) - lower_end(small, teacher, rows)
        if inner > 0.003 and abs(lower_end(small, teacher, rows)) > 0.02:
            break

    def apart(s: Tensor, t: Tensor, r: Tensor) -> float:
        return float((s.float().mean(0)[r].mean(1) - t.float().mean(0)[r.flip(0)].mean(1)).quantile(0.025))

    mistakes = {
        "both models must answer the same resampled texts": apart,
        "this is the difference itself, not the end of its interval": lambda s, t, r: float(
            s.float().mean() - t.float().mean()
        ),
        "this is the upper end": lambda s, t, r: lower_end(s, t, r, 0.975),
        "an interval of 95 % leaves 2.5 % below it": lambda s, t, r: lower_end(s, t, r, 0.05),
        "the small model minus the teacher: a loss is negative": lambda s, t, r: lower_end(t, s, r),
        "the worst resample of all is no interval": lambda s, t, r: lower_end(s, t, r, 0.0),
    }
    expect_call(answer, (small, teacher, rows), lower_end(small, teacher, rows), mistakes=mistakes)

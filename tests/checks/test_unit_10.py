"""The checks of unit 10: the references pass, and each named mistake is found at every draw."""

import statistics

import pytest
from proving import prove, reference

from coursekit.course.check import run_check
from coursekit.course.tasks import checks_10_budget as budget
from coursekit.course.tasks import checks_10_choice as choice
from coursekit.measure import count_parameters, stored_bytes


def beats(rule):
    def answer(costs, accuracies):
        numbers = range(len(costs))
        return [
            i
            for i in numbers
            if not any(rule(costs[j], accuracies[j], costs[i], accuracies[i]) for j in numbers if j != i)
        ]

    return answer


def ends(share, paired=True, sign=1):
    def answer(small, teacher, rows):
        a, b = small.float().mean(0), teacher.float().mean(0)
        drawn = a[rows] - (b[rows] if paired else b[rows.flip(0)])
        return float((sign * drawn.mean(1)).quantile(share))

    return answer


def loop(start_again=True, size=stored_bytes, strict=False, last=False):
    def answer(model, recipes, most):
        found = -1
        given = model
        for number, recipe in enumerate(recipes):
            small = recipe(model if start_again else given)
            given = small
            if size(small) < most or (size(small) == most and not strict):
                found = number
                if not last:
                    return found
        return found

    return answer


def fitting(check, key=lambda row: -row["accuracy"]):
    def answer(rows, most_bytes, most_ratio):
        numbers = [n for n, row in enumerate(rows) if check(row, most_bytes, most_ratio)]
        return min(numbers, key=lambda n: key(rows[n])) if numbers else -1

    return answer


def both(row, b, t):
    return row["bytes"] <= b and row["ratio"] <= t


WRONG = {
    "10.1": {
        "is beaten too": beats(lambda c, a, cost, right: c < cost and a > right),
        "do not beat each other": beats(lambda c, a, cost, right: c <= cost and a >= right),
        "turned round": beats(lambda c, a, cost, right: c >= cost and a >= right and (c, a) != (cost, right)),
        "models that are beaten": lambda c, a: sorted(set(range(len(c))) - set(choice.front(c, a))),
        "not the only one": lambda c, a: [max(range(len(a)), key=lambda n: a[n])],
    },
    "10.2": {
        "divide within each round": lambda rows: (
            statistics.median(model for _, model in rows) / statistics.median(teacher for teacher, _ in rows)
        ),
        "moves the mean": lambda rows: sum(model / teacher for teacher, model in rows) / len(rows),
        "how many times faster": lambda rows: 1 / statistics.median(model / teacher for teacher, model in rows),
        "ratios of sums": lambda rows: sum(row[1] for row in rows) / sum(row[0] for row in rows),
        "luckiest": lambda rows: min(model / teacher for teacher, model in rows),
    },
    "10.3": {
        "same resampled texts": ends(0.025, paired=False),
        "the difference itself": lambda s, t, r: float(s.float().mean() - t.float().mean()),
        "the upper end": ends(0.975),
        "leaves 2.5 %": ends(0.05),
        "a loss is negative": ends(0.025, sign=-1),
        "worst resample": ends(0.0),
    },
    "10.4": {
        "teacher's own training": lambda t, s, n, m: s * (3 * m + n) // (3 * m),
        "asked in every step": lambda t, s, n, m: (3 * t * n + 3 * s * m) // (3 * m),
        "learns nothing": lambda t, s, n, m: (3 * t * n + s * (3 * m + 3 * n)) // (3 * m),
        "costs three passes": lambda t, s, n, m: (t * n + s * (m + n)) // (3 * m),
        "steps of the teacher": lambda t, s, n, m: (3 * t * n + s * (3 * m + n)) // (3 * n),
    },
    "10.5": {
        "fast enough": fitting(lambda row, b, t: row["bytes"] <= b),
        "small enough": fitting(lambda row, b, t: row["ratio"] <= t),
        "to the last byte": fitting(lambda row, b, t: row["bytes"] < b and row["ratio"] < t),
        "not the smallest": fitting(both, key=lambda row: row["bytes"]),
        "not the fastest": fitting(both, key=lambda row: row["ratio"]),
    },
    "10.6": {
        "begins with the model itself": loop(start_again=False),
        "not the smallest": loop(last=True),
        "count what is stored": loop(size=lambda small: 4 * count_parameters(small).total),
        "to the last byte": loop(strict=True),
    },
}


@pytest.mark.parametrize("task", WRONG)
def test_check(task):
    prove(task, WRONG[task])


def test_references_by_hand():
    assert reference("10.1")([1, 2, 3, 3], [0.5, 0.5, 0.6, 0.6]) == [0, 2, 3]
    assert reference("10.4")(100, 100, 6, 3) == (3 * 100 * 6 + 100 * (9 + 6)) // 9 == 366
    rows = [{"bytes": 5, "ratio": 0.5, "accuracy": 0.8}, {"bytes": 4, "ratio": 0.4, "accuracy": 0.7}]
    assert [reference("10.5")(rows, *limits) for limits in ((5, 0.5), (4, 1.0), (3, 1.0))] == [0, 1, -1]


def test_odd_answers_are_wrong_and_not_an_error():
    assert run_check("10.1", lambda c, a: a, seed=0).status == "wrong"
    assert run_check("10.6", lambda model, recipes, most: recipes[0], seed=0).status == "wrong"
    assert budget.gentlest.__doc__ and choice.lower_end.__doc__

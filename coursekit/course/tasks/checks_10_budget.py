"""Checks of unit 10 on budgets: equal compute, the best that fits, the gentlest that fits."""

import copy
from collections.abc import Callable
from typing import Any

from torch import nn

from coursekit.course.expect import Draw, expect_call


def steps_alone(teacher_steps: int, student_steps: int, teacher_layers: int, student_layers: int) -> int:
    """10.4 as it should be."""
    return _steps(teacher_steps, student_steps, teacher_layers, student_layers)


def _steps(t: int, s: int, n: int, m: int, *, taught: int = 3, asked: int = 1, learnt: int = 3, alone: int = 3) -> int:
    return (taught * t * n + s * (learnt * m + asked * n)) // (alone * m)


def check_steps(answer: Callable, draw: Draw) -> None:
    """10.4: depths and steps that all differ."""
    given = (draw.integer(101, 150), draw.integer(160, 220), draw.choice((6, 8, 12)), draw.choice((2, 3, 4)))
    mistakes = {
        "the teacher's own training is missing": lambda t, s, n, m: _steps(t, s, n, m, taught=0),
        "the teacher is asked in every step of the student: one pass forward": lambda t, s, n, m: _steps(
            t, s, n, m, asked=0
        ),
        "a teacher that is asked learns nothing: it makes no backward pass": lambda t, s, n, m: _steps(
            t, s, n, m, asked=3
        ),
        "a step that learns costs three passes, with a teacher as without": lambda t, s, n, m: _steps(
            t, s, n, m, taught=1, learnt=1
        ),
        "these are steps of the teacher: the small model takes them": lambda t, s, n, m: (
            (3 * t * n + s * (3 * m + n)) // (3 * n)
        ),
    }
    expect_call(answer, given, steps_alone(*given), mistakes=mistakes)


def best_that_fits(rows: list[dict[str, float]], most_bytes: float, most_ratio: float) -> int:
    """10.5 as it should be."""
    return _best(rows, lambda row: row["bytes"] <= most_bytes and row["ratio"] <= most_ratio)


def _best(rows: list[dict[str, float]], fits: Callable[[dict[str, float]], bool]) -> int:
    fitting = [number for number, row in enumerate(rows) if fits(row)]
    return max(fitting, key=lambda number: rows[number]["accuracy"]) if fitting else -1


def check_best(answer: Callable, draw: Draw) -> None:
    """10.5: the best fits exactly; better ones break one limit each; the smallest and the fastest are worse."""
    most_bytes, most_ratio = draw.integer(10, 20) * 1_000_000, draw.choice((0.3, 0.4, 0.5))
    rows = [
        {"bytes": most_bytes, "ratio": most_ratio, "accuracy": 0.78},
        {"bytes": most_bytes - 1000, "ratio": most_ratio - 0.05, "accuracy": 0.76},
        {"bytes": most_bytes // 5, "ratio": most_ratio - 0.1, "accuracy": 0.70},
        {"bytes": most_bytes // 2, "ratio": most_ratio / 4, "accuracy": 0.72},
        {"bytes": most_bytes // 3, "ratio": most_ratio + 0.2, "accuracy": 0.80},
        {"bytes": 4 * most_bytes, "ratio": most_ratio / 2, "accuracy": 0.81},
        {"bytes": 6 * most_bytes, "ratio": 1.0, "accuracy": 0.82},
    ]
    draw.random.shuffle(rows)
    mistakes = {
        "the model must be fast enough as well": lambda r, b, t: _best(r, lambda row: row["bytes"] <= b),
        "the model must be small enough as well": lambda r, b, t: _best(r, lambda row: row["ratio"] <= t),
        "a budget may be spent to the last byte and the last millisecond": lambda r, b, t: _best(
            r, lambda row: row["bytes"] < b and row["ratio"] < t
        ),
        "of all that fit the most accurate is wanted, not the smallest": lambda r, b, t: min(
            range(len(r)), key=lambda n: r[n]["bytes"]
        ),
        "of all that fit the most accurate is wanted, not the fastest": lambda r, b, t: min(
            range(len(r)), key=lambda n: r[n]["ratio"]
        ),
    }
    expect_call(answer, (rows, most_bytes, most_ratio), best_that_fits(rows, most_bytes, most_ratio), mistakes=mistakes)
    none = [row | {"bytes": row["bytes"] + 7 * most_bytes} for row in rows]
    expect_call(answer, (none, most_bytes, most_ratio), -1)


def gentlest(model: nn.Module, recipes: list[Callable], most_bytes: int) -> int:
    """10.6 as it should be."""
    from coursekit.measure import stored_bytes

    return _first(model, recipes, lambda small: stored_bytes(small) <= most_bytes)


def _first(model: nn.Module, recipes: list[Callable], fits: Callable[[Any], bool]) -> int:
    for number, recipe in enumerate(recipes):
        if fits(recipe(model)):
            return number
    return -1


def _cut(layers: int) -> Callable:
    from coursekit.compress.pruning import drop_layers

    return lambda model: drop_layers(copy.deepcopy(model), range(layers))


def _coded(model: nn.Module, scheme: str = "int8") -> nn.Module:
    from coursekit.compress.quantization import quantize_model

    return quantize_model(model, scheme, embeddings=True)


def check_gentlest(answer: Callable, draw: Draw) -> None:
    """10.6: copies, codes, fewer layers, both, and two smaller ones; the budget is that of both, to the byte."""
    from coursekit.measure import count_parameters, stored_bytes
    from coursekit.models import Encoder, SequenceClassifier, TransformerConfig

    width = 16 * draw.integer(1, 2)
    config = TransformerConfig(
        draw.integer(30, 60), width, num_layers=4, num_heads=2, intermediate_size=4 * width, max_positions=16
    )
    model = SequenceClassifier(Encoder(config), 2).eval()
    recipes = [copy.deepcopy, _coded, _cut(2), lambda given: _coded(_cut(2)(given))]
    recipes += [lambda given: _coded(_cut(1)(given)), lambda given: _coded(_cut(1)(given), "int4")]
    most = stored_bytes(recipes[3](model))

    def chained(given: nn.Module, those: list[Callable], limit: int) -> int:
        for number, recipe in enumerate(those):
            given = recipe(given)
            if stored_bytes(given) <= limit:
                return number
        return -1

    def smallest(given: nn.Module, those: list[Callable], limit: int) -> int:
        return min(range(len(those)), key=lambda number: stored_bytes(those[number](given)))

    mistakes = {
        "each recipe begins with the model itself, not with what the one before made": chained,
        "the first that fits is wanted, not the smallest": smallest,
        "codes are no parameters: count what is stored": lambda g, those, limit: _first(
            g, those, lambda small: 4 * count_parameters(small).total <= limit
        ),
        "a budget may be spent to the last byte": lambda g, those, limit: _first(
            g, those, lambda small: stored_bytes(small) < limit
        ),
    }
    expect_call(answer, (model, recipes, most), gentlest(model, recipes, most), mistakes=mistakes)
    expect_call(answer, (model, recipes[:3], 10), -1)

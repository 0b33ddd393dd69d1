"""Checks of unit 05 that choose weights: magnitude, schedule, N:M, Wanda."""

from collections.abc import Callable

import torch
from torch import Tensor

from coursekit.course.expect import Draw, Wrong, expect_call


def check_magnitude(answer: Callable, draw: Draw) -> None:
    """05.1 without ties, with ties everywhere, and at both ends."""
    shape = draw.integer(4, 7), draw.integer(8, 11)
    size = shape[0] * shape[1]
    count = draw.integer(size // 4, size // 2 - 3)  # never half: the largest are then not the rest
    apart = draw.normal(size).argsort().view(shape) + 1.0  # 1 … size in random order: no two are equal
    signs = 2.0 * draw.integers(0, 1, *shape) - 1
    _judge_magnitude(answer, apart * signs, (count - draw.number(0.15, 0.4)) / size, count, ties=False)
    tied = torch.full((size,), 2.0)
    tied[: count - 2], tied[count + 3 :] = 1.0, 3.0  # the border runs through five equal weights
    shuffled = tied[draw.normal(size).argsort()].view(shape) * signs
    _judge_magnitude(answer, shuffled, count / size, count, ties=True)
    _judge_magnitude(answer, apart * signs, 0.0, 0, ties=False)
    _judge_magnitude(answer, apart * signs, 1.0, size, ties=False)


def _judge_magnitude(answer: Callable, weight: Tensor, sparsity: float, count: int, ties: bool) -> None:
    expected = magnitude(weight, sparsity)

    def judged(weight: Tensor, sparsity: float) -> object:
        """The expected mask in the place of any right one, for equal weights leave a choice."""
        mask = answer(weight, sparsity)
        if not isinstance(mask, Tensor) or mask.dtype != torch.bool or mask.shape != weight.shape:
            return mask
        gone = int((~mask).sum())
        ranked = gone in (0, mask.numel()) or weight[mask].abs().min() >= weight[~mask].abs().max()
        if ties and gone > count:
            raise Wrong("too many weights go: all that are equal to the border fell together")
        if ties and gone < count:
            raise Wrong("too few weights go: all that are equal to the border stayed together")
        if ranked and gone == count - 1:
            raise Wrong("one weight too few goes: the number is rounded to the nearest, not cut")
        if ranked and gone == count + 1:
            raise Wrong("one weight too many goes")
        return expected if ranked and gone == count else mask

    expect_call(
        judged,
        (weight, sparsity),
        expected,
        mistakes={
            "true should mean that a weight stays; here true marks those that go": lambda w, s: ~magnitude(w, s),
            "the sign counts here: a large negative weight is a large weight": lambda w, s: _keep_last(
                w.flatten(), round(s * w.numel())
            ).view(w.shape),
            "the largest go and the smallest stay": lambda w, s: magnitude(1 / w, s),
            "each row is ranked by itself here; the whole matrix is one ranking": lambda w, s: _keep_last(
                w.abs(), round(s * w.shape[1])
            ),
            "sparsity is the share that goes; here it is the share that stays": lambda w, s: magnitude(w, 1 - s),
        },
    )


def check_cubic(answer: Callable, draw: Draw) -> None:
    """05.2 inside the schedule, before it and after it."""
    start, length = draw.integer(3, 20), draw.integer(20, 60)
    initial, final = draw.number(0.05, 0.2), draw.number(0.6, 0.95)
    named = {"start": start, "end": start + length, "initial": initial, "final": final}
    for step in (start + length // 4, start + (2 * length) // 3):
        expect_call(answer, (step,), _cubic(step, **named), kwargs=named, mistakes=_CUBIC_INSIDE)
    for step, message in (
        (start - 2, "before the start the sparsity is the initial one: the formula must not run backwards"),
        (start + length + draw.integer(5, 20), "after the end the sparsity stays at the final one"),
    ):
        wrong = {message: _unclipped, "it is clipped to [0, 1], not to the schedule": _clipped_to_one}
        expect_call(answer, (step,), _cubic(step, **named), kwargs=named, mistakes=wrong)


def _part(step: float, start: float, end: float) -> float:
    return min(max((step - start) / (end - start), 0.0), 1.0)


def _cubic(step: float, *, start: float, end: float, initial: float, final: float) -> float:
    from coursekit.compress.pruning import cubic_sparsity

    return cubic_sparsity(step, start=start, end=end, initial=initial, final=final)


def _unclipped(step: float, *, start: float, end: float, initial: float, final: float) -> float:
    return final + (initial - final) * (1 - (step - start) / (end - start)) ** 3


def _clipped_to_one(step: float, **named: float) -> float:
    return min(max(_unclipped(step, **named), 0.0), 1.0)


_CUBIC_INSIDE: dict[str, Callable] = {
    "this rises in a straight line": lambda step, *, start, end, initial, final: (
        initial + (final - initial) * _part(step, start, end)
    ),
    "this is the square, not the cube": lambda step, *, start, end, initial, final: (
        final + (initial - final) * (1 - _part(step, start, end)) ** 2
    ),
    "it prunes slowly first and fast at the end; it should be the other way round": (
        lambda step, *, start, end, initial, final: initial + (final - initial) * _part(step, start, end) ** 3
    ),
    "initial and final are exchanged": lambda step, *, start, end, initial, final: (
        initial + (final - initial) * (1 - _part(step, start, end)) ** 3
    ),
    "steps count from the start of the schedule, not from 0": lambda step, *, start, end, initial, final: (
        final + (initial - final) * (1 - min(step / (end - start), 1.0)) ** 3
    ),
    "the initial sparsity is missing": lambda step, *, start, end, initial, final: (
        final * (1 - (1 - _part(step, start, end)) ** 3)
    ),
}


def check_n_m(answer: Callable, draw: Draw) -> None:
    """05.3 on a weight whose rows and columns m divides, and one that it does not divide."""
    m = draw.choice((4, 5, 6))
    n = draw.choice([number for number in range(1, m) if 2 * number != m])
    weight = draw.normal(2 * m, 4 * m)
    expect_call(
        answer,
        (weight, n, m),
        n_m(weight, n, m),
        mistakes={
            "n weights stay in each group; here n are removed": lambda w, n, m: n_m(w, m - n, m),
            "true should mean that a weight stays; here true marks those that go": lambda w, n, m: ~n_m(w, n, m),
            "groups run along the inputs of a row; these run down the outputs": lambda w, n, m: n_m(w.T, n, m).T,
            "a group is m consecutive inputs; these are spread over the row": lambda w, n, m: _keep_last(
                w.abs().unflatten(1, (m, -1)).mT, m - n
            ).mT.flatten(1),
            "the sign counts here: a large negative weight is a large weight": lambda w, n, m: _keep_last(
                w.unflatten(1, (-1, m)), m - n
            ).flatten(1),
            "the smallest stay and the largest go": lambda w, n, m: n_m(1 / w, n, m),
            "the whole row is one ranking here: a group may keep more or fewer than n": lambda w, n, m: _keep_last(
                w.abs(), w.shape[1] - n * (w.shape[1] // m)
            ),
        },
    )
    try:
        answer(draw.normal(3, 2 * m + 1), n, m)
    except ValueError:
        return
    except Exception as error:
        name = type(error).__name__
        raise Wrong(f"inputs that m does not divide should raise a ValueError, not a {name}") from None
    raise Wrong("inputs that m does not divide should raise a ValueError, not be cut or padded in silence")


def check_wanda(answer: Callable, draw: Draw) -> None:
    """05.4 on inputs of very different sizes, with padding full of large numbers."""
    outputs, width = draw.integer(8, 10), draw.choice((20, 24))
    scale = torch.logspace(-1.5, 1.0, width)[draw.normal(width).argsort()]
    real = draw.mask(3, 9)
    inputs = draw.normal(3, 9, width) * scale
    inputs[~real] = 30 * draw.normal(int((~real).sum()), 1).abs() / scale  # drowns small inputs if it counts
    weight = draw.normal(outputs, width) * torch.logspace(-1, 1, outputs)[:, None]
    sparsity = draw.choice((0.4, 0.5, 0.6))
    expect_call(
        answer,
        (weight, inputs, real, sparsity),
        wanda(weight, inputs, real, sparsity),
        mistakes={
            "padding counts here: the norms are over real tokens only": lambda w, x, r, s: wanda(
                w, x, torch.ones_like(r), s
            ),
            "the whole matrix is one ranking here; each output is ranked by itself": lambda w, x, r, s: magnitude(
                w * x[r].norm(dim=0), s
            ),
            "this looks at the weights alone, not at what comes in": lambda w, x, r, s: _keep_last(
                w.abs(), round(s * w.shape[1])
            ),
            "this looks at the inputs alone, not at the weights": lambda w, x, r, s: _keep_last(
                x[r].norm(dim=0).expand(w.shape), round(s * w.shape[1])
            ),
            "the norms count twice here: the root is missing": lambda w, x, r, s: _keep_last(
                w.abs() * x[r].square().sum(0), round(s * w.shape[1])
            ),
            "true should mean that a weight stays; here true marks those that go": lambda w, x, r, s: (
                ~wanda(w, x, r, s)
            ),
            "weights are compared within a row, over its inputs; here within a column": lambda w, x, r, s: (
                _keep_last((w * x[r].norm(dim=0)).abs().T, round(s * len(w))).T
            ),
        },
    )


def _keep_last(scores: Tensor, count: int) -> Tensor:
    """False at the `count` smallest entries of each last-axis row."""
    return scores.argsort(-1).argsort(-1) >= count


# ---- what stands in for a learner's answer ----


def magnitude(weight: Tensor, sparsity: float) -> Tensor:
    """Stand-in for 05.1."""
    return _keep_last(weight.abs().flatten(), round(sparsity * weight.numel())).view(weight.shape)


def n_m(weight: Tensor, n: int, m: int) -> Tensor:
    """Stand-in for 05.3."""
    if weight.shape[1] % m:
        raise ValueError(f"{weight.shape[1]} inputs are no multiple of {m}")
    return _keep_last(weight.abs().unflatten(1, (-1, m)), m - n).flatten(1)


def wanda(weight: Tensor, inputs: Tensor, real: Tensor, sparsity: float) -> Tensor:
    """Stand-in for 05.4."""
    return _keep_last(weight.abs() * inputs[real].norm(dim=0), round(sparsity * weight.shape[1]))

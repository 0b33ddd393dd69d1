"""Checks of unit 04 on one matrix: a rank for a budget, two layers for one, errors by rank, and the way back."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from coursekit.course.expect import Draw, Wrong, expect_call, expect_close

# ---- 04.1 ----


def check_budget(answer: Callable, draw: Draw) -> None:
    """04.1 on a random matrix, and on one where the budget is met exactly."""
    while True:  # until every mistake gives another rank
        rows, columns, keep = draw.integer(40, 90), draw.integer(12, 30), round(draw.number(0.3, 0.8), 2)
        if draw.integer(0, 1):
            rows, columns = columns, rows
        edge = rows * columns / (rows + columns)
        rank = math.floor(keep * edge)
        mistakes = {
            "this is a share of the full rank: at that rank the two factors hold more than the share": int(
                keep * min(rows, columns)
            ),
            "this counts one of the two factors only": int(keep * max(rows, columns)),
            "this is the break-even: the share is missing": math.floor(edge),
            "this is over the budget by one rank": rank + 1,
            "one rank more would still fit the budget": rank - 1,
            "both factors count: this divides by twice their sum": math.floor(keep * edge / 2),
        }
        if (
            rank > 2
            and abs(keep * edge - round(keep * edge)) > 0.02
            and len({rank, *mistakes.values()}) > len(mistakes)
        ):
            break
    expect_call(answer, (rows, columns, keep), rank, mistakes=_constants(mistakes))
    half = draw.integer(3, 9)  # 6a × 3a breaks even at 2a, so half of its numbers is rank a to the number
    exact = {"one rank more would still fit the budget": half - 1}
    expect_call(answer, (6 * half, 3 * half, 0.5), half, mistakes=_constants(exact))


def _constants(values: dict[str, object]) -> dict[str, Callable]:
    return {message: lambda *_, value=value: value for message, value in values.items()}


# ---- 04.2 ----


def fading(rows: int, columns: int, draw: Draw) -> Tensor:
    """A matrix whose singular values fall clearly, in turned directions."""
    size = min(rows, columns)
    left, right = (torch.linalg.qr(draw.normal(count, size))[0] for count in (rows, columns))
    return (left * 4 * 0.75 ** torch.arange(size)) @ right.T


def check_layers(answer: Callable, draw: Draw) -> None:
    """04.2: two layers in the right order, with the right shapes, one bias, and the nearest product."""
    rows, columns, rank = draw.integer(18, 26), draw.integer(9, 14), draw.integer(3, 5)
    with torch.random.fork_rng(devices=[]):
        linear = nn.Linear(columns, rows)
    linear.weight.data, linear.bias.data = fading(rows, columns, draw), draw.normal(rows)
    before = [linear.weight.detach().clone(), linear.bias.detach().clone()]
    got = answer(linear, rank)
    if got is None:
        raise Wrong("it returns None; is a `return` missing?")
    if not torch.equal(before[0], linear.weight) or not torch.equal(before[1], linear.bias):
        raise Wrong("it changes the layer it was given; the caller still needs it")
    if not isinstance(got, nn.Sequential) or len(got) != 2 or not all(type(part) is nn.Linear for part in got):
        raise Wrong("expected an nn.Sequential of two nn.Linear")
    _layer_shapes(got, rows, columns, rank)
    left, singular, right = torch.linalg.svd(before[0], full_matrices=False)
    u, s, v = left[:, :rank], singular[:rank], right[:rank]
    expect_close(
        (got[1].weight @ got[0].weight).detach(),
        (u * s) @ v,
        what="the product of your two weights is not the nearest of this rank",
        rtol=1e-3,
        atol=1e-3,
        mistakes={
            "the singular values are missing from the product": u @ v,
            "the singular values are in both factors: they belong to one, or their roots to both": (u * s**2) @ v,
            "both factors have the roots' roots: the product has only the roots of the singular values": (u * s.sqrt())
            @ v,
            "these are the smallest singular values; the largest keep most": (left[:, -rank:] * singular[-rank:])
            @ right[-rank:],
        },
        reveal=False,
    )
    expect_close(
        got[1].bias.detach(),
        before[1],
        what="the second layer takes over the original bias",
        mistakes={"the bias of the second layer is zero: the original one is lost": torch.zeros(rows)},
        reveal=False,
    )


def _layer_shapes(got: nn.Sequential, rows: int, columns: int, rank: int) -> None:
    first, second = (tuple(part.weight.shape) for part in got)
    if (first, second) == ((rows, rank), (rank, columns)):
        raise Wrong("the layers come in the other order: the inputs are squeezed first, then widened")
    if (first, second) != ((rank, columns), (rows, rank)):
        if rank not in first and first[-1:] == (columns,):
            raise Wrong(f"the inner width is {first[0]}, not the rank {rank} that was asked for")
        raise Wrong(
            f"the weights must be stored as {(rank, columns)} and {(rows, rank)}, (out, in), got {first} and {second}"
        )
    if got[1].bias is None:
        raise Wrong("the bias is lost: the second layer takes it over")
    if got[0].bias is not None:
        raise Wrong("the first layer has a bias too: the bias of a layer counts once")


def low_rank_layers(linear: nn.Linear, rank: int) -> nn.Sequential:
    """Stand-in for 04.2."""
    from coursekit.compress.lowrank import factorize

    layer = factorize(linear, rank)
    return nn.Sequential(layer.down, layer.up)


# ---- 04.3 ----


def check_errors(answer: Callable, draw: Draw) -> None:
    """04.3: relative errors at every rank, from singular values alone."""
    size = draw.integer(6, 11)
    singular = draw.number(2, 6) * draw.number(0.6, 0.85) ** torch.arange(size)
    right = relative_errors(singular)
    expect_call(
        answer,
        (singular,),
        right,
        mistakes={
            "this is the squared error: a norm is a root": lambda s: right**2,
            "this is the share that is kept, not what is lost": lambda s: (1 - right**2).sqrt(),
            "energies are squares of singular values": lambda s: _tails(s) / s.sum(),
            "rank 0 is missing: without any direction everything is lost": lambda s: right[1:],
            "the full rank is missing: there nothing is lost": lambda s: right[:-1],
            "these errors are not relative to the norm of the whole": lambda s: _tails(s.square()).sqrt(),
            "the values are dropped from the wrong end: the largest stay": lambda s: relative_errors(s.flip(0)),
        },
    )


def _tails(values: Tensor) -> Tensor:
    """Sums of values[r:] for r = 0 … n."""
    return torch.cat((values.flip(0).cumsum(0).flip(0), values.new_zeros(1)))


def relative_errors(singular: Tensor) -> Tensor:
    """Stand-in for 04.3."""
    tails = _tails(singular.square())
    return (tails / tails[0]).sqrt()


# ---- 04.4 ----


def check_merge(answer: Callable, draw: Draw) -> None:
    """04.4: one plain layer with the outputs of two."""
    rows, columns, rank = draw.integer(7, 10), draw.integer(11, 14), draw.integer(3, 5)
    with torch.random.fork_rng(devices=[]):
        down, up = nn.Linear(columns, rank, bias=False), nn.Linear(rank, rows)
    for parameter in (down.weight, up.weight, up.bias):
        parameter.data = draw.normal(*parameter.shape)
    got = answer(nn.Sequential(down, up))
    if got is None:
        raise Wrong("it returns None; is a `return` missing?")
    if type(got) is not nn.Linear:
        raise Wrong(f"expected one nn.Linear, got {type(got).__name__}")
    if tuple(got.weight.shape) == (columns, rows):
        raise Wrong("the weight is transposed: nn.Linear stores (out, in)")
    if tuple(got.weight.shape) != (rows, columns):
        raise Wrong(f"expected a weight {(rows, columns)}, got {tuple(got.weight.shape)}")
    if got.bias is None:
        raise Wrong("the merged layer has lost the bias")
    expect_close(got.weight.detach(), (up.weight @ down.weight).detach(), what="the weight", reveal=False)
    wrong = {"the bias is zero: that of the second layer is lost": torch.zeros(rows)}
    expect_close(got.bias.detach(), up.bias.detach(), what="the bias", mistakes=wrong, reveal=False)


def merge(layers: nn.Sequential) -> nn.Linear:
    """Stand-in for 04.4."""
    down, up = layers
    linear = nn.Linear(down.in_features, up.out_features)
    linear.weight.data, linear.bias.data = (up.weight @ down.weight).detach(), up.bias.detach().clone()
    return linear

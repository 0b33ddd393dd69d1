"""Checks of unit 04 on methods: factors that know their inputs, a bias for the mean, LoRA, and a real FFN."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from coursekit.course.expect import Draw, Wrong, expect_call, expect_close
from coursekit.course.tasks.checks_04_factors import fading

# ---- 04.5 ----


def check_aware(answer: Callable, draw: Draw) -> None:
    """04.5: factors (out, r) and (r, in) with the least error of the outputs."""
    rows, columns, rank = draw.integer(16, 20), draw.integer(10, 13), draw.integer(3, 5)
    weight = fading(rows, columns, draw)
    turn = torch.linalg.qr(draw.normal(columns, columns))[0]
    covariance = turn * (3 * 0.6 ** torch.arange(columns)) @ turn.T
    given = weight.clone(), covariance.clone()
    got = answer(*given, rank)
    if got is None:
        raise Wrong("it returns None; is a `return` missing?")
    if not (torch.equal(given[0], weight) and torch.equal(given[1], covariance)):
        raise Wrong("it changes its input; work on a copy, so that the caller's data stays as it was")
    if not isinstance(got, tuple | list) or len(got) != 2 or not all(isinstance(part, Tensor) for part in got):
        raise Wrong("expected two tensors, first (out, rank), then (rank, in)")
    shapes = tuple(got[0].shape), tuple(got[1].shape)
    if shapes[::-1] == ((rows, rank), (rank, columns)):
        raise Wrong("the factors come in the other order: first (out, rank), then (rank, in)")
    if shapes != ((rows, rank), (rank, columns)):
        raise Wrong(f"expected factors {(rows, rank)} and {(rank, columns)}, got {shapes[0]} and {shapes[1]}")
    mistakes = {message: product(weight, covariance, rank) for message, product in AWARE_MISTAKES.items()}
    expect_close(
        got[0] @ got[1],
        _projected(weight, weight @ covariance @ weight.T, rank),
        what="the product of your factors does not have the least error of the outputs",
        rtol=1e-2,
        atol=1e-2,
        mistakes=mistakes,
        reveal=False,
    )


def _projected(weight: Tensor, outputs: Tensor, rank: int, largest: bool = True) -> Tensor:
    """U Uᵀ W for the first (or last) eigenvectors U of an outputs' covariance."""
    vectors = torch.linalg.eigh(outputs.double()).eigenvectors
    left = (vectors[:, -rank:] if largest else vectors[:, :rank]).float()
    return left @ (left.T @ weight)


def _by_inputs(weight: Tensor, covariance: Tensor, rank: int) -> Tensor:
    vectors = torch.linalg.eigh(covariance).eigenvectors[:, -rank:]
    return weight @ vectors @ vectors.T


AWARE_MISTAKES: dict[str, Callable[[Tensor, Tensor, int], Tensor]] = {
    "this is the plain SVD: the covariance makes no difference to it": lambda w, c, r: _projected(w, w @ w.T, r),
    "these are the directions in which the outputs vary least: eigenvalues come in rising order": lambda w, c, r: (
        _projected(w, w @ c @ w.T, r, largest=False)
    ),
    "these are the principal directions of the inputs; it is the outputs that count": _by_inputs,
    "the covariance was squared: the outputs' covariance has it once": lambda w, c, r: _projected(
        w, w @ c @ c @ w.T, r
    ),
}


def aware(weight: Tensor, covariance: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Stand-in for 04.5."""
    left = torch.linalg.eigh(weight @ covariance @ weight.T).eigenvectors[:, -rank:]
    return left, left.T @ weight


# ---- 04.6 ----


def check_bias(answer: Callable, draw: Draw) -> None:
    """04.6: the bias that gives the outputs their mean back."""
    rows, columns = draw.integer(4, 6), draw.integer(7, 9)
    weight, near = draw.normal(rows, columns), draw.normal(rows, columns)
    bias, mean = draw.normal(rows), draw.normal(columns) + 2
    expect_call(
        answer,
        (weight, near, bias, mean),
        bias + (weight - near) @ mean,
        rtol=1e-3,
        atol=1e-4,
        mistakes={
            "the sign is wrong: what the approximation leaves out has to be put back": lambda w, a, b, m: (
                b - (w - a) @ m
            ),
            "the original bias is missing": lambda w, a, b, m: (w - a) @ m,
            "the bias is unchanged": lambda w, a, b, m: b,
            "this adds the whole mean output; the approximation gives a part of it already": lambda w, a, b, m: (
                b + w @ m
            ),
            "this adds the approximation's mean output once more": lambda w, a, b, m: b + a @ m,
        },
    )


def corrected(weight: Tensor, near: Tensor, bias: Tensor, mean: Tensor) -> Tensor:
    """Stand-in for 04.6."""
    return bias + (weight - near) @ mean


# ---- 04.7 ----


def check_lora(answer: Callable, draw: Draw) -> None:
    """04.7: the outputs of a layer with a LoRA beside it."""
    rows, columns, rank = draw.integer(5, 7), draw.integer(8, 10), draw.integer(2, 4)
    alpha = float(rank + draw.integer(3, 6))
    x, weight = draw.normal(3, columns), draw.normal(rows, columns)
    bias, down, up = draw.normal(rows), draw.normal(rank, columns), draw.normal(rows, rank)
    expect_call(
        answer,
        (x, weight, bias, down, up, alpha),
        lora(x, weight, bias, down, up, alpha),
        rtol=1e-3,
        atol=1e-3,
        mistakes={
            "the update is not scaled: alpha and the rank are missing": lambda x, w, b, d, u, a: (
                x @ w.T + b + x @ d.T @ u.T
            ),
            "the update is scaled by alpha alone: it is divided by the rank too": lambda x, w, b, d, u, a: (
                x @ w.T + b + a * (x @ d.T @ u.T)
            ),
            "the scale is upside down": lambda x, w, b, d, u, a: x @ w.T + b + len(d) / a * (x @ d.T @ u.T),
            "this is the update alone; the frozen layer answers too": lambda x, w, b, d, u, a: (
                a / len(d) * (x @ d.T @ u.T)
            ),
            "the bias is missing": lambda x, w, b, d, u, a: x @ w.T + a / len(d) * (x @ d.T @ u.T),
            "the bias is scaled and added a second time": lambda x, w, b, d, u, a: (
                x @ w.T + b + a / len(d) * (x @ d.T @ u.T + b)
            ),
            "the frozen layer is scaled too": lambda x, w, b, d, u, a: a / len(d) * (x @ w.T + b + x @ d.T @ u.T),
        },
    )


def lora(x: Tensor, weight: Tensor, bias: Tensor, down: Tensor, up: Tensor, alpha: float) -> Tensor:
    """Stand-in for 04.7."""
    return x @ weight.T + bias + alpha / len(down) * (x @ down.T @ up.T)


# ---- 04.8 ----


def check_ffn(answer: Callable, draw: Draw) -> None:
    """04.8 on a small encoder, some of whose depths share one FFN."""
    from coursekit.compress.lowrank import LowRankLinear, factorize
    from coursekit.models import Encoder, SharingPlan, TransformerConfig

    hidden, wide, rank = 8, draw.integer(12, 16), draw.integer(3, 4)
    sharing = SharingPlan.ffn_only(2) if draw.integer(0, 1) else SharingPlan.sandwich(4)
    layers = len(sharing.ffn)
    config = TransformerConfig(20, hidden, layers, 2, wide, max_positions=6, dropout=0.0, sharing=sharing)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(draw.seed)
        encoder = Encoder(config).eval()
    whole = copy.deepcopy(encoder)
    got = answer(encoder, rank)
    if got is None:
        raise Wrong("it returns None; return the encoder")
    if got is not encoder:
        raise Wrong("expected the encoder that was given, with other layers in it, not another object")
    for number, layer in enumerate(encoder.layers):
        for name in ("up", "down"):
            _check_factorised(f"layer {number}", name, getattr(layer.ffn, name), rank, LowRankLinear)
        if type(layer.attention.query) is not nn.Linear:
            raise Wrong("attention was touched: only the two matrices of the FFN are asked for")
    old = [layer.ffn for layer in whole.layers]
    for one in range(layers):
        for other in range(one):
            shared = encoder.layers[one].ffn.up is encoder.layers[other].ffn.up
            if shared != (old[one] is old[other]):
                raise Wrong("depths that shared one FFN have one each now: factorise a shared module once")
    for number, layer in enumerate(encoder.layers):
        for name in ("up", "down"):
            expected, now = factorize(getattr(old[number], name), rank), getattr(layer.ffn, name)
            if not torch.allclose(now.weight, expected.weight, rtol=1e-3, atol=1e-4):
                raise Wrong(f"`{name}` of layer {number} is not the nearest product to the original weight")
            if now.bias is None or not torch.allclose(now.bias, expected.bias):
                raise Wrong(f"`{name}` of layer {number} has lost its bias")


def _check_factorised(where: str, name: str, now: nn.Module, rank: int, kind: type) -> None:
    if type(now) is nn.Linear:
        raise Wrong(f"`{name}` of {where} is still dense: both matrices of every FFN are asked for")
    if not isinstance(now, kind):
        raise Wrong(f"expected `{name}` to be a LowRankLinear, as `factorize` makes it, got {type(now).__name__}")
    if now.rank != rank:
        raise Wrong(f"`{name}` of {where} has rank {now.rank}, asked was {rank}")


def factorise_ffn(encoder: nn.Module, rank: int) -> nn.Module:
    """Stand-in for 04.8."""
    from coursekit.compress.lowrank import LowRankLinear, factorize

    for layer in encoder.layers:
        for name in ("up", "down"):
            old = getattr(layer.ffn, name)
            if not isinstance(old, LowRankLinear):
                setattr(layer.ffn, name, factorize(old, rank))
    return encoder

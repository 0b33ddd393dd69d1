"""Every check of unit 04 accepts its reference and names the mistake of each wrong answer."""

import math

import pytest
import torch
from proving import prove, reference
from torch import nn

from coursekit.compress.lowrank import LowRankLinear, factorize
from coursekit.course.check import run_check
from coursekit.course.tasks import find_task


def two(cut=lambda u, s, v, r: (v[:r], u[:, :r] * s[:r]), bias="copy", first_bias=False, swap=False):
    """An answer to 04.2 with switches: which factors, which bias, which order."""

    def answer(linear, rank):
        down_weight, up_weight = cut(*torch.linalg.svd(linear.weight.detach(), full_matrices=False), rank)
        down = nn.Linear(down_weight.shape[1], down_weight.shape[0], bias=first_bias)
        up = nn.Linear(up_weight.shape[1], up_weight.shape[0], bias=bias is not None)
        down.weight.data, up.weight.data = down_weight.contiguous(), up_weight.contiguous()
        if bias == "copy":
            up.bias.data = linear.bias.detach().clone()
        elif bias == "zero":
            nn.init.zeros_(up.bias)
        return nn.Sequential(up, down) if swap else nn.Sequential(down, up)

    return answer


def transposed(linear, rank):
    u, s, v = torch.linalg.svd(linear.weight.detach().T, full_matrices=False)
    down, up = nn.Linear(linear.out_features, rank, bias=False), nn.Linear(rank, linear.in_features)
    down.weight.data, up.weight.data = v[:rank], u[:, :rank] * s[:rank]
    return nn.Sequential(down, up)


def changes_weight(linear, rank):
    right = two()(linear, rank)
    linear.weight.data.zero_()
    return right


def errors(power=2, root=True, relative=True, first=True, last=True, flip=False, kept=False):
    """An answer to 04.3 with switches."""

    def answer(singular):
        values = singular.flip(0) if flip else singular
        energy = values**power
        tails = torch.cat((energy.flip(0).cumsum(0).flip(0), energy.new_zeros(1)))
        tails = tails / tails[0] if relative else tails
        tails = 1 - tails if kept else tails
        tails = tails.sqrt() if root else tails
        return tails[0 if first else 1 : None if last else -1]

    return answer


def merged(product=lambda up, down: up @ down, bias="copy"):
    """An answer to 04.4 with switches."""

    def answer(layers):
        weight = product(layers[1].weight, layers[0].weight).detach()
        linear = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
        linear.weight.data = weight
        if bias == "copy":
            linear.bias.data = layers[1].bias.detach().clone()
        elif bias == "zero":
            nn.init.zeros_(linear.bias)
        return linear

    return answer


def directions(outputs, last=True):
    """An answer to 04.5: the projection on eigenvectors of `outputs(W, C)`."""

    def answer(weight, covariance, rank):
        vectors = torch.linalg.eigh(outputs(weight, covariance)).eigenvectors
        left = vectors[:, -rank:] if last else vectors[:, :rank]
        return left, left.T @ weight

    return answer


def by_inputs(weight, covariance, rank):
    vectors = torch.linalg.eigh(covariance).eigenvectors[:, -rank:]
    return weight @ vectors, vectors.T


def lora(scale=lambda a, r: a / r, base=1.0, bias=True, whole_scaled=False, bias_again=False):
    """An answer to 04.7 with switches."""

    def answer(x, weight, bias_, down, up, alpha):
        update, frozen = x @ down.T @ up.T, x @ weight.T + (bias_ if bias else 0)
        update = update + bias_ if bias_again else update
        by = scale(alpha, len(down))
        return by * (frozen + update) if whole_scaled else base * frozen + by * update

    return answer


def ffn(names=("up", "down"), depths=slice(None), rank=lambda r: r, again=True, attention=False, bias=True):
    """An answer to 04.8 with switches; `again` stops at factors, as it should."""

    def answer(encoder, asked):
        for layer in list(encoder.layers)[depths]:
            for name in names:
                old = getattr(layer.ffn, name)
                if not isinstance(old, LowRankLinear):
                    new = factorize(old, rank(asked))
                    if not bias:
                        new.up.bias.data.zero_()
                        new.up.bias.data += 1
                    setattr(layer.ffn, name, new)
            if attention:
                layer.attention.query = factorize(nn.Linear(8, 8), 2)
        return encoder

    return answer


def unshares(encoder, rank):
    import copy

    for layer in encoder.layers:
        layer.ffn = copy.deepcopy(layer.ffn)
    return ffn()(encoder, rank)


def another_object(encoder, rank):
    import copy

    return ffn()(copy.deepcopy(encoder), rank)


def sequentials(encoder, rank):
    for layer in encoder.layers:
        for name in ("up", "down"):
            old = getattr(layer.ffn, name)
            if isinstance(old, nn.Linear):
                low = factorize(old, rank)
                setattr(layer.ffn, name, nn.Sequential(low.down, low.up))
    return encoder


WRONG = {
    "04.1": {
        "a share of the full rank": lambda m, n, keep: int(keep * min(m, n)),
        "one of the two factors only": lambda m, n, keep: int(keep * max(m, n)),
        "this is the break-even": lambda m, n, keep: m * n // (m + n),
        "over the budget by one": lambda m, n, keep: math.floor(keep * m * n / (m + n)) + 1,
        "one rank more would still fit": lambda m, n, keep: (
            math.ceil(keep * m * n / (m + n)) - 1 if keep == 0.5 else math.floor(keep * m * n / (m + n))
        ),
        "twice their sum": lambda m, n, keep: int(keep * m * n / (2 * (m + n))),
    },
    "04.2": {
        "come in the other order": two(swap=True),
        "not the rank": two(lambda u, s, v, r: (v, u * s)),
        "the weights must be stored as": transposed,
        "the bias is lost": two(bias=None),
        "the bias of a layer counts once": two(first_bias=True),
        "singular values are missing": two(lambda u, s, v, r: (v[:r], u[:, :r])),
        "are in both factors": two(lambda u, s, v, r: (s[:r, None] * v[:r], u[:, :r] * s[:r])),
        "only the roots": two(lambda u, s, v, r: (v[:r], u[:, :r] * s[:r].sqrt())),
        "the smallest singular values": two(lambda u, s, v, r: (v[-r:], u[:, -r:] * s[-r:])),
        "the bias of the second layer is zero": two(bias="zero"),
        "it changes the layer": changes_weight,
        "expected an nn.Sequential": lambda linear, rank: factorize(linear, rank),
    },
    "04.3": {
        "a norm is a root": errors(root=False),
        "not what is lost": errors(kept=True),
        "squares of singular values": errors(power=1, root=False),
        "rank 0 is missing": errors(first=False),
        "the full rank is missing": errors(last=False),
        "not relative": errors(relative=False),
        "from the wrong end": errors(flip=True),
    },
    "04.4": {
        "the weight is transposed": merged(lambda up, down: (up @ down).T),
        "lost the bias": merged(bias=None),
        "the bias is zero": merged(bias="zero"),
        "expected one nn.Linear": lambda layers: layers,
        "the weight: ": merged(lambda up, down: 2 * up @ down),
        "expected a weight": merged(lambda up, down: up),
    },
    "04.5": {
        "this is the plain SVD": directions(lambda w, c: w @ w.T),
        "vary least": directions(lambda w, c: w @ c @ w.T, last=False),
        "directions of the inputs": by_inputs,
        "the covariance was squared": directions(lambda w, c: w @ c @ c @ w.T),
        "the other order": lambda w, c, r: directions(lambda w, c: w @ c @ w.T)(w, c, r)[::-1],
        "expected factors": lambda w, c, r: directions(lambda w, c: w @ c @ w.T)(w, c, r + 1),
        "expected two tensors": lambda w, c, r: directions(lambda w, c: w @ c @ w.T)(w, c, r)[0],
    },
    "04.6": {
        "the sign is wrong": lambda w, a, b, m: b - (w - a) @ m,
        "the original bias is missing": lambda w, a, b, m: (w - a) @ m,
        "the bias is unchanged": lambda w, a, b, m: b.clone(),
        "adds the whole mean output": lambda w, a, b, m: b + w @ m,
        "once more": lambda w, a, b, m: b + a @ m,
    },
    "04.7": {
        "the update is not scaled": lora(scale=lambda a, r: 1),
        "scaled by alpha alone": lora(scale=lambda a, r: a),
        "upside down": lora(scale=lambda a, r: r / a),
        "the update alone": lora(base=0.0),
        "the bias is missing": lora(bias=False),
        "added a second time": lora(bias_again=True),
        "the frozen layer is scaled": lora(whole_scaled=True),
    },
    "04.8": {
        "`down` of layer 0 is still dense": ffn(names=("up",)),
        "`up` of layer 0 is still dense": ffn(names=("down",)),
        "has rank": ffn(rank=lambda r: r - 1),
        "another object": another_object,
        "attention was touched": ffn(attention=True),
        "one each now": unshares,
        "has lost its bias": ffn(bias=False),
        "expected `up` to be a LowRankLinear": sequentials,
    },
}


@pytest.mark.parametrize("task", WRONG)
def test_check(task):
    prove(task, WRONG[task])


def test_balanced_factors_are_right_too():
    """Where the singular values go is free."""
    for cut in (
        lambda u, s, v, r: (s[:r, None] * v[:r], u[:, :r]),
        lambda u, s, v, r: (s[:r, None].sqrt() * v[:r], u[:, :r] * s[:r].sqrt()),
        lambda u, s, v, r: (-v[:r], -u[:, :r] * s[:r]),
    ):
        assert run_check(find_task("04.2"), two(cut)).status == "right"


def test_whitened_factors_are_right_too():
    """04.5 by way of a Cholesky factor and its inverse."""

    def whitened(weight, covariance, rank):
        root = torch.linalg.cholesky(covariance.double())
        u, s, v = torch.linalg.svd(weight.double() @ root, full_matrices=False)
        return (u[:, :rank] * s[:rank]).float(), (v[:rank] @ torch.linalg.inv(root)).float()

    for seed in range(5):
        assert run_check(find_task("04.5"), whitened, seed=seed).status == "right"


def test_references_agree_with_the_library():
    rank_for_budget = reference("04.1")
    assert [rank_for_budget(m, n, 0.5) for m, n in ((768, 768), (3072, 768))] == [192, 307]

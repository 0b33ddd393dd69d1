"""Checks of unit 02 that count: which depth uses which block, and what is stored then."""

from collections.abc import Callable

import torch

from coursekit.course.expect import Draw, expect_call
from coursekit.models import Embeddings, SharingPlan, TransformerConfig
from coursekit.models.layers import build_layers

# ---- 02.1: the sandwich ----


def sandwich_blocks(depths) -> list[int]:
    """Stand-in for 02.1."""
    return list(SharingPlan.sandwich(depths).attention)


def check_sandwich(answer: Callable, draw: Draw) -> None:
    """02.1 on a real stack; then on one, two and three depths, of which only the last has anything between."""
    mistakes = {
        "the first and the last depth share a block; each is to have its own": lambda n: [0, *[1] * (n - 2), 0],
        "the last block gets the next free number, not the number of its depth": lambda n: [0, *[1] * (n - 2), n - 1],
        "the last depth is in the shared block too": lambda n: [0, *[1] * (n - 1)],
        "the first depth is in the shared block too": lambda n: [*[0] * (n - 1), 1],
        "nothing is shared; the depths between first and last use one block": lambda n: list(range(n)),
        "blocks are numbered from 0": lambda n: [1, *[2] * (n - 2), 3],
        "one depth too many": lambda n: [0, *[1] * (n - 1), 2],
    }
    depths = draw.integer(5, 12)
    expect_call(answer, (depths,), sandwich_blocks(depths), mistakes=mistakes)
    short = {
        "two depths have nothing between them, so block 1 comes right after block 0": lambda n: [0, 2][:n],
        "a stack of one depth has one block": lambda n: [0, *[1] * (n - 2), 2],
    }
    for depths in (3, 2, 1):
        expect_call(answer, (depths,), sandwich_blocks(depths), mistakes=short)


# ---- 02.2: ALBERT's groups ----

# Depths and groups that do not divide, and for which int(depth / (depths / groups)) puts a depth one group too low.
TREACHEROUS = ((18, 14), (27, 21), (36, 14), (36, 28), (42, 18), (42, 36), (44, 20), (44, 36), (45, 35), (46, 30))


def group_blocks(depths, groups) -> list[int]:
    """Stand-in for 02.2."""
    return [depth * groups // depths for depth in range(depths)]


def check_groups(answer: Callable, draw: Draw) -> None:
    """02.2 on sizes that do not divide, and on which one or the other quotient of floats goes wrong."""
    mistakes = {
        "a quotient of floats falls just below a whole number and is cut; stay with whole numbers": (
            lambda n, g: [int(d / (n / g)) for d in range(n)]
        ),
        "a product of floats falls just below a whole number and is cut; stay with whole numbers": (
            lambda n, g: [int(d / n * g) for d in range(n)]
        ),
        "this takes turns; a group is a run of neighbouring depths": lambda n, g: [d % g for d in range(n)],
        "this makes runs of as many depths as there should be groups": lambda n, g: [d // g for d in range(n)],
        "the depths that are left over go to groups of their own": lambda n, g: [d // (n // g) for d in range(n)],
        "the depths that are left over all go to the last group": (
            lambda n, g: [min(d // (n // g), g - 1) for d in range(n)]
        ),
        "with the length of a run rounded up, there are fewer groups": lambda n, g: [d // -(-n // g) for d in range(n)],
        "rounding shifts every border by half a group": lambda n, g: [min(g - 1, round(d * g / n)) for d in range(n)],
    }
    for sizes in (draw.choice(TREACHEROUS), (44, 22)):
        expect_call(answer, sizes, group_blocks(*sizes), mistakes=mistakes)


# ---- 02.3: parameters of a stack under a plan ----


def plan_parameters(plan, hidden, intermediate, *, attention=None, ffn=None, norms=None) -> int:
    """Stand-in for 02.3; the options make its wrong variants."""
    numbers = {number for depth in plan.norm for number in depth}
    attention = len(set(plan.attention)) if attention is None else attention
    ffn = len(set(plan.ffn)) if ffn is None else ffn
    norms = len(numbers) if norms is None else norms
    return (
        attention * 4 * (hidden * hidden + hidden)
        + ffn * (2 * hidden * intermediate + intermediate + hidden)
        + norms * 2 * hidden
    )


def check_plan_parameters(answer: Callable, draw: Draw) -> None:
    """02.3 against layers that are built with the plan, LayerNorms shared and private."""
    depths, hidden = draw.integer(7, 10), 2 * draw.integer(5, 15)  # 4 or 5 blocks of attention, 2 or 3 FFNs
    intermediate = 3 * hidden + draw.integer(1, 9)
    pairs = [depth // 2 for depth in range(depths)]
    ffn = draw.choice(([0, *[1] * (depths - 2), 2], [*[0] * (depths - 1), 1]))
    for norms in ("shared", "private"):
        plan = SharingPlan.from_blocks(pairs, ffn, norms)
        with torch.device("meta"):
            config = TransformerConfig(10, hidden, depths, 2, intermediate)
            expected = sum(weight.numel() for weight in build_layers(config, plan).parameters())
        expect_call(answer, (plan, hidden, intermediate), expected, mistakes=_plan_mistakes(plan))


def _plan_mistakes(plan: SharingPlan) -> dict[str, Callable]:
    """Variants of `plan_parameters` that go wrong for this plan."""
    count, n = plan_parameters, len(plan)
    attention, ffn = len(set(plan.attention)), len(set(plan.ffn))
    top = max(number for depth in plan.norm for number in depth)
    return {
        "every depth is counted; a block is stored once, however many depths use it": (
            lambda *a: count(*a, attention=n, ffn=n, norms=2 * n)
        ),
        "the FFNs are counted with the blocks of attention": lambda *a: count(*a, ffn=attention),
        "attention is counted with the blocks of the FFNs": lambda *a: count(*a, attention=ffn),
        "LayerNorms can be shared as well, and plan.norm says which": lambda *a: count(*a, norms=2 * n),
        "LayerNorms can be private though blocks are shared, and plan.norm says so": (
            lambda *a: count(*a, norms=attention + ffn)
        ),
        "the LayerNorms are missing": lambda *a: count(*a, norms=0),
        "each entry of plan.norm holds two LayerNorms": lambda *a: count(*a, norms=len(set(plan.norm))),
        "the largest block number is one less than the number of blocks": (
            lambda *a: count(*a, attention=attention - 1, ffn=ffn - 1, norms=top)
        ),
        "the biases are missing": lambda p, h, f: count(p, h, f) - attention * 4 * h - ffn * (f + h),
    }


# ---- 02.7: SAFE as a module ----


def safe_module(v, d_e, d_m, *, biases=1, norms=1, attention=4, tables=1) -> int:
    """Stand-in for 02.7; the options make its wrong variants."""
    block = attention * (d_e * d_e + biases * d_e) + norms * 2 * d_e
    ffn = (d_e * d_e + biases * d_e) + (d_e * d_m + biases * d_m) + norms * 2 * d_m
    return tables * v * d_e + block + ffn


def check_safe(answer: Callable, draw: Draw) -> None:
    """02.7 against a module that is built."""
    words, narrow = draw.integer(50, 200), draw.choice((5, 7, 11, 13))
    hidden = 2 * narrow + 2 * draw.integer(1, 9)  # even, and narrow odd: then no two mistakes give one count
    config = TransformerConfig(
        words, hidden, 1, 2, hidden, embedding="safe", embedding_size=narrow, embedding_heads=1, positions="sinusoidal"
    )
    with torch.device("meta"):
        module = Embeddings(config.replace(token_types=0))
    expect_call(
        answer,
        (words, narrow, hidden),
        sum(weight.numel() for weight in module.parameters()),
        mistakes={
            "this is the paper's formula, which counts matrices alone; the module has biases and LayerNorms too": (
                lambda *a: safe_module(*a, biases=0, norms=0)
            ),
            "the biases are missing": lambda *a: safe_module(*a, biases=0),
            "the LayerNorms are missing": lambda *a: safe_module(*a, norms=0),
            "attention has an output projection besides query, key and value": (
                lambda *a: safe_module(*a, attention=3)
            ),
            "this is the linear factorisation, without the small block": lambda v, e, m: v * e + e * m,
            "the word table is missing": lambda *a: safe_module(*a, tables=0),
            "the second LayerNorm comes after the widening, at width d_m": (
                lambda v, e, m: safe_module(v, e, m) + 2 * e - 2 * m
            ),
            "the second FFN matrix ends at width d_m, and so does its bias": (
                lambda v, e, m: safe_module(v, e, m) + e - m
            ),
        },
    )

"""Every check of unit 01 accepts its reference and names the mistake of each wrong answer."""

import copy
import math

import pytest
import torch
from proving import prove, reference
from torch import nn

from coursekit.course.check import run_check
from coursekit.measure import stored_bytes


def factors(cut=lambda u, s, v, e: (u[:, :e] * s[:e], v[:e])):
    """An answer to 01.6 that cuts the decomposition in its own way."""

    def answer(table, width):
        u, s, v = torch.linalg.svd(table, full_matrices=False)
        return cut(u, s, v, width)

    return answer


def encoder_count(sizes, norm=2, map_bias=1, map_kept=True, all_narrow=True, pooler=None, share=True, types=True):
    """01.4 by the formula, with switches for what a learner may get wrong."""
    h, f, e = sizes["hidden"], sizes["intermediate"], sizes["width"] or sizes["hidden"]
    small = e if all_narrow else h
    total = sizes["vocabulary"] * e + (sizes["positions"] + sizes["types"] * types + norm) * small
    if sizes["width"] and map_kept:
        total += e * h + map_bias * h
    layers = 1 if sizes["shared"] and share else sizes["layers"]
    total += layers * (4 * (h * h + h) + 2 * h * f + f + h + 4 * h)
    return total + (h * h + h if (sizes["pooler"] if pooler is None else pooler) else 0)


def linear_with(weight=None, bias=True, zero=True):
    """01.5 with another weight than the table itself."""

    def answer(words):
        layer = nn.Linear(words.embedding_dim, words.num_embeddings, bias=bias)
        layer.weight = words.weight if weight is None else weight(words.weight)
        if zero and bias:
            nn.init.zeros_(layer.bias)
        return layer

    return answer


def reversed_tie(words):
    layer = nn.Linear(words.embedding_dim, words.num_embeddings)
    words.weight = layer.weight
    nn.init.zeros_(layer.bias)
    return layer


def budget(per_number=None, rest=True, freed=True, to_hidden=True, rounding=math.floor, low=0, high=True):
    """01.8 by the formula, with switches."""

    def answer(encoder, budget):
        table = encoder.embeddings.word.weight
        size = per_number or table.element_size()
        left = budget
        if rest:
            left -= stored_bytes(encoder) - (table.numel() * table.element_size() if freed else 0)
        width = rounding(left / ((len(table) + (table.shape[1] if to_hidden else 0)) * size))
        return max(low, min(table.shape[1], width) if high else width)

    return answer


def energy_width(power=2, more=1, share=lambda q: q):
    def answer(singular, wanted):
        energy = singular.double() ** power
        return int((energy.cumsum(0) / energy.sum() < share(wanted)).sum()) + more

    return answer


WRONG = {
    "01.1": {
        "but not the map": lambda vocabulary, hidden, width: vocabulary * width,
        "this is the whole table": lambda vocabulary, hidden, width: vocabulary * hidden,
        "has no bias": lambda vocabulary, hidden, width: width * (vocabulary + hidden) + hidden,
        "both factors are H wide": lambda vocabulary, hidden, width: hidden * (vocabulary + width),
        "not from E to E": lambda vocabulary, hidden, width: width * (vocabulary + width),
        "this is SAFE's count": lambda vocabulary, hidden, width: width * (vocabulary + hidden + 5 * width),
    },
    "01.2": {
        "the factors are not smaller": lambda vocabulary, hidden: vocabulary * hidden // (vocabulary + hidden),
        "you are one below": lambda vocabulary, hidden: math.ceil(vocabulary * hidden / (vocabulary + hidden)) - 2,
        "this is the break-even itself": lambda vocabulary, hidden: vocabulary * hidden / (vocabulary + hidden),
        "only half the hidden size": lambda vocabulary, hidden: hidden // 2,
    },
    "01.3": {
        "the biases are missing": lambda h, f: 4 * h * h + 2 * h * f + 4 * h,
        "the output projection is missing": lambda h, f: 3 * (h * h + h) + 2 * h * f + f + h + 4 * h,
        "or the two LayerNorms are missing": lambda h, f: 4 * (h * h + h) + 2 * h * f + f + h,
        "half of the LayerNorms is missing": lambda h, f: 4 * (h * h + h) + 2 * h * f + f + h + 2 * h,
        "the biases of the FFN are missing": lambda h, f: 4 * (h * h + h) + 2 * h * f + 4 * h,
        "have different sizes": lambda h, f: 4 * (h * h + h) + 2 * h * f + 2 * h + 4 * h,
        "H×F and F×H": lambda h, f: 4 * (h * h + h) + h * f + f + h + 4 * h,
    },
    "01.4": {
        "shared layers are stored once": lambda sizes: encoder_count(sizes, share=False),
        "are narrow too": lambda sizes: encoder_count(sizes, all_narrow=False),
        "a whole table needs no map": lambda sizes: (
            encoder_count(sizes) + (0 if sizes["width"] else sizes["hidden"] ** 2 + sizes["hidden"])
        ),
        "to H has a bias": lambda sizes: encoder_count(sizes, map_bias=0),
        "the map from E to H is missing": lambda sizes: encoder_count(sizes, map_kept=False),
        "the LayerNorm of the embeddings is missing": lambda sizes: encoder_count(sizes, norm=0),
        "counted whether the model has one or not": lambda sizes: encoder_count(sizes, pooler=True),
        "the pooler is missing": lambda sizes: encoder_count(sizes, pooler=False),
        "the token types are missing": lambda sizes: encoder_count(sizes, types=False),
    },
    "01.5": {
        "the weight is a copy": linear_with(lambda table: nn.Parameter(table.detach().clone())),
        "a second parameter": linear_with(nn.Parameter),
        "the weight is transposed": linear_with(lambda table: nn.Parameter(table.detach().T.contiguous())),
        "another matrix": linear_with(lambda table: nn.Parameter(torch.randn_like(table))),
        "the embedding has lost its table": reversed_tie,
        "no bias": linear_with(bias=False),
        "should start at zero": linear_with(zero=False),
        "expected a layer of class Linear": lambda words: lambda x: x @ words.weight.T,
    },
    "01.6": {
        "the other order": factors(lambda u, s, v, e: (v[:e], u[:, :e] * s[:e])),
        "the map is transposed": factors(lambda u, s, v, e: (u[:, :e] * s[:e], v[:e].T)),
        "the narrow table is transposed": factors(lambda u, s, v, e: ((u[:, :e] * s[:e]).T, v[:e])),
        "one off": factors(lambda u, s, v, e: (u[:, : e + 1] * s[: e + 1], v[: e + 1])),
        "not cut to the width": factors(lambda u, s, v, e: (u * s, v)),
        "the singular values are missing": factors(lambda u, s, v, e: (u[:, :e], v[:e])),
        "the singular values twice": factors(lambda u, s, v, e: (u[:, :e] * s[:e], s[:e, None] * v[:e])),
        "only the roots": factors(lambda u, s, v, e: (u[:, :e] * s[:e].sqrt(), v[:e])),
        "the smallest singular values": factors(lambda u, s, v, e: (u[:, -e:] * s[-e:], v[-e:])),
        "keeps the first dimensions": lambda table, width: (table[:, :width], torch.eye(width, table.shape[1])),
        "expected factors of the table": lambda table, width: tuple(part.double() for part in factors()(table, width)),
        "expected two tensors": lambda table, width: table[:, :width],
    },
    "01.7": {
        "the square of a singular value": energy_width(power=1),
        "counted from 0": energy_width(more=0),
        "one more than needed": energy_width(more=2),
        "may be dropped": lambda singular, share: len(singular) - energy_width()(singular, share),
        "not of their energy": lambda singular, share: math.ceil(share * len(singular)),
    },
    "01.8": {
        "the rest of the encoder has to fit": budget(rest=False),
        "its bytes are free for the factors": budget(freed=False),
        "the map from E to H takes bytes": budget(to_hidden=False),
        "in bytes, not in numbers": budget(per_number=1),
        "not every number has 4 bytes": budget(per_number=4),
        "over the budget by one width": budget(rounding=math.ceil),
        "one width more would still fit": budget(rounding=lambda width: math.ceil(width) - 1),
        "H is the most": budget(high=False),
        "never negative": budget(low=-100),
    },
}


@pytest.mark.parametrize("task", WRONG)
def test_check(task):
    prove(task, WRONG[task])


def test_other_divisions_of_the_singular_values_are_right():
    roots = factors(lambda u, s, v, e: (u[:, :e] * s[:e].sqrt(), s[:e, None].sqrt() * v[:e]))
    projection = factors(lambda u, s, v, e: (u[:, :e] @ torch.diag(s[:e]) @ v[:e] @ v[:e].T, v[:e]))
    as_list = factors(lambda u, s, v, e: [-u[:, :e] * s[:e], -v[:e]])
    for answer in (roots, projection, as_list):
        assert run_check("01.6", answer, seed=0).status == "right"


def test_a_changed_table_is_noticed():
    def shrink(table, width):
        pair = reference("01.6")(table, width)
        table.zero_()
        return pair

    assert "changes its input" in run_check("01.6", shrink, seed=0).message


def test_checks_leave_the_random_state_alone():
    before = torch.get_rng_state()
    for task in WRONG:
        run_check(task, reference(task), seed=0)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("task", ("01.1", "01.2", "01.3", "01.4", "01.7", "01.8"))
def test_a_count_is_a_whole_number(task):
    answer = reference(task)
    result = run_check(task, lambda *inputs: float(answer(*copy.copy(inputs))), seed=0)
    assert "expected a whole number" in result.message, result

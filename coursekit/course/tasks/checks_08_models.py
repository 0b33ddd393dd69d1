"""Checks of unit 08 on tensors: a ship with some planks exchanged, relations of values, heads split anew."""

import math
from collections.abc import Callable, Sequence
from itertools import product

import torch
from torch import Tensor, nn

from coursekit.course.expect import Draw, Wrong, expect_call, expect_close

# ---- 08.4: one pass of the ship ----


def sail(
    x: Tensor, predecessor: Sequence[nn.Module], successor: Sequence[nn.Module], replaced: Sequence[bool]
) -> Tensor:
    """Stand-in for 08.4."""
    size = len(predecessor) // len(successor)
    for module, new in enumerate(replaced):
        for layer in [successor[module]] if new else predecessor[module * size : (module + 1) * size]:
            x = layer(x)
    return x


PATTERNS = [  # a replaced module after a kept one, and a kept one that is not the first
    pattern
    for pattern in product((False, True), repeat=4)
    if any(new and not all(pattern[:place]) for place, new in enumerate(pattern)) and not all(pattern[1:])
]


def _shipshape(blocks: Callable) -> Callable:
    """A variant: `blocks(module, new, predecessor, successor, size, replaced)` are the layers of a module."""

    def variant(x, predecessor, successor, replaced):
        size = len(predecessor) // len(successor)
        for module, new in enumerate(replaced):
            for layer in blocks(module, new, predecessor, successor, size, replaced):
                x = layer(x)
        return x

    return variant


def _averaged(x, predecessor, successor, replaced):
    share, size = sum(replaced) / len(replaced), len(predecessor) // len(successor)
    for module, new in enumerate(successor):
        old = x
        for layer in predecessor[module * size : (module + 1) * size]:
            old = layer(old)
        x = share * new(x) + (1 - share) * old
    return x


def _both(module, new, old, own, size, replaced):
    return [*old[module * size : (module + 1) * size], *([own[module]] if new else [])]


SHIPS = {
    "it is the wrong way round: the predecessor's layers run where a module is replaced": lambda x, old, own, r: sail(
        x, old, own, [not new for new in r]
    ),
    "a kept module has several layers of the predecessor; only its first one runs": _shipshape(
        lambda m, new, old, own, size, _: [own[m]] if new else [old[m * size]]
    ),
    "a kept module has several layers of the predecessor; only its last one runs": _shipshape(
        lambda m, new, old, own, size, _: [own[m]] if new else [old[(m + 1) * size - 1]]
    ),
    "module m begins with the predecessor's layer m; every module before it has several": _shipshape(
        lambda m, new, old, own, size, _: [own[m]] if new else old[m : m + size]
    ),
    "a replaced module takes the next successor layer that is left, not the one of its own place": _shipshape(
        lambda m, new, old, own, size, replaced: [own[sum(replaced[:m])]] if new else old[m * size : (m + 1) * size]
    ),
    "where a module is replaced the predecessor's layers run as well": _shipshape(_both),
    "a replaced module is left out altogether": _shipshape(
        lambda m, new, old, own, size, _: [] if new else old[m * size : (m + 1) * size]
    ),
    "outputs are averaged; each module is replaced or it is not": _averaged,
}


def check_sail(answer: Callable, draw: Draw) -> None:
    """08.4 with small layers and a mixture of kept and replaced modules."""
    width, size = draw.integer(3, 5), draw.integer(2, 3)
    layers = []
    for _ in range(4 * size + 4):
        layer = nn.Linear(width, width)
        with torch.no_grad():
            layer.weight.copy_(draw.normal(width, width) / math.sqrt(width))
            layer.bias.copy_(draw.normal(width))
        layers.append(nn.Sequential(layer, nn.Tanh()))
    old, own = layers[: 4 * size], layers[4 * size :]
    x, replaced = draw.normal(2, width), list(draw.choice(PATTERNS))
    with torch.no_grad():
        got = answer(x.clone(), list(old), list(own), list(replaced))
        if isinstance(got, list | tuple):
            raise Wrong(f"expected the last state, got a {type(got).__name__}")
        expected = sail(x, old, own, replaced)
        wrong = {words: variant(x, old, own, replaced) for words, variant in SHIPS.items()}
    expect_close(got.detach() if isinstance(got, Tensor) else got, expected, mistakes=wrong)


# ---- 08.5: relations of values ----


def value_relations(values: Tensor, mask: Tensor) -> Tensor:
    """Stand-in for 08.5."""
    return _relations(values, mask)


def _relations(values, mask, *, scale=None, axis=-1, keys=True, zero=True, fill=-math.inf) -> Tensor:
    """The relations; the options make wrong variants."""
    scores = values @ values.transpose(-1, -2) / (values.shape[-1] ** 0.5 if scale is None else scale)
    if keys:
        scores = scores.masked_fill(~mask[:, None, None, :], fill)
    found = scores.softmax(axis)
    return found.masked_fill(~(mask[:, None, :, None] & mask[:, None, None, :]), 0) if zero else found


def check_relations(answer: Callable, draw: Draw) -> None:
    """08.5, padded rows included."""
    batch, heads, tokens, size = 3, draw.integer(2, 3), draw.integer(5, 7), draw.integer(8, 10)
    values, mask = draw.normal(batch, heads, tokens, size), draw.mask(batch, tokens)
    expect_call(
        answer,
        (values, mask),
        _relations(values, mask),
        mistakes={
            "the products are not scaled": lambda v, m: _relations(v, m, scale=1.0),
            "the scale is the root of a head's size, not the size": lambda v, m: _relations(v, m, scale=v.shape[-1]),
            "the scale is that of one head, not of all heads together": lambda v, m: _relations(
                v, m, scale=(v.shape[1] * v.shape[-1]) ** 0.5
            ),
            "each query's row should add up to 1, over the keys": lambda v, m: _relations(v, m, axis=-2, fill=-1e9),
            "padding is set to 0 after the softmax, so that rows no longer add up to 1": lambda v, m: _relations(
                v, m, keys=False
            ),
            "padding still takes part": lambda v, m: _relations(v, m, keys=False, zero=False),
            "a score of 0 is no mask: it still gets weight": lambda v, m: _relations(v, m, fill=0.0),
            "the rows of padded queries should be 0": lambda v, m: _relations(v, m, zero=False),
        },
    )


# ---- 08.6: heads split anew ----


def split_heads(x: Tensor, heads: int) -> Tensor:
    """Stand-in for 08.6."""
    return x.transpose(1, 2).flatten(2).unflatten(-1, (heads, -1)).transpose(1, 2)


def check_split(answer: Callable, draw: Draw) -> None:
    """08.6 from several heads to another number of them."""
    batch, tokens = draw.integer(2, 3), draw.integer(3, 5)
    before, after, part = *draw.sample((2, 3, 4), 2), draw.integer(2, 3)
    x = draw.normal(batch, before, tokens, after * part)
    width = before * after * part
    expect_call(
        answer,
        (x, after),
        split_heads(x, after),
        mistakes={
            "reshaping at once mixes tokens: bring a token's heads side by side first": lambda x, h: x.reshape(
                x.shape[0], h, x.shape[2], -1
            ),
            "the result should be (batch, heads, tokens, size)": lambda x, h: split_heads(x, h).transpose(1, 2),
            "the numbers of a new head are neighbours, not every so many-th": lambda x, h: (
                x.transpose(1, 2).flatten(2).unflatten(-1, (-1, h)).permute(0, 3, 1, 2)
            ),
            "this is the joined width, not split yet": lambda x, h: x.transpose(1, 2).flatten(2),
            "the heads are joined number by number; a head's numbers stay together": lambda x, h: (
                x.permute(0, 2, 3, 1).flatten(2).unflatten(-1, (h, width // h)).transpose(1, 2)
            ),
        },
    )

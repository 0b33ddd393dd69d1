"""Checks of unit 01 that count: tables, layers, whole encoders."""

from collections.abc import Callable
from functools import cache

from torch import nn

from coursekit.course.expect import Draw, expect_call


def check_factorised(answer: Callable, draw: Draw) -> None:
    """01.1: a table in two factors."""
    vocabulary, hidden, width = draw.integer(50, 500), draw.integer(20, 60), draw.integer(2, 15)
    narrow = (nn.Embedding(vocabulary, width), nn.Linear(width, hidden, bias=False))
    expect_call(
        answer,
        (vocabulary, hidden, width),
        sum(module.weight.numel() for module in narrow),
        mistakes={
            "this counts the narrow table but not the map from E to H": lambda v, h, e: v * e,
            "this is the whole table": lambda v, h, e: v * h,
            "the map of the plain factorization has no bias": lambda v, h, e: v * e + e * h + h,
            "both factors are H wide: the table has E numbers per word": lambda v, h, e: v * h + e * h,
            "the map goes from E to H, not from E to E": lambda v, h, e: v * e + e * e,
            "this is SAFE's count: the plain factorization has no small transformer block between its factors": (
                lambda v, h, e: v * e + 5 * e * e + e * h
            ),
        },
    )


def check_widest(answer: Callable, draw: Draw) -> None:
    """01.2 where the break-even is a whole number, and where it is not."""
    k, p, q = draw.integer(2, 4), draw.integer(3, 5), draw.integer(6, 9)
    _widest_call(answer, k * p * (p + q), k * q * (p + q))  # the break-even is the whole number k·p·q
    while True:  # and one between two whole numbers, nearer to the upper one
        vocabulary, hidden = draw.integer(100, 2000), draw.integer(20, 90)
        if 0.55 < vocabulary * hidden / (vocabulary + hidden) % 1 < 0.95:
            break
    _widest_call(answer, vocabulary, hidden)


def _widest_call(answer: Callable, vocabulary: int, hidden: int) -> None:
    smaller = [e for e in range(1, hidden) if vocabulary * e + e * hidden < vocabulary * hidden]
    expect_call(
        answer,
        (vocabulary, hidden),
        max(smaller),
        mistakes={
            "at this width the factors are not smaller: they hold exactly as many numbers as the table, or more": (
                lambda v, h: max(smaller) + 1
            ),
            "there is a wider one that still pays: you are one below": lambda v, h: max(smaller) - 1,
            "this is the break-even itself; the answer is a whole width below it": lambda v, h: v * h / (v + h),
            "this is only half the hidden size, whatever the vocabulary": lambda v, h: h // 2,
        },
    )


def check_layer(answer: Callable, draw: Draw) -> None:
    """01.3: one layer, biases and LayerNorms included."""
    hidden = draw.integer(8, 60)
    intermediate = 5 * hidden + draw.integer(3, 90)
    expect_call(
        answer,
        (hidden, intermediate),
        _layer_count(hidden, intermediate),
        mistakes={
            "the biases are missing": lambda h, f: _layer_count(h, f, biases=False),
            "attention has four matrices: the output projection is missing": lambda h, f: _layer_count(
                h, f, attention=3
            ),
            "the biases of attention or the two LayerNorms are missing; both hold equally many numbers": (
                lambda h, f: _layer_count(h, f, norms=0)
            ),
            "half of the LayerNorms is missing: there are two, each with a scale and a shift per dimension": (
                lambda h, f: _layer_count(h, f, norms=1)
            ),
            "the biases of the FFN are missing": lambda h, f: _layer_count(h, f) - h - f,
            "the FFN has two biases, one of F and one of H": lambda h, f: _layer_count(h, f) - h,
            "the two biases of the FFN have different sizes: F inside, H outside": lambda h, f: (
                _layer_count(h, f) + h - f
            ),
            "the biases of the FFN are as wide as what comes out: F, then H": lambda h, f: _layer_count(h, f) - h + f,
            "the FFN has two matrices, H×F and F×H": lambda h, f: _layer_count(h, f) - h * f,
        },
    )


def _layer_count(h: int, f: int, attention: int = 4, biases: bool = True, norms: int = 2) -> int:
    """One layer; the options make its wrong variants."""
    matrices = attention * h * h + 2 * h * f
    return matrices + (attention * h + f + h if biases else 0) + norms * 2 * h


def check_whole(answer: Callable, draw: Draw) -> None:
    """01.4 on two models that differ in everything: one has a narrow table, one shared layers, one a pooler."""
    narrow, shared = draw.choice((False, True)), draw.choice((False, True))
    for flip in (False, True):
        hidden = 4 * draw.choice((5, 7, 11, 13))
        sizes = {
            "vocabulary": draw.integer(150, 400),
            "positions": draw.integer(5, 10),
            "types": draw.integer(3, 4),
            "hidden": hidden,
            "intermediate": 3 * hidden + draw.integer(1, 30),
            "layers": draw.integer(3, 6),
            "width": draw.choice((6, 8, 9, 12, 15)) if narrow != flip else None,
            "shared": shared != flip,
            "pooler": narrow == flip,  # never with a narrow table: a map too many must not pass for a pooler
        }
        expect_call(answer, (sizes,), _built(**sizes), mistakes=_WHOLE_MISTAKES)


@cache
def _built(**sizes: int | None) -> int:
    """The count of a model that is really built: an independent route to the answer."""
    from coursekit.measure import count_parameters
    from coursekit.models import SharingPlan, TransformerConfig, build

    config = TransformerConfig(
        vocab_size=sizes["vocabulary"],
        hidden_size=sizes["hidden"],
        num_layers=sizes["layers"],
        num_heads=4,
        intermediate_size=sizes["intermediate"],
        embedding="factorised" if sizes["width"] else "full",
        embedding_size=sizes["width"],
        sharing=SharingPlan.all(sizes["layers"]) if sizes["shared"] else None,
        max_positions=sizes["positions"],
        token_types=sizes["types"],
        pooler=sizes["pooler"],
    )
    return count_parameters(build(config, device="meta")).total


def _formula(sizes: dict, positions_at_hidden: bool = False, norm: int = 2, times: int | None = None) -> int:
    """The count by hand, from which the named mistakes are made."""
    h, f = sizes["hidden"], sizes["intermediate"]
    e = sizes["width"] or h
    sums = h if positions_at_hidden else e
    embeddings = sizes["vocabulary"] * e + (sizes["positions"] + sizes["types"] + norm) * sums
    stored = (1 if sizes["shared"] else sizes["layers"]) if times is None else times
    return embeddings + _map(sizes) + _layer_count(h, f) * stored + (h * h + h if sizes["pooler"] else 0)


def _map(sizes: dict, bias: bool = True) -> int:
    """The map from E to H, which a whole table does not have."""
    return (sizes["width"] + bias) * sizes["hidden"] if sizes["width"] else 0


_WHOLE_MISTAKES = {
    "shared layers are stored once": lambda s: _formula(s, times=s["layers"]),
    "layers that are not shared are stored as often as there are layers": lambda s: _formula(s, times=1),
    "positions, types and the LayerNorm of a narrow embedding are narrow too": lambda s: _formula(s, True),
    "the map from E to H has a bias": lambda s: _formula(s) - _map(s) + _map(s, bias=False),
    "the map from E to H is missing": lambda s: _formula(s) - _map(s),
    "a whole table needs no map": lambda s: _formula(s) - _map(s) + _map(s | {"width": s["width"] or s["hidden"]}),
    "the table's width E is not used": lambda s: _formula(s | {"width": None}),
    "the LayerNorm of the embeddings is missing": lambda s: _formula(s, norm=0),
    "the pooler is counted whether the model has one or not": lambda s: _formula(s | {"pooler": True}),
    "the pooler is missing": lambda s: _formula(s | {"pooler": False}),
    "the pooler has a bias": lambda s: _formula(s) - (s["hidden"] if s["pooler"] else 0),
    "the token types are missing": lambda s: _formula(s | {"types": 0}),
    "the positions are missing": lambda s: _formula(s | {"positions": 0}),
}


# ---- what stands in for a learner's answer ----


def widest_that_pays(vocabulary: int, hidden: int) -> int:
    """Stand-in for 01.2."""
    return (vocabulary * hidden - 1) // (vocabulary + hidden)


def layer_parameters(hidden: int, intermediate: int) -> int:
    """Stand-in for 01.3."""
    return _layer_count(hidden, intermediate)


def encoder_parameters(sizes: dict) -> int:
    """Stand-in for 01.4."""
    return _formula(sizes)

"""Checks of unit 01 on tables: tying one, narrowing one, choosing a width."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from coursekit.course.expect import Draw, Wrong, expect_call, expect_close


def check_tied(answer: Callable, draw: Draw) -> None:
    """01.5: an output layer whose weight is the table itself."""
    vocabulary, hidden = draw.integer(30, 50), draw.integer(5, 9)
    words = nn.Embedding(vocabulary, hidden)
    table, values = words.weight, draw.normal(vocabulary, hidden)
    with torch.no_grad():
        table.copy_(values)
    layer = answer(words)
    if layer is None:
        raise Wrong("it returns None; is a `return` missing?")
    if not isinstance(layer, nn.Linear):
        raise Wrong(f"expected a layer of class Linear, got {type(layer).__name__}")
    if words.weight is not table or not torch.equal(words.weight, values):
        raise Wrong("the embedding has lost its table: the layer takes over the embedding's weight, not the reverse")
    if layer.weight is not table:
        _explain_untied(layer.weight, table)
    if layer.bias is None:
        raise Wrong("the layer has no bias: every word has one of its own")
    expect_close(
        layer.bias,
        torch.zeros(vocabulary),
        what="the bias should start at zero",
        rtol=0,
        atol=0,
        reveal=False,
    )


def _explain_untied(weight: Tensor, table: Tensor) -> None:
    if weight.shape == table.T.shape:
        raise Wrong("the weight is transposed: an output layer has one row per word, as the table")
    if weight.shape != table.shape:
        raise Wrong(f"the weight has shape {tuple(weight.shape)}, the table {tuple(table.shape)}")
    if weight.data_ptr() == table.data_ptr():
        raise Wrong("the weight is a second parameter over the table's memory: a count and an optimizer see two")
    if torch.equal(weight, table):
        raise Wrong("the weight is a copy: equal now, but the first training step will tell them apart")
    raise Wrong("the weight is another matrix than the table")


def check_factors(answer: Callable, draw: Draw) -> None:
    """01.6: the two factors of the best approximation, in the right order and orientation."""
    rows, columns, width = draw.integer(30, 50), draw.integer(12, 20), draw.integer(3, 6)
    # Fading directions, as in a real table: each singular value a good deal smaller than the one before.
    turn = torch.linalg.qr(draw.normal(columns, columns))[0]
    table = draw.normal(rows, columns) * 0.8 ** torch.arange(columns) @ turn
    given = table.clone()
    got = answer(given, width)
    if got is None:
        raise Wrong("it returns None; is a `return` missing?")
    if not torch.equal(given, table):
        raise Wrong("it changes its input; work on a copy, so that the caller's data stays as it was")
    if not isinstance(got, tuple | list) or len(got) != 2 or not all(isinstance(part, Tensor) for part in got):
        raise Wrong("expected two tensors, the narrow table and the map")
    _factor_shapes([tuple(part.shape) for part in got], rows, columns, width)
    if any(part.dtype != table.dtype for part in got):
        raise Wrong(f"expected factors of the table's {table.dtype}, got {got[0].dtype} and {got[1].dtype}")
    left, singular, right = torch.linalg.svd(table, full_matrices=False)
    u, s, v = left[:, :width], singular[:width], right[:width]
    smallest = (left[:, -width:] * singular[-width:]) @ right[-width:]
    columns_only = torch.cat((table[:, :width], torch.zeros(rows, columns - width)), 1)
    expect_close(
        got[0] @ got[1],
        (u * s) @ v,
        what="the product of your factors is not the nearest of this width",
        rtol=1e-3,
        atol=1e-3,
        mistakes={
            "the singular values are missing from the product": u @ v,
            "the product has the singular values twice: they belong to one factor, or their roots to both": u
            * s**2
            @ v,
            "the product has only the roots of the singular values": u * s.sqrt() @ v,
            "these are the smallest singular values; the largest keep most": smallest,
            "this keeps the first dimensions of the table, not its strongest directions": columns_only,
        },
        reveal=False,
    )


def _factor_shapes(shapes: list[tuple[int, ...]], rows: int, columns: int, width: int) -> None:
    """Raise `Wrong` with the likeliest reason unless the factors are (V, E) and (E, H)."""
    table, to_hidden = shapes
    if [table, to_hidden] == [(rows, width), (width, columns)]:
        return
    if [to_hidden, table] == [(rows, width), (width, columns)]:
        raise Wrong("the factors come in the other order: first the narrow table, then the map")
    if to_hidden == (columns, width):
        raise Wrong("the map is transposed: it has one row for each of the E numbers of a word")
    if table == (width, rows):
        raise Wrong("the narrow table is transposed: it has one row per word")
    if table[-1:] in ((width + 1,), (width - 1,)):
        raise Wrong(f"the factors are {table[-1]} wide instead of {width}: one off")
    if rows in table and columns in table + to_hidden[:1]:
        raise Wrong("the factors are not cut to the width that was asked for")
    raise Wrong(f"expected shapes {(rows, width)} and {(width, columns)}, got {table} and {to_hidden}")


def check_energy(answer: Callable, draw: Draw) -> None:
    """01.7: the smallest width that keeps a share of the energy."""
    while True:  # until the mistakes below all give different widths
        size = draw.integer(12, 24)
        singular = 8 * draw.number(0.75, 0.9) ** torch.arange(size)
        energy = singular.double().square()
        kept, width = energy.cumsum(0) / energy.sum(), draw.integer(3, 7)
        share = round(float(kept[width - 2] + kept[width - 1]) / 2, 4)  # `width` values reach it, one fewer do not
        mistakes = {
            "energy is the square of a singular value": int((singular.cumsum(0) / singular.sum() < share).sum()) + 1,
            "this is the position counted from 0: a width is a number of values": width - 1,
            "one more than needed": width + 1,
            "this is the number of values that may be dropped, not kept": size - width,
            "this is the share of the values, not of their energy": math.ceil(share * size),
        }
        if len({width, *mistakes.values()}) > len(mistakes):
            break
    variants = {message: lambda s, q, value=value: value for message, value in mistakes.items()}
    expect_call(answer, (singular, share), width, mistakes=variants)


def check_budget(answer: Callable, draw: Draw) -> None:
    """01.8 on an encoder of 4 bytes per number and one of 2, with budgets that fit exactly, nearly, not and easily."""
    from coursekit.compress import factorize_embeddings
    from coursekit.measure import stored_bytes
    from coursekit.models import Encoder, TransformerConfig

    hidden, width = 40, draw.integer(4, 8)
    vocabulary = draw.integer(hidden + 4, hidden + 16)
    config = TransformerConfig(vocabulary, hidden, num_layers=1, num_heads=2, intermediate_size=20, max_positions=8)
    for dtype, number in ((torch.float32, 4), (torch.bfloat16, 2)):
        with torch.random.fork_rng(devices=[]):
            encoder = Encoder(config).to(dtype)
        exact, next_one, last = (stored_bytes(factorize_embeddings(encoder, e)) for e in (width, width + 1, hidden))
        whole = stored_bytes(encoder)
        rest, step = whole - vocabulary * hidden * number, next_one - exact
        nearly = next_one - draw.integer(1, number * vocabulary // 2)
        for budget, expected in ((exact, width), (nearly, width), (rest - 2 * step, 0), (last + 3 * step, hidden)):
            mistakes = _budget_mistakes(budget, expected, whole, rest, vocabulary, hidden, number)
            expect_call(answer, (encoder, budget), expected, mistakes=mistakes)


def _budget_mistakes(
    budget: int, expected: int, whole: int, rest: int, vocabulary: int, hidden: int, number: int
) -> dict[str, Callable]:
    """Message → what that mistake gives. whole and rest: bytes with the table and without; number: of one number."""

    def fit(room: int, per_width: int) -> int:
        return max(0, min(hidden, room // per_width))

    numbers, room = vocabulary + hidden, budget - rest
    unbounded = room // (numbers * number)
    values = {
        "the rest of the encoder has to fit into the budget too": fit(budget, numbers * number),
        "the whole table goes away: its bytes are free for the factors": fit(budget - whole, numbers * number),
        "the map from E to H takes bytes too": fit(room, vocabulary * number),
        "a budget is in bytes, not in numbers": fit(room, numbers),
        "not every number has 4 bytes: a tensor knows its own": fit(room, numbers * 4),
        "a width beyond H is of no use: H is the most": max(unbounded, hidden),
        "a width is never negative: 0 where not even width 1 fits": min(unbounded, 0),
        "this is over the budget by one width": expected + 1,
        "one width more would still fit": expected - 1,
    }
    return {message: lambda m, b, value=value: value for message, value in values.items()}


# ---- what stands in for a learner's answer ----


def tied_output(words: nn.Embedding) -> nn.Linear:
    """Stand-in for 01.5."""
    layer = nn.Linear(words.embedding_dim, words.num_embeddings)
    layer.weight = words.weight
    nn.init.zeros_(layer.bias)
    return layer


def factorise(table: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Stand-in for 01.6."""
    left, singular, right = torch.linalg.svd(table, full_matrices=False)
    return left[:, :width] * singular[:width], right[:width]


def width_for_energy(singular: Tensor, share: float) -> int:
    """Stand-in for 01.7."""
    energy = singular.double().square()
    return int((energy.cumsum(0) / energy.sum() < share).sum()) + 1


def width_for_bytes(encoder: nn.Module, budget: int) -> int:
    """Stand-in for 01.8."""
    from coursekit.measure import stored_bytes

    table = encoder.embeddings.word.weight
    rest = stored_bytes(encoder) - table.numel() * table.element_size()
    width = (budget - rest) // (sum(table.shape) * table.element_size())
    return max(0, min(table.shape[1], width))

"""Checks of unit 09 on losses: which layers meet, states through a map, scores without padding, the prediction."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from coursekit.course.expect import Draw, expect_call
from coursekit.distill import attention_mse, hidden_mse, match_layers

# ---- 09.1: which layers meet ----

Pairs = list[tuple[int, int]]


def uniform_map(teacher_layers: int, student_layers: int) -> tuple[Pairs, Pairs]:
    """Stand-in for 09.1."""
    match = match_layers("uniform", teacher_layers, student_layers)
    return list(match.hidden), list(match.attention)


def _map(hidden: Callable, attention: Callable) -> Callable:
    """A variant of 09.1 from lists of pairs as functions of (M, k)."""
    return lambda n, m: (hidden(m, n // m), attention(m, n // m))


def _hidden(m: int, k: int) -> Pairs:
    return [(i, i * k) for i in range(m + 1)]


def _attention(m: int, k: int) -> Pairs:
    return [(i, (i + 1) * k - 1) for i in range(m)]


def check_map(answer: Callable, draw: Draw) -> None:
    """09.1."""
    student, times = draw.integer(2, 5), draw.integer(3, 4)
    given = (student * times, student)
    expect_call(
        answer,
        given,
        uniform_map(*given),
        mistakes={
            "attention of a student layer meets the first of its teacher layers; it should be the last": _map(
                _hidden, lambda m, k: [(i, i * k) for i in range(m)]
            ),
            "attention is counted from layer 0; it is one too high": _map(
                _hidden, lambda m, k: [(i, (i + 1) * k) for i in range(m)]
            ),
            "attention is counted from layer 0 in the student too": _map(
                _hidden, lambda m, k: [(i + 1, (i + 1) * k - 1) for i in range(m)]
            ),
            "the embeddings' output, state 0, meets the teacher's": _map(lambda m, k: _hidden(m, k)[1:], _attention),
            "the last hidden states meet as well": _map(lambda m, k: _hidden(m, k)[:-1], _attention),
            "hidden states are counted like layers; state m comes out of layer m − 1": _map(
                lambda m, k: [(0, 0), *((i, i * k - 1) for i in range(1, m + 1))], _attention
            ),
            "a pair is (student, teacher), in this order": _map(
                lambda m, k: [(t, s) for s, t in _hidden(m, k)], lambda m, k: [(t, s) for s, t in _attention(m, k)]
            ),
            "hidden states come first, then attention": lambda n, m: uniform_map(n, m)[::-1],
        },
    )


# ---- 09.2: hidden states through a map ----


def mapped_loss(s: Tensor, t: Tensor, weight: Tensor, bias: Tensor, mask: Tensor) -> Tensor:
    """Stand-in for 09.2."""
    return hidden_mse(F.linear(s, weight, bias), t, mask=mask)


def _squares(s: Tensor, t: Tensor, weight: Tensor, bias: Tensor | None, mask: Tensor) -> Tensor:
    """Squared errors of real tokens (N, d)."""
    return (F.linear(s, weight, bias) - t).square()[mask]


def check_mapped(answer: Callable, draw: Draw) -> None:
    """09.2 with padding."""
    batch, tokens, narrow = 3, draw.integer(4, 6), draw.integer(2, 3)
    wide = narrow + draw.integer(4, 6)
    s, t = draw.normal(batch, tokens, narrow), draw.normal(batch, tokens, wide)
    given = s, t, draw.normal(wide, narrow), draw.normal(wide), draw.mask(batch, tokens)
    real = given[-1].sum()
    expect_call(
        answer,
        given,
        mapped_loss(*given),
        mistakes={
            "padding counts: it is averaged over all tokens": lambda s, t, w, b, m: F.mse_loss(F.linear(s, w, b), t),
            "padded errors are set to 0 but still divide": lambda *a: _squares(*a).sum() / t.numel(),
            "the bias is missing": lambda s, t, w, b, m: _squares(s, t, w, None, m).mean(),
            "the width is summed over; it is a mean over the teacher's width as well": lambda *a: (
                _squares(*a).sum(-1).mean()
            ),
            "the width of the student divides; errors live at the teacher's": lambda *a: (
                _squares(*a).sum() / (real * narrow)
            ),
            "errors are added up; take their mean": lambda *a: _squares(*a).sum(),
            "each text counts alike; each real token should": lambda *a: torch.stack(
                [
                    _squares(*(x[i : i + 1] if n in (0, 1, 4) else x for n, x in enumerate(a))).mean()
                    for i in range(batch)
                ]
            ).mean(),
        },
    )


# ---- 09.3: attention scores without padding ----


def score_loss(s: Tensor, t: Tensor, mask: Tensor) -> Tensor:
    """Stand-in for 09.3."""
    return attention_mse(s, t, mask=mask)


def _both(mask: Tensor) -> Tensor:
    return (mask[:, :, None] & mask[:, None, :])[:, None]


def _released(s: Tensor, t: Tensor, mask: Tensor) -> Tensor:
    keys = mask[:, None, None, :]
    return F.mse_loss(s.masked_fill(~keys, 0), t.masked_fill(~keys, 0))


def check_scores(answer: Callable, draw: Draw) -> None:
    """09.3 with padding, and with numbers there that must not matter."""
    batch, heads, tokens = 3, draw.integer(2, 4), draw.integer(5, 7)
    s, t = draw.normal(batch, heads, tokens, tokens), 2 * draw.normal(batch, heads, tokens, tokens)
    mask = draw.mask(batch, tokens)
    expect_call(
        answer,
        (s, t, mask),
        attention_mse(s, t, mask=mask),
        mistakes={
            "padding counts: all pairs are averaged": lambda s, t, m: F.mse_loss(s, t),
            "only padded keys are left out; padded queries count still": lambda s, t, m: (
                (s - t).square().masked_select(m[:, None, None, :].expand_as(s)).mean()
            ),
            "only padded queries are left out; padded keys count still": lambda s, t, m: (
                (s - t).square().masked_select(m[:, None, :, None].expand_as(s)).mean()
            ),
            "padded pairs are set to 0 but still divide": lambda s, t, m: ((s - t).square() * _both(m)).mean(),
            "this is the released code's loss: padded keys are 0, and all pairs divide": _released,
            "heads are added up; take their mean": lambda s, t, m: s.shape[1] * attention_mse(s, t, mask=m),
            "this compares what comes after a softmax; compare the scores": lambda s, t, m: attention_mse(
                s.softmax(-1), t.softmax(-1), mask=m
            ),
            "these are probabilities over the real keys; compare the scores they come from": lambda s, t, m: (
                attention_mse(*(x.masked_fill(~m[:, None, None, :], -1e9).softmax(-1) for x in (s, t)), mask=m)
            ),
        },
    )


# ---- 09.4: the prediction ----


def prediction_loss(s: Tensor, t: Tensor) -> Tensor:
    """Stand-in for 09.4."""
    return F.cross_entropy(s, t.softmax(-1))


def check_prediction(answer: Callable, draw: Draw) -> None:
    """09.4 for more than two classes."""
    batch, classes = draw.integer(5, 8), draw.integer(3, 4)
    s, t = draw.normal(batch, classes), 2 * draw.normal(batch, classes)
    expect_call(
        answer,
        (s, t),
        prediction_loss(s, t),
        mistakes={
            "this is a mean over classes too, as in the released code; the formula has a sum there": lambda s, t: (
                -(t.softmax(-1) * s.log_softmax(-1)).mean()
            ),
            "the teacher's are the probabilities, the student's the logarithms": lambda s, t: prediction_loss(t, s),
            "this is the KL divergence; the formula has the cross-entropy": lambda s, t: F.kl_div(
                s.log_softmax(-1), t.softmax(-1), reduction="batchmean"
            ),
            "texts are added up; take their mean": lambda s, t: len(s) * prediction_loss(s, t),
            "the sign is missing": lambda s, t: -prediction_loss(s, t),
            "this is the hard loss, with the teacher's likeliest class": lambda s, t: F.cross_entropy(s, t.argmax(-1)),
            "the teacher's logits are used as they are; make them probabilities": lambda s, t: (
                -(t * s.log_softmax(-1)).sum(-1).mean()
            ),
        },
    )

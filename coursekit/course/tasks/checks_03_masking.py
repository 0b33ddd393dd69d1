"""Checks of unit 03 on tensors: hiding tokens, topic by cosine, and the loss of hidden tokens alone."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from coursekit.course.expect import Draw, Wrong, expect_call

# ---- 03.5: hide tokens ----


def hide(
    input_ids, special, chance, lot, random_ids, mask_id, probability, *, spare=True, borders=(0.8, 0.9), ignored=-100
) -> tuple[Tensor, Tensor]:
    """Stand-in for 03.5; the options make its wrong variants."""
    chosen = chance < probability
    if spare:
        chosen = chosen & ~special
    hidden = torch.where(chosen & (lot < borders[0]), mask_id, input_ids)
    hidden = torch.where(chosen & (lot >= borders[0]) & (lot < borders[1]), random_ids, hidden)
    return hidden, torch.where(chosen, input_ids, ignored)


def check_hide(answer: Callable, draw: Draw) -> None:
    """03.5 on a padded batch; every case, on ordinary and on special tokens, occurs."""
    batch, tokens, mask_id = 3, draw.integer(12, 14), 4
    input_ids, random_ids = draw.integers(10, 99, batch, tokens), draw.integers(100, 199, batch, tokens)
    special = ~draw.mask(batch, tokens - 4)
    special = torch.cat([torch.ones(batch, 1, dtype=torch.bool), special, torch.ones(batch, 3, dtype=torch.bool)], 1)
    special[:, 1:4] = False
    input_ids[special] = draw.integers(0, 3, int(special.sum()))
    chance = torch.rand(batch, tokens, generator=draw.generator)
    lot = torch.rand(batch, tokens, generator=draw.generator)
    probability = 0.5
    chance[:, :4], lot[0, :4] = 0.1, torch.tensor([0.5, 0.3, 0.85, 0.95])  # all three fates, and a special one
    chance[1, 1], lot[1, 2:4] = 0.9, torch.tensor([0.05, 0.15])  # one left alone; two with small lots
    chosen = (chance < probability) & ~special
    expected, labels = input_ids.clone(), torch.full_like(input_ids, -100)
    labels[chosen] = input_ids[chosen]
    expected[chosen & (lot < 0.8)] = mask_id
    replaced = chosen & (lot >= 0.8) & (lot < 0.9)
    expected[replaced] = random_ids[replaced]
    expect_call(
        answer,
        (input_ids, special, chance, lot, random_ids, mask_id, probability),
        (expected, labels),
        mistakes={
            "special tokens and padding are hidden too": lambda *a: hide(*a, spare=False),
            "every chosen token becomes [MASK]; of ten, one is replaced and one stays": (
                lambda *a: hide(*a, borders=(1.0, 1.0))
            ),
            "no chosen token stays as it is": lambda *a: hide(*a, borders=(0.8, 1.0)),
            "no chosen token becomes a random one": lambda *a: hide(*a, borders=(0.8, 0.8)),
            "the shares are the wrong way round: [MASK] is for eight of ten": lambda *a: hide(*a, borders=(0.1, 0.2)),
            "tokens that are not asked for must have the label -100, not 0": lambda *a: hide(*a, ignored=0),
            "all tokens have a label; only the chosen ones are asked for": lambda *a: (hide(*a)[0], a[0].clone()),
            "a label is the id that was there, not the one shown instead": lambda *a: (
                hide(*a)[0],
                torch.where(hide(*a)[1] == -100, -100, hide(*a)[0]),
            ),
            "the label of a chosen token that stays is missing: it is asked for like the others": lambda *a: (
                hide(*a)[0],
                torch.where(hide(*a)[0] == a[0], -100, hide(*a)[1]),
            ),
        },
    )


# ---- 03.6: topic by cosine ----


def topic_answers(first, second, threshold, *, cosine=None, flip=False) -> Tensor:
    """Stand-in for 03.6; the options make its wrong variants."""
    cosine = cosine or (lambda a, b: (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1)).clamp_min(1e-12))
    return ((cosine(first, second) < threshold) != flip).long()


def check_topic(answer: Callable, draw: Draw) -> None:
    """03.6 on counts of words; long and short texts, and one without any known word."""
    words = 12
    same = draw.integers(1, 3, 2, words).float()
    apart = torch.zeros(2, words)
    apart[:, : words // 2] = 1
    rest = apart.roll(words // 2, dims=1)
    first = torch.cat([1e-3 * same, 9 * same, 8 * apart, 0.2 * apart, torch.zeros(1, words)])
    second = torch.cat([same, 7 * same, 8 * rest + apart, 0.2 * rest + 0.01, apart[:1]])
    order = torch.randperm(len(first), generator=draw.generator)
    first, second, threshold = first[order], second[order], draw.number(0.4, 0.7)
    expected = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1, 1])[order]

    def without_guard(a: Tensor, b: Tensor) -> Tensor:
        return (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))

    expect_call(
        answer,
        (first, second, threshold),
        expected,
        mistakes={
            "the labels are the wrong way round: pairs that are alike are neighbours, 0": (
                lambda *a: topic_answers(*a, flip=True)
            ),
            "the vectors are not divided by their lengths, so long texts look alike": (
                lambda *a: topic_answers(*a, cosine=lambda x, y: (x * y).sum(1))
            ),
            "only one of the vectors is divided by its length": (
                lambda *a: topic_answers(*a, cosine=lambda x, y: (x * y).sum(1) / x.norm(dim=1).clamp_min(1e-12))
            ),
            "a text without known words gives 0/0, which is no cosine and passes no comparison": (
                lambda *a: topic_answers(*a, cosine=without_guard)
            ),
            "this measures a distance, which grows with the length of a text": (
                lambda x, y, t: ((x - y).norm(dim=1) > t).long()
            ),
            "this returns the cosines; the answers are wanted": lambda x, y, t: F.cosine_similarity(x, y),
        },
    )


# ---- 03.7: the loss of hidden tokens alone ----


def masked_loss(hidden, table, bias, labels, *, choose=None, total=None) -> Tensor:
    """Stand-in for 03.7; the options make its wrong variants."""
    asked = (choose or (lambda y: y != -100))(labels)
    nats = F.cross_entropy(hidden[asked] @ table.T + bias, labels[asked], reduction="sum", ignore_index=-100)
    return nats / (total(labels) if total else max(1, int(asked.sum())))


def check_masked_loss(answer: Callable, draw: Draw) -> None:
    """03.7: its value, its value where nothing is hidden, and how much it multiplies."""
    batch, tokens, size, words = 3, draw.integer(6, 8), draw.integer(4, 6), draw.integer(20, 30)
    hidden, table, bias = draw.normal(batch, tokens, size), draw.normal(words, size), draw.normal(words)
    labels = torch.full((batch, tokens), -100)
    asked = {0: 1, 1: 3}  # rows hide different numbers, one nothing
    for row, count in asked.items():
        places = draw.sample(range(tokens), count)
        labels[row, places] = draw.integers(1, words - 1, count)
    logits = hidden @ table.T + bias
    expected = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100)
    inputs = (hidden, table, bias, labels)
    expect_call(
        answer,
        inputs,
        expected,
        mistakes={
            "the sum is not divided": lambda *a: masked_loss(*a, total=lambda y: 1),
            "divided by all tokens; only the hidden ones count": lambda *a: masked_loss(*a, total=torch.numel),
            "the mean of the rows' means: each hidden token must weigh the same": lambda *a: torch.stack(
                [masked_loss(h, a[1], a[2], y) for h, y in zip(a[0], a[3], strict=True) if (y != -100).any()]
            ).mean(),
            "the bias is missing": lambda h, t, b, y: masked_loss(h, t, torch.zeros_like(b), y),
            "tokens that are not asked for are scored as the word 0": lambda h, t, b, y: F.cross_entropy(
                (h @ t.T + b).flatten(0, 1), y.clamp_min(0).flatten()
            ),
        },
    )
    nothing = answer(hidden, table, bias, torch.full_like(labels, -100))
    if not isinstance(nothing, Tensor) or not torch.equal(nothing.detach(), torch.zeros(())):
        raise Wrong(f"where nothing is hidden the loss must be a tensor 0, got {nothing}")
    with FlopCounterMode(display=False) as counter:
        answer(*(value.clone() for value in inputs))
    least = 2 * sum(asked.values()) * size * words
    if counter.get_total_flops() > least:
        raise Wrong(
            f"the value is right, but {counter.get_total_flops() // (2 * size * words)} rows are multiplied with the "
            f"table where {sum(asked.values())} are asked for; gather first"
        )

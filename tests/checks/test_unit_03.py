"""Every check of unit 03 accepts its reference and names the mistake of each wrong answer."""

import random

import pytest
import torch
import torch.nn.functional as F
from proving import prove, reference

from coursekit.course.check import run_check
from coursekit.course.tasks import find_task


def ordered(document, swapped, label=int, swap=True, pairs=None):
    pairs = pairs or list(zip(document, document[1:], strict=False))
    return [
        (b, a, label(flag)) if flag and swap else (a, b, label(flag))
        for (a, b), flag in zip(pairs, swapped, strict=False)
    ]


def coin_flips(count, draw):
    return [draw.randrange(2) for _ in range(count)]


def alternating(count, draw):
    return [0, 1] * (count // 2)


def own_chance(count, draw):
    labels = [0, 1] * (count // 2)
    random.Random().shuffle(labels)
    return labels


def shuffled_nothing(count, draw):
    return draw.shuffle([0, 1] * (count // 2))


def seconds(documents, own, others=True, begin=1):
    return [s for n, document in enumerate(documents) if n != own or not others for s in document[begin:]]


def inputs(earlier, later, swapped, cls_id, sep_id):
    first, second = (later, earlier) if swapped else (earlier, later)
    return [cls_id, *first, sep_id, *second, sep_id], [0] * (len(first) + 2) + [1] * (len(second) + 1)


def travelling(earlier, later, swapped, cls_id, sep_id):
    ids, types = inputs(earlier, later, swapped, cls_id, sep_id)
    return ids, [1 - t for t in types] if swapped else types


def without_last(*a):
    ids, types = inputs(*a)
    return ids[:-1], types[:-1]


def separator_in_second(*a):
    ids, types = inputs(*a)
    types[types.index(1) - 1] = 1
    return ids, types


def hiding(input_ids, special, chance, lot, random_ids, mask_id, probability, keep=0.9, mask=0.8, spare=True):
    chosen = (chance < probability) & (~special if spare else True)
    shown, labels = input_ids.clone(), torch.full_like(input_ids, -100)
    labels[chosen] = input_ids[chosen]
    shown[chosen & (lot < keep)] = random_ids[chosen & (lot < keep)]
    shown[chosen & (lot < mask)] = mask_id
    return shown, labels


def zero_labels(*a):
    shown, labels = hiding(*a)
    return shown, labels.masked_fill(labels == -100, 0)


def labels_of_shown(*a):
    shown, labels = hiding(*a)
    return shown, torch.where(labels == -100, labels, shown)


def labels_only_if_changed(*a):
    shown, labels = hiding(*a)
    return shown, labels.masked_fill(shown == a[0], -100)


def gathered(hidden, table, bias, labels, divide=None):
    asked = labels != -100
    nats = F.cross_entropy(hidden[asked] @ table.T + bias, labels[asked], reduction="sum")
    return nats / (divide(labels) if divide else max(1, int(asked.sum())))


def everything_projected(hidden, table, bias, labels):
    asked = labels != -100
    logits = (hidden @ table.T + bias)[asked]
    return F.cross_entropy(logits, labels[asked], reduction="sum") / max(1, int(asked.sum()))


def nan_if_nothing(hidden, table, bias, labels):
    asked = labels != -100
    return F.cross_entropy(hidden[asked] @ table.T + bias, labels[asked])


def mean_of_rows(hidden, table, bias, labels):
    rows = [r for r in range(len(labels)) if (labels[r] != -100).any()]
    return sum(gathered(hidden[r], table, bias, labels[r]) for r in rows) / len(rows)


def crossed(models, tests, key=lambda m, t: (m, t), finish=lambda right, pairs: right / len(pairs)):
    return {
        key(m, t): finish(sum(a == p.label for a, p in zip(model(pairs), pairs, strict=True)), pairs)
        for m, model in models.items()
        for t, pairs in tests.items()
    }


WRONG = {
    "03.1": {
        "wrong way round: 1 means swapped": lambda d, s: ordered(d, s, label=lambda f: int(not f)),
        "but the sentences stand in order": lambda d, s: ordered(d, s, swap=False),
        "where the flag says that they are not": lambda d, s: [
            (a, b, n) if n else (b, a, n) for (a, b), n in zip(zip(d, d[1:], strict=False), map(int, s), strict=False)
        ],
        "every second pair is missing": lambda d, s: ordered(d, s[::2], pairs=list(zip(d[::2], d[1::2], strict=False))),
        "begins with the first sentence": lambda d, s: ordered(d, s, pairs=[(d[0], b) for b in d[1:]]),
        "the last pair is missing": lambda d, s: ordered(d, s)[:-1],
        "not True or False": lambda d, s: ordered(d, s, label=bool),
    },
    "03.2": {
        "half of them must be, exactly": coin_flips,
        "the order is the same for every seed": alternating,
        "take all chance from the generator": own_chance,
        "is a `return` missing?": shuffled_nothing,
        "labels, got": lambda count, draw: alternating(count - 2, draw),
    },
    "03.3": {
        "they might really follow": lambda d, o: seconds(d, o, others=False),
        "no true second is ever the first": lambda d, o: seconds(d, o, begin=0),
        "these are the sentences": lambda d, o: d[o][1:],
        "only the documents after it": lambda d, o: [s for each in d[o + 1 :] for s in each[1:]],
        "one sentence of each document": lambda d, o: [e[1] for n, e in enumerate(d) if n != o and len(e) > 1],
        "a list of lists": lambda d, o: [e[1:] for n, e in enumerate(d) if n != o],
    },
    "03.4": {
        "gives itself away": travelling,
        "the segments are not swapped": lambda e, s, f, c, p: inputs(e, s, False, c, p),
        "should stand in order": lambda e, s, f, c, p: inputs(e, s, not f, c, p),
        "the [SEP] at the end is missing": without_last,
        "belongs to the first of them": separator_in_second,
        "all segment ids are 0": lambda *a: (inputs(*a)[0], [0] * len(inputs(*a)[0])),
    },
    "03.5": {
        "special tokens and padding": lambda *a: hiding(*a, spare=False),
        "every chosen token becomes [MASK]": lambda *a: hiding(*a, keep=2, mask=2),
        "no chosen token stays": lambda *a: hiding(*a, keep=2),
        "no chosen token becomes a random one": lambda *a: hiding(*a, keep=0.8),
        "wrong way round: [MASK]": lambda *a: hiding(*a, keep=0.2, mask=0.1),
        "the label -100, not 0": zero_labels,
        "all tokens have a label": lambda *a: (hiding(*a)[0], a[0].clone()),
        "not the one shown instead": labels_of_shown,
        "that stays is missing": labels_only_if_changed,
    },
    "03.6": {
        "pairs that are alike are neighbours": lambda x, y, t: (F.cosine_similarity(x, y) >= t).long(),
        "so long texts look alike": lambda x, y, t: ((x * y).sum(1) < t).long(),
        "only one of the vectors": lambda x, y, t: ((F.normalize(x) * y).sum(1) < t).long(),
        "gives 0/0": lambda x, y, t: ((x * y).sum(1) / (x.norm(dim=1) * y.norm(dim=1)) < t).long(),
        "measures a distance": lambda x, y, t: ((x - y).square().sum(1).sqrt() > t).long(),
        "this returns the cosines": lambda x, y, t: F.cosine_similarity(x, y),
    },
    "03.7": {
        "the sum is not divided": lambda *a: gathered(*a, divide=lambda y: 1),
        "divided by all tokens": lambda *a: gathered(*a, divide=lambda y: y.numel()),
        "the mean of the rows' means": mean_of_rows,
        "the bias is missing": lambda h, t, b, y: gathered(h, t, 0 * b, y),
        "scored as the word 0": lambda h, t, b, y: F.cross_entropy(
            (h @ t.T + b).transpose(1, 2), y.masked_fill(y == -100, 0)
        ),
        "where nothing is hidden": nan_if_nothing,
        "gather first": everything_projected,
    },
    "03.8": {
        "yours are the other way round": lambda m, t: crossed(m, t, key=lambda model, test: (test, model)),
        "shares of wrong answers": lambda m, t: crossed(m, t, finish=lambda right, p: (len(p) - right) / len(p)),
        "these are percentages": lambda m, t: crossed(m, t, finish=lambda right, p: 100 * right / len(p)),
        "tested once only": lambda m, t: {k: crossed(m, t)[k] for k in zip(m, t, strict=False)},
        "divide by the size of each test": lambda m, t: crossed(m, t, finish=lambda right, p: float(right)),
        "all are divided by the size of one": lambda m, t: crossed(
            m, t, finish=lambda right, p: right / len(next(iter(t.values())))
        ),
    },
}


@pytest.mark.parametrize("task", WRONG)
def test_check(task):
    prove(task, WRONG[task])


def test_other_libraries_are_right_too():
    def by_linear(hidden, table, bias, labels):
        asked = labels != -100
        if not asked.any():
            return hidden.new_zeros(())
        return F.cross_entropy(F.linear(hidden[asked], table, bias), labels[asked])

    assert run_check(find_task("03.7"), by_linear, seed=3).status == "right"
    assert run_check(find_task("03.6"), lambda x, y, t: (F.cosine_similarity(x, y) < t).long()).status == "right"


def test_a_list_for_a_tensor_is_named():
    answer = reference("03.5")
    result = run_check(find_task("03.5"), lambda *a: tuple(each.tolist() for each in answer(*a)))
    assert result.status == "wrong" and "list" in result.message

"""Checks of unit 03 on pairs: sentence order, balanced labels, random seconds, segment ids, cross-evaluation."""

import random
from collections.abc import Callable

from coursekit.course.expect import Draw, Wrong, expect_call
from coursekit.data import SentencePair

WORDS = "rain sun wind bridge road school vote team goal market river ship farm court film song train lake".split()


def sentences(draw: Draw, count: int) -> list[str]:
    """That many different sentences of two to four words."""
    starts = draw.sample(WORDS, count)
    return [" ".join([start, *draw.sample(WORDS, draw.integer(1, 3))]) + "." for start in starts]


# ---- 03.1: sentence order ----


def order_pairs(document, swapped, *, step=1, label=int, texts=True, first=False) -> list[tuple[str, str, int]]:
    """Stand-in for 03.1; the options make its wrong variants."""
    pairs = []
    for place in range(0, len(document) - 1, step):
        flag = swapped[place]
        one, two = document[0] if first else document[place], document[place + 1]
        if flag and texts:
            one, two = two, one
        pairs.append((one, two, label(flag)))
    return pairs


def check_order(answer: Callable, draw: Draw) -> None:
    """03.1 with both kinds of flags, not equally many."""
    document = sentences(draw, draw.integer(6, 8))
    swapped = [True, False, True, *[draw.choice((True, False)) for _ in range(len(document) - 4)]]
    everyone = [(a, b, int(f)) for a, b, f in zip(document, document[1:], swapped, strict=False)]
    expect_call(
        answer,
        (document, swapped),
        [(b, a, f) if f else (a, b, f) for a, b, f in everyone],
        mistakes={
            "the labels are the wrong way round: 1 means swapped": lambda d, s: order_pairs(
                d, s, label=lambda f: int(not f)
            ),
            "the labels say swapped, but the sentences stand in order": lambda d, s: order_pairs(d, s, texts=False),
            "the sentences are swapped where the flag says that they are not": lambda d, s: [
                (b, a, n) for a, b, n in order_pairs(d, s)
            ],
            "every second pair is missing: a sentence ends one pair and begins the next": (
                lambda d, s: order_pairs(d, s, step=2)
            ),
            "each pair begins with the first sentence of the document; its neighbour is wanted": (
                lambda d, s: order_pairs(d, s, first=True)
            ),
            "the last pair is missing": lambda d, s: order_pairs(d, s)[:-1],
            "a label is a whole number, 0 or 1, not True or False": lambda d, s: order_pairs(d, s, label=bool),
        },
    )


# ---- 03.2: balanced labels ----


def balanced_labels(count, draw) -> list[int]:
    """Stand-in for 03.2."""
    labels = [0] * (count // 2) + [1] * (count - count // 2)
    draw.shuffle(labels)
    return labels


def check_balanced(answer: Callable, draw: Draw) -> None:
    """03.2 by what a list of balanced labels must be."""
    count, seed = 2 * draw.integer(20, 30), draw.integer(1, 10**6)
    labels = answer(count, random.Random(seed))
    if labels is None:
        raise Wrong("it returns None; is a `return` missing? (`shuffle` works in place and returns nothing)")
    if not isinstance(labels, list):
        raise Wrong(f"expected a list, got a {type(labels).__name__}")
    if len(labels) != count:
        raise Wrong(f"expected {count} labels, got {len(labels)}")
    if not all(type(label) is int and label in (0, 1) for label in labels):
        raise Wrong("a label is the whole number 0 or 1")
    again, other = answer(count, random.Random(seed)), answer(count, random.Random(seed + 1))
    if labels != again:
        raise Wrong("the same seed gives other labels: take all chance from the generator that is given")
    totals = [sum(answer(count, random.Random(seed + more))) for more in range(8)]
    if any(total != count // 2 for total in totals):
        raise Wrong(
            f"of {count} labels, {next(t for t in totals if t != count // 2)} are 1: half of them must be, exactly"
        )
    if labels == other:
        raise Wrong("the order is the same for every seed: a model could learn it, and batches are one-sided")


# ---- 03.3: random seconds ----


def random_seconds(documents, own, *, among=None, begin=1) -> list[str]:
    """Stand-in for 03.3; the options make its wrong variants."""
    among = among or (lambda number: number != own)
    return [text for number, document in enumerate(documents) if among(number) for text in document[begin:]]


def check_seconds(answer: Callable, draw: Draw) -> None:
    """03.3 on documents of several lengths, one of them with a single sentence."""
    sizes = [3, 1, draw.integer(3, 4), draw.integer(2, 3), draw.integer(2, 3)]
    texts, own = sentences(draw, sum(sizes)), 2
    documents = [[texts.pop() for _ in range(size)] for size in sizes]
    expected = [text for number in (0, 1, 3, 4) for text in documents[number][1:]]
    expect_call(
        answer,
        (documents, own),
        expected,
        mistakes={
            "sentences of the document itself are among them: they might really follow": (
                lambda d, o: random_seconds(d, o, among=lambda n: True)
            ),
            "first sentences are among them: no true second is ever the first of its document": (
                lambda d, o: random_seconds(d, o, begin=0)
            ),
            "only the documents after it are used": lambda d, o: random_seconds(d, o, among=lambda n: n > o),
            "these are the sentences of the document itself": lambda d, o: random_seconds(d, o, among=lambda n: n == o),
            "there is one sentence of each document; every one that can be a second is wanted": lambda d, o: [
                each[1] for number, each in enumerate(d) if number != o and len(each) > 1
            ],
            "a list of lists; one list of sentences is wanted": lambda d, o: [
                each[1:] for number, each in enumerate(d) if number != o
            ],
        },
    )


# ---- 03.4: segment ids ----


def pair_inputs(earlier, later, swapped, cls_id, sep_id, *, swap=True, travel=False, last=True, sep=0):
    """Stand-in for 03.4; the options make its wrong variants."""
    first, second = (later, earlier) if swapped and swap else (earlier, later)
    ids = [cls_id, *first, sep_id, *second, *[sep_id] * last]
    types = [0] * (len(first) + 2 - sep) + [1] * (len(second) + last + sep)
    if travel and swapped:
        types = [1 - each for each in types]
    return ids, types


def check_inputs(answer: Callable, draw: Draw) -> None:
    """03.4 for a swapped pair and one in order, of different lengths."""
    cls_id, sep_id = draw.integer(100, 110), draw.integer(111, 120)
    lengths = draw.sample(range(2, 8), 2)
    earlier, later = (draw.integers(200, 999, length).tolist() for length in lengths)
    if earlier[0] == later[0]:
        later[0] += 1
    for swapped in (False, True):  # never to swap is right for the first
        first, second = (later, earlier) if swapped else (earlier, later)
        ids = [cls_id] + first + [sep_id] + second + [sep_id]
        expected = ids, [0] * (ids.index(sep_id) + 1) + [1] * (len(second) + 1)
        expect_call(
            answer,
            (earlier, later, swapped, cls_id, sep_id),
            expected,
            mistakes={
                "the segment ids travel with the segments: a swapped pair begins with 1 and gives itself away": (
                    lambda *a: pair_inputs(*a, travel=True)
                ),
                "the segments are not swapped": lambda *a: pair_inputs(*a, swap=False),
                "they are swapped where they should stand in order": lambda e, s, f, *o: pair_inputs(e, s, not f, *o),
                "the [SEP] at the end is missing": lambda *a: pair_inputs(*a, last=False),
                "the [SEP] between the segments belongs to the first of them": lambda *a: pair_inputs(*a, sep=1),
                "all segment ids are 0": lambda *a: (pair_inputs(*a)[0], [0] * len(pair_inputs(*a)[0])),
            },
        )


# ---- 03.8: who was tested on what ----


def cross_table(models, tests, *, key=lambda model, test: (model, test), score=lambda share: share):
    """Stand-in for 03.8; the options make its wrong variants."""
    table = {}
    for model, answer in models.items():
        for test, pairs in tests.items():
            right = sum(int(a) == pair.label for a, pair in zip(answer(pairs), pairs, strict=True))
            table[key(model, test)] = score(right / len(pairs))
    return table


def check_cross(answer: Callable, draw: Draw) -> None:
    """03.8 with readers that look at one word, and tests of different sizes."""
    names = {"model": draw.sample(("topic", "order", "coin", "length"), 2), "test": draw.sample(("A", "B", "C"), 3)}
    sizes = draw.sample((7, 11, 13, 17), 3)
    tests = {name: _labelled(draw, size) for name, size in zip(names["test"], sizes, strict=True)}
    models = {
        names["model"][0]: lambda pairs: [len(pair.first) % 2 for pair in pairs],
        names["model"][1]: lambda pairs: [int(pair.first < pair.second) for pair in pairs],
    }
    expected = {
        (model, test): sum(a == pair.label for a, pair in zip(says(pairs), pairs, strict=True)) / len(pairs)
        for model, says in models.items()
        for test, pairs in tests.items()
    }
    expect_call(
        answer,
        (models, tests),
        expected,
        mistakes={
            "a key is (trained on, tested on); yours are the other way round": (
                lambda m, t: cross_table(m, t, key=lambda model, test: (test, model))
            ),
            "these are shares of wrong answers": lambda m, t: cross_table(m, t, score=lambda share: 1 - share),
            "these are percentages; an accuracy lies between 0 and 1": (
                lambda m, t: cross_table(m, t, score=lambda share: 100 * share)
            ),
            "each model is tested once only; every model meets every test": lambda m, t: {
                pair: cross_table(m, t)[pair] for pair in zip(m, t, strict=False)
            },
            "these are numbers of right answers; divide by the size of each test": lambda m, t: {
                pair: share * len(t[pair[1]]) for pair, share in cross_table(m, t).items()
            },
            "all are divided by the size of one test; each has its own": lambda m, t: {
                pair: share * len(t[pair[1]]) / len(next(iter(t.values()))) for pair, share in cross_table(m, t).items()
            },
        },
    )


def _labelled(draw: Draw, size: int) -> list[SentencePair]:
    """Pairs of which every such reader finds about a third right, by construction neither none nor half nor all."""
    pairs = []
    for number in range(size):
        first, second = sentences(draw, 2)
        by_length, by_order = len(first) % 2, int(first < second)
        label = by_length if number % 3 == 0 else 1 - by_length
        if number % 3 == 1 and by_order != label:
            first, second = second, first
            label = 1 - len(first) % 2
        pairs.append(SentencePair(first, second, label, number, number))
    return pairs

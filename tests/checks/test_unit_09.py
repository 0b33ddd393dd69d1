"""The checks of unit 09 accept the reference and name each mistake."""

import random

import pytest
import torch
import torch.nn.functional as F
from proving import prove

from coursekit.course.check import run_check
from coursekit.distill import Stage, Term, match_layers, tinybert

# ---- 09.1 ----


def hidden_pairs(n, m):
    return [(i, i * (n // m)) for i in range(m + 1)]


def attention_pairs(n, m):
    return [(i, (i + 1) * (n // m) - 1) for i in range(m)]


def turned(pairs):
    return [(t, s) for s, t in pairs]


# ---- 09.2 and 09.3 ----


def squares(s, t, weight, bias, mask):
    return ((s @ weight.T + bias - t) ** 2) * mask[..., None]


def by_text(s, t, weight, bias, mask):
    parts = [((s[i] @ weight.T + bias - t[i]) ** 2)[mask[i]].mean() for i in range(len(s))]
    return torch.stack(parts).mean()


def pairs_of(mask):
    return (mask[:, :, None] & mask[:, None, :])[:, None]


def mean_over(pairs, s, t):
    pairs = pairs.expand_as(s)
    return ((s - t) ** 2)[pairs].mean()


def real_mean(s, t, mask):
    return mean_over(pairs_of(mask), s, t)


def soft_scores(s, t, mask):
    hidden = ~mask[:, None, None, :]
    return real_mean(*(x.masked_fill(hidden, -1e9).softmax(-1) for x in (s, t)), mask)


def zeroed(s, t, mask):
    keys = mask[:, None, None, :]
    return F.mse_loss(s * keys, t * keys)


# ---- 09.4 ----


def cross(s, t):
    return -(t.softmax(-1) * s.log_softmax(-1)).sum(-1)


# ---- 09.5 ----


def replacing(decide=None, choose=None):
    """A way to replace: decide(rng, p) for each place, choose(rng, choices)."""
    decide, choose = decide or (lambda rng, p: rng.random() < p), choose or (lambda rng, choices: rng.choice(choices))

    def replace(words, candidates, p, rng):
        new = list(words)
        for place, choices in candidates.items():
            if choices and decide(rng, p):
                new[place] = choose(rng, choices)
        return new

    return replace


def in_place(words, candidates, p, rng):
    words[:] = replacing()(words, candidates, p, rng)
    return words


def in_place_copied(words, candidates, p, rng):
    in_place(words, candidates, p, rng)
    return list(words)


def all_or_none(words, candidates, p, rng):
    return replacing(lambda rng, p: True)(words, candidates, p, rng) if rng.random() < p else list(words)


def from_the_neighbour(words, candidates, p, rng):
    pool = [choice for choices in candidates.values() for choice in choices]
    return replacing(choose=lambda rng, choices: rng.choice(pool))(words, candidates, p, rng)


def without_rng(words, candidates, p, rng):
    return replacing()(words, candidates, p, random.Random(1) if p < 1 else rng)


def shortened(words, candidates, p, rng):
    return [rng.choice(candidates[i]) for i in range(len(words)) if candidates.get(i)]


def never(words, candidates, p, rng):
    return list(words)


def one_at_most(words, candidates, p, rng):
    if p == 1:
        return replacing()(words, candidates, p, rng)
    place = rng.choice([place for place, choices in candidates.items() if choices])
    return replacing()(words, {place: candidates[place]}, p, rng)


def too_rarely(words, candidates, p, rng):
    return replacing(lambda rng, p: rng.random() < p**3)(words, candidates, p, rng)


def any_word(words, candidates, p, rng):
    new = replacing()(words, candidates, p, rng)
    return [word if i in candidates and candidates[i] else word[::-1] + "x" for i, word in enumerate(new)] if p else new


# ---- 09.6 ----


def rows(texts, labels, more, held_out, *, first=True, label=None):
    found = []
    for number, (text, own) in enumerate(zip(texts, labels, strict=True)):
        new = [text] if first else []
        found += [(one, own if label is None else label(number)) for one in (*new, *more(text)) if one not in held_out]
    return found


def labels_in_turn(texts, labels, more, held_out):
    found = [text for text, _ in rows(texts, labels, more, held_out)]
    return [(text, labels[number % len(labels)]) for number, text in enumerate(found)]


def whole_text_out(texts, labels, more, held_out):
    found = []
    for text, label in zip(texts, labels, strict=True):
        if not any(new in held_out for new in more(text)):
            found += [(one, label) for one in (text, *more(text))]
    return found


def originals_first(texts, labels, more, held_out):
    found = rows(texts, labels, more, held_out)
    return [*zip(texts, labels, strict=True), *(row for row in found if row[0] not in texts)]


# ---- 09.7 ----

SOFT = Stage("prediction", (Term("soft"),))


def stages(*, schedule="constant", last=SOFT, weight=1.0, project="one", **maps):
    """TinyBERT's two stages with something changed: hidden or attention as functions of (N, M)."""

    def made(n, m):
        match = match_layers("uniform", n, m)
        hidden = maps["hidden"](match) if "hidden" in maps else match.hidden
        attention = maps["attention"](match) if "attention" in maps else match.attention
        terms = [Term("hidden", weight, layers=tuple(hidden), project=project)] if hidden else []
        terms += [Term("attention", layers=tuple(attention))] if attention else []
        return Stage("inner", tuple(terms), schedule=schedule), last

    return made


def attention_term(n, m):
    return [Term("attention", layers=match_layers("uniform", n, m).attention)]


def with_terms(*extra):
    """The first stage with more terms; each a function of (N, M)."""

    def made(n, m):
        inner, last = stages()(n, m)
        return Stage("inner", (*inner.terms, *(term(n, m) for term in extra)), schedule="constant"), last

    return made


WRONG = {
    "09.1": {
        "first of its teacher layers": lambda n, m: (hidden_pairs(n, m), [(i, i * (n // m)) for i in range(m)]),
        "one too high": lambda n, m: (hidden_pairs(n, m), [(i, (i + 1) * (n // m)) for i in range(m)]),
        "in the student too": lambda n, m: (hidden_pairs(n, m), [(i + 1, t) for i, t in attention_pairs(n, m)]),
        "the embeddings' output": lambda n, m: (hidden_pairs(n, m)[1:], attention_pairs(n, m)),
        "last hidden states meet": lambda n, m: (hidden_pairs(n, m)[:-1], attention_pairs(n, m)),
        "counted like layers": lambda n, m: (
            [(s, max(0, t - 1)) for s, t in hidden_pairs(n, m)],
            attention_pairs(n, m),
        ),
        "in this order": lambda n, m: (turned(hidden_pairs(n, m)), turned(attention_pairs(n, m))),
        "hidden states come first": lambda n, m: (attention_pairs(n, m), hidden_pairs(n, m)),
    },
    "09.2": {
        "averaged over all tokens": lambda s, t, w, b, m: F.mse_loss(s @ w.T + b, t),
        "still divide": lambda s, t, w, b, m: squares(s, t, w, b, m).mean(),
        "bias is missing": lambda s, t, w, b, m: squares(s, t, w, 0, m).sum() / (m.sum() * t.shape[-1]),
        "width is summed": lambda s, t, w, b, m: squares(s, t, w, b, m).sum() / m.sum(),
        "width of the student": lambda s, t, w, b, m: squares(s, t, w, b, m).sum() / (m.sum() * s.shape[-1]),
        "errors are added up": lambda s, t, w, b, m: squares(s, t, w, b, m).sum(),
        "each text counts alike": by_text,
    },
    "09.3": {
        "all pairs are averaged": lambda s, t, m: F.mse_loss(s, t),
        "padded queries count still": lambda s, t, m: mean_over(m[:, None, None, :], s, t),
        "padded keys count still": lambda s, t, m: mean_over(m[:, None, :, None], s, t),
        "padded pairs are set to 0": lambda s, t, m: F.mse_loss(s * pairs_of(m), t * pairs_of(m)),
        "released code's loss": zeroed,
        "heads are added up": lambda s, t, m: s.shape[1] * real_mean(s, t, m),
        "after a softmax": lambda s, t, m: real_mean(s.softmax(-1), t.softmax(-1), m),
        "over the real keys": soft_scores,
    },
    "09.4": {
        "mean over classes too": lambda s, t: -(t.softmax(-1) * s.log_softmax(-1)).mean(),
        "the student's the logarithms": lambda s, t: cross(t, s).mean(),
        "KL divergence": lambda s, t: (cross(s, t) - cross(t, t)).mean(),
        "texts are added up": lambda s, t: cross(s, t).sum(),
        "sign is missing": lambda s, t: -cross(s, t).mean(),
        "the hard loss": lambda s, t: F.cross_entropy(s, t.argmax(-1)),
        "make them probabilities": lambda s, t: -(t * s.log_softmax(-1)).sum(-1).mean(),
    },
    "09.5": {
        "got one text": lambda words, candidates, p, rng: " ".join(replacing()(words, candidates, p, rng)),
        "changes the list": in_place,
        "changes what it was given": in_place_copied,
        "each word is replaced or stays": shortened,
        "without candidates is not": any_word,
        "that has candidates is replaced": never,
        "among its own candidates": from_the_neighbour,
        "always the first": replacing(choose=lambda rng, choices: choices[0]),
        "always the same": replacing(choose=lambda rng, choices: choices[-1]),
        "never turns up": replacing(choose=lambda rng, choices: rng.choice(choices[1:])),
        "all words are replaced or none": all_or_none,
        "the same text each time": without_rng,
        "only one word": one_at_most,
        "is kept with probability p": replacing(lambda rng, p: p == 1 or (p > 0 and rng.random() >= p)),
        "a share of": too_rarely,
    },
    "09.6": {
        "originals are missing": lambda *a: rows(*a, first=False),
        "held out for testing": lambda t, n, more, held: rows(t, n, more, []),
        "go on in turn": labels_in_turn,
        "only the first version": lambda t, n, more, held: rows(t, n, lambda text: more(text)[:1], held),
        "only the originals are": lambda t, n, more, held: list(zip(t, n, strict=True)),
        "a row is (text, label)": lambda *a: [(label, text) for text, label in rows(*a)],
        "is left out altogether": whole_text_out,
        "all originals come first": originals_first,
    },
    "09.7": {
        "a whole Recipe": lambda n, m: tinybert(n, m),
        "expected two Stage objects": lambda n, m: [term for stage in stages()(n, m) for term in stage.terms],
        "expected two stages, got 1": lambda n, m: stages()(n, m)[:1],
        "no loss of labels": stages(last=Stage("prediction", (Term("soft"), Term("hard")))),
        "in one stage": with_terms(lambda n, m: Term("soft")),
        "has the answers alone": lambda n, m: (stages()(n, m)[0], Stage("both", (*attention_term(n, m), Term("soft")))),
        "temperature 1": stages(last=Stage("prediction", (Term("soft", temperature=2.0),))),
        "is not TinyBERT's": with_terms(lambda n, m: Term("values", layers=((m - 1, n - 1),))),
        "compare hidden states": stages(hidden=lambda match: ()),
        "compare attention scores": stages(attention=lambda match: ()),
        "need a map": stages(project=None),
        "on both sides": stages(hidden=lambda match: match.hidden[1:]),
        "m with m·N/M": stages(hidden=lambda match: match.hidden[:-1]),
        "i with (i + 1)·N/M − 1": stages(attention=lambda match: [(s, t + 1 - (s > 0)) for s, t in match.attention]),
        "weights are 1": stages(weight=0.5),
        "learning rate of the first": stages(schedule=None),
    },
}


@pytest.mark.parametrize("task", WRONG)
def test_check(task):
    prove(task, WRONG[task])


@pytest.mark.parametrize(
    ("task", "answer", "words"),
    [
        ("09.1", lambda n, m: hidden_pairs(n, m), "expected"),
        ("09.2", lambda s, t, w, b, m: (s @ w.T + b - t) ** 2, "expected"),
        ("09.3", lambda s, t, m: s.zero_().sum(), "changes its input"),
        ("09.4", lambda s, t: cross(s, t), "expected"),
        ("09.5", lambda words, candidates, p, rng: tuple(words), "got a tuple"),
        ("09.6", lambda texts, labels, more, held: dict(rows(texts, labels, more, held)), "expected a list"),
        ("09.7", lambda n, m: stages(last=Stage("p", (Term("logits"),)))(n, m), "temperature 1"),
    ],
)
def test_odd_answers(task, answer, words):
    result = run_check(task, answer, seed=5)
    assert result.status == "wrong" and words in result.message, result


def test_other_right_answers_are_right():
    """09.3 by weights, 09.4 by the library, 09.5 drawing the other way round, 09.7 with one term for all states."""

    def choosing_first(words, candidates, p, rng):
        new = list(words)
        for place in sorted(candidates, reverse=True):
            if candidates[place]:
                word = rng.choice(candidates[place])
                new[place] = word if rng.random() < p else new[place]
        return new

    answers = {
        "09.3": lambda s, t, m: ((s - t) ** 2 * pairs_of(m)).sum() / (pairs_of(m).sum() * s.shape[1]),
        "09.4": lambda s, t: F.cross_entropy(s, t.softmax(-1)),
        "09.5": choosing_first,
        "09.7": stages(),
    }
    for task, answer in answers.items():
        for seed in range(5):
            assert run_check(task, answer, seed=seed).status == "right", (task, run_check(task, answer, seed=seed))

"""The checks of unit 08 accept the reference and name each mistake."""

import math

import pytest
import torch
import torch.nn.functional as F
from proving import prove

from coursekit.course.check import run_check
from coursekit.distill import Recipe, Stage, Term, match_layers, minilm, tinybert

# ---- 08.1 ----


def listed(teacher_of, students=lambda n, m: range(1, m)):
    return lambda which, n, m: [(i, teacher_of(which, i, n, m)) for i in students(n, m)]


def right_one(which, i, n, m):
    return i * (n // m) if which == "skip" else n - m + i


# ---- 08.2 ----


def unit(x, dim=-1):
    return x / x.norm(dim=dim, keepdim=True)


# ---- 08.4 ----


def ship(blocks):
    def sail(x, old, own, replaced):
        size = len(old) // len(own)
        for m in range(len(own)):
            for layer in blocks(m, replaced, old, own, size):
                x = layer(x)
        return x

    return sail


def module(old, m, size):
    return old[m * size : (m + 1) * size]


def counted_on(m, replaced, old, own, size):
    return [own[sum(replaced[:m])]] if replaced[m] else module(old, m, size)


def mean_of_both(x, old, own, replaced):
    share, size = sum(replaced) / len(own), len(old) // len(own)
    for m, new in enumerate(own):
        kept = x
        for layer in module(old, m, size):
            kept = layer(kept)
        x = share * new(x) + (1 - share) * kept
    return x


# ---- 08.5 ----


def relate(scale=lambda v: math.sqrt(v.shape[-1]), fill=-math.inf, axis=-1, keys=True, rows=True):
    def relations(values, mask):
        scores = values @ values.mT / scale(values)
        if keys:
            scores = scores.masked_fill(~mask[:, None, None, :], fill)
        found = scores.softmax(axis)
        if rows:
            found = found * mask[:, None, :, None] * mask[:, None, None, :]
        return found

    return relations


# ---- 08.6 ----


def joined(x):
    return torch.cat(list(x.unbind(1)), -1)


def every_so_many(x, heads):
    whole = joined(x)
    return torch.stack([whole[..., h::heads] for h in range(heads)], 1)


def number_by_number(x, heads):
    whole = torch.stack(list(x.unbind(1)), -1).flatten(2)
    return torch.stack(list(whole.chunk(heads, -1)), 1)


# ---- 08.7 ----

ANSWERS = (Term("soft", temperature=2.0), Term("hard"))


def two_stages(inner, answers=ANSWERS, **options):
    """A recipe whose first stage has the terms inner(N, M)."""
    return lambda n, m: Recipe("mine", n, m, (Stage("a", tuple(inner(n, m))), Stage("b", tuple(answers))), **options)


def attention(n, m):
    return [Term("attention", layers=match_layers("uniform", n, m).attention)]


def one_stage(n, m):
    return Recipe("mine", n, m, (Stage("a", (*attention(n, m), *ANSWERS)),))


def swapped(n, m):
    return [Term("values", layers=((n - 1, m - 1), (n - 2, 0)))]


def with_start(n, m):
    recipe = two_stages(attention)(n, m)
    return Recipe("mine", n, m, recipe.stages, match_layers("bottom", n, m))


def by_an_assistant(n, m):
    return Recipe("mine", n, m, (Stage("a", tuple(attention(n, m)), teacher="assistant"), Stage("b", ANSWERS)))


WRONG = {
    "08.1": {
        "in this order": lambda which, n, m: [(right_one(which, i, n, m), i) for i in range(1, m)],
        "last layer is left": listed(right_one, lambda n, m: range(1, m + 1)),
        "embeddings take no part": listed(right_one, lambda n, m: range(m)),
        "are exchanged": listed(lambda w, i, n, m: right_one("last" if w == "skip" else "skip", i, n, m)),
        "counted like layers": listed(lambda w, i, n, m: right_one(w, i, n, m) - 1),
        "not always every second": listed(lambda w, i, n, m: 2 * i if w == "skip" else n - m + i),
        "very last state": listed(lambda w, i, n, m: right_one(w, i, n, m) + (w == "last")),
        "not as far from the beginning": listed(lambda w, i, n, m: i * n // m if w == "skip" else i),
    },
    "08.2": {
        "compared as they are": lambda s, t: ((s - t) ** 2).sum(-1).mean(),
        "only the teacher's": lambda s, t: ((s - unit(t)) ** 2).sum(-1).mean(),
        "over the hidden width too": lambda s, t: F.mse_loss(unit(s), unit(t)),
        "layers are added up; take their": lambda s, t: ((unit(s) - unit(t)) ** 2).sum((1, 2)).mean(),
        "texts are added up": lambda s, t: ((unit(s) - unit(t)) ** 2).sum(-1).mean(1).sum(),
        "texts and layers are added up": lambda s, t: ((unit(s) - unit(t)) ** 2).sum(),
        "across the layers": lambda s, t: ((unit(s, 1) - unit(t, 1)) ** 2).sum(-1).mean(),
        "its square is asked for": lambda s, t: (unit(s) - unit(t)).norm(dim=-1).mean(),
        "half of the squared distance": lambda s, t: (1 - torch.cosine_similarity(s, t, dim=-1)).mean(),
    },
    "08.3": {
        "should be the base": lambda t, n, b, r: min(1.0, t / (r * n)),
        "stands on top of the base": lambda t, n, b, r: min(1.0, b + t / (r * n)),
        "at the end of the training": lambda t, n, b, r: b + (1 - b) * t / n,
        "it falls": lambda t, n, b, r: max(b, 1 - (1 - b) * t / (r * n)),
        "stays at the base": lambda t, n, b, r: b,
        "a probability ends at 1": lambda t, n, b, r: b + (1 - b) * t / (r * n),
    },
    "08.4": {
        "wrong way round": ship(lambda m, r, old, own, size: module(old, m, size) if r[m] else [own[m]]),
        "only its first": ship(lambda m, r, old, own, size: [own[m]] if r[m] else module(old, m, size)[:1]),
        "only its last": ship(lambda m, r, old, own, size: [own[m]] if r[m] else module(old, m, size)[-1:]),
        "predecessor's layer m": ship(lambda m, r, old, own, size: [own[m]] if r[m] else old[m : m + size]),
        "next successor layer": ship(counted_on),
        "run as well": ship(lambda m, r, old, own, size: [*module(old, m, size), *([own[m]] if r[m] else [])]),
        "left out altogether": ship(lambda m, r, old, own, size: [] if r[m] else module(old, m, size)),
        "are averaged": mean_of_both,
    },
    "08.5": {
        "not scaled": relate(scale=lambda v: 1),
        "root of a head's size": relate(scale=lambda v: v.shape[-1]),
        "all heads together": relate(scale=lambda v: math.sqrt(v.shape[1] * v.shape[-1])),
        "over the keys": relate(axis=-2, fill=-1e9),
        "after the softmax": relate(keys=False),
        "still takes part": relate(keys=False, rows=False),
        "is no mask": relate(fill=0.0),
        "padded queries": relate(rows=False),
    },
    "08.6": {
        "mixes tokens": lambda x, heads: x.reshape(len(x), heads, x.shape[2], -1),
        "(batch, heads, tokens, size)": lambda x, heads: torch.stack(list(joined(x).chunk(heads, -1)), 2),
        "every so many-th": every_so_many,
        "not split yet": lambda x, heads: joined(x),
        "stay together": number_by_number,
    },
    "08.7": {
        "expected a Recipe": lambda n, m: two_stages(attention)(n, m).stages,
        "the recipe is for": lambda n, m: two_stages(attention)(12, 6),
        "a single stage": one_stage,
        "nothing else": two_stages(lambda n, m: [*attention(n, m), Term("soft", temperature=2.0)]),
        "one layer of the student": lambda n, m: two_stages(lambda n, m: minilm(n, m).stages[0].terms)(n, m),
        "pairs are (student, teacher)": two_stages(swapped),
        "half as wide": two_stages(lambda n, m: [Term("patient", layers=((1, 2), (2, 4)))]),
        "teacher's answers": two_stages(attention, ANSWERS[1:]),
        "at the labels": two_stages(attention, ANSWERS[:1]),
        "above 1": two_stages(attention, (Term("soft"), Term("hard"))),
        "cannot begin with": with_start,
        "names others": by_an_assistant,
    },
}


@pytest.mark.parametrize("task", WRONG)
def test_check(task):
    prove(task, WRONG[task])


@pytest.mark.parametrize(
    ("task", "answer", "words"),
    [
        ("08.1", lambda which, n, m: match_layers(f"pkd-{which}", n, m).hidden, "expected a list, got a tuple"),
        ("08.2", lambda s, t: s - t, "expected"),
        ("08.3", lambda t, n, b, r: torch.tensor(0.5), "expected"),
        ("08.4", lambda x, old, own, replaced: [x], "expected the last state, got a list"),
        ("08.5", lambda values, mask: values, "expected shape"),
        ("08.6", lambda x, heads: x.zero_() + 1, "changes its input"),
        ("08.7", lambda n, m: tinybert(n, m) and None, "returns None"),
        ("08.7", lambda n, m: tinybert(n, m), "at the labels"),
        ("08.7", lambda n, m: two_stages(lambda n, m: [Term("nothing")])(n, m), "unknown kind of term"),
    ],
)
def test_odd_answers(task, answer, words):
    result = run_check(task, answer, seed=5)
    assert result.status == "wrong" and words in result.message, result


def test_other_right_answers_are_right():
    """08.2 through the cosine, 08.6 by concatenating, 08.7 with hidden states through a map and three stages."""

    def through_a_map(n, m):
        match = match_layers("top", n, m)
        inner = Stage("a", (Term("hidden", layers=match.hidden, project="each"),))
        middle = Stage("b", (Term("keys", layers=((m - 1, n - 1),)),))
        return Recipe("mine", n, m, (inner, middle, Stage("c", (*ANSWERS, *attention(n, m)))))

    answers = {
        "08.2": lambda s, t: 2 - 2 * torch.cosine_similarity(s, t, dim=-1).mean(),
        "08.6": lambda x, heads: torch.stack(list(joined(x).chunk(heads, -1)), 1),
        "08.7": through_a_map,
    }
    for task, answer in answers.items():
        for seed in range(5):
            assert run_check(task, answer, seed=seed).status == "right", (task, run_check(task, answer, seed=seed))

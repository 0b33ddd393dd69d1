"""Every check of unit 07 knows the right answer, and names the mistakes."""

import copy

import pytest
import torch
import torch.nn.functional as F
from proving import prove
from torch import nn

from coursekit.course.check import run_check
from coursekit.distill import Recipe, Stage, Term, cosine_loss, hard_loss, match_layers, soft_target_loss

# ---- 07.1 ----


def by_hand(logits, temperature):
    powers = torch.exp(logits / temperature)
    return powers / powers.sum(-1, keepdim=True)


def scaled_to_one(logits, temperature):
    soft = (logits / temperature).softmax(-1)
    return soft / soft.max(-1, keepdim=True).values


# ---- 07.2 ----


def rows(s, t, T):
    p = F.softmax(t / T, -1)
    return (p * (F.log_softmax(t / T, -1) - F.log_softmax(s / T, -1))).sum(-1)


def kl_div(reduction):
    def loss(s, t, T, mask):
        log_s, p = F.log_softmax(s / T, -1)[mask], F.softmax(t / T, -1)[mask]
        return F.kl_div(log_s, p, reduction=reduction) * T**2

    return loss


def zeroed(s, t, T, mask):
    keep = mask.unsqueeze(-1)
    return T**2 * (F.softmax(t / T, -1) * (F.log_softmax(t / T, -1) - F.log_softmax(s / T, -1)) * keep).sum(-1).mean()


def cross_entropy(s, t, T, mask):
    return T**2 * F.cross_entropy((s / T)[mask], (t / T).softmax(-1)[mask])


# ---- 07.3 ----


def gradient(factor=lambda T: T, sign=1, mean=True, tempered=True):
    def answer(s, t, T):
        at = T if tempered else 1.0
        gap = sign * (F.softmax(s / at, -1) - F.softmax(t / at, -1)) * factor(T)
        return gap / len(s) if mean else gap

    return answer


# ---- 07.4 ----


def unit(x):
    return F.normalize(x, dim=-1)


def whole_texts(s, t, mask):
    s, t = ((x * mask.unsqueeze(-1)).reshape(len(x), -1) for x in (s, t))
    return 1 - F.cosine_similarity(s, t, dim=1).mean()


# ---- 07.5 ----


def triple(soft=5, hard=2, cosine=1, T=2.0, where=lambda labels, mask: mask, swap=False, judge=0, padded=False):
    def answer(s_logits, t_logits, s_hidden, t_hidden, labels, mask):
        pair = (t_logits, s_logits) if swap else (s_logits, t_logits)
        total = soft * soft_target_loss(*pair, temperature=T, mask=where(labels, mask)) if soft else 0
        total = total + hard * hard_loss((s_logits, t_logits)[judge], labels)
        return total + cosine * cosine_loss(s_hidden, t_hidden, mask=None if padded else mask)

    return answer


# ---- 07.6 ----


def keeping(numbers, deep=True, told=True, embeddings=True):
    def answer(encoder, layers):
        student = copy.deepcopy(encoder)
        source = student if deep else encoder
        student.layers = nn.ModuleList(source.layers[number] for number in numbers(layers, len(encoder.layers)))
        if told:
            student.config = student.config.replace(num_layers=len(layers))
        if not embeddings:
            for weight in student.embeddings.parameters():
                nn.init.normal_(weight)
        return student

    return answer


def asked(layers, deep):
    return layers


def in_place(encoder, layers):
    encoder.layers = nn.ModuleList(encoder.layers[number] for number in layers)
    encoder.config = encoder.config.replace(num_layers=len(layers))
    return encoder


# ---- 07.7 ----


def recipe(
    weights=lambda a: (a, 1 - a), hot=True, pair=lambda m, n: (m, n), kinds=3, start=True, split=False, swap=False
):
    def answer(n, m, alpha, T):
        soft, hard = weights(alpha)
        terms = (
            Term("soft", soft, temperature=T if hot else 1.0),
            Term("hard", hard),
            Term("cosine", layers=(pair(m, n),)),
        )[:kinds]
        stages = tuple(Stage(term.name, (term,)) for term in terms) if split else (Stage("distil", terms),)
        begin = match_layers("uniform" if start is True else start, n, m) if start else None
        return Recipe("mine", *((m, n) if swap else (n, m)), stages, begin)

    return answer


WRONG = {
    "07.1": {
        "that sharpens": lambda z, T: F.softmax(z * T, -1),
        "the temperature is not used": lambda z, T: F.softmax(z, -1),
        "no longer add up to 1": lambda z, T: F.softmax(z, -1) / T,
        "each text has its own": lambda z, T: F.softmax(z / T, 0),
        "logarithms of probabilities": lambda z, T: F.log_softmax(z / T, -1),
        "by their largest": scaled_to_one,
        "is infinite": by_hand,
    },
    "07.2": {
        "have changed places": lambda s, t, T, m: T**2 * rows(t, s, T)[m].mean(),
        "factor T² is missing": lambda s, t, T, m: rows(s, t, T)[m].mean(),
        "not its square": lambda s, t, T, m: T * rows(s, t, T)[m].mean(),
        "padding counts too": lambda s, t, T, m: T**2 * rows(s, t, T).mean(),
        "counts in the mean": zeroed,
        "mean is over the texts": lambda s, t, T, m: T**2 * rows(s, t, T)[m].sum() / len(s),
        "over the classes as well": kl_div("mean"),
        "this is a sum": kl_div("sum"),
        "cross-entropy": cross_entropy,
        "only the student is softened": lambda s, t, T, m: T**2 * soft_target_loss(s / T, t, mask=m),
        "only the teacher is softened": lambda s, t, T, m: T**2 * soft_target_loss(s, t / T, mask=m),
    },
    "07.3": {
        "points the other way": gradient(sign=-1),
        "mean over rows": gradient(mean=False),
        "without the factor T²": gradient(lambda T: 1 / T),
        "takes one T away": gradient(lambda T: T**2),
        "neither the factor": gradient(lambda T: 1),
        "those at T = 1": gradient(tempered=False),
        "difference of the logits": lambda s, t, T: (s - t) / len(s),
        "over the classes as well": lambda s, t, T: gradient()(s, t, T) / s.shape[1],
    },
    "07.4": {
        "the cosine itself": lambda s, t, m: F.cosine_similarity(s, t, dim=-1)[m].mean(),
        "the 1 is missing": lambda s, t, m: -F.cosine_similarity(s, t, dim=-1)[m].mean(),
        "padding counts too": lambda s, t, m: 1 - F.cosine_similarity(s, t, dim=-1).mean(),
        "counts in the mean": lambda s, t, m: ((1 - F.cosine_similarity(s, t, dim=-1)) * m.float()).mean(),
        "along the tokens": lambda s, t, m: (1 - F.cosine_similarity(s, t)).mean(),
        "one long vector": whole_texts,
        "length 1": lambda s, t, m: (1 - (s * t).sum(-1))[m].mean(),
        "squared distance": lambda s, t, m: (unit(s) - unit(t)).pow(2).sum(-1)[m].mean(),
    },
    "07.5": {
        "weigh the same": triple(1, 1, 1),
        "weights of the labels": triple(2, 5, 1),
        "soft targets are missing": triple(soft=0),
        "labels are missing": triple(hard=0),
        "hidden states are missing": triple(cosine=0),
        "T is 2": triple(T=1.0),
        "hidden words only": triple(where=lambda labels, mask: labels != -100),
        "at padding too": triple(where=lambda labels, mask: None),
        "on padding too": triple(padded=True),
        "changed places in the soft": triple(swap=True),
        "against the teacher's": triple(judge=1),
    },
    "07.6": {
        "teacher itself is changed": in_place,
        "the first layers": keeping(lambda layers, deep: range(len(layers))),
        "the last layers": keeping(lambda layers, deep: range(deep - len(layers), deep)),
        "counted from 0": keeping(lambda layers, deep: [number - 1 for number in layers]),
        "reverse order": keeping(lambda layers, deep: layers[::-1]),
        "share weights": keeping(asked, deep=False),
        "its config says": keeping(asked, told=False),
        "the embeddings are not": keeping(asked, embeddings=False),
        "layers, expected": keeping(lambda layers, deep: range(deep)),
    },
    "07.7": {
        "alpha is the weight": recipe(lambda a: (1 - a, a)),
        "the weight of 'hard'": recipe(lambda a: (a, 1.0)),
        "are taken at T": recipe(hot=False),
        "count from the embeddings": recipe(pair=lambda m, n: (m - 1, n - 1)),
        "(student, teacher), in this order": recipe(pair=lambda m, n: (n, m)),
        "expected the terms": recipe(kinds=2),
        "begins with random weights": recipe(start=None),
        "begins with other layers": recipe(start="bottom"),
        "expected one stage": recipe(split=True),
        "depth have changed places": recipe(swap=True),
    },
}


@pytest.mark.parametrize("task", WRONG)
def test_check(task):
    prove(task, WRONG[task])


@pytest.mark.parametrize(
    ("task", "answer", "words"),
    [
        ("07.1", lambda z, T: F.softmax(z / T, -1).tolist(), "expected a Tensor"),
        ("07.2", lambda s, t, T, m: rows(s, t, T), "expected"),
        ("07.2", lambda s, t, T, m: float(T**2 * rows(s, t, T)[m].mean()), "expected a Tensor"),
        ("07.3", lambda s, t, T: gradient()(s, t, T).sum(0), "expected shape"),
        ("07.6", lambda encoder, layers: in_place(encoder, layers) and None, "returns None"),
        ("07.6", lambda encoder, layers: encoder.layers, "expected an Encoder"),
        ("07.7", lambda n, m, a, T: recipe()(n, m, a, T).stages, "expected a Recipe"),
        ("07.7", lambda n, m, a, T: recipe()(n, m, a, T) and None, "returns None"),
        ("07.7", recipe(pair=lambda m, n: (m - 1, n)), "the cosine compares"),
    ],
)
def test_odd_answers(task, answer, words):
    result = run_check(task, answer, seed=5)
    assert result.status == "wrong" and words in result.message, result


def test_other_right_answers_are_right():
    """07.2 by PyTorch's own loss, 07.3 by autograd, 07.6 by a loop."""

    def by_autograd(s, t, T):
        s = s.clone().requires_grad_()
        soft_target_loss(s, t, temperature=T).backward()
        return s.grad

    answers = {"07.2": kl_div("batchmean"), "07.3": by_autograd, "07.6": keeping(asked)}
    for task, answer in answers.items():
        for seed in range(5):
            assert run_check(task, answer, seed=seed).status == "right", (task, run_check(task, answer, seed=seed))

"""Checks of unit 07 on losses: softened answers, soft targets, their gradient, directions, the triple loss."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from coursekit.course.expect import Draw, expect_call
from coursekit.data import IGNORED
from coursekit.distill import cosine_loss, hard_loss, soft_target_loss

# ---- 07.1: softened answers ----


def soften(logits, temperature) -> Tensor:
    """Stand-in for 07.1."""
    return (logits / temperature).softmax(-1)


def check_soften(answer: Callable, draw: Draw) -> None:
    """07.1 on a batch; then on logits so large that exp overflows."""
    shape = (draw.integer(2, 4), draw.integer(5, 7))
    logits, temperature = 2 * draw.normal(*shape), draw.number(1.6, 4.0)
    mistakes = {
        "the logits are multiplied by the temperature; that sharpens": lambda z, t: (z * t).softmax(-1),
        "the temperature is not used": lambda z, t: z.softmax(-1),
        "the probabilities are divided by the temperature, so they no longer add up to 1": lambda z, t: (
            z.softmax(-1) / t
        ),
        "the softmax is over the texts; each text has its own answers": lambda z, t: (z / t).softmax(0),
        "these are logarithms of probabilities": lambda z, t: (z / t).log_softmax(-1),
        "the softmax is there, but the answers are divided by their largest": lambda z, t: (
            (z / t).softmax(-1) / (z / t).softmax(-1).amax(-1, keepdim=True)
        ),
    }
    expect_call(answer, (logits, temperature), (logits.double() / temperature).softmax(-1).float(), mistakes=mistakes)
    large = 200 * draw.normal(*shape)
    overflow = {"exp of a large logit is infinite; the softmax of PyTorch avoids that": _plain_softmax}
    expect_call(answer, (large, 1.5), (large.double() / 1.5).softmax(-1).float(), mistakes=overflow)


def _plain_softmax(logits, temperature) -> Tensor:
    powers = (logits / temperature).exp()
    return powers / powers.sum(-1, keepdim=True)


# ---- 07.2: soft targets ----


def soft_loss(s_logits, t_logits, temperature, mask) -> Tensor:
    """Stand-in for 07.2."""
    return soft_target_loss(s_logits, t_logits, temperature=temperature, mask=mask)


def _divergence(s, t, temperature) -> Tensor:
    """KL(teacher ‖ student) of each row, (…)."""
    log_s, log_t = ((x / temperature).log_softmax(-1) for x in (s, t))
    return (log_t.exp() * (log_t - log_s)).sum(-1)


def check_soft(answer: Callable, draw: Draw) -> None:
    """07.2 on a padded batch; then one whose student equals its teacher, where the loss is 0."""
    batch, tokens, classes = draw.integer(3, 4), draw.integer(4, 6), draw.integer(5, 8)
    s, t = 2 * draw.normal(batch, tokens, classes), 2 * draw.normal(batch, tokens, classes)
    mask, temperature = draw.mask(batch, tokens), draw.number(1.6, 3.0)
    rows = _divergence(s.double(), t.double(), temperature)
    expect_call(
        answer,
        (s, t, temperature, mask),
        (temperature**2 * rows[mask].mean()).float(),
        mistakes={
            "the two have changed places: the teacher's answers weigh the logarithms": lambda s, t, T, m: (
                T**2 * _divergence(t, s, T)[m].mean()
            ),
            "the factor T² is missing": lambda s, t, T, m: _divergence(s, t, T)[m].mean(),
            "the factor is T, not its square": lambda s, t, T, m: T * _divergence(s, t, T)[m].mean(),
            "padding counts too": lambda s, t, T, m: T**2 * _divergence(s, t, T).mean(),
            "padding adds nothing to the sum, but counts in the mean": lambda s, t, T, m: (
                T**2 * (_divergence(s, t, T) * m).mean()
            ),
            "the mean is over the texts; it is to be over the real tokens": lambda s, t, T, m: (
                T**2 * (_divergence(s, t, T) * m).sum() / len(s)
            ),
            "the mean is over the classes as well; a row's terms are added up": lambda s, t, T, m: (
                T**2 * _divergence(s, t, T)[m].mean() / s.shape[-1]
            ),
            "this is a sum; the loss must not grow with the number of tokens": lambda s, t, T, m: (
                T**2 * _divergence(s, t, T)[m].sum()
            ),
            "this is the cross-entropy: it is not 0 where student and teacher agree": lambda s, t, T, m: (
                -(T**2) * ((t / T).softmax(-1) * (s / T).log_softmax(-1)).sum(-1)[m].mean()
            ),
            "only the student is softened": lambda s, t, T, m: T**2 * _divergence(s / T, t, 1.0)[m].mean(),
            "only the teacher is softened": lambda s, t, T, m: T**2 * _divergence(s, t / T, 1.0)[m].mean(),
        },
    )
    expect_call(answer, (s, s.clone(), temperature, mask), torch.tensor(0.0), atol=1e-4)


# ---- 07.3: the gradient ----


def soft_gradient(s_logits, t_logits, temperature) -> Tensor:
    """Stand-in for 07.3."""
    return temperature * (soften(s_logits, temperature) - soften(t_logits, temperature)) / len(s_logits)


def check_gradient(answer: Callable, draw: Draw) -> None:
    """07.3 against autograd."""
    rows, classes = draw.integer(3, 5), draw.integer(6, 9)
    s, t, temperature = 2 * draw.normal(rows, classes), 2 * draw.normal(rows, classes), draw.number(1.6, 3.0)
    free = s.clone().requires_grad_()
    (expected,) = torch.autograd.grad(soft_target_loss(free, t, temperature=temperature), free)
    expect_call(
        answer,
        (s, t, temperature),
        expected,
        mistakes={
            "it points the other way: where the student says too much, its logit must fall": (
                lambda s, t, T: -soft_gradient(s, t, T)
            ),
            "the loss is a mean over rows, and so is its gradient": lambda s, t, T: len(s) * soft_gradient(s, t, T),
            "this is the gradient without the factor T²": lambda s, t, T: soft_gradient(s, t, T) / T**2,
            "T² comes from the factor, but the derivative of z/T takes one T away": lambda s, t, T: (
                T * soft_gradient(s, t, T)
            ),
            "neither the factor T² nor the derivative of z/T is there": lambda s, t, T: soft_gradient(s, t, T) / T,
            "the probabilities are those at T = 1": lambda s, t, T: T * (s.softmax(-1) - t.softmax(-1)) / len(s),
            "this is the difference of the logits; that is the gradient for very large T": lambda s, t, T: (
                (s - t) / len(s)
            ),
            "the mean is over the classes as well": lambda s, t, T: soft_gradient(s, t, T) / s.shape[-1],
        },
    )


# ---- 07.4: directions ----


def direction_loss(s, t, mask) -> Tensor:
    """Stand-in for 07.4."""
    return cosine_loss(s, t, mask=mask)


def check_direction(answer: Callable, draw: Draw) -> None:
    """07.4 on a padded batch; then for states that differ in length alone."""
    batch, tokens, width = draw.integer(3, 4), draw.integer(4, 6), draw.integer(5, 8)
    s, t, mask = draw.normal(batch, tokens, width), draw.normal(batch, tokens, width), draw.mask(batch, tokens)
    cosine = F.cosine_similarity(s.double(), t.double(), dim=-1)

    def normal(x: Tensor) -> Tensor:
        return x / x.norm(dim=-1, keepdim=True)

    expect_call(
        answer,
        (s, t, mask),
        (1 - cosine[mask].mean()).float(),
        mistakes={
            "this is the cosine itself; a loss falls as they come together": lambda s, t, m: F.cosine_similarity(
                s, t, dim=-1
            )[m].mean(),
            "the sign is turned, but the 1 is missing": lambda s, t, m: -F.cosine_similarity(s, t, dim=-1)[m].mean(),
            "padding counts too": lambda s, t, m: (1 - F.cosine_similarity(s, t, dim=-1)).mean(),
            "padding adds nothing to the sum, but counts in the mean": lambda s, t, m: (
                (1 - F.cosine_similarity(s, t, dim=-1)) * m
            ).mean(),
            "the cosine is along the tokens; a state is a vector of H numbers": lambda s, t, m: (
                1 - F.cosine_similarity(s, t, dim=1).mean()
            ),
            "each text's states are taken as one long vector": lambda s, t, m: (
                1 - F.cosine_similarity((s * m[..., None]).flatten(1), (t * m[..., None]).flatten(1), dim=-1).mean()
            ),
            "the states are not brought to length 1": lambda s, t, m: 1 - (s * t).sum(-1)[m].mean(),
            "this is the squared distance of the directions, twice the loss": lambda s, t, m: (
                (normal(s) - normal(t)).square().sum(-1)[m].mean()
            ),
        },
    )
    expect_call(answer, (s, draw.number(2.0, 5.0) * s, mask), torch.tensor(0.0), atol=1e-4)


# ---- 07.5: the triple loss ----


def triple_loss(s_logits, t_logits, s_hidden, t_hidden, labels, mask, *, weights=(5, 2, 1), T=2.0, rows=None) -> Tensor:
    """Stand-in for 07.5; the options make its wrong variants."""
    soft = soft_target_loss(s_logits, t_logits, temperature=T, mask=mask if rows is None else rows)
    return (
        weights[0] * soft
        + weights[1] * hard_loss(s_logits, labels)
        + weights[2] * cosine_loss(s_hidden, t_hidden, mask=mask)
    )


def check_triple(answer: Callable, draw: Draw) -> None:
    """07.5 on a padded batch of which some words are hidden."""
    batch, tokens, words, width = draw.integer(3, 4), draw.integer(6, 8), draw.integer(9, 12), draw.integer(4, 6)
    mask = draw.mask(batch, tokens)
    hidden = mask & (torch.rand(batch, tokens, generator=draw.generator) < 0.4)
    hidden[:, 0] = True  # a word of each text
    hidden[mask.sum(1) > 1, 1] = False  # and one that is not
    labels = torch.where(hidden, draw.integers(0, words - 1, batch, tokens), torch.tensor(IGNORED))
    logits, states = ([draw.normal(batch, tokens, size) for _ in range(2)] for size in (words, width))
    args = (2 * logits[0], 2 * logits[1], *states, labels, mask)
    log_s, log_t = ((x.double() / 2).log_softmax(-1) for x in args[:2])
    soft = 4 * (log_t.exp() * (log_t - log_s)).sum(-1)[mask].mean()
    hard = F.cross_entropy(args[0].double().flatten(0, 1), labels.flatten(), ignore_index=IGNORED)
    cosine = (1 - F.cosine_similarity(states[0].double(), states[1].double(), dim=-1))[mask].mean()
    everywhere = torch.ones_like(mask)
    expect_call(
        answer,
        args,
        (5 * soft + 2 * hard + cosine).float(),
        mistakes={
            "all three weigh the same": lambda *a: triple_loss(*a, weights=(1, 1, 1)),
            "the weights of the labels and the soft targets have changed places": (
                lambda *a: triple_loss(*a, weights=(2, 5, 1))
            ),
            "the soft targets are missing": lambda *a: triple_loss(*a, weights=(0, 2, 1)),
            "the hidden words' labels are missing": lambda *a: triple_loss(*a, weights=(5, 0, 1)),
            "the hidden states are missing": lambda *a: triple_loss(*a, weights=(5, 2, 0)),
            "the answers are not softened: T is 2": lambda *a: triple_loss(*a, T=1.0),
            "the soft targets look at the hidden words only; they are for all real tokens": (
                lambda *a: triple_loss(*a, rows=a[4] != IGNORED)
            ),
            "the soft targets look at padding too": lambda *a: triple_loss(*a, rows=everywhere),
            "the states are compared on padding too": lambda *a: (
                triple_loss(*a, weights=(5, 2, 0)) + cosine_loss(a[2], a[3])
            ),
            "student and teacher have changed places in the soft targets": lambda *a: (
                triple_loss(*a, weights=(0, 2, 1)) + 5 * soft_target_loss(a[1], a[0], temperature=2.0, mask=a[5])
            ),
            "the labels are held against the teacher's answers": lambda *a: (
                triple_loss(*a, weights=(5, 0, 1)) + 2 * hard_loss(a[1], a[4])
            ),
        },
    )

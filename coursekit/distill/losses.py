"""Distillation losses: student first, teacher second, one scalar out.

All of them: mean over what is real, so padding changes nothing; with nothing real a zero that still has a gradient
path; no gradient into the teacher; computed in fp32 whatever the models compute in (fp64 stays). A mask is (B, T), true
on real tokens. They raise ValueError where shapes do not fit: nothing is broadcast.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from coursekit.data import IGNORED

FAR = -1e9  # instead of −∞, of which 0·(−∞) and (−∞) − (−∞) make NaN


def soft_target_loss(
    s_logits: Tensor, t_logits: Tensor, *, temperature: float = 1.0, mask: Tensor | None = None
) -> Tensor:
    """T²·KL(softmax(t/T) ‖ softmax(s/T)): sum over classes, mean over rows (Hinton et al. 2015, section 2).

    Logits (…, C), mask (…). The gradient shrinks with 1/T² as T grows; the factor keeps its size. Unlike the soft
    cross-entropy, whose gradient is the same, it is 0 where the student equals the teacher. A logit of −∞ is a class
    that cannot be. Raises ValueError for a temperature that is not positive.
    """
    check_temperature(temperature)
    s, t = _rows(s_logits, t_logits, mask, "logits")
    log_s, log_t = _log_softmax(s, temperature), _log_softmax(t, temperature)
    return temperature**2 * _mean(_kl(log_t, log_s), len(s))


def hard_loss(s_logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy with labels (…) for logits (…, C), a mean over those that are not `IGNORED` (−100)."""
    if labels.shape != s_logits.shape[:-1]:
        raise ValueError(f"labels of shape {tuple(labels.shape)} do not fit logits {tuple(s_logits.shape)}")
    total = F.cross_entropy(
        _wide(s_logits).reshape(-1, s_logits.shape[-1]), labels.reshape(-1), ignore_index=IGNORED, reduction="sum"
    )
    return total / (labels != IGNORED).sum().clamp_min(1)


def cosine_loss(s: Tensor, t: Tensor, *, mask: Tensor | None = None) -> Tensor:
    """1 − cos(s, t) of the states (…, H), a mean over rows (DistilBERT, section 3): only the direction counts."""
    s, t = _rows(s, t, mask, "hidden states")
    return _mean(1 - F.cosine_similarity(s, t, dim=-1), len(s))


def hidden_mse(s: Tensor, t: Tensor, *, mask: Tensor | None = None) -> Tensor:
    """(s − t)² of the states (…, H), a mean over rows·H (TinyBERT, equations 8 and 9, after the projection)."""
    s, t = _rows(s, t, mask, "hidden states")
    return F.mse_loss(s, t, reduction="sum") / max(s.numel(), 1)


def attention_mse(s_scores: Tensor, t_scores: Tensor, *, mask: Tensor | None) -> Tensor:
    """(s − t)² of the scores (B, A, T, T) before the softmax, a mean over heads and pairs whose query and key are both
    real (TinyBERT, equation 7)."""
    s, t = _same(s_scores, t_scores, "scores")
    pairs = _pairs(s, mask)
    s, t = s.masked_fill(~pairs, 0), t.masked_fill(~pairs, 0)
    return F.mse_loss(s, t, reduction="sum") / (pairs.sum() * s.shape[1]).clamp_min(1)


def attention_kl(s_probs: Tensor, t_probs: Tensor, *, mask: Tensor | None) -> Tensor:
    """KL(teacher ‖ student) of the attention (B, A, T, T), rows adding up to 1 over real keys; sum over keys, mean
    over heads and real queries (MiniLM, equation 2)."""
    s, t = _same(s_probs, t_probs, "attention probabilities")
    pairs = _pairs(s, mask)
    tiny = torch.finfo(s.dtype).tiny
    s, t = s.masked_fill(~pairs, 1), t.masked_fill(~pairs, 0)  # what padding attends to may be NaN
    return _mean(t * (t.clamp_min(tiny).log() - s.clamp_min(tiny).log()), _queries(s, mask))


def value_relation_kl(s_values: Tensor, t_values: Tensor, *, mask: Tensor | None) -> Tensor:
    """KL(teacher ‖ student) of softmax(V·Vᵀ/√d), each with its own head size d, keys real ones only; mean over heads
    and real queries (MiniLM, equations 3 to 5). Values (B, A, T, d): A must be equal, d may differ.
    """
    return relation_kl(s_values, t_values, mask=mask)


def relation_kl(s: Tensor, t: Tensor, *, mask: Tensor | None, heads: int | None = None) -> Tensor:
    """`value_relation_kl` for queries, keys or values (B, A, T, d).

    heads: first join all heads and split anew into so many (MiniLM v2, section 3.1), so that A may differ as well.
    """
    s, t = (_wide(x) if heads is None else _split_again(_wide(x), heads) for x in (s, t.detach()))
    if s.shape[:3] != t.shape[:3]:
        raise ValueError(
            f"relations need equal (batch, heads, tokens), got {tuple(s.shape[:3])} of the student and "
            f"{tuple(t.shape[:3])} of the teacher; for other head counts give `heads`"
        )
    pairs = _pairs(s, mask)
    log_s, log_t = _relation(s, pairs), _relation(t, pairs)
    divergence = log_t.exp() * (log_t - log_s)
    return _mean(divergence.masked_fill(~pairs, 0), _queries(s, mask))


def patient_loss(s_cls: Tensor, t_cls: Tensor) -> Tensor:
    """‖s/‖s‖ − t/‖t‖‖² of the first token's states (B, layers, H), sum over H, mean over batch and layers (PKD,
    equation 7). The released code takes the mean over H too: its β is H times ours.
    """
    s, t = _same(s_cls, t_cls, "[CLS] states")
    difference = F.normalize(s, dim=-1) - F.normalize(t, dim=-1)
    return _mean(difference.square(), s.shape[:-1].numel())


class TopTargets(NamedTuple):
    """The k likeliest classes of a teacher: log-probabilities among all classes (…, k), and their numbers (…, k)."""

    log_probs: Tensor
    classes: Tensor


def top_targets(t_logits: Tensor, k: int, *, temperature: float = 1.0) -> TopTargets:
    """What `top_target_loss` needs of logits (…, C). Raises ValueError unless 0 < k ≤ C and temperature > 0."""
    check_temperature(temperature)
    if not 0 < k <= t_logits.shape[-1]:
        raise ValueError(f"top_k must be 1 to {t_logits.shape[-1]}, the number of classes, got {k}")
    logits = _wide(t_logits.detach()).clamp_min(FAR) / temperature
    top = logits.topk(k, dim=-1)
    return TopTargets(top.values - logits.logsumexp(-1, keepdim=True), top.indices)


def top_target_loss(
    s_logits: Tensor, targets: TopTargets, *, temperature: float = 1.0, mask: Tensor | None = None
) -> Tensor:
    """`soft_target_loss` over k + 1 classes: the teacher's top k, and all others as one.

    Merging classes can only lower a KL divergence; with k = C it is the same. Needs no teacher logits over the whole
    vocabulary, so they need not be kept.
    """
    check_temperature(temperature)
    log_probs, classes = targets
    if classes.shape[:-1] != s_logits.shape[:-1]:
        raise ValueError(f"targets for {tuple(classes.shape[:-1])} rows, logits for {tuple(s_logits.shape[:-1])}")
    valid = None if mask is None else _check_mask(mask, s_logits.shape[:-1])
    logits, log_t, classes = (
        x.reshape(-1, x.shape[-1]) if valid is None else x[valid]
        for x in (s_logits, log_probs.detach(), classes.long())
    )
    logits = _wide(logits).clamp_min(FAR) / temperature
    log_s = logits.gather(-1, classes) - logits.logsumexp(-1, keepdim=True)
    log_t = log_t.to(log_s.dtype)
    if classes.shape[-1] < s_logits.shape[-1]:
        log_s, log_t = (torch.cat((x, _log_rest(x)), -1) for x in (log_s, log_t))
    return temperature**2 * _mean(_kl(log_t, log_s), len(log_s))


def check_temperature(temperature: float) -> None:
    """Raise ValueError for a temperature that is not a positive number."""
    if not 0 < temperature < math.inf:
        raise ValueError(f"temperature must be a positive number, got {temperature}")


def _log_rest(log_probs: Tensor) -> Tensor:
    """log(1 − Σ p) (…, 1), as from a rest of at least a millionth: below that fp32 knows nothing of it."""
    rest = 1 - log_probs.exp().sum(-1, keepdim=True)
    return rest.clamp_min(1e-6).log()


def _wide(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def _log_softmax(logits: Tensor, temperature: float) -> Tensor:
    return (logits.clamp_min(FAR) / temperature).log_softmax(-1)


def _kl(log_t: Tensor, log_s: Tensor) -> Tensor:
    return log_t.exp() * (log_t - log_s)


def _mean(x: Tensor, count: int | Tensor) -> Tensor:
    return x.sum() / torch.as_tensor(count).clamp_min(1)


def _same(s: Tensor, t: Tensor, what: str) -> tuple[Tensor, Tensor]:
    if s.shape != t.shape:
        raise ValueError(f"{what} of the student have shape {tuple(s.shape)}, of the teacher {tuple(t.shape)}")
    return _wide(s), _wide(t.detach())


def _rows(s: Tensor, t: Tensor, mask: Tensor | None, what: str) -> tuple[Tensor, Tensor]:
    """The real rows (N, C) of both."""
    s, t = _same(s, t, what)
    if mask is None:
        return s.reshape(-1, s.shape[-1]), t.reshape(-1, t.shape[-1])
    mask = _check_mask(mask, s.shape[:-1])
    return s[mask], t[mask]


def _check_mask(mask: Tensor, shape: torch.Size) -> Tensor:
    if mask.shape != shape:
        raise ValueError(f"a mask of shape {tuple(mask.shape)} does not fit states for {tuple(shape)}")
    return mask.bool()


def _pairs(states: Tensor, mask: Tensor | None) -> Tensor:
    """(B, 1, T, T): where query and key are both real, for states (B, A, T, …)."""
    batch, _, tokens, _ = states.shape
    if mask is None:
        return torch.ones(batch, 1, tokens, tokens, dtype=torch.bool, device=states.device)
    mask = _check_mask(mask, torch.Size((batch, tokens)))
    return (mask[:, :, None] & mask[:, None, :])[:, None]


def _queries(states: Tensor, mask: Tensor | None) -> int | Tensor:
    """Number of heads × real queries."""
    batch, heads, tokens, _ = states.shape
    return heads * (batch * tokens if mask is None else mask.bool().sum())


def _relation(x: Tensor, pairs: Tensor) -> Tensor:
    """Log of softmax(x·xᵀ/√d) (B, A, T, T) over real keys; rows of padding are finite and mean nothing."""
    with torch.autocast(x.device.type, enabled=False):  # it would round this product to bf16
        scores = x @ x.transpose(-1, -2) / math.sqrt(x.shape[-1])
    return scores.masked_fill(~pairs, FAR).log_softmax(-1)


def _split_again(x: Tensor, heads: int) -> Tensor:
    """(B, A, T, d) → (B, heads, T, A·d/heads)."""
    width = x.shape[1] * x.shape[3]
    if heads < 1 or width % heads:
        raise ValueError(f"a width of {width} ({x.shape[1]} heads of {x.shape[3]}) does not split into {heads} heads")
    return x.transpose(1, 2).flatten(2).unflatten(-1, (heads, width // heads)).transpose(1, 2)

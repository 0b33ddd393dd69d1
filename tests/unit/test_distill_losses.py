"""Distillation losses against hand-computed values, plain formulas in fp64, and what must not change them."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from coursekit.distill.losses import (
    attention_kl,
    attention_mse,
    cosine_loss,
    hard_loss,
    hidden_mse,
    patient_loss,
    relation_kl,
    soft_target_loss,
    top_target_loss,
    top_targets,
    value_relation_kl,
)

LENGTHS = (5, 3, 1)
INF = math.inf


def mask(width=5, lengths=LENGTHS):
    return torch.arange(width) < torch.tensor(lengths)[:, None]


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def probs(scores, real):
    """As the encoder: a text without tokens sees all its positions."""
    if len(scores) == len(real):
        real = real | ~real.any(1, keepdim=True)
        scores = scores.masked_fill(~real[:, None, None], -INF)
    return scores.softmax(-1)


# Each loss as a function of (student, teacher, mask), and the shape of what it compares for (B, T).
WITH_MASK = {
    "soft": (lambda s, t, m: soft_target_loss(s, t, temperature=2.0, mask=m), lambda b, n: (b, n, 7)),
    "top": (
        lambda s, t, m: top_target_loss(s, top_targets(t, 3, temperature=2.0), temperature=2.0, mask=m),
        lambda b, n: (b, n, 7),
    ),
    "cosine": (lambda s, t, m: cosine_loss(s, t, mask=m), lambda b, n: (b, n, 6)),
    "hidden": (lambda s, t, m: hidden_mse(s, t, mask=m), lambda b, n: (b, n, 6)),
    "attention-mse": (lambda s, t, m: attention_mse(s, t, mask=m), lambda b, n: (b, 2, n, n)),
    "attention-kl": (lambda s, t, m: attention_kl(probs(s, m), probs(t, m), mask=m), lambda b, n: (b, 2, n, n)),
    "values": (lambda s, t, m: value_relation_kl(s, t, mask=m), lambda b, n: (b, 2, n, 4)),
    "v2": (lambda s, t, m: relation_kl(s, t, mask=m, heads=4), lambda b, n: (b, 2, n, 4)),
}
each = pytest.mark.parametrize("name", WITH_MASK)


def padded(x, real_width, width, seed):
    """x in the corner of larger noise, for every axis of tokens."""
    out = 10 * draw(*(width if size == real_width else size for size in x.shape), seed=seed)
    out[tuple(slice(size) for size in x.shape)] = x
    return out


@each
def test_padding_changes_nothing(name):
    loss, shape = WITH_MASK[name]
    s, t = draw(*shape(3, 5)), draw(*shape(3, 5), seed=1)
    expected = loss(s, t, mask())
    for width in (8, 16):
        more = loss(padded(s, 5, width, 2), padded(t, 5, width, 3), mask(width))
        assert more.item() == pytest.approx(expected.item(), rel=1e-12)


@each
def test_a_padded_batch_is_the_mean_over_its_texts(name):
    """Pooled over what is real: rows, pairs or queries, not a mean of means."""
    loss, shape = WITH_MASK[name]
    s, t = draw(*shape(3, 5)), draw(*shape(3, 5), seed=1)
    total = count = 0.0
    for row, length in enumerate(LENGTHS):
        cut = [slice(row, row + 1)] + [slice(length if size == 5 else None) for size in s.shape[1:]]
        weight = length**2 if name == "attention-mse" else length
        total += weight * loss(s[tuple(cut)], t[tuple(cut)], torch.ones(1, length, dtype=torch.bool)).item()
        count += weight
    assert loss(s, t, mask()).item() == pytest.approx(total / count, rel=1e-12)


@each
def test_equality_is_zero_without_gradient(name):
    loss, shape = WITH_MASK[name]
    t = draw(*shape(3, 5))
    s = t.clone().requires_grad_()
    value = loss(s, t, mask())
    value.backward()
    assert abs(value.item()) < 1e-12
    assert s.grad.abs().max() < 1e-9


@each
def test_difference_is_positive_with_gradient_for_the_student_alone(name):
    loss, shape = WITH_MASK[name]
    s, t = draw(*shape(3, 5)).requires_grad_(), draw(*shape(3, 5), seed=1).requires_grad_()
    value = loss(s, t, mask())
    value.backward()
    assert value > 0 and s.grad.abs().max() > 1e-4 and t.grad is None
    assert value.dim() == 0


@each
def test_nothing_real_is_a_zero_with_a_gradient_path(name):
    loss, shape = WITH_MASK[name]
    s, t = draw(*shape(2, 5)).requires_grad_(), draw(*shape(2, 5), seed=1)
    value = loss(s, t, torch.zeros(2, 5, dtype=torch.bool))
    value.backward()
    assert value.item() == 0 and s.grad.isfinite().all() and not s.grad.any()


@each
def test_one_padded_row_among_others_is_ignored(name):
    loss, shape = WITH_MASK[name]
    s, t = draw(*shape(3, 5)).requires_grad_(), draw(*shape(3, 5), seed=1)
    real = mask(lengths=(5, 0, 2))
    value = loss(s, t, real)
    value.backward()
    kept = [0, 2]
    assert value.item() == pytest.approx(loss(s[kept].detach(), t[kept], real[kept]).item(), rel=1e-12)
    assert s.grad.isfinite().all() and not s.grad[1].any()


@each
def test_half_precision_is_computed_in_single(name):
    loss, shape = WITH_MASK[name]
    s, t = (x.to(torch.bfloat16) for x in (draw(*shape(3, 5)), draw(*shape(3, 5), seed=1)))
    value = loss(s, t, mask())
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(loss(s.float(), t.float(), mask()).item(), rel=3e-2)


@each
def test_shapes_that_differ_are_refused(name):
    loss, shape = WITH_MASK[name]
    s, t = draw(*shape(3, 5)), draw(*shape(2, 5))
    with pytest.raises(ValueError, match="3.*2|2.*3"):
        loss(s, t, mask())


@pytest.mark.parametrize("name", ["soft", "cosine", "hidden", "attention-mse", "values"])
def test_a_mask_of_another_shape_is_refused(name):
    loss, shape = WITH_MASK[name]
    with pytest.raises(ValueError, match="mask"):
        loss(draw(*shape(3, 5)), draw(*shape(3, 5)), mask(4, (4, 3, 1)))


def test_soft_targets_by_hand():
    """Teacher (.75, .25), student (.5, .5): KL = .75·ln 1.5 + .25·ln .5, teacher first."""
    s, t = torch.zeros(1, 2), torch.tensor([[math.log(3), 0.0]])
    forward = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    reverse = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
    assert soft_target_loss(s, t).item() == pytest.approx(forward, rel=1e-6)
    assert abs(forward - reverse) > 0.01  # so the other direction would be noticed
    assert soft_target_loss(t, s).item() == pytest.approx(reverse, rel=1e-6)


def test_soft_targets_sum_over_classes_and_average_over_rows():
    s, t = draw(2, 3, 5), draw(2, 3, 5, seed=1)
    p, q = t.softmax(-1), s.softmax(-1)
    rows = (p * (p / q).log()).sum(-1)
    assert soft_target_loss(s, t).item() == pytest.approx(rows.mean().item(), rel=1e-12)
    real = mask(3, (3, 1))
    assert soft_target_loss(s, t, mask=real).item() == pytest.approx(rows[real].mean().item(), rel=1e-12)
    assert soft_target_loss(s, t).item() == pytest.approx(5 * F.kl_div(q.log(), p, reduction="mean").item())


@settings(deadline=None, max_examples=20)
@given(st.floats(0.3, 10), st.integers(0, 9))
def test_temperature_divides_both_once_and_its_square_keeps_the_gradient(temperature, seed):
    s, t = draw(4, 6, seed=seed).requires_grad_(), draw(4, 6, seed=seed + 20)
    p, log_q = (t / temperature).softmax(-1), (s / temperature).log_softmax(-1)
    expected = temperature**2 * (p * (p.log() - log_q)).sum(-1).mean()
    value = soft_target_loss(s, t, temperature=temperature)
    assert value.item() == pytest.approx(expected.item(), rel=1e-9)
    value.backward()  # ∂/∂s = T·(q − p) per row
    assert torch.allclose(s.grad, temperature * (log_q.exp() - p).detach() / 4, atol=1e-12)


def test_gradient_keeps_its_size_as_temperature_grows():
    sizes = []
    for temperature in (10.0, 100.0, 1000.0):
        s = draw(4, 6).requires_grad_()
        soft_target_loss(s, draw(4, 6, seed=1), temperature=temperature).backward()
        sizes.append(s.grad.norm().item())
    assert sizes[1] == pytest.approx(sizes[0], rel=0.2) and sizes[2] == pytest.approx(sizes[1], rel=0.02)


def test_soft_targets_have_the_gradient_of_soft_cross_entropy_and_differ_by_the_entropy():
    s, t = draw(4, 6).requires_grad_(), draw(4, 6, seed=1)
    p = t.softmax(-1)
    cross_entropy = -(p * s.log_softmax(-1)).sum(-1).mean()
    value = soft_target_loss(s, t)
    entropy = -(p * p.log()).sum(-1).mean()
    assert (cross_entropy - value).item() == pytest.approx(entropy.item(), rel=1e-9)
    (ours,) = torch.autograd.grad(value, s)
    (theirs,) = torch.autograd.grad(cross_entropy, s)
    assert torch.allclose(ours, theirs, atol=1e-12)


@pytest.mark.parametrize("temperature", [0, -1.0, INF, math.nan])
def test_temperature_must_be_positive(temperature):
    for loss in (soft_target_loss, lambda s, t, temperature: top_targets(t, 1, temperature=temperature)):
        with pytest.raises(ValueError, match="temperature"):
            loss(draw(2, 3), draw(2, 3), temperature=temperature)


@pytest.mark.parametrize("where", ["teacher", "both", "student", "row"])
def test_minus_infinity_is_a_class_that_cannot_be(where):
    s, t = draw(2, 4).float(), draw(2, 4, seed=1).float()
    if where in ("teacher", "both"):
        t[:, 1] = -INF
    if where in ("student", "both"):
        s[:, 1] = -INF
    if where == "row":
        s[0], t[0] = -INF, -INF
    s = s.requires_grad_()
    value = soft_target_loss(s, t, temperature=2.0)
    value.backward()
    assert value.isfinite() and s.grad.isfinite().all()
    if where == "both":
        kept = [0, 2, 3]
        expected = soft_target_loss(s[:, kept].detach(), t[:, kept], temperature=2.0)
        assert value.item() == pytest.approx(expected.item(), rel=1e-6)


def test_hard_loss_ignores_what_has_no_label():
    s = draw(4, 3)
    labels = torch.tensor([0, -100, 2, -100])
    expected = F.cross_entropy(s[[0, 2]], labels[[0, 2]])
    assert hard_loss(s, labels).item() == pytest.approx(expected.item(), rel=1e-9)
    s = s.requires_grad_()
    none = hard_loss(s, torch.full((4,), -100))
    none.backward()
    assert none.item() == 0 and not s.grad.any()
    with pytest.raises(ValueError, match="labels"):
        hard_loss(s, labels[:3])


def test_top_targets_with_all_classes_are_soft_targets():
    s, t = draw(4, 6), draw(4, 6, seed=1)
    for temperature in (1.0, 3.0):
        value = top_target_loss(s, top_targets(t, 6, temperature=temperature), temperature=temperature)
        assert value.item() == pytest.approx(soft_target_loss(s, t, temperature=temperature).item(), rel=1e-9)


def test_top_targets_merge_the_other_classes():
    s, t = draw(4, 6), draw(4, 6, seed=1)
    top = t.topk(2).indices
    p, q = (x.softmax(-1).gather(-1, top) for x in (t, s))
    p, q = (torch.cat((x, 1 - x.sum(-1, keepdim=True)), -1) for x in (p, q))
    expected = (p * (p / q).log()).sum(-1).mean()
    value = top_target_loss(s, top_targets(t, 2))
    assert value.item() == pytest.approx(expected.item(), rel=1e-9)
    assert value < soft_target_loss(s, t)


def test_top_targets_stay_finite_where_nothing_is_left():
    t = torch.tensor([[50.0, 0.0, -50.0]])
    s = torch.tensor([[-INF, 0.0, 80.0]], requires_grad=True)
    value = top_target_loss(s, top_targets(t, 1))
    value.backward()
    assert value.isfinite() and s.grad.isfinite().all()
    with pytest.raises(ValueError, match="top_k must be 1 to 3.*4"):
        top_targets(t, 4)


def test_cosine_is_one_minus_the_cosine_whatever_the_lengths():
    s = torch.tensor([[[1.0, 0.0], [3.0, 4.0]]])
    t = torch.tensor([[[0.0, 2.0], [6.0, 8.0]]])
    assert cosine_loss(s, t).item() == pytest.approx(0.5)  # 1 and 0
    assert cosine_loss(s, -t).item() == pytest.approx(1.5)  # 1 and 2
    target = torch.ones(2)
    expected = F.cosine_embedding_loss(s[0], t[0], target)
    assert cosine_loss(s, t).item() == pytest.approx(expected.item())
    zero = torch.zeros(1, 1, 2, requires_grad=True)
    cosine_loss(zero, t[:, :1]).backward()
    assert zero.grad.isfinite().all()


def test_hidden_mse_divides_by_real_tokens_times_width():
    s, t = torch.zeros(2, 3, 4), torch.ones(2, 3, 4)
    t[1] = 3.0
    assert hidden_mse(s, t).item() == pytest.approx(5.0)
    assert hidden_mse(s, t, mask=mask(3, (3, 1))).item() == pytest.approx((3 * 1 + 1 * 9) / 4)
    with pytest.raises(ValueError, match=r"\(2, 3, 4\).*\(2, 3, 5\)"):
        hidden_mse(s, torch.zeros(2, 3, 5))


def test_attention_mse_counts_pairs_of_real_tokens():
    """Two real tokens: 4 pairs of one head, however large the padded scores are."""
    s, t = torch.zeros(1, 1, 3, 3), torch.full((1, 1, 3, 3), 1e4)
    t[0, 0, :2, :2] = torch.tensor([[1.0, 2.0], [3.0, -4.0]])
    assert attention_mse(s, t, mask=mask(3, (2,))).item() == pytest.approx((1 + 4 + 9 + 16) / 4)
    assert attention_mse(s, t.clamp_max(2), mask=None).item() == pytest.approx((1 + 4 + 4 + 16 + 5 * 4) / 9)
    with pytest.raises(ValueError, match="scores"):  # heads are never broadcast
        attention_mse(s, t.repeat(1, 2, 1, 1), mask=mask(3, (2,)))


def test_negative_scores_count():
    """−0.5 against −1.5 is an error of 1: scores are not mask values."""
    s, t = torch.full((1, 2, 2, 2), -0.5), torch.full((1, 2, 2, 2), -1.5)
    assert attention_mse(s, t, mask=mask(2, (2,))).item() == pytest.approx(1.0)


def test_attention_kl_by_hand():
    t = torch.tensor([[0.75, 0.25], [1.0, 0.0]])[None, None]
    s = torch.tensor([[0.5, 0.5], [0.5, 0.5]])[None, None]
    rows = (0.75 * math.log(1.5) + 0.25 * math.log(0.5), math.log(2))
    assert attention_kl(s, t, mask=mask(2, (2,))).item() == pytest.approx(sum(rows) / 2, rel=1e-6)
    first = attention_kl(s, t, mask=mask(2, (1,)))  # one real query, one real key
    assert first.item() == pytest.approx(0.75 * math.log(1.5), rel=1e-6)
    s = torch.tensor([[0.0, 1.0], [0.0, 1.0]])[None, None].requires_grad_()
    value = attention_kl(s, t, mask=mask(2, (2,)))
    value.backward()
    assert value.isfinite() and value > 10 and s.grad.isfinite().all()


def relation(x, length):
    """softmax(x·xᵀ/√d) of one head of one text, real keys only."""
    return (x[:length] @ x[:length].T / math.sqrt(x.shape[-1])).softmax(-1)


def test_value_relations_scale_by_each_models_own_head_size():
    s, t = draw(3, 2, 5, 4), draw(3, 2, 5, 9, seed=1)
    total = 0.0
    for row, length in enumerate(LENGTHS):
        for head in range(2):
            p, q = relation(t[row, head], length), relation(s[row, head], length)
            total += (p * (p / q).log()).sum().item()
    assert value_relation_kl(s, t, mask=mask()).item() == pytest.approx(total / (2 * sum(LENGTHS)), rel=1e-9)


def test_relation_heads_join_and_split_anew():
    """2 heads of 6 and 3 heads of 8, split into 4 of 3 and 4 of 6, in the order in which heads are joined."""
    s, t = draw(1, 2, 5, 6), draw(1, 3, 5, 8, seed=1)
    joined = [x[0].transpose(0, 1).reshape(5, -1) for x in (s, t)]
    total = 0.0
    for head in range(4):
        q, p = (relation(x[:, head * x.shape[1] // 4 : (head + 1) * x.shape[1] // 4], 5) for x in joined)
        total += (p * (p / q).log()).sum().item()
    value = relation_kl(s, t, mask=mask(5, (5,)), heads=4)
    assert value.item() == pytest.approx(total / (4 * 5), rel=1e-9)
    assert relation_kl(s, s, mask=None, heads=2).item() == value_relation_kl(s, s, mask=None).item() == 0
    with pytest.raises(ValueError, match="12.*5 heads"):
        relation_kl(s, t, mask=None, heads=5)
    with pytest.raises(ValueError, match="heads"):
        value_relation_kl(s, t, mask=None)


def test_relations_are_not_rounded_under_autocast():
    s, t = draw(1, 2, 5, 4).float(), draw(1, 2, 5, 4, seed=1).float()
    plain = value_relation_kl(s, t, mask=None)
    with torch.autocast("cpu", torch.bfloat16):
        assert value_relation_kl(s, t, mask=None).item() == plain.item()


def test_patient_loss_normalises_each_layer_and_sums_over_width():
    s = torch.tensor([[[3.0, 4.0], [1.0, 0.0]]])
    t = torch.tensor([[[6.0, 8.0], [0.0, 5.0]]])
    assert patient_loss(s, t).item() == pytest.approx((0 + 2) / 2)  # 2 = ‖(1, 0) − (0, 1)‖²
    assert patient_loss(5 * s, t).item() == pytest.approx(1.0)
    s, t = draw(3, 2, 64), draw(3, 2, 64, seed=1)
    mean = F.mse_loss(F.normalize(s, dim=2), F.normalize(t, dim=2))  # the released code
    assert patient_loss(s, t).item() == pytest.approx(64 * mean.item(), rel=1e-9)
    zero = torch.zeros(1, 1, 4, requires_grad=True)
    value = patient_loss(zero, torch.ones(1, 1, 4))
    value.backward()
    assert value.isfinite() and zero.grad.isfinite().all()
    with pytest.raises(ValueError, match="CLS"):
        patient_loss(s, t[:, :1])


def test_patient_loss_at_equality():
    t = draw(3, 2, 6)
    s = t.clone().requires_grad_()
    value = patient_loss(s, t)
    value.backward()
    assert value.item() == 0 and not s.grad.any()


def test_top_targets_of_a_class_that_cannot_be():
    s, t = draw(4, 6).requires_grad_(), draw(4, 6, seed=1)
    t[:, 1] = -math.inf
    value = top_target_loss(s, top_targets(t, 6))
    value.backward()
    assert value.item() == pytest.approx(soft_target_loss(s, t).item(), rel=1e-9) and s.grad.isfinite().all()

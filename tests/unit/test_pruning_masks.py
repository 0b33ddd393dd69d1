"""Masks: exact counts whatever the ties, the right axis, one ranking for all, and clear refusals."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from coursekit.compress.pruning import (
    apply_masks,
    best_neurons,
    block_mask,
    by_threshold,
    cubic_sparsity,
    global_magnitude_masks,
    gradually,
    least_heads,
    lottery_ticket,
    magnitude_mask,
    magnitude_masks,
    n_m_mask,
    set_sparsity,
    wanda_mask,
)

shapes = st.lists(st.integers(1, 7), min_size=1, max_size=3)


def test_magnitude_by_hand():
    weight = torch.tensor([[3.0, -1.0, 0.5], [-4.0, 0.0, 2.0]])
    mask = magnitude_mask(weight, 0.5)
    assert mask.dtype == torch.bool
    assert mask.tolist() == [[True, False, False], [True, False, True]]


@given(shape=shapes, sparsity=st.floats(0, 1), values=st.integers(1, 3), half=st.booleans())
@settings(deadline=None, max_examples=60)
def test_exactly_the_count_asked_for_and_the_smallest_go(shape, sparsity, values, half):
    """Few distinct values make ties everywhere; a threshold would miss the count."""
    torch.manual_seed(len(shape) + values)
    weight = torch.randint(-values, values + 1, shape).to(torch.bfloat16 if half else torch.float32)
    mask = magnitude_mask(weight, sparsity)
    assert mask.shape == weight.shape
    assert int((~mask).sum()) == round(sparsity * weight.numel())
    if mask.any() and not mask.all():
        assert weight[mask].abs().min() >= weight[~mask].abs().max()


def test_ties_a_threshold_gets_wrong():
    """Pitfall 55: `<=` drops 4 of 6 where 3 were asked; sort()[int(n·s)] drops 501 of 1000; 1.0 is out of range."""
    assert int((~magnitude_mask(torch.tensor([1.0, 1, 1, 1, 2, 2]), 0.5)).sum()) == 3
    assert magnitude_mask(torch.tensor([1.0, 1, 1, 1]), 0.5).tolist() == [False, False, True, True]
    assert int((~magnitude_mask(torch.randn(1000), 0.5)).sum()) == 500
    assert not magnitude_mask(torch.randn(3, 4), 1.0).any()
    assert magnitude_mask(torch.zeros(3, 4), 0.0).all()
    assert int((~magnitude_mask(torch.zeros(3, 4), 0.25)).sum()) == 3


def test_a_view_is_masked_in_its_own_order():
    """Pitfall 67: flattening a transposed weight copies it; the mask must still fit the weight given."""
    weight = torch.randn(5, 7)
    assert torch.equal(magnitude_mask(weight.T, 0.4), magnitude_mask(weight, 0.4).T)
    before = weight.clone()
    magnitude_mask(weight, 0.9)
    assert torch.equal(weight, before)


def test_twenty_percent_twice_is_forty_when_said_so():
    """Pitfall 56: sparsity is of the whole weight; applied to what is left it would give 36 %."""
    weight = torch.randn(10, 10)
    once = weight * magnitude_mask(weight, 0.2)
    assert int((once * magnitude_mask(once, 0.4) == 0).sum()) == 40


@pytest.mark.parametrize("sparsity", [-0.1, 1.1, math.nan, math.inf, None, "0.5", True, [0.5]])
def test_sparsity_that_is_no_share(sparsity):
    weight, model = torch.randn(4, 4), nn.Sequential(nn.Linear(4, 4))
    masked = apply_masks(nn.Sequential(nn.Linear(4, 4)))
    for call in (
        lambda: magnitude_mask(weight, sparsity),
        lambda: wanda_mask(weight, torch.ones(4), sparsity),
        lambda: global_magnitude_masks({"a": weight}, sparsity),
        lambda: block_mask(weight, sparsity, (2, 2)),
        lambda: magnitude_masks(model, sparsity),
        lambda: magnitude_masks(model, sparsity, scope="global"),
        lambda: set_sparsity(masked, sparsity),
        lambda: set_sparsity(masked, sparsity, scope="global"),
        lambda: best_neurons({0: weight[0]}, sparsity),
    ):
        with pytest.raises(ValueError, match=r"sparsity must be a number in \[0, 1\], the share that goes; got "):
            call()
    assert masked[0].mask.all()
    for name, call in {
        "share must be a number in": lambda: least_heads({0: weight[0]}, sparsity),
        "initial must be a number in": lambda: gradually(0.5, start=0, end=2, initial=sparsity),
        "final must be a number in": lambda: gradually(sparsity, start=0, end=2),
        "final sparsity must lie between 0 and 1": lambda: lottery_ticket(masked, print, final=sparsity, rounds=1),
        "threshold must lie in": lambda: by_threshold(sparsity),
    }.items():
        with pytest.raises(ValueError, match=f"{name}.*[,;] got "):
            call()


def test_weights_that_are_not_finite_or_not_there():
    bad = torch.tensor([[1.0, math.nan], [math.inf, 2.0]])
    for call in (
        lambda: magnitude_mask(bad, 0.5),
        lambda: n_m_mask(bad, 1, 2),
        lambda: wanda_mask(bad, torch.ones(2), 0.5),
        lambda: block_mask(bad, 0.5, (1, 1)),
    ):
        with pytest.raises(ValueError, match="the weight has 2 NaN or infinite entries"):
            call()
    with pytest.raises(ValueError, match="up has 2 NaN"):
        global_magnitude_masks({"up": bad}, 0.5)
    with pytest.raises(ValueError, match=r"empty: shape \(0, 3\)"):
        magnitude_mask(torch.zeros(0, 3), 0.5)
    with pytest.raises(ValueError, match="no weights"):
        global_magnitude_masks({}, 0.5)


def test_global_ranks_once_across_tensors():
    """Pitfall 59: a tensor of large weights keeps all, one of small weights loses all."""
    large, small = torch.tensor([5.0, 6, 7]), torch.tensor([[1.0, 2], [3, 8]])
    masks = global_magnitude_masks({"large": large, "small": small}, 3 / 7)
    assert masks["large"].tolist() == [True] * 3
    assert masks["small"].tolist() == [[False, False], [False, True]]


def test_a_tensor_under_two_names_counts_once():
    tied, other = nn.Parameter(torch.tensor([1.0, 2.0])), torch.tensor([3.0, 4.0])
    masks = global_magnitude_masks({"a": tied, "again": tied, "b": other}, 0.5)
    assert masks["a"].tolist() == masks["again"].tolist() == [False, False]
    assert masks["b"].tolist() == [True, True]


@given(rows=st.integers(1, 5), groups=st.integers(1, 4), m=st.integers(1, 6), data=st.data())
@settings(deadline=None, max_examples=40)
def test_n_m_keeps_n_of_every_m_consecutive_inputs(rows, groups, m, data):
    n = data.draw(st.integers(1, m))
    weight = torch.randint(-2, 3, (rows, groups * m)).float()
    mask = n_m_mask(weight, n, m)
    assert mask.shape == weight.shape
    assert (mask.view(rows, groups, m).sum(-1) == n).all()
    kept = (weight.abs() * mask).view(rows, groups, m).sum(-1)
    assert torch.equal(kept, weight.abs().view(rows, groups, m).topk(n).values.sum(-1))


def test_n_m_by_hand_and_what_it_refuses():
    """Pitfall 65: groups are input columns, n is kept, and m must divide."""
    weight = torch.tensor([[1.0, -4, 2, 3, 9, 8, 7, 6]])
    assert n_m_mask(weight, 1, 4).int().tolist() == [[0, 1, 0, 0, 1, 0, 0, 0]]
    assert n_m_mask(weight, 3, 4).int().tolist() == [[0, 1, 1, 1, 1, 1, 1, 0]]
    with pytest.raises(ValueError, match="multiple of 4, got 6"):
        n_m_mask(torch.randn(8, 6), 2, 4)
    with pytest.raises(ValueError, match="n:m keeps n of every m weights, 1 ≤ n ≤ m; got 5:4"):
        n_m_mask(torch.randn(4, 4), 5, 4)
    for n, m, name in ((0, 4, "n"), (-1, 4, "n"), (2.0, 4, "n"), (True, 4, "n"), (2, 4.0, "m"), (2, None, "m")):
        with pytest.raises(
            ValueError, match=f"^{name} must be an integer of at least 1, got {n if name == 'n' else m}"
        ):
            n_m_mask(torch.randn(4, 4), n, m)


def test_wanda_by_hand_within_each_row():
    """Pitfall 66: scores |W|·norm are (1, 20, 3) and (10, 40, 30); the first row is not compared with the second."""
    weight = torch.tensor([[1.0, -2, 3], [10, 4, -30]])
    norm = torch.tensor([1.0, 10, 1])
    assert wanda_mask(weight, norm, 1 / 3).tolist() == [[False, True, True], [False, True, True]]
    assert wanda_mask(weight, norm, 2 / 3).tolist() == [[False, True, False], [False, True, False]]
    assert magnitude_mask(weight, 0.5).int().tolist() == [[0, 0, 0], [1, 1, 1]]
    # Scores go through n:m like weights: within the first pair 20 beats 1.
    assert n_m_mask(weight[:, :2].abs() * norm[:2], 1, 2).tolist() == [[False, True], [False, True]]


@given(rows=st.integers(1, 5), columns=st.integers(1, 9), sparsity=st.floats(0, 1))
@settings(deadline=None, max_examples=40)
def test_wanda_counts_per_row(rows, columns, sparsity):
    mask = wanda_mask(torch.randint(-1, 2, (rows, columns)).float(), torch.ones(columns), sparsity)
    assert ((~mask).sum(1) == round(sparsity * columns)).all()


def test_wanda_removes_what_changes_outputs_least():
    """With one output and independent inputs, the score's square is the output energy that is lost."""
    x = torch.randn(500, 32) * torch.logspace(-2, 1, 32)
    weight = torch.randn(16, 32)
    lost = {}
    for name, mask in (("wanda", wanda_mask(weight, x.norm(dim=0), 0.5)), ("magnitude", magnitude_mask(weight, 0.5))):
        lost[name] = float((x @ (weight * ~mask).T).square().sum())
    assert lost["wanda"] < 0.5 * lost["magnitude"]


def test_wanda_refuses_norms_that_do_not_fit():
    with pytest.raises(ValueError, match=r"weight \(3, 4\) and input_norm \(3,\)"):
        wanda_mask(torch.randn(3, 4), torch.ones(3), 0.5)
    for value in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="input_norm must be finite and not negative"):
            wanda_mask(torch.randn(3, 4), torch.full((4,), value), 0.5)


def test_blocks_go_as_wholes():
    weight = torch.tensor([[1.0, 1, 5, 0], [1, 1, 0, 0], [2, 2, 0, 9], [2, 2, 0, 0]])
    mask = block_mask(weight, 0.5, (2, 2))  # norms 2, 5, 4, 9
    assert mask.int().tolist() == [[0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 1, 1]]
    assert block_mask(weight, 0.25, (1, 4)).all(1).tolist() == [True, False, True, True]
    with pytest.raises(ValueError, match=r"tiles of 3×2 do not fill a weight of shape \(4, 4\)"):
        block_mask(weight, 0.5, (3, 2))


def test_cubic_schedule():
    """Pitfall 58: the published values, clipped at both ends."""
    steps = (-10, 0, 25, 50, 75, 100, 200)
    found = [cubic_sparsity(step, start=0, end=100, initial=0.0, final=0.9) for step in steps]
    assert found == pytest.approx([0, 0, 0.5203125, 0.7875, 0.8859375, 0.9, 0.9])
    assert cubic_sparsity(15, start=10, end=20, initial=0.2, final=0.6) == pytest.approx(0.6 - 0.4 / 8)
    with pytest.raises(ValueError, match="start < end, got start=5, end=5"):
        cubic_sparsity(0, start=5, end=5, initial=0.0, final=0.9)
    with pytest.raises(ValueError, match="got 1.5"):
        cubic_sparsity(0, start=0, end=5, initial=0.0, final=1.5)

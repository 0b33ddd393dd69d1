import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from coursekit.measure import accuracy, bootstrap_interval, paired_bootstrap, standard_error

outcomes = st.lists(st.booleans(), min_size=1, max_size=60)


def test_accuracy_by_hand():
    assert accuracy([1, 0, 2, 2], [1, 1, 2, 0]) == 0.5
    assert accuracy(torch.tensor([1, 1]), np.array([1, 1])) == 1.0


def test_accuracy_weighs_items_not_batches():
    """Two batches of 3 and 1 items, all right and all wrong: 0.75, not 0.5."""
    assert accuracy([0, 0, 0, 1], [0, 0, 0, 0]) == 0.75


@pytest.mark.parametrize(
    ("predictions", "labels", "message"),
    [
        ([], [], r"non-empty \(N,\) shapes, got \(0,\) and \(0,\)"),
        ([1, 2], [1], r"got \(2,\) and \(1,\)"),
        ([[1, 2]], [[1, 2]], r"got \(1, 2\)"),
        ([float("nan")], [1.0], "predictions contain NaN"),
    ],
)
def test_bad_predictions(predictions, labels, message):
    with pytest.raises(ValueError, match=message):
        accuracy(predictions, labels)


def test_standard_error_by_hand():
    assert standard_error([1, 1, 1, 0]) == math.sqrt(0.75 * 0.25 / 4)
    test_set = np.arange(2196) < 0.817 * 2196
    assert standard_error(test_set) == pytest.approx(math.sqrt(0.817 * 0.183 / 2196), rel=1e-3)  # 0.8 points


def test_interval_agrees_with_resampling_item_by_item():
    rng = np.random.default_rng(0)
    correct = rng.random(300) < 0.8
    means = correct[rng.integers(0, 300, (10_000, 300))].mean(1)
    interval = bootstrap_interval(correct, seed=1)
    assert interval == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=0.004)


def test_paired_resampling_agrees_with_resampling_item_by_item():
    rng = np.random.default_rng(0)
    a, b = rng.random((2, 200)) < np.array([[0.8], [0.7]])
    drawn = rng.integers(0, 200, (10_000, 200))
    means = a[drawn].mean(1) - b[drawn].mean(1)
    result = paired_bootstrap(a, b, seed=1)
    assert result.difference == pytest.approx(a.mean() - b.mean())
    assert (result.low, result.high) == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=0.006)
    assert result.p == pytest.approx(2 * (means <= 0).mean(), abs=0.01)


def test_seeds_are_resampled_with_the_items():
    """Two seeds, one all right and one all wrong, on many items: only the seeds vary, as ¼, ½, ¼."""
    correct = np.stack([np.ones(5000), np.zeros(5000)])
    assert bootstrap_interval(correct, seed=0) == (0, 1)
    assert bootstrap_interval(correct, seed=0, level=0.4) == (0.5, 0.5)
    one = bootstrap_interval(correct[:1], seed=0)
    assert one == bootstrap_interval(correct[0], seed=0) == (1, 1)


def test_pairing_sees_what_separate_intervals_hide():
    """b misses 12 items that a has and nothing else differs."""
    a = np.arange(1000) < 800
    b = np.arange(1000) < 788
    alone_a, alone_b = bootstrap_interval(a, seed=0), bootstrap_interval(b, seed=0)
    assert alone_a[0] < alone_b[1]  # the intervals overlap
    result = paired_bootstrap(a, b, seed=0)
    assert 0 < result.low < result.difference < result.high and result.p < 0.01


@given(outcomes, st.integers(0, 99))
@settings(deadline=None, max_examples=40)
def test_interval_is_inside_the_unit_and_reproducible(correct, seed):
    low, high = bootstrap_interval(correct, seed=seed, repeats=200)
    assert 0 <= low <= high <= 1
    assert (low, high) == bootstrap_interval(correct, seed=seed, repeats=200)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
@settings(deadline=None, max_examples=40)
def test_swapping_the_two_changes_the_sign_only(pairs):
    a, b = zip(*pairs, strict=True)
    forward, backward = (paired_bootstrap(*pair, seed=0, repeats=2000) for pair in ((a, b), (b, a)))
    assert forward.difference == pytest.approx(-backward.difference)
    assert forward.low <= forward.high and 0 < forward.p <= 1
    assert paired_bootstrap(a, a, seed=0) == (0, 0, 0, 1)


def test_chance_is_called_significant_at_its_rate():
    rng = np.random.default_rng(0)
    found = [paired_bootstrap(*(rng.random((2, 200)) < 0.7), seed=trial, repeats=500).p < 0.05 for trial in range(400)]
    assert 0.02 < np.mean(found) < 0.09


def test_global_random_state_is_not_used():
    np.random.seed(0)
    state = np.random.get_state()[1].copy()
    paired_bootstrap([1, 0, 1], [0, 0, 1], seed=5)
    assert np.array_equal(np.random.get_state()[1], state)


@pytest.mark.parametrize(
    ("correct", "message"),
    [
        ([], r"non-empty \(N,\) or \(S, N\) array, got shape \(0,\)"),
        ([0.5, 1], "only 0 and 1"),
        ([float("nan"), 1], "only 0 and 1"),
        ([-1, 1], "only 0 and 1"),
        (np.ones((2, 2, 2)), "got shape"),
    ],
)
@pytest.mark.parametrize("function", [lambda x: bootstrap_interval(x, seed=0), standard_error])
def test_bad_outcomes(function, correct, message):
    with pytest.raises(ValueError, match=message):
        function(correct)


def test_bad_options():
    with pytest.raises(ValueError, match=r"correct_a has shape \(2,\), correct_b \(3,\)"):
        paired_bootstrap([1, 0], [1, 0, 1], seed=0)
    with pytest.raises(ValueError, match="level must lie between 0 and 1, got 95"):
        bootstrap_interval([1, 0], seed=0, level=95)
    with pytest.raises(ValueError, match="repeats must be an integer of at least 1, got 0"):
        bootstrap_interval([1, 0], seed=0, repeats=0)

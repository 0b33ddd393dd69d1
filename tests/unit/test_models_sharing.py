"""Sharing plans: the tables of ALBERT and Subformer, written out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coursekit.models import SharingPlan


def test_plans_of_six_depths() -> None:
    """Block numbers as the papers draw them."""
    assert SharingPlan.none(6).attention == (0, 1, 2, 3, 4, 5)
    assert SharingPlan.all(6).ffn == (0,) * 6
    assert SharingPlan.every(6, 2).attention == (0, 0, 1, 1, 2, 2)
    assert SharingPlan.every(5, 2).attention == (0, 0, 1, 1, 2)
    assert SharingPlan.sandwich(6).attention == (0, 1, 1, 1, 1, 2)
    assert SharingPlan.all_but_last(4).ffn == (0, 0, 0, 1)
    assert SharingPlan.attention_only(3).attention == (0, 0, 0)
    assert SharingPlan.attention_only(3).ffn == (0, 1, 2)
    assert SharingPlan.ffn_only(3).attention == (0, 1, 2)
    assert SharingPlan.ffn_only(3).ffn == (0, 0, 0)


def test_layer_norms() -> None:
    """ALBERT shares every LayerNorm; Subformer keeps them; the one-part plans share those of the shared part."""
    assert SharingPlan.all(3).norm == ((0, 1),) * 3
    assert SharingPlan.all(3, norms="private").norm == ((0, 1), (2, 3), (4, 5))
    assert SharingPlan.sandwich(3).norm == ((0, 1), (2, 3), (4, 5))
    assert SharingPlan.sandwich(4, norms="shared").norm == ((0, 1), (2, 3), (2, 3), (4, 5))
    assert SharingPlan.attention_only(3).norm == ((0, 1), (0, 2), (0, 3))
    assert SharingPlan.ffn_only(3).norm == ((0, 1), (2, 1), (3, 1))
    assert SharingPlan.every(4, 2).norm == ((0, 1), (2, 3), (4, 5), (6, 7))


@pytest.mark.parametrize("n", [1, 2])
def test_sandwich_needs_a_middle(n: int) -> None:
    """With one or two depths there is nothing to share."""
    assert SharingPlan.sandwich(n) == SharingPlan.none(n)


@given(st.integers(1, 48), st.integers(1, 50))
def test_every_is_integer_division(n: int, size: int) -> None:
    """No float error at any size: depth i uses block i // size."""
    plan = SharingPlan.every(n, size)
    assert plan.attention == tuple(i // size for i in range(n))
    assert len(plan) == len(plan.norm) == n


def test_bad_plans() -> None:
    """Each error names what was given."""
    with pytest.raises(ValueError, match="at least one depth, got 0"):
        SharingPlan.all(0)
    with pytest.raises(ValueError, match="size=0"):
        SharingPlan.every(4, 0)
    with pytest.raises(ValueError, match="2 attention, 1 FFN"):
        SharingPlan((0, 0), (0,), ((0, 1),))
    with pytest.raises(ValueError, match=r"attention \(0, 2\)"):
        SharingPlan((0, 2), (0, 1), ((0, 1), (2, 3)))
    with pytest.raises(ValueError, match="'shared' or 'private'"):
        SharingPlan.all(2, norms="own")

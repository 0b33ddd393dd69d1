"""GPTQ: better than rounding, the same for every block size, and its awkward inputs."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from coursekit.compress.quantization import gptq, quantize


def correlated(rows: int = 400, width: int = 48) -> torch.Tensor:
    """Inputs that resemble each other, as activations do."""
    return torch.randn(rows, width) @ torch.randn(width, width) / width**0.5


def output_error(weight, inputs, quantized) -> float:
    """Relative error of the layer's output."""
    exact = inputs @ weight.T
    return float((inputs @ quantized.dequantize().T - exact).norm() / exact.norm())


@torch.no_grad()
def test_two_columns_by_hand():
    """Two inputs almost equal: what the first weight loses in rounding, 0.5 → 0, the second carries, 0.4 + 0.5 → 1."""
    inputs = torch.ones(10, 2) + torch.tensor([[0.01], [-0.01]]).repeat(5, 1) * torch.tensor([1.0, -1.0])
    weight = torch.tensor([[0.5, 0.4, 1.0]])
    inputs = torch.cat((inputs, torch.randn(10, 1)), 1)
    inputs[:, 2] = torch.tensor([1.0, -1.0]).repeat_interleave(5)  # independent of the others
    rounded = quantize(weight, bits=2, axis=0)
    assert rounded.codes.tolist() == [[0, 0, 1]]  # both to zero: the output loses 0.9
    q = gptq(weight, inputs, bits=2, damping=1e-6)
    assert q.codes.tolist() == [[0, 1, 1]]
    assert output_error(weight, inputs, q) < 0.2 * output_error(weight, inputs, rounded)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("group_size", [None, 12])
@pytest.mark.parametrize("act_order", [False, True])
@torch.no_grad()
def test_beats_rounding_to_nearest(bits, group_size, act_order):
    """On the calibration inputs, and on others of their kind."""
    inputs = correlated(800)
    weight = torch.randn(32, 48)
    plain = quantize(weight, bits=bits, axis=0, group_size=group_size)
    q = gptq(weight, inputs[:400], bits=bits, group_size=group_size, act_order=act_order)
    assert q.scale.shape == plain.scale.shape
    for part in (inputs[:400], inputs[400:]):
        assert output_error(weight, part, q) < 0.85 * output_error(weight, part, plain)


@settings(deadline=None, max_examples=12)
@given(
    block_size=st.integers(1, 60),
    group_size=st.sampled_from([None, 4, 12, 24]),
    act_order=st.booleans(),
    symmetric=st.booleans(),
)
def test_block_size_changes_nothing(block_size, group_size, act_order, symmetric):
    """With groups too, smaller than a block, larger, or across its end."""
    torch.manual_seed(1)
    inputs, weight = correlated(100), torch.randn(6, 48)
    options = {"bits": 3, "group_size": group_size, "act_order": act_order, "symmetric": symmetric}
    whole = gptq(weight, inputs, block_size=48, **options)
    q = gptq(weight, inputs, block_size=block_size, **options)
    assert torch.equal(q.codes, whole.codes)
    assert torch.equal(q.scale, whole.scale)
    assert torch.equal(q.zero_point, whole.zero_point)


@torch.no_grad()
def test_groups_see_errors_of_earlier_columns():
    """A group's scale is that of its weights when their turn comes, not of the weights at the start."""
    inputs, weight = correlated(), torch.randn(8, 48)
    q = gptq(weight, inputs, bits=2, group_size=12)
    start = quantize(weight, bits=2, axis=0, group_size=12).scale
    assert torch.equal(q.scale[:, 0], start[:, 0])
    assert not torch.equal(q.scale[:, 1:], start[:, 1:])


@torch.no_grad()
def test_independent_inputs_leave_nothing_to_share():
    """With H a multiple of the identity GPTQ is rounding to nearest."""
    inputs, weight = torch.eye(24) * 3, torch.randn(5, 24)
    assert torch.equal(gptq(weight, inputs, bits=4).codes, quantize(weight, bits=4, axis=0).codes)


@torch.no_grad()
def test_order_is_undone():
    """Permuting inputs and weight permutes the codes, whatever the order of work."""
    inputs, weight = correlated() * torch.linspace(0.2, 3, 48), torch.randn(6, 48)
    order = torch.randperm(48)
    q = gptq(weight, inputs, bits=3, act_order=True)
    other = gptq(weight[:, order], inputs[:, order], bits=3, act_order=True)
    assert torch.equal(other.codes, q.codes[:, order])
    assert not torch.equal(gptq(weight, inputs, bits=3).codes, q.codes)


@torch.no_grad()
def test_dead_columns_and_few_rows():
    """Inputs that are always zero keep their rounded weights and change no others; fewer rows than columns work."""
    inputs, weight = correlated(), torch.randn(6, 48)
    dead = [0, 7, 8, 47]
    inputs[:, dead] = 0
    q = gptq(weight, inputs, bits=4)
    assert torch.equal(q.codes[:, dead], quantize(weight, bits=4, axis=0).codes[:, dead])
    changed = weight.clone()
    changed[:, dead] *= 0.5
    live = [column for column in range(48) if column not in dead]
    assert torch.equal(gptq(changed, inputs, bits=4).scale, quantize(changed, bits=4, axis=0).scale)
    keep = weight.clone()
    keep[:, dead] = -keep[:, dead]  # the same scales, other dead weights
    assert torch.equal(gptq(keep, inputs, bits=4).codes[:, live], q.codes[:, live])
    assert gptq(weight, inputs[:3], bits=4).dequantize().isfinite().all()
    assert torch.equal(gptq(weight, torch.zeros(4, 48)).codes, quantize(weight, bits=4, axis=0).codes)


@torch.no_grad()
def test_padding_is_left_out():
    """Padded rows, however large, change nothing."""
    weight, inputs = torch.randn(6, 16), torch.randn(4, 9, 16)
    mask = torch.rand(4, 9) > 0.4
    loud = torch.where(mask[..., None], inputs, 100.0)
    q = gptq(weight, loud, mask=mask)
    assert torch.equal(q.codes, gptq(weight, inputs[mask]).codes)
    assert not torch.equal(q.codes, gptq(weight, loud.flatten(0, 1)).codes)


def test_inputs_are_not_changed():
    """Neither the weight nor the inputs."""
    weight, inputs = torch.randn(4, 16), torch.randn(20, 16)
    copies = weight.clone(), inputs.clone()
    gptq(weight, inputs, act_order=True, group_size=8)
    assert torch.equal(weight, copies[0])
    assert torch.equal(inputs, copies[1])


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((torch.ones(4, 8), torch.ones(5, 7)), {}, r"weight \(4, 8\) needs inputs \(N, 8\), got \(5, 7\)"),
        ((torch.ones(4, 8), torch.ones(5, 2, 8)), {}, r"got \(5, 2, 8\)"),
        ((torch.ones(4, 8), torch.ones(0, 8)), {}, "at least one row"),
        ((torch.ones(4, 8), torch.ones(2, 3, 8)), {"mask": torch.zeros(2, 3)}, "at least one row"),
        ((torch.ones(4, 8), torch.full((2, 8), torch.nan)), {}, "inputs are NaN or infinite"),
        ((torch.full((4, 8), torch.inf), torch.ones(2, 8)), {}, "32 of 32 values are NaN or infinite"),
        ((torch.ones(4, 8), torch.ones(2, 8)), {"group_size": 3}, "group_size 3 does not divide the last axis of 8"),
        ((torch.ones(4, 8), torch.ones(2, 8)), {"bits": 1}, "bits must be an integer from 2 to 8"),
        ((torch.ones(4, 8), torch.ones(2, 8)), {"damping": 0.0}, "damping must be positive and finite, got 0.0"),
        ((torch.ones(4, 8), torch.ones(2, 8)), {"block_size": 0}, "block_size must be an integer of at least 1, got 0"),
    ],
)
def test_bad_input(arguments, options, message):
    """One clear error."""
    with pytest.raises(ValueError, match=message):
        gptq(*arguments, **options)

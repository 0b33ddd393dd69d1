"""The arithmetic: scales, zero points, rounding, ranges, groups, and the gradient of fake quantization."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from coursekit.compress.quantization import affine_parameters, fake_quantize, quantize


def test_symmetric_by_hand():
    """max|x| = 1.27 gives scale 0.01; the largest value is exact, and −128 is never used."""
    x = torch.tensor([1.27, -1.27, 0.0, 0.004, -0.016])
    q = quantize(x)
    assert q.codes.dtype == torch.int8
    assert q.codes.tolist() == [127, -127, 0, 0, -2]
    torch.testing.assert_close(q.scale, torch.tensor(0.01))
    assert q.zero_point == 0
    torch.testing.assert_close(q.dequantize(), torch.tensor([1.27, -1.27, 0.0, 0.0, -0.02]))


def test_the_largest_value_is_not_clipped():
    """Scale max/127, not max/127.5: no error at the end of the range, where torchao's SYMMETRIC has half a step."""
    for bits in range(2, 9):
        x = torch.tensor([3.2, -1.1])
        assert quantize(x, bits=bits).codes[0] == 2 ** (bits - 1) - 1
        torch.testing.assert_close(quantize(x, bits=bits).dequantize()[0], x[0])


def test_asymmetric_by_hand():
    """[−1, 1.55] in 255 steps of 0.01; zero is code −28."""
    q = quantize(torch.tensor([-1.0, 0.0, 1.55, 0.5]), symmetric=False)
    torch.testing.assert_close(q.scale, torch.tensor(0.01))
    assert q.zero_point == -28
    assert q.codes.tolist() == [-128, -28, 127, 22]


def test_asymmetric_range_includes_zero():
    """All-positive data: without 0 in the range the zero point of [5, 6] would be −1,403."""
    x = torch.tensor([5.0, 5.5, 6.0])
    q = quantize(x, symmetric=False)
    assert q.zero_point == -128
    assert (q.dequantize() - x).abs().max() <= q.scale / 2 + 1e-6
    scale, zero = affine_parameters(torch.tensor(-6.0), torch.tensor(-5.0), symmetric=False)
    assert zero == 127
    torch.testing.assert_close(scale, torch.tensor(6 / 255))


@pytest.mark.parametrize("symmetric", [True, False])
def test_zero_is_exact(symmetric):
    """Padding and ReLU give exact zeros; they must stay so."""
    x = torch.randn(9, 33) + 3
    x[:, ::4] = 0
    for options in ({}, {"axis": 0}, {"group_size": 11}):
        back = quantize(x, symmetric=symmetric, **options).dequantize()
        assert (back[:, ::4] == 0).all()


def test_half_to_even():
    """0.5 → 0, 1.5 → 2, 2.5 → 2, and the same below zero; never truncated, never wrapped."""
    x = torch.tensor([0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 127.0])  # scale 1
    assert quantize(x).codes.tolist() == [0, 2, 2, 0, -2, -2, 127]


def test_one_scale_per_row_saves_small_rows():
    """Rows spanning three decades: with one scale the smallest vanishes."""
    weight = torch.randn(4, 64) * torch.tensor([1.0, 0.1, 0.01, 0.001])[:, None]
    weight[0, 0] = 4.0

    def error(**options):
        back = quantize(weight, **options).dequantize()
        return ((back - weight).norm(dim=1) / weight.norm(dim=1))[3]

    assert error() > 0.99
    assert error(axis=0) < 0.01
    assert quantize(weight, axis=0).scale.shape == (4, 1)
    assert quantize(weight, axis=1).scale.shape == (1, 64)
    assert torch.equal(quantize(weight, axis=-2).codes, quantize(weight, axis=0).codes)


def test_axis_is_the_one_kept():
    """Each row is quantized as if it were alone."""
    x = torch.randn(3, 5, 4)
    for axis in range(3):
        q = quantize(x, axis=axis, symmetric=False)
        for index in range(x.shape[axis]):
            alone = quantize(x.select(axis, index), symmetric=False)
            assert torch.equal(q.codes.select(axis, index), alone.codes)
            assert torch.equal(q.dequantize().select(axis, index), alone.dequantize())


def test_groups_run_along_the_last_axis():
    """Each group is quantized as if it were alone; the axes before it are all kept."""
    x = torch.randn(3, 12)
    q = quantize(x, bits=4, group_size=4)
    assert q.scale.shape == (3, 3)
    for row in range(3):
        for group in range(3):
            part = slice(4 * group, 4 * group + 4)
            assert torch.equal(q.codes[row, part], quantize(x[row, part], bits=4).codes)
    assert torch.equal(quantize(x, bits=4, axis=0, group_size=4).codes, q.codes)
    assert torch.equal(quantize(x, bits=4, group_size=12).codes, quantize(x, bits=4, axis=0).codes)
    assert quantize(torch.randn(2, 3, 8), group_size=4).scale.shape == (2, 3, 2)


@pytest.mark.parametrize("options", [{}, {"axis": 0}, {"group_size": 3}])
@pytest.mark.parametrize("symmetric", [True, False])
def test_degenerate_rows(options, symmetric):
    """All-zero rows give zeros, constant rows themselves; no 0/0."""
    x = torch.zeros(3, 6)
    q = quantize(x, symmetric=symmetric, **options)
    assert torch.equal(q.dequantize(), x)
    assert (q.scale > 0).all()
    flat = torch.zeros(3, 6, requires_grad=True)
    fake_quantize(flat, symmetric=symmetric, **options).sum().backward()
    assert (flat.grad == 1).all()
    x[1] = 0.3
    x[2] = -0.7
    if options:
        torch.testing.assert_close(quantize(x, symmetric=symmetric, **options).dequantize(), x)


@settings(deadline=None, max_examples=60)
@given(
    values=st.lists(st.floats(-1e4, 1e4, width=32, allow_subnormal=False), min_size=6, max_size=6),
    bits=st.integers(2, 8),
    symmetric=st.booleans(),
    options=st.sampled_from([{}, {"axis": 0}, {"axis": 1}, {"group_size": 3}]),
)
def test_error_is_half_a_step(values, bits, symmetric, options):
    """|x − dequantize| ≤ scale/2 inside the range (a whole step at its rounded ends), codes in range, and a second
    quantization changes nothing."""
    x = torch.tensor(values).view(2, 3)
    q = quantize(x, bits=bits, symmetric=symmetric, **options)
    step = q.scale if q.scale.dim() == 0 else q.scale.expand(2, -1).repeat_interleave(3 // q.scale.shape[-1], -1)
    error = (q.dequantize() - x).abs()
    assert (error <= step * (0.5 if symmetric else 1.0) * 1.001 + 1e-30).all()
    assert -(2 ** (bits - 1)) + symmetric <= int(q.codes.min()) <= int(q.codes.max()) < 2 ** (bits - 1)
    again = quantize(q.dequantize(), bits=bits, symmetric=symmetric, **options)
    if symmetric:  # else the rounded zero point moves the ends, and the range with them
        torch.testing.assert_close(again.dequantize(), q.dequantize(), atol=1e-30, rtol=1e-5)


@given(st.integers(2, 8), st.floats(0.01, 100))
@settings(deadline=None, max_examples=30)
def test_symmetric_means_symmetric(bits, factor):
    """Opposite numbers get opposite codes, and scaling x scales nothing but the scale."""
    x = torch.linspace(-2.3, 2.9, 41)
    q = quantize(x, bits=bits)
    assert torch.equal(quantize(-x, bits=bits).codes, -q.codes)
    assert (quantize(x * factor, bits=bits).codes - q.codes).abs().max() <= 1  # a tie may fall either way


def test_more_bits_less_error():
    """About a quarter of the squared error for each bit; groups beat rows beat one scale."""
    x = torch.randn(64, 64)

    def error(**options):
        return float((quantize(x, **options).dequantize() - x).square().mean())

    for bits in range(2, 8):
        assert error(bits=bits + 1) < 0.45 * error(bits=bits)
    assert error(bits=4, group_size=16) < error(bits=4, axis=0) < error(bits=4)


def test_half_precision_is_computed_in_full():
    """A scale kept in float16 would lose itself."""
    x = torch.randn(8, 16).half()
    q = quantize(x, axis=0)
    assert q.scale.dtype == torch.float32
    assert torch.equal(q.codes, quantize(x.float(), axis=0).codes)
    assert fake_quantize(x, axis=0).dtype == torch.float16
    assert quantize(x.double()).scale.dtype == torch.float64


@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        (torch.ones(4), {"bits": 1}, "bits must be an integer from 2 to 8, got 1"),
        (torch.ones(4), {"bits": 9}, "got 9"),
        (torch.ones(4), {"bits": 4.0}, "got 4.0"),
        (torch.ones(4), {"bits": True}, "got True"),
        (torch.ones(2, 4), {"axis": 2}, "axis 2 does not exist: x has 2 dimensions"),
        (torch.ones(2, 9), {"group_size": 4}, "group_size 4 does not divide the last axis of 9"),
        (torch.ones(2, 9), {"group_size": 0}, "group_size must be an integer of at least 1, got 0"),
        (torch.ones(2, 9), {"group_size": True}, "group_size must be an integer of at least 1, got True"),
        (torch.ones(2, 9), {"group_size": 3.0}, "group_size must be an integer of at least 1, got 3.0"),
        (torch.ones(2, 8), {"group_size": 4, "axis": 1}, "axis 1 is the one that groups of 4 run along"),
        (torch.tensor([1.0, torch.nan, torch.inf]), {}, "2 of 3 values are NaN or infinite"),
        (torch.tensor([1.0, -torch.inf]), {"symmetric": False}, "1 of 2 values"),
        (torch.ones(0, 3), {}, r"nothing to quantize: x has shape \(0, 3\)"),
        (torch.ones(3, dtype=torch.int32), {}, "floating point numbers are quantized, got torch.int32"),
    ],
)
def test_bad_input(x, options, message):
    """One clear error, from fake quantization too."""
    for function in (quantize, fake_quantize):
        with pytest.raises(ValueError, match=message):
            function(x, **options)


@pytest.mark.parametrize("options", [{}, {"axis": 0}, {"group_size": 4}, {"bits": 3, "symmetric": False}])
def test_fake_quantize_is_quantize_and_back(options):
    """The same numbers, with a gradient of one: within x's own range nothing is clamped."""
    x = torch.randn(4, 8, requires_grad=True)
    y = fake_quantize(x, **options)
    assert torch.equal(y, quantize(x.detach(), **options).dequantize())
    incoming = torch.randn(4, 8)
    y.backward(incoming)
    assert torch.equal(x.grad, incoming)


def test_gradient_is_zero_outside_the_range():
    """With an observer's scale, values beyond it are clamped and learn nothing; those at the ends do."""
    x = torch.tensor([-2.0, -1.27, 0.3, 1.27, 1.28, 9.0], requires_grad=True)
    y = fake_quantize(x, scale=torch.tensor(0.01))
    torch.testing.assert_close(y.detach(), torch.tensor([-1.27, -1.27, 0.3, 1.27, 1.27, 1.27]))
    y.sum().backward()
    assert x.grad.tolist() == [0, 1, 1, 1, 0, 0]


def test_rounding_alone_has_no_gradient():
    """What the straight-through estimator is for."""
    x = torch.tensor([0.3, 1.7], requires_grad=True)
    x.round().sum().backward()
    assert x.grad.tolist() == [0, 0]

"""Quantized layers: integer products, all kernels alike, rows that do not see each other, gradients, copies."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from coursekit.compress.quantization import (
    Int4Linear,
    Int8Linear,
    QuantizedEmbedding,
    TernaryLinear,
    embedding,
    fake_quantize,
    kernels,
    quantize,
    ternarize,
)
from coursekit.measure import count_flops, count_parameters, stored_bytes

ALL = ("onednn", "int_mm", "dequantize")


def int8(linear: nn.Linear, activations="dynamic", **options) -> Int8Linear:
    """An int8 layer of a linear."""
    return Int8Linear.from_linear(linear, quantize(linear.weight.detach(), axis=0), activations, **options)


def range_of(x):
    """Smallest and largest value."""
    return x.amin(), x.amax()


@torch.no_grad()
def test_dynamic_by_hand():
    """x = (1, −0.5): scale 1/127, codes 127 and −64 (63.5 to even); weights 2 and −1 likewise."""
    linear = nn.Linear(2, 1)
    linear.weight.copy_(torch.tensor([[2.0, -1.0]]))
    linear.bias.fill_(0.25)
    expected = (127 * 127 + 64 * 64) * (1 / 127) * (2 / 127) + 0.25
    torch.testing.assert_close(int8(linear)(torch.tensor([[1.0, -0.5]])), torch.tensor([[expected]]))


@pytest.mark.parametrize("kernel", ALL)
@pytest.mark.parametrize("activations", ["dynamic", "static"])
@pytest.mark.parametrize("bias", [True, False])
@torch.no_grad()
def test_every_kernel_is_the_integer_product(monkeypatch, kernel, activations, bias):
    """All equal the product computed in 64-bit integers; shapes that divide nothing too, and extreme codes."""
    if kernel != "dequantize" and not kernels.FEATURES:
        pytest.skip("this CPU has no int8 instructions")
    monkeypatch.setattr(kernels, "_kernel", lambda rows, codes: kernel)
    linear, x = nn.Linear(37, 11, bias=bias), torch.randn(2, 5, 37) + 0.5
    linear.weight[0] = linear.weight[0].sign()
    layer = int8(linear, activations, input_range=range_of(x))
    if activations == "dynamic":
        q = quantize(x.view(10, 37), axis=0)
    else:
        q = quantize(x.view(10, 37), symmetric=False)
    product = (q.codes.long() - q.zero_point.long()) @ layer.codes.long().T
    expected = product * q.scale.double() * layer.scale.double().T + (linear.bias if bias else 0)
    torch.testing.assert_close(layer(x), expected.view(2, 5, 11).float(), atol=2e-6, rtol=1e-6)


@torch.no_grad()
def test_fast_product_does_not_saturate():
    """Pairs of 127·127 do not fit 16 bits; a CPU without VNNI must not get the kernel that sums there."""
    codes = torch.full((64, 96), 127, dtype=torch.int8)
    for sign in (1, -1):
        rows = torch.full((16, 96), 127 * sign, dtype=torch.int8)
        y = kernels.int8_product(rows, codes, torch.ones(64, 1), kernels.Prepacked())
        assert (y == sign * 127 * 127 * 96).all()


@torch.no_grad()
def test_a_cpu_without_int8_instructions_multiplies_real_numbers(monkeypatch):
    """And the compiler gets what it can read; CUDA's shapes are those that it takes."""
    rows, codes = torch.zeros(3, 8, dtype=torch.int8), torch.zeros(16, 8, dtype=torch.int8)
    monkeypatch.setattr(kernels, "FEATURES", {"avx_vnni"})
    assert kernels._kernel(rows, codes) == "onednn"
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert kernels._kernel(rows, codes) == "dequantize"
    monkeypatch.setattr(kernels, "FEATURES", {"avx512_vnni"})
    assert kernels._kernel(rows, codes) == "int_mm"
    monkeypatch.undo()
    monkeypatch.setattr(kernels, "FEATURES", set())
    assert kernels._kernel(rows, codes) == "dequantize"
    assert kernels._kernel(rows.to("meta"), codes.to("meta")) == "dequantize"


@pytest.mark.parametrize("activations", ["dynamic", "static"])
@torch.no_grad()
def test_rows_do_not_see_each_other(activations):
    """The same token alone, and beside one a thousand times larger."""
    linear = nn.Linear(48, 16)
    row, loud = torch.randn(1, 48), 1000 * torch.randn(3, 48)
    layer = int8(linear, activations, input_range=range_of(row))
    assert torch.equal(layer(torch.cat((loud, row)))[3:], layer(row))


@torch.no_grad()
def test_empty_and_zero_rows():
    """No rows give no rows; a row of zeros gives the bias; NaN stays in its row."""
    layer = int8(nn.Linear(8, 4))
    assert layer(torch.zeros(0, 8)).shape == (0, 4)
    assert torch.equal(layer(torch.zeros(2, 8)), layer.bias.expand(2, 4))
    x = torch.randn(3, 8)
    broken = x.clone()
    broken[1, 2] = torch.nan
    y = layer(broken)
    assert y[1].isnan().all()
    assert torch.equal(y[[0, 2]], layer(x)[[0, 2]])


@torch.no_grad()
def test_static_clamps_what_calibration_did_not_see():
    """Beyond the range: the value at its end."""
    linear, x = nn.Linear(1, 1, bias=False), torch.tensor([[0.0], [1.0]])
    layer = int8(linear, "static", input_range=range_of(x))
    torch.testing.assert_close(layer(torch.tensor([[5.0], [-5.0]])), torch.stack((layer(x[1]), layer(x[0]))))


@torch.no_grad()
def test_the_error_is_small():
    """About one percent for normal numbers; asymmetric static codes serve one-sided inputs best."""
    linear, x = nn.Linear(256, 64), torch.randn(32, 256)

    def error(layer, x):
        return float((layer(x) - linear(x)).norm() / linear(x).norm())

    assert error(int8(linear), x) < 0.015
    assert error(int8(linear, None), x) < 0.01
    assert error(int8(linear, "static", input_range=range_of(x)), x) < 0.02
    positive = x.relu()
    one_sided = error(int8(linear, "static", input_range=range_of(positive)), positive)
    two_sided = error(int8(linear, "static", input_range=(-positive.amax(), positive.amax())), positive)
    assert one_sided < 0.75 * two_sided


@pytest.mark.parametrize("activations", ["dynamic", "static"])
@pytest.mark.parametrize("smooth", [False, True])
def test_gradient_is_that_of_the_dequantized_layer(activations, smooth):
    """The output is the integer product to the bit, with and without gradient; the gradient is straight-through."""
    linear, x = nn.Linear(12, 5), torch.randn(4, 12, requires_grad=True)
    divisor = torch.rand(12) + 0.5 if smooth else None
    reach = range_of((x.detach() if divisor is None else x.detach() / divisor) * 0.7)
    layer = int8(linear, activations, input_range=reach, divisor=divisor)
    y = layer(x)
    with torch.no_grad():
        assert torch.equal(y, layer(x))
    y.sum().backward()
    gradient = layer.weight.sum(0).expand(4, 12)
    if activations == "static":
        scaled = x.detach() if divisor is None else x.detach() / divisor
        codes = (scaled / layer.input_scale).round() + layer.input_zero
        assert 0 < ((codes < -128) | (codes > 127)).sum() < 20
        gradient = gradient * ((codes >= -128) & (codes <= 127))
    torch.testing.assert_close(x.grad, gradient)
    assert torch.equal(layer.bias.grad, torch.full((5,), 4.0))


@torch.no_grad()
def test_smoothing_moves_outliers_into_the_weight():
    """One channel a hundred times the others: dividing it first saves all the others their codes."""
    linear, x = nn.Linear(64, 32), torch.randn(100, 64)
    x[:, 3] *= 100
    divisor = x.abs().amax(0).sqrt() / linear.weight.abs().amax(0).sqrt()
    smoothed = Int8Linear.from_linear(linear, quantize(linear.weight * divisor, axis=0), divisor=divisor)
    exact = linear(x)
    assert (smoothed(x) - exact).norm() < 0.5 * (int8(linear)(x) - exact).norm()
    torch.testing.assert_close(smoothed.weight, linear.weight, atol=0.02, rtol=0.1)


@torch.no_grad()
def test_packed_layers():
    """int4 in groups and ternary: dequantized products, two and four codes to a byte."""
    linear, x = nn.Linear(24, 7), torch.randn(3, 24)
    q = quantize(linear.weight, bits=4, axis=0, group_size=8)
    layer = Int4Linear.from_linear(linear, q)
    assert torch.equal(layer.weight, q.dequantize())
    assert torch.equal(layer(x), F.linear(x, q.dequantize(), linear.bias))
    assert stored_bytes(layer) == 24 * 7 // 2 + 7 * 3 * 4 + 7 * 4
    ternary = TernaryLinear.from_linear(linear, ternarize(linear.weight))
    assert torch.equal(ternary(x), F.linear(x, ternarize(linear.weight).dequantize(), linear.bias))
    assert stored_bytes(ternary) == 24 * 7 // 4 + 4 + 7 * 4
    odd = Int4Linear.from_linear(nn.Linear(5, 3), quantize(torch.ones(3, 5), bits=4, axis=0))
    torch.testing.assert_close(odd.weight, torch.ones(3, 5))
    with pytest.raises(ValueError, match="zero point must be 0"):
        Int4Linear.from_linear(linear, quantize(linear.weight + 1, bits=4, symmetric=False))


@pytest.mark.parametrize(("bits", "groups"), [(8, 1), (4, 1), (4, 3), (2, 1)])
@torch.no_grad()
def test_embedding_looks_up_in_codes(bits, groups):
    """A lookup equals indexing the dequantized table; padding index and other shapes too."""
    table = nn.Embedding(50, 24)
    size = None if groups == 1 else 24 // groups
    q = ternarize(table.weight, axis=0) if bits == 2 else quantize(table.weight, bits=bits, axis=0, group_size=size)
    layer = QuantizedEmbedding.from_embedding(table, q, bits)
    ids = torch.randint(0, 50, (3, 4))
    assert torch.equal(layer.weight, q.dequantize())
    assert torch.equal(layer(ids), q.dequantize()[ids])
    assert stored_bytes(layer) == 50 * 24 * bits // 8 + 50 * groups * 4
    assert count_parameters(layer).total == 50 * 24
    assert torch.equal(layer.dequantize().weight, layer.weight)
    assert layer(ids[:0]).shape == (0, 4, 24)


@torch.no_grad()
def test_embedding_scores_part_by_part(monkeypatch):
    """The product with the whole table, however the table is cut; half precision stays half."""
    monkeypatch.setattr(embedding, "PART", 7)
    table = nn.Embedding(50, 24)
    layer = QuantizedEmbedding.from_embedding(table, quantize(table.weight, bits=4, group_size=8), 4)
    x = torch.randn(2, 3, 24)
    torch.testing.assert_close(layer.scores(x), x @ layer.weight.T)
    assert layer.scores(x.bfloat16()).dtype == torch.bfloat16
    with torch.enable_grad():
        x.requires_grad_()
        layer.scores(x).sum().backward()
    torch.testing.assert_close(x.grad, layer.weight.sum(0).expand(2, 3, 24))


def test_accounting():
    """Weights stood for, operations of the dense layer, bytes of codes and scales, no weight in fp32."""
    linear = nn.Linear(24, 7)
    for layer in (
        int8(linear),
        int8(linear, None),
        Int4Linear.from_linear(linear, quantize(linear.weight.detach(), bits=4, axis=0)),
    ):
        assert layer.logical_parameters() == count_parameters(layer).total == 24 * 7 + 7
        assert layer.flops(10) == 2 * 10 * 24 * 7
        assert count_flops(layer, inputs=torch.zeros(2, 5, 24)) == 2 * 10 * 24 * 7
        assert stored_bytes(layer) < stored_bytes(linear)
    assert stored_bytes(int8(linear)) == 24 * 7 + 7 * 4 + 7 * 4


@torch.no_grad()
def test_folds_back():
    """dequantize() is a plain linear with the weight after quantization."""
    linear, x = nn.Linear(16, 8), torch.randn(4, 16)
    for layer in (int8(linear, None), Int4Linear.from_linear(linear, quantize(linear.weight, bits=4, axis=0))):
        plain = layer.dequantize()
        assert type(plain) is nn.Linear
        assert torch.equal(plain(x), layer(x))


@torch.no_grad()
def test_copies_and_changes_of_codes():
    """The packed form is no state: copies and pickles work, and new codes are noticed however they come."""
    linear, x = nn.Linear(16, 8), torch.randn(4, 16)
    layer = int8(linear)
    y = layer(x)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(other(x), y)
    layer.codes.mul_(-1)
    torch.testing.assert_close(layer(x) - layer.bias, layer.bias - y)
    layer.load_state_dict(other.state_dict())
    assert torch.equal(layer(x), y)
    layer.codes = torch.zeros_like(layer.codes)
    assert torch.equal(layer(x), layer.bias.expand(4, 8))
    with torch.inference_mode():
        inside = int8(linear)
        assert torch.equal(inside(x), y)


@torch.no_grad()
def test_half_precision_and_autocast():
    """The output has x's dtype; codes are formed in full precision."""
    layer, x = int8(nn.Linear(16, 8)), torch.randn(4, 16)
    assert layer(x.bfloat16()).dtype == torch.bfloat16
    torch.testing.assert_close(layer(x.bfloat16()).float(), layer(x.bfloat16().float()), atol=0.02, rtol=0.02)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(layer(x), int8(layer.dequantize())(x))
    x.requires_grad_()
    with torch.enable_grad(), torch.autocast("cpu", torch.bfloat16):
        layer(x).sum().backward()
    assert x.grad.isfinite().all()


@torch.no_grad()
def test_traced_by_the_compiler():
    """One graph, and the numbers of eager mode up to rounding."""
    layer, x = int8(nn.Linear(32, 16)), torch.randn(4, 32)
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), layer(x), atol=1e-5, rtol=1e-5)


def test_bad_input():
    """One clear error each."""
    linear = nn.Linear(4, 3)
    with pytest.raises(ValueError, match=r"one scale per output row \(3, 1\), got \(\)"):
        Int8Linear.from_linear(linear, quantize(linear.weight.detach()))
    with pytest.raises(ValueError, match="need the range of the inputs"):
        int8(linear, "static")
    with pytest.raises(ValueError, match="unknown way to quantize activations 'dynamical'; nearest: dynamic"):
        int8(linear, "dynamical")
    with pytest.raises(ValueError, match="rows of 5 codes of 4 bits do not fill whole bytes"):
        QuantizedEmbedding(10, 5, bits=4)


def test_fake_quantize_and_layer_agree():
    """Dynamic codes of the layer are those of `fake_quantize` per row."""
    linear, x = nn.Linear(40, 20), torch.randn(30, 40)
    real = F.linear(fake_quantize(x, axis=0), fake_quantize(linear.weight, axis=0), linear.bias)
    torch.testing.assert_close(int8(linear)(x), real, atol=1e-5, rtol=1e-5)

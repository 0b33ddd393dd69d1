"""The same numbers as torch, torchao and ONNX Runtime where they mean the same."""

import logging
import warnings

import numpy as np
import pytest
import torch

from coursekit.compress.quantization import Int8Linear, affine_parameters, fake_quantize, quantize


@pytest.mark.parametrize("symmetric", [True, False])
def test_torch_fake_quantize(symmetric):
    """Forward and gradient of torch's own kernels, per tensor and per row, with values outside the range."""
    x = torch.randn(6, 40)
    low, high = x.amin(1) * 0.7, x.amax(1) * 0.7
    scale, zero = affine_parameters(low, high, symmetric=symmetric)
    least = -127 if symmetric else -128
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    y = fake_quantize(ours, symmetric=symmetric, scale=scale[:, None], zero_point=zero[:, None])
    reference = torch.fake_quantize_per_channel_affine(theirs, scale, zero, 0, least, 127)
    torch.testing.assert_close(y, reference, atol=1e-6, rtol=1e-6)
    y.sum().backward()
    reference.sum().backward()
    assert torch.equal(ours.grad, theirs.grad)
    assert 0 < (ours.grad == 0).sum() < 200
    one = fake_quantize(x, symmetric=symmetric, scale=scale[0], zero_point=zero[0])
    reference = torch.fake_quantize_per_tensor_affine(x, float(scale[0]), int(zero[0]), least, 127)
    torch.testing.assert_close(one, reference, atol=1e-6, rtol=1e-6)


@pytest.fixture(scope="module")
def torchao():
    """torchao's functional core; it warns about kernels that this torch does not load."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return pytest.importorskip("torchao.quantization.quant_primitives")
    finally:
        logging.disable(logging.NOTSET)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("block", [(6, 48), (1, 48), (1, 16)])
def test_torchao_asymmetric(torchao, bits, block):
    """Scale, zero point, codes and numbers, for one scale, rows and groups."""
    x = torch.randn(6, 48) + 0.3
    least, most = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    kind = torchao.MappingType.ASYMMETRIC
    limits = {"quant_min": least, "quant_max": most}
    scale, zero = torchao.choose_qparams_affine(x, kind, block, torch.int8, **limits)
    codes = torchao.quantize_affine(x, block, scale, zero, torch.int8, **limits)
    options = {(6, 48): {}, (1, 48): {"axis": 0}, (1, 16): {"group_size": 16}}[block]
    q = quantize(x, bits=bits, symmetric=False, **options)
    torch.testing.assert_close(q.scale.flatten(), scale.flatten())
    assert torch.equal(q.zero_point.flatten().int(), zero.flatten().int())
    assert torch.equal(q.codes, codes)
    back = torchao.dequantize_affine(codes, block, scale, zero, torch.int8, **limits)
    torch.testing.assert_close(q.dequantize(), back)


def test_torchao_symmetric_differs_where_it_clips(torchao):
    """Its SYMMETRIC spreads max|x| over 127.5 steps: the largest value loses half a step, with us nothing."""
    x = torch.tensor([[3.0, -1.0, 0.2, 0.0]])
    scale, zero = torchao.choose_qparams_affine(x, torchao.MappingType.SYMMETRIC, (1, 4), torch.int8)
    codes = torchao.quantize_affine(x, (1, 4), scale, zero, torch.int8)
    back = torchao.dequantize_affine(codes, (1, 4), scale, zero, torch.int8)
    assert (back[0, 0] - 3).abs() == pytest.approx(float(scale) / 2, rel=0.01)
    torch.testing.assert_close(quantize(x).dequantize()[0, 0], x[0, 0])


@pytest.fixture(scope="module")
def onnx_run():
    """Run one ONNX operator."""
    onnx, runtime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    runtime.set_default_logger_severity(3)

    def run(operator: str, outputs: int = 1, **inputs: np.ndarray) -> list[np.ndarray]:
        helper = onnx.helper
        known = [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
            for name, value in inputs.items()
        ]
        names = [f"out{number}" for number in range(outputs)]
        unknown = [onnx.ValueInfoProto(name=name) for name in names]
        graph = helper.make_graph([helper.make_node(operator, list(inputs), names)], "one", known, unknown)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        options = runtime.SessionOptions()
        options.intra_op_num_threads = 1
        session = runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return session.run(None, inputs)

    return run


def test_onnx_quantize_linear(onnx_run):
    """Half to even, clamped to −128 … 127, zero point added after rounding."""
    x = torch.cat((torch.arange(-6, 7) * 0.5, torch.randn(200) * 60, torch.tensor([500.0, -500.0])))
    scale, zero = torch.tensor(1.0), torch.tensor(3, dtype=torch.int32)
    (codes,) = onnx_run("QuantizeLinear", x=x.numpy(), scale=scale.numpy(), zero=np.array(3, dtype=np.int8))
    ours = fake_quantize(x, symmetric=False, scale=scale, zero_point=zero)
    np.testing.assert_array_equal(ours.numpy(), codes.astype(np.float32) - 3)


def test_onnx_dynamic_quantize_linear(onnx_run):
    """Its unsigned codes are ours plus 128, with the same scale."""
    x = torch.randn(5, 30) * 2 + 1
    codes, scale, zero = onnx_run("DynamicQuantizeLinear", 3, x=x.numpy())
    q = quantize(x, symmetric=False)
    np.testing.assert_allclose(q.scale.numpy(), scale, rtol=1e-6)
    assert int(q.zero_point) + 128 == int(zero)
    assert np.abs(q.codes.numpy().astype(int) + 128 - codes).max() <= 1  # a tie may fall either way
    assert (q.codes.numpy().astype(int) + 128 == codes).mean() > 0.99


@torch.no_grad()
def test_onnx_integer_product(onnx_run):
    """Our layer's sums are those of MatMulInteger."""
    linear, x = torch.nn.Linear(96, 24, bias=False), torch.randn(10, 96)
    weight, rows = quantize(linear.weight, axis=0), quantize(x, axis=0)
    (sums,) = onnx_run("MatMulInteger", a=rows.codes.numpy(), b=weight.codes.T.contiguous().numpy())
    expected = torch.from_numpy(sums) * rows.scale * weight.scale.T
    torch.testing.assert_close(Int8Linear.from_linear(linear, weight)(x), expected, atol=1e-6, rtol=1e-6)

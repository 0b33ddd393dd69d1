"""The layers of our models as ONNX nodes: plain, low-rank, and in codes."""

import torch
from torch import Tensor, nn

from coursekit.compress.lowrank import LowRankLinear
from coursekit.compress.quantization import Int8Linear, QuantizedEmbedding
from coursekit.compress.quantization.layers import PackedLinear
from coursekit.compress.quantization.packing import pack, unpack
from coursekit.export.graph import Graph, onnx, real

LEAST_SCALE = 1e-30  # of a row of zeros, whose codes are 0 by any scale


def linear(g: Graph, module: nn.Module, x: str) -> str:
    """(…, in) → (…, out). Raises ValueError for a layer that ONNX has no words for."""
    if type(module) is LowRankLinear:
        return linear(g, module.up, linear(g, module.down, x))
    if type(module) is nn.Linear:
        y = g.add("MatMul", x, g.weight(module, "weight_t", lambda: real(module.weight.T)))
    elif type(module) is Int8Linear and module.activations is not None:
        y = _int8_product(g, module, x)
    elif isinstance(module, Int8Linear | PackedLinear):
        y = g.add("MatMul", x, g.add("Transpose", _dequantized(g, module), perm=[1, 0]))
    else:
        raise ValueError(
            f"a {type(module).__name__} cannot be written as ONNX; make it a plain, low-rank or quantized linear first "
            "(finalize, merge_lora, convert_qat)"
        )
    return y if module.bias is None else g.add("Add", y, g.weight(module, "bias", lambda: real(module.bias)))


def _int8_product(g: Graph, layer: Int8Linear, x: str) -> str:
    """Codes of the input, the integer product, two scales: the same integers as `Int8Linear`."""
    if layer.divisor is not None:
        x = g.add("Div", x, g.weight(layer, "divisor", lambda: real(layer.divisor)))
    codes = g.weight(layer, "codes_t", lambda: layer.codes.T)
    weight_scale = g.weight(layer, "scale", lambda: real(layer.scale.flatten()))
    if layer.activations == "static":
        scale = g.weight(layer, "input_scale", lambda: real(layer.input_scale))
        zero = g.weight(layer, "input_zero", lambda: layer.input_zero.char())
        product = g.add("MatMulInteger", g.add("QuantizeLinear", x, scale, zero), codes, zero)
    else:
        largest = g.add("ReduceMax", g.add("Abs", x), g.number([-1], "int64"), keepdims=1)
        scale = g.add("Div", g.add("Max", largest, g.number(LEAST_SCALE)), g.number(127))
        rounded = g.add("Round", g.add("Div", x, scale))
        product = g.add("MatMulInteger", g.add("Cast", rounded, to=onnx().TensorProto.INT8), codes)
    y = g.add("Mul", g.add("Cast", product, to=onnx().TensorProto.FLOAT), weight_scale)
    return g.add("Mul", y, scale)


def _dequantized(g: Graph, layer: Int8Linear | PackedLinear) -> str:
    """The weight (out, in) of a layer whose codes only save bytes.

    In plain steps, which ONNX Runtime does once when it loads the file: in the place of a `DequantizeLinear` before a
    product it would round the inputs too.
    """
    rows, width, to_real = layer.out_features, layer.in_features, onnx().TensorProto.FLOAT
    if isinstance(layer, Int8Linear):
        codes = g.add("Cast", g.weight(layer, "codes", lambda: layer.codes), to=to_real)
        return g.add("Mul", codes, g.weight(layer, "scale", lambda: real(layer.scale)))
    if width % 2:
        raise ValueError(f"codes of {layer.bits} bits need an even width in ONNX, got {width}")

    def codes_of_four_bits() -> Tensor:  # also for layers with fewer: ONNX Runtime knows no smaller ones
        return pack(unpack(layer.packed, rows * width, layer.bits), 4).view(rows, width // 2)

    codes = g.add("DequantizeLinear", g.weight(layer, "codes", codes_of_four_bits, bits=4), g.number(1))
    groups = layer.scale.shape[1] if layer.scale.dim() else 1
    scale = g.weight(layer, "scale", lambda: real(layer.scale).expand(rows, groups)[..., None])
    grouped = g.add("Reshape", codes, g.number([rows, groups, -1], "int64"))
    return g.add("Reshape", g.add("Mul", grouped, scale), g.number([rows, width], "int64"))


def lookup(g: Graph, table: nn.Module, ids: str) -> str:
    """(B, T) ids → (B, T, E)."""
    rows = g.add("Gather", _codes_or_weight(g, table), ids)
    if type(table) is nn.Embedding:
        return rows
    scales = g.add("Gather", _scale(g, table), ids)  # (B, T, 1)
    return g.add("Mul", g.add("Cast", rows, to=onnx().TensorProto.FLOAT), scales)


def scores(g: Graph, table: nn.Module, x: str) -> str:
    """x (…, E) times the table's transpose: (…, V), from the same constant as `lookup`."""
    weight = _codes_or_weight(g, table)
    if type(table) is not nn.Embedding:
        weight = g.add("Mul", g.add("Cast", weight, to=onnx().TensorProto.FLOAT), _scale(g, table))
    return g.add("MatMul", x, g.add("Transpose", weight, perm=[1, 0]))


def _codes_or_weight(g: Graph, table: nn.Module) -> str:
    if type(table) is nn.Embedding:
        return g.weight(table, "weight", lambda: real(table.weight))
    if type(table) is not QuantizedEmbedding or table.bits != 8 or table.scale.shape[1] != 1:
        what = table.what if isinstance(table, QuantizedEmbedding) else type(table).__name__
        raise ValueError(f"a table can be written as ONNX in fp32 or in int8 per row, got {what}")
    return g.weight(table, "codes", lambda: table.packed.view(torch.int8))


def _scale(g: Graph, table: QuantizedEmbedding) -> str:
    return g.weight(table, "scale", lambda: real(table.scale))


def layer_norm(g: Graph, module: nn.LayerNorm, x: str) -> str:
    """(…, H) → (…, H)."""
    weight, bias = (
        g.weight(module, role, lambda role=role: real(getattr(module, role))) for role in ("weight", "bias")
    )
    return g.add("LayerNormalization", x, weight, bias, axis=-1, epsilon=module.eps)


def activation(g: Graph, name: str, x: str) -> str:
    """The activations of `TransformerConfig`."""
    if name.startswith("gelu"):
        return g.add("Gelu", x, approximate="tanh" if name == "gelu_tanh" else "none")
    if name == "silu":
        return g.add("Mul", x, g.add("Sigmoid", x))
    return g.add({"relu": "Relu", "tanh": "Tanh"}[name], x)

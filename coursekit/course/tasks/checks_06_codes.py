"""Checks of unit 06 on codes: scale and zero point, rows, packed bytes, the integer product, bytes of a model."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from coursekit.course.expect import Draw, expect_call
from coursekit.measure import stored_bytes
from coursekit.models import Encoder, SequenceClassifier, SharingPlan, TransformerConfig


def scale_and_zero(low: float, high: float, bits: int) -> tuple[float, int]:
    """06.1 as it should be."""
    least, most = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    low, high = min(low, 0.0), max(high, 0.0)
    scale = (high - low) / (most - least)
    return scale, max(least, min(most, round(least - low / scale)))


def check_scale(answer: Callable, draw: Draw) -> None:
    """06.1: a range around zero, one above it and one below it."""
    bits = draw.integer(4, 8)
    span = draw.number(1.5, 4.0)
    ranges = [(-span, 1.7 * span), (0.4 * span, span), (-span, -0.3 * span)]
    for low, high in draw.sample(ranges, 3):
        low, high = round(low, 3), round(high, 3)
        expect_call(answer, (low, high, bits), scale_and_zero(low, high, bits), mistakes=_wrong_scales(), atol=1e-7)


def _wrong_scales() -> dict[str, Callable]:
    """Message → wrong variant of 06.1."""

    def not_stretched(low: float, high: float, bits: int) -> tuple[float, int]:
        scale = (high - low) / (2**bits - 1)
        return scale, round(-(2 ** (bits - 1)) - low / scale)

    def steps(low: float, high: float, bits: int) -> tuple[float, int]:
        scale = (max(high, 0.0) - min(low, 0.0)) / 2**bits
        return scale, round(-(2 ** (bits - 1)) - min(low, 0.0) / scale)

    def unsigned(low: float, high: float, bits: int) -> tuple[float, int]:
        scale, _ = scale_and_zero(low, high, bits)
        return scale, round(-min(low, 0.0) / scale)

    def symmetric(low: float, high: float, bits: int) -> tuple[float, int]:
        return max(-low, high) / (2 ** (bits - 1) - 1), 0

    def real_zero(low: float, high: float, bits: int) -> tuple[float, float]:
        scale, _ = scale_and_zero(low, high, bits)
        return scale, -(2 ** (bits - 1)) - min(low, 0.0) / scale

    def flipped(low: float, high: float, bits: int) -> tuple[float, int]:
        scale, _ = scale_and_zero(low, high, bits)
        return scale, round(-(2 ** (bits - 1)) + min(low, 0.0) / scale)

    return {
        "the range must be stretched to contain 0, or zero has no code": not_stretched,
        "this is the zero point of codes that start at 0; ours are signed": unsigned,
        "as many codes as that leave one step fewer between them": steps,
        "this is the symmetric scale; here both ends of the range have a code": symmetric,
        "the zero point is a code: a whole number": real_zero,
        "the zero point has the wrong sign of low": flipped,
    }


def quantize_rows(weight: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """06.2 as it should be."""
    most = 2 ** (bits - 1) - 1
    scale = weight.abs().amax(1, keepdim=True) / most
    scale = torch.where(scale > 0, scale, 1.0)
    return (weight / scale).round().clamp(-most, most).to(torch.int8), scale


def check_rows(answer: Callable, draw: Draw) -> None:
    """06.2: rows of very different size, the largest |w| negative in some, one row of zeros."""
    rows, columns, bits = draw.integer(5, 7), draw.integer(9, 12), draw.integer(4, 8)
    weight = draw.normal(rows, columns) * 4.0 ** torch.arange(rows).flip(0)[:, None]
    weight[1] = -weight[1].abs()
    weight[-1] = 0
    mistakes = {
        "a row of zeros must not give NaN or infinity: give it scale 1": lambda w, b: _rows(w, b, safe=False),
        "this is one scale for each column; each output row has its own": lambda w, b: _rows(w, b, axis=0),
        "this is one scale for the whole matrix": lambda w, b: _rows(w, b, axis=None),
        "the largest absolute value decides, whatever its sign": lambda w, b: _rows(w, b, signed=True),
        "the largest code is one below that power of two": lambda w, b: _rows(w, b, extra=1),
        "casting cuts off towards zero; round first": lambda w, b: _rows(w, b, rounded=False),
        "the scale keeps its second axis, so that it divides rows": lambda w, b: _flat(*_rows(w, b)),
    }
    expect_call(answer, (weight, bits), quantize_rows(weight, bits), mistakes=mistakes)


def _rows(
    weight: Tensor, bits: int, axis: int | None = 1, signed: bool = False, extra: int = 0, rounded=True, safe=True
) -> tuple[Tensor, Tensor]:
    """06.2 with switches for what may go wrong."""
    most = 2 ** (bits - 1) - 1 + extra
    size = weight if signed else weight.abs()
    scale = (size.amax() if axis is None else size.amax(axis, keepdim=True)) / most
    scale = torch.where(scale != 0, scale, 1.0) if safe else scale
    codes = weight / scale
    codes = codes.round() if rounded else codes
    return codes.clamp(-most, most - extra).to(torch.int8), scale


def _flat(codes: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    return codes, scale.flatten()


def unpack(packed: Tensor, count: int) -> Tensor:
    """06.3 as it should be."""
    return _signed(_halves(packed))[:count]


def _halves(packed: Tensor) -> Tensor:
    """The low and the high half of each byte in turn, 0 to 15, int8."""
    return torch.stack((packed & 15, packed >> 4), 1).flatten().to(torch.int8)


def _signed(halves: Tensor) -> Tensor:
    return torch.where(halves > 7, halves - 16, halves)


def check_unpack(answer: Callable, draw: Draw) -> None:
    """06.3: an odd number of codes, negative ones and −8 among them."""
    count = 2 * draw.integer(3, 5) + 1
    codes = draw.integers(-8, 7, count).to(torch.int8)
    codes[0], codes[1], codes[-1] = 3, -8, draw.integer(1, 7)
    low = torch.nn.functional.pad(codes, (0, 1)).view(torch.uint8) & 15
    packed = low[::2] | low[1::2] << 4

    def swapped(packed: Tensor, count: int) -> Tensor:
        return _signed(_halves(packed >> 4 | packed << 4))[:count]

    def in_two_runs(packed: Tensor, count: int) -> Tensor:
        return _signed(torch.cat((packed & 15, packed >> 4)).to(torch.int8))[:count]

    mistakes = {
        "the low half of a byte holds the first of its two codes": swapped,
        "the codes are signed: a half byte of 8 or more stands for a negative one": lambda p, n: _halves(p)[:n],
        "an odd count leaves half a byte over, which is no code": lambda p, n: _signed(_halves(p)),
        "this shifts every code by 8; they are two's complement, where all ones mean -1": lambda p, n: (
            _halves(p)[:n] - 8
        ),
        "first all low halves, then all high ones: the two codes of a byte are neighbours": in_two_runs,
    }
    expect_call(answer, (packed, count), codes, mistakes=mistakes)


def integer_linear(x: Tensor, x_scale: float, x_zero: int, w: Tensor, w_scale: Tensor, bias: Tensor) -> Tensor:
    """06.4 as it should be."""
    sums = (x.int() - x_zero) @ w.int().T
    return sums * (x_scale * w_scale.T) + bias


def check_product(answer: Callable, draw: Draw) -> None:
    """06.4: codes whose sums leave 8 bits, a zero point, another scale for each row."""
    rows, inputs, outputs = draw.integer(3, 4), draw.integer(8, 11), draw.integer(5, 6)
    x, w = (draw.integers(-128, 127, rows, inputs), draw.integers(-127, 127, outputs, inputs))
    x_scale, x_zero = round(draw.number(0.01, 0.05), 4), draw.integer(20, 60)
    w_scale = 0.01 + draw.normal(outputs, 1).abs() / 50
    given = (x.to(torch.int8), x_scale, x_zero, w.to(torch.int8), w_scale, draw.normal(outputs))
    mistakes = {
        "the zero point of the inputs is missing": lambda x, s, z, w, t, b: integer_linear(x, s, 0, w, t, b),
        "the zero point is taken off, not added": lambda x, s, z, w, t, b: integer_linear(x, s, -z, w, t, b),
        "the subtraction wraps around: 8 bits do not hold code minus zero point": lambda x, s, z, w, t, b: (
            (x - z).int() @ w.int().T * (s * t.T) + b
        ),
        "sums of products do not fit into 8 bits": lambda x, s, z, w, t, b: (
            ((x.int() - z) @ w.int().T).to(torch.int8) * (s * t.T) + b
        ),
        "the scale of the inputs is missing": lambda x, s, z, w, t, b: integer_linear(x, 1.0, z, w, t, b),
        "the scales of the weights are missing": lambda x, s, z, w, t, b: integer_linear(x, s, z, w, t * 0 + 1, b),
        "the bias is a real number already; it is not scaled": lambda x, s, z, w, t, b: integer_linear(
            x, s, z, w, t, b * s * t.flatten()
        ),
        "the bias is missing": lambda x, s, z, w, t, b: integer_linear(x, s, z, w, t, b * 0),
    }
    expect_call(answer, given, integer_linear(*given), mistakes=mistakes, rtol=1e-4, atol=1e-4)


def model_bytes(model: nn.Module, bits: int, group_size: int | None, *, scales=1, padded=True, skip=True, once=True):
    """06.8 as it should be, and with switches for what may go wrong."""
    total = stored_bytes(model)
    layers = [m for m in model.modules() if isinstance(m, nn.Linear)]
    if not once:
        layers = [m for _, m in model.named_modules(remove_duplicate=False) if isinstance(m, nn.Linear)]
    for linear in layers:
        if skip and linear is model.classifier:
            continue
        out, width = linear.weight.shape
        groups = 1 if group_size is None else width // group_size
        codes = -(-out * width * bits // 8) if padded else out * width
        total += codes + {1: out * groups, 0: 0, -1: out}[scales] * 4 - 4 * out * width
    return total


def check_bytes(answer: Callable, draw: Draw) -> None:
    """06.8: a small classifier whose layers are shared, bits and groups of several kinds."""
    width = draw.choice((32, 48))
    config = TransformerConfig(draw.integer(60, 90), width, 3, 4, 2 * width, sharing=SharingPlan.every(3, 2))
    model = SequenceClassifier(Encoder(config), draw.integer(2, 4))
    bits, group = draw.choice((2, 4)), 16
    mistakes = {
        "the scales are missing": lambda m, b, g: model_bytes(m, b, g, scales=0),
        "each group of a row has a scale of its own": lambda m, b, g: model_bytes(m, b, g, scales=-1),
        "codes of fewer than 8 bits share bytes": lambda m, b, g: model_bytes(m, b, g, padded=False),
        "the classifier stays as it is": lambda m, b, g: model_bytes(m, b, g, skip=False),
        "a layer that two depths share is stored once": lambda m, b, g: model_bytes(m, b, g, once=False),
        "this is all the old bytes and the new ones: what turns into codes is no longer stored": lambda m, b, g: (
            model_bytes(m, b, g)
            + sum(4 * m.weight.numel() for m in m.modules() if isinstance(m, nn.Linear))
            - 4 * m.classifier.weight.numel()
        ),
        "tables, biases and LayerNorms are stored too": lambda m, b, g: model_bytes(m, b, g) - model_bytes_rest(m),
    }
    expect_call(answer, (model, bits, group), model_bytes(model, bits, group), mistakes=mistakes)
    whole = {"a row is one group if there is no group size": lambda m, b, g: model_bytes(m, b, 16)}
    expect_call(answer, (model, bits, None), model_bytes(model, bits, None), mistakes=whole)


def model_bytes_rest(model: nn.Module) -> int:
    """Bytes of all that does not turn into codes."""
    inside = [m.weight.numel() for m in model.modules() if isinstance(m, nn.Linear) and m is not model.classifier]
    return stored_bytes(model) - 4 * sum(inside)

"""The arithmetic of quantization: real numbers as small integers, a scale, and the integer that means zero.

    code = clamp(round(x / scale) + zero_point, least, most)        x ≈ scale · (code − zero_point)

Symmetric: zero_point = 0 and codes −m … m with m = 2^(bits−1) − 1, so that x and −x get opposite codes and int8 never
uses −128 (torchao's SYMMETRIC does: scale max|x|/127.5, and the largest value is clipped). Asymmetric: codes −m−1 … m
spread over [min x, max x], stretched to hold 0 (Jacob et al. 2018, section 2.1 and equation 1).
Rounding is half to even, as `torch.round`: 0.5 → 0, 1.5 → 2, 2.5 → 2.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from coursekit.measure.hygiene import require_counts


@dataclass(frozen=True, eq=False)
class QuantizedTensor:
    """x ≈ scale · (codes − zero_point).

    codes       int8, shaped as x
    scale       0-d for one scale; shaped as x with 1 for the axes it spans, so it broadcasts; with groups
                (…, n / group_size), one for each group of the last axis
    zero_point  int32, shaped as scale; 0 if symmetric
    """

    codes: Tensor
    scale: Tensor
    zero_point: Tensor

    def dequantize(self) -> Tensor:
        """The numbers that the codes stand for, in the scale's dtype."""
        codes = self.codes.int()  # int8 − zero_point would wrap around where zero_point is 0-d
        if self.scale.dim() == 0:
            return (codes - self.zero_point) * self.scale
        grouped = _grouped(codes, self.scale)
        return ((grouped - self.zero_point[..., None]) * self.scale[..., None]).flatten(-2)


def quantize(
    x: Tensor, *, bits: int = 8, symmetric: bool = True, axis: int | None = None, group_size: int | None = None
) -> QuantizedTensor:
    """Round x to codes of `bits` bits (2 to 8) that span its own range.

    One scale for all of x; or with axis=a one for each index of that axis (axis 0 of a Linear's weight: one per output
    row); or one per `group_size` neighbours along the last axis, for every index of the others. A range that is all
    zero gives zeros. Half precision is computed, and its scale kept, in float32.

    Raises ValueError for other bits, an axis that x does not have, groups that do not divide the last axis, x that is
    empty or not floating point, NaN or infinity.
    """
    x = _as_real(x)
    scale, zero_point = affine_parameters(*_ranges(x, axis, group_size), bits=bits, symmetric=symmetric)
    return _encode(x, scale, zero_point, bits, symmetric)[0]


def affine_parameters(low: Tensor, high: Tensor, *, bits: int = 8, symmetric: bool = True) -> tuple[Tensor, Tensor]:
    """(scale, zero_point) for values between low and high; the range is stretched to include 0.

    Without 0 in it, [5, 6] would need zero point −1,403: outside the codes, and what is left after clamping is garbage.
    """
    least, most = code_range(bits, symmetric)
    if symmetric:
        scale = _no_zero(torch.maximum(high, -low) / most)
        return scale, torch.zeros_like(scale, dtype=torch.int32)
    low, high = low.clamp(max=0), high.clamp(min=0)
    scale = _no_zero(high / (most - least) - low / (most - least))  # high − low could overflow
    zero_point = (least - low / scale).round().clamp(least, most)
    return scale, zero_point.to(torch.int32)


def code_range(bits: int, symmetric: bool) -> tuple[int, int]:
    """Smallest and largest code. Raises ValueError unless bits is an integer from 2 to 8."""
    if not isinstance(bits, int) or isinstance(bits, bool) or not 2 <= bits <= 8:
        raise ValueError(f"bits must be an integer from 2 to 8, got {bits!r}")
    most = 2 ** (bits - 1) - 1
    return (-most if symmetric else -most - 1), most


def fake_quantize(
    x: Tensor,
    *,
    bits: int = 8,
    symmetric: bool = True,
    axis: int | None = None,
    group_size: int | None = None,
    scale: Tensor | None = None,
    zero_point: Tensor | None = None,
) -> Tensor:
    """quantize(x, …).dequantize() with a gradient: 1 where x lies in the range, 0 where it was clamped.

    The straight-through estimator (Bengio et al. 2013): rounding has gradient 0 almost everywhere, so training would
    stand still; it is treated as the identity. With scale and zero_point, as of an observer, these are used instead of
    x's own range. They get no gradient. Returns x's shape and dtype; raises as `quantize`.
    """
    with torch.no_grad():
        real = _as_real(x)
        if scale is None:
            scale, zero_point = affine_parameters(*_ranges(real, axis, group_size), bits=bits, symmetric=symmetric)
        elif zero_point is None:
            zero_point = torch.zeros_like(scale, dtype=torch.int32)
        quantized, inside = _encode(real, scale, zero_point, bits, symmetric)
    return straight_through(x, quantized.dequantize().to(x.dtype), inside)


def straight_through(x: Tensor, value: Tensor, inside: Tensor | None = None) -> Tensor:
    """`value`, whose gradient goes to x unchanged, or only where `inside` is true."""
    return _StraightThrough.apply(x, value, inside)


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, value: Tensor, inside: Tensor | None) -> Tensor:
        ctx.inside = inside
        return value.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return gradient if ctx.inside is None else gradient * ctx.inside, None, None


def symmetric_values(codes: Tensor, scale: Tensor) -> Tensor:
    """scale · codes, for symmetric codes: what `dequantize` gives, without its detour over 32-bit integers."""
    codes = codes.to(scale.dtype)  # int8 times float in one operation is slower than both of its steps
    if scale.dim() == 0:
        return codes.mul_(scale)
    return _grouped(codes, scale).mul_(scale[..., None]).flatten(-2)


def _encode(x: Tensor, scale: Tensor, zero_point: Tensor, bits: int, symmetric: bool) -> tuple[QuantizedTensor, Tensor]:
    """Codes for given scales, and which values lay in the range."""
    least, most = code_range(bits, symmetric)
    if scale.dim() == 0:
        raw = (x / scale).round() + zero_point
    else:
        raw = ((_grouped(x, scale) / scale[..., None]).round() + zero_point[..., None]).flatten(-2)
    codes = raw.clamp(least, most)
    return QuantizedTensor(codes.to(torch.int8), scale, zero_point), raw == codes


def _as_real(x: Tensor) -> Tensor:
    if not x.is_floating_point():
        raise ValueError(f"only floating point numbers are quantized, got {x.dtype}")
    if x.numel() == 0:
        raise ValueError(f"there is nothing to quantize: x has shape {tuple(x.shape)}")
    return x.float() if x.element_size() < 4 else x


def _ranges(x: Tensor, axis: int | None, group_size: int | None) -> tuple[Tensor, Tensor]:
    """Smallest and largest value of whatever has a scale of its own."""
    if axis is not None and not -x.dim() <= axis < x.dim():
        raise ValueError(f"axis {axis} does not exist: x has {x.dim()} dimensions")
    if group_size is not None:
        x = _groups(x, axis, group_size)
        low, high = x.amin(-1), x.amax(-1)
    elif axis is None:
        low, high = x.amin(), x.amax()
    else:
        others = [other for other in range(x.dim()) if other != axis % x.dim()]
        low, high = (x.amin(others, keepdim=True), x.amax(others, keepdim=True)) if others else (x, x)
    if not (low.isfinite().all() and high.isfinite().all()):
        raise ValueError(f"{int((~x.isfinite()).sum())} of {x.numel()} values are NaN or infinite")
    return low, high


def _groups(x: Tensor, axis: int | None, group_size: int) -> Tensor:
    """x as (…, groups, group_size)."""
    require_counts(group_size=group_size)
    width = x.shape[-1] if x.dim() else 1
    if width % group_size:
        raise ValueError(f"group_size {group_size} does not divide the last axis of {width}")
    if axis is not None and axis % x.dim() == x.dim() - 1:
        raise ValueError(f"axis {axis} is the one that groups of {group_size} run along; give one of the two")
    return x.reshape(*x.shape[:-1], width // group_size, group_size)


def _grouped(x: Tensor, scale: Tensor) -> Tensor:
    """x as (…, groups, size) beside a scale (…, groups); a scale that broadcasts has 1 group, or groups of size 1."""
    return x.unflatten(-1, (scale.shape[-1], -1))


def _no_zero(scale: Tensor) -> Tensor:
    """A range of zeros gets scale 1: its codes are 0 and stay 0."""
    return scale.masked_fill(scale == 0, 1.0)

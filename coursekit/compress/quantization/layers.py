"""Linear layers whose weight is kept in codes, and their way back to `nn.Linear`."""

from typing import Any, Literal, Self, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coursekit.compress.quantization.affine import (
    QuantizedTensor,
    affine_parameters,
    fake_quantize,
    symmetric_values,
)
from coursekit.compress.quantization.kernels import Prepacked, int8_product
from coursekit.compress.quantization.packing import pack, packed_size, unpack
from coursekit.errors import unknown_name

Activations = Literal["dynamic", "static"]


class QuantizedLinear(nn.Module):
    """What all have in common. weight (out, in): the real numbers that the codes stand for, formed when asked for.

    The bias stays a parameter in full precision; codes and scales are buffers, so `stored_bytes` counts what a file
    holds. `logical_parameters` are the weights the layer stands for.
    """

    def __init__(self, in_features: int, out_features: int, bias: bool) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.bias = nn.Parameter(torch.zeros(out_features)) if bias else None

    @property
    def weight(self) -> Tensor:
        """The weight (out, in) after quantization."""
        raise NotImplementedError

    @property
    def what(self) -> str:
        """One line for a report."""
        raise NotImplementedError

    def describe(self) -> dict[str, Any]:
        """Constructor arguments, for saving."""
        return {"in_features": self.in_features, "out_features": self.out_features, "bias": self.bias is not None}

    def forward(self, x: Tensor) -> Tensor:
        """(…, in) → (…, out), with the weight dequantized for the product: smaller, not faster than fp32."""
        return F.linear(x, self.weight.to(x.dtype), self.bias)

    @torch.no_grad()
    def dequantize(self) -> nn.Linear:
        """A plain linear with the weight after quantization."""
        linear = nn.Linear(self.in_features, self.out_features, self.bias is not None, device="meta")
        linear.weight = nn.Parameter(self.weight)
        linear.bias = None if self.bias is None else nn.Parameter(self.bias.detach().clone())
        return linear.train(self.training)

    def logical_parameters(self) -> int:
        """Weights and biases, as many as the plain linear has."""
        return self.out_features * (self.in_features + (self.bias is not None))

    def flops(self, rows: int) -> int:
        """2 × multiply-accumulates for that many input rows; of integers, where the layer multiplies integers."""
        return 2 * rows * self.in_features * self.out_features

    def extra_repr(self) -> str:
        """Shape and kind."""
        return f"in_features={self.in_features}, out_features={self.out_features}, {self.what}"

    def _take(self, linear: nn.Linear, **buffers: Tensor) -> Self:
        """Fill a layer made on meta; the bias is a copy."""
        for name, value in buffers.items():
            setattr(self, name, value.detach().contiguous())
        if linear.bias is not None:
            self.bias = nn.Parameter(linear.bias.detach().clone(), linear.bias.requires_grad)
        return self.train(linear.training)


class Int8Linear(QuantizedLinear):
    """y = s_x · s_w ∘ (q_x · codesᵀ) + b: a product of integers, summed in 32 bits, then two scales.

    codes (out, in) int8 and scale (out, 1): symmetric, one scale per output row. The input is quantized too:
      dynamic  symmetric, one scale per row (token), from that row alone, so no row changes another's result
      static   asymmetric, scale and zero point from calibration; Σ codes of a row times the zero point is taken off
               again (Jacob et al. 2018, equation 7, with one operand symmetric); values outside are clamped
      None     not at all: weight-only, a product of real numbers
    With `smooth`, input channel j is divided by divisor[j] first, which its weights were multiplied by (SmoothQuant).

    forward is the integer product whether or not there is a gradient; the gradient is that of the dequantized layer,
    with the straight-through estimator for the input.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        activations: Activations | None = "dynamic",
        smooth: bool = False,
    ) -> None:
        super().__init__(in_features, out_features, bias)
        if activations is not None and activations not in get_args(Activations):
            raise unknown_name("way to quantize activations", activations, get_args(Activations))
        self.activations, self.prepacked = activations, Prepacked()
        self.register_buffer("codes", torch.zeros(out_features, in_features, dtype=torch.int8))
        self.register_buffer("scale", torch.ones(out_features, 1))
        if activations == "static":
            self.register_buffer("input_scale", torch.ones(()))
            self.register_buffer("input_zero", torch.zeros((), dtype=torch.int32))
            self.register_buffer("row_sums", torch.zeros(out_features, dtype=torch.int32))
        self.register_buffer("divisor", torch.ones(in_features) if smooth else None)

    @classmethod
    def from_linear(
        cls,
        linear: nn.Linear,
        quantized: QuantizedTensor,
        activations: Activations | None = "dynamic",
        input_range: tuple[Tensor, Tensor] | None = None,
        divisor: Tensor | None = None,
    ) -> Self:
        """The layer for a linear and its weight as quantized per row (axis 0), after multiplication by `divisor`.

        input_range: smallest and largest (smoothed) input, needed for static. Raises ValueError without it, or for
        another kind of scale.
        """
        if quantized.scale.shape != (linear.out_features, 1):
            raise ValueError(
                f"an int8 layer has one scale per output row ({linear.out_features}, 1), "
                f"got {tuple(quantized.scale.shape)}"
            )
        with torch.device("meta"):
            bias = linear.bias is not None
            layer = cls(linear.in_features, linear.out_features, bias, activations, divisor is not None)
        buffers = {"codes": quantized.codes, "scale": quantized.scale}
        if activations == "static":
            if input_range is None:
                raise ValueError("static activations need the range of the inputs; calibrate first")
            scale, zero = affine_parameters(*input_range, symmetric=False)
            sums = quantized.codes.sum(1, dtype=torch.int32)
            buffers |= {"input_scale": scale, "input_zero": zero, "row_sums": sums}
        if divisor is not None:
            buffers["divisor"] = divisor
        return layer._take(linear, **buffers)

    def describe(self) -> dict[str, Any]:
        """Constructor arguments, for saving."""
        return super().describe() | {"activations": self.activations, "smooth": self.divisor is not None}

    @property
    def weight(self) -> Tensor:
        """The weight (out, in) after quantization, for inputs that are not divided."""
        weight = self.codes * self.scale
        return weight if self.divisor is None else weight / self.divisor

    @property
    def what(self) -> str:
        """Kind of codes, scales and activations."""
        smooth = "" if self.divisor is None else ", smoothed"
        return f"int8 per row, {self.activations or 'no'} activation codes{smooth}"

    def forward(self, x: Tensor) -> Tensor:
        """(…, in) → (…, out), in x's dtype."""
        if self.activations is None:
            return super().forward(x)
        watched = (x,) if self.bias is None else (x, self.bias)
        if not torch.is_grad_enabled() or not any(tensor.requires_grad for tensor in watched):
            return self._product(x)
        real = F.linear(self._fake_input(x), self.weight.to(x.dtype), self.bias)
        with torch.no_grad():
            product = self._product(x).to(real.dtype)
        return product + (real - real.detach())  # adds 0, and the gradient

    def _product(self, x: Tensor) -> Tensor:
        rows = self._smoothed(x).reshape(-1, self.in_features)
        if self.activations == "dynamic":
            scale, shift = affine_parameters(rows.amin(-1, True), rows.amax(-1, True))[0], self.bias
            codes = (rows / scale).round_()
        else:
            scale, shift = self.input_scale, -self.input_scale * self.input_zero * self.row_sums * self.scale.flatten()
            shift = shift if self.bias is None else shift + self.bias
            codes = (rows / scale).round_().add_(self.input_zero).clamp_(-128, 127)
        y = int8_product(codes.to(torch.int8), self.codes, self.scale, self.prepacked)
        y = y.mul_(scale) if shift is None else torch.addcmul(shift, y, scale, out=y)  # no new memory: a third faster
        return y.view(*x.shape[:-1], self.out_features).to(x.dtype)

    def _fake_input(self, x: Tensor) -> Tensor:
        """x with the error of its codes, and a gradient."""
        rows = self._smoothed(x).reshape(-1, self.in_features)
        if self.activations == "dynamic":
            rows = fake_quantize(rows, axis=0)
        else:
            rows = fake_quantize(rows, symmetric=False, scale=self.input_scale, zero_point=self.input_zero)
        rows = rows if self.divisor is None else rows * self.divisor
        return rows.view(x.shape).to(x.dtype)

    def _smoothed(self, x: Tensor) -> Tensor:
        x = x.to(self.scale.dtype)
        return x if self.divisor is None else x / self.divisor


class PackedLinear(QuantizedLinear):
    """Weight-only codes of `bits` bits, several to a byte, read row by row; the layer's scale may be of any kind.

    scale: (out, groups), (out, 1) or 0-d, as in `QuantizedTensor`; `scale_shape` says which. The product is one of
    real numbers: a layer like this saves bytes, not time. (torch has int4 kernels for CPUs, 2 to 4 times fp32 at 1 to 8
    rows with bfloat16 activations, slower than fp32 at 128 rows, and 100 times slower with fp32 activations.)
    """

    bits = 0

    def __init__(self, in_features: int, out_features: int, bias: bool, scale_shape: list[int]) -> None:
        super().__init__(in_features, out_features, bias)
        size = packed_size(out_features * in_features, self.bits)
        self.register_buffer("packed", torch.zeros(size, dtype=torch.uint8))
        self.register_buffer("scale", torch.ones(scale_shape))

    @classmethod
    def from_linear(cls, linear: nn.Linear, quantized: QuantizedTensor) -> Self:
        """The layer for a linear and its quantized weight. Raises ValueError for a zero point other than 0."""
        if quantized.zero_point.any():
            raise ValueError("packed layers hold symmetric codes; the zero point must be 0 everywhere")
        with torch.device("meta"):
            shape = list(quantized.scale.shape)
            layer = cls(linear.in_features, linear.out_features, linear.bias is not None, shape)
        return layer._take(linear, packed=pack(quantized.codes, cls.bits), scale=quantized.scale)

    def describe(self) -> dict[str, Any]:
        """Constructor arguments, for saving."""
        return super().describe() | {"scale_shape": list(self.scale.shape)}

    @property
    def weight(self) -> Tensor:
        """The weight (out, in) after quantization."""
        codes = unpack(self.packed, self.out_features * self.in_features, self.bits)
        codes = codes.view(self.out_features, self.in_features)
        return symmetric_values(codes, self.scale)

    @property
    def what(self) -> str:
        """Kind of codes and scales."""
        groups = self.scale.shape[-1] if self.scale.dim() else 0
        kind = {0: "per matrix", 1: "per row"}.get(groups, f"in groups of {self.in_features // max(groups, 1)}")
        return f"int{self.bits} {kind}, packed, no activation codes"


class Int4Linear(PackedLinear):
    """Codes −7 … 7, two to a byte, usually in groups along the input."""

    bits = 4


class Int3Linear(PackedLinear):
    """Codes −3 … 3, eight to three bytes."""

    bits = 3


class TernaryLinear(PackedLinear):
    """Codes −1, 0, 1, four to a byte."""

    bits = 2

"""Quantization-aware training: weights learn to stand where codes are."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coursekit.compress.checks import check_finite, no_linear
from coursekit.compress.quantization.affine import fake_quantize, straight_through
from coursekit.compress.quantization.model import EXCLUDED, quantizable
from coursekit.compress.quantization.schemes import Scheme, as_scheme
from coursekit.compress.quantization.static import RangeObserver, input_statistics
from coursekit.models import replace_module
from coursekit.train import Batches

MOMENTUM = 0.9


class FakeQuantLinear(nn.Module):
    """A linear that computes in full precision with the errors of quantization (Q8BERT, Zafrir et al. 2019, section 2).

    weight (out, in) and bias are the linear's own parameters; every forward pass rounds the weight anew, and the
    gradient passes straight through. The input is rounded as `Int8Linear` will: per row if dynamic; if static by an
    observer's moving average, which moves in training mode alone and counts padding (batch by length).
    """

    def __init__(self, in_features: int, out_features: int, bias: bool, scheme: dict[str, Any]) -> None:
        super().__init__()
        self.in_features, self.out_features, self.scheme = in_features, out_features, Scheme(**scheme)
        self.weight = nn.Parameter(torch.zeros(out_features, in_features))
        self.bias = nn.Parameter(torch.zeros(out_features)) if bias else None
        self.observer = RangeObserver(MOMENTUM) if self.scheme.activations == "static" else None

    @classmethod
    def from_linear(cls, linear: nn.Linear, scheme: Scheme) -> Self:
        """The layer that trains the linear's own parameters."""
        layer = cls(linear.in_features, linear.out_features, linear.bias is not None, asdict(scheme))
        layer.weight, layer.bias = linear.weight, linear.bias
        return layer.to(linear.weight.device).train(linear.training)

    def describe(self) -> dict[str, Any]:
        """Constructor arguments, for saving."""
        size = {"in_features": self.in_features, "out_features": self.out_features}
        return size | {"bias": self.bias is not None, "scheme": asdict(self.scheme)}

    def forward(self, x: Tensor) -> Tensor:
        """(…, in) → (…, out)."""
        weight = straight_through(self.weight, self.scheme.codes(self.weight.detach()).dequantize().to(self.weight))
        if self.scheme.activations == "dynamic":
            x = fake_quantize(x.reshape(-1, self.in_features), axis=0).view(x.shape)
        elif self.observer is not None:
            scale, zero_point = self.observer_parameters(x)
            x = fake_quantize(x, symmetric=False, scale=scale, zero_point=zero_point)
        return F.linear(x, weight, self.bias)

    def observer_parameters(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Scale and zero point after the observer has looked at x."""
        self.observer(x.detach())
        return self.observer.affine_parameters()

    @torch.no_grad()
    def convert(self) -> nn.Module:
        """The quantized layer with the outputs that this one has in evaluation mode."""
        linear = nn.Linear(self.in_features, self.out_features, self.bias is not None, device="meta")
        linear.weight, linear.bias = self.weight, self.bias
        if self.observer is not None:
            self.observer.affine_parameters()  # raises if it has seen nothing
        seen = None if self.observer is None else (self.observer.low, self.observer.high)
        return self.scheme.linear(linear.train(self.training), input_range=seen)


def prepare_qat(
    model: nn.Module,
    scheme: str | Scheme = "int8",
    *,
    calibration: Batches | Sequence[Mapping[str, Tensor]] | None = None,
    exclude: Sequence[str] = EXCLUDED,
) -> nn.Module:
    """A copy of the model whose linear layers are `FakeQuantLinear`: train it, then `convert_qat`.

    Shared layers stay shared. With calibration, static observers start from the range of its real tokens. Raises
    ValueError for an unknown scheme, GPTQ (which rounds after training), a group size that does not fit, weights that
    are NaN or infinite, empty or useless calibration, or a model without a layer to quantize.
    """
    scheme = as_scheme(scheme)
    if scheme.gptq:
        raise ValueError("GPTQ rounds a trained model; QAT needs a scheme without it")
    chosen = quantizable(model, exclude)
    if not chosen:
        raise no_linear(model, "quantize", exclude)
    for path, linear in chosen.items():
        check_finite(linear, path)
        scheme.codes(linear.weight.detach())  # raises what training would
    seen = {} if calibration is None else input_statistics(model, calibration, chosen)
    model = copy.deepcopy(model)
    for path, linear in quantizable(model, exclude).items():
        layer = FakeQuantLinear.from_linear(linear, scheme)
        if layer.observer is not None and path in seen:
            layer.observer.low.copy_(seen[path].low.amin())
            layer.observer.high.copy_(seen[path].high.amax())
        replace_module(model, linear, layer)
    return model


def convert_qat(model: nn.Module) -> nn.Module:
    """A copy with every `FakeQuantLinear` converted: the outputs of evaluation mode, up to fp32 rounding.

    Raises ValueError if there is none, or if an observer has seen nothing.
    """
    fakes = [module for module in model.modules() if isinstance(module, FakeQuantLinear)]
    if not fakes:
        raise ValueError(f"{type(model).__name__} has no FakeQuantLinear; call prepare_qat first")
    return copy.deepcopy(model, {id(fake): fake.convert() for fake in fakes})

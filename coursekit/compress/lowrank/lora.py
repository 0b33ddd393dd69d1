"""LoRA: not a weight of low rank but an update of low rank, on a weight that stays (Hu et al. 2021, section 4.1)."""

import math
from collections.abc import Sequence
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coursekit.compress.checks import check_finite, check_positive
from coursekit.compress.lowrank.factors import check_rank
from coursekit.models import replace_module


class LoRALinear(nn.Module):
    """y = W x + b + (α/r)·B A x, with W (out, in) and b frozen, A (r, in) random and B (out, r) zero at the start.

    weight and bias are the very parameters of the linear it stands for. At the start the layer is that linear exactly.
    Trained are r·(in + out) numbers; stored are those on top of all of W, until `merge`. A and B are called down and
    up. Raises ValueError for a rank out of range or an α that is not positive.
    """

    def __init__(self, in_features: int, out_features: int, rank: int, alpha: float, bias: bool = True) -> None:
        super().__init__()
        check_rank(rank, (out_features, in_features))
        check_positive("alpha", alpha)
        self.in_features, self.out_features, self.rank, self.alpha = in_features, out_features, rank, alpha
        self.weight = nn.Parameter(torch.zeros(out_features, in_features), requires_grad=False)
        self.bias = nn.Parameter(torch.zeros(out_features), requires_grad=False) if bias else None
        self.down = nn.Parameter(torch.zeros(rank, in_features))
        self.up = nn.Parameter(torch.zeros(out_features, rank))

    @classmethod
    def from_linear(cls, linear: nn.Linear, rank: int, alpha: float, generator: torch.Generator | None = None) -> Self:
        """The layer for a linear, whose parameters it takes over and freezes; A is drawn as in the released code.

        That is uniform on ±1/√in. (The paper says Gaussian.)
        """
        with torch.device("meta"):
            layer = cls(linear.in_features, linear.out_features, rank, alpha, linear.bias is not None)
        layer.weight, layer.bias = linear.weight, linear.bias
        for parameter in linear.parameters():
            parameter.requires_grad_(False)
        down = linear.weight.new_empty(rank, linear.in_features)
        layer.down = nn.Parameter(down.uniform_(-1, 1, generator=generator) / math.sqrt(linear.in_features))
        layer.up = nn.Parameter(linear.weight.new_zeros(linear.out_features, rank))
        return layer.train(linear.training)

    def describe(self) -> dict[str, Any]:
        """Constructor arguments, for saving."""
        sizes = {"in_features": self.in_features, "out_features": self.out_features, "rank": self.rank}
        return sizes | {"alpha": self.alpha, "bias": self.bias is not None}

    def update(self) -> Tensor:
        """ΔW = (α/r)·B A (out, in), of rank r at most."""
        return (self.alpha / self.rank) * (self.up @ self.down)

    def forward(self, x: Tensor) -> Tensor:
        """(…, in) → (…, out): the frozen product, and beside it the two small ones."""
        return F.linear(x, self.weight, self.bias) + (self.alpha / self.rank) * F.linear(
            F.linear(x, self.down), self.up
        )

    @torch.no_grad()
    def merge(self) -> nn.Linear:
        """The plain linear with W + ΔW, a new tensor, and the same bias: same outputs to rounding, nothing extra."""
        linear = nn.Linear(self.in_features, self.out_features, self.bias is not None, device="meta")
        merged = self.weight.double() + (self.alpha / self.rank) * (self.up.double() @ self.down.double())
        linear.weight = nn.Parameter(merged.to(self.weight.dtype), requires_grad=self.weight.requires_grad)
        linear.bias = self.bias
        return linear.train(self.training)

    def extra_repr(self) -> str:
        """Shape, rank and α."""
        sizes = f"in_features={self.in_features}, out_features={self.out_features}"
        return f"{sizes}, rank={self.rank}, alpha={self.alpha}"


def add_lora(
    model: nn.Module,
    rank: int,
    alpha: float | None = None,
    *,
    layers: Sequence[str] = ("query", "value"),
    trained: Sequence[str] = ("classifier",),
    generator: torch.Generator | None = None,
) -> nn.Module:
    """Freeze the model and put a `LoRALinear` beside each linear whose path has a part in `layers`; returns the model.

    alpha: the scale's numerator; None: the rank, a scale of 1. trained: parts of paths that train in full besides the
    updates, by default the classifier. A layer shared by depths gets one update and stays shared. generator draws A.
    What trains is not stored: a model loaded from disk has all its weights free. Raises ValueError, with the model as
    it was, for a rank out of range, weights that are not finite, or no such layer.
    """
    chosen = {
        path: module
        for path, module in model.named_modules()
        if type(module) is nn.Linear and not set(path.split(".")).isdisjoint(layers)
    }
    if not chosen:
        raise ValueError(f"{type(model).__name__} has no plain nn.Linear called {' or '.join(map(repr, layers))}")
    for path, linear in chosen.items():
        check_finite(linear, path)
        check_rank(rank, linear.weight.shape)
    alpha = rank if alpha is None else alpha
    check_positive("alpha", alpha)
    for path, parameter in model.named_parameters():
        parameter.requires_grad_(not set(path.split(".")).isdisjoint(trained))
    for linear in chosen.values():
        replace_module(model, linear, LoRALinear.from_linear(linear, rank, alpha, generator))
    return model


def merge_lora(model: nn.Module) -> nn.Module:
    """Fold every update into its weight; returns the model, plain linears again, sharing kept, frozen as before.

    Raises ValueError for a model without a `LoRALinear`.
    """
    found = [module for module in model.modules() if isinstance(module, LoRALinear)]
    if not found:
        raise ValueError(f"this {type(model).__name__} has no LoRALinear to merge; call add_lora first")
    for layer in found:
        replace_module(model, layer, layer.merge())
    return model

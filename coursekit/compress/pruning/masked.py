"""Masks on a model that still trains: a masked linear beside the plain one, and the way back."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coursekit.compress.checks import check_finite
from coursekit.compress.pruning.masks import global_magnitude_masks, magnitude_mask
from coursekit.errors import unknown_name
from coursekit.models import replace_module

Scope = Literal["layer", "global"]
EXCLUDED = ("embeddings", "head", "classifier")


class MaskedLinear(nn.Module):
    """y = (W ∘ M) xᵀ + b. The product is formed in every forward pass, so no optimizer can bring a weight back.

    weight (out, in), the very parameter of the linear it stands for; mask (out, in), a stored boolean buffer of one
    byte per weight; bias (out,) or None. Pruned weights get no gradient. Movement pruning adds scores (out, in), a
    parameter that learns ∂L/∂(W∘M) ∘ W as if the mask were differentiable (Sanh et al. 2020, section 4). A dense
    product runs as before, and forming W ∘ M costs something on top: `finalize` before measuring time or bytes.
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True, movement: bool = False) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.weight = nn.Parameter(torch.zeros(out_features, in_features))
        self.bias = nn.Parameter(torch.zeros(out_features)) if bias else None
        self.scores = nn.Parameter(torch.zeros(out_features, in_features)) if movement else None
        self.register_buffer("mask", torch.ones(out_features, in_features, dtype=torch.bool))

    @classmethod
    def from_linear(cls, linear: nn.Linear) -> Self:
        """A masked linear that holds the linear's own parameters and keeps everything."""
        with torch.device("meta"):
            masked = cls(linear.in_features, linear.out_features, linear.bias is not None)
        masked.weight, masked.bias = linear.weight, linear.bias
        masked.mask = torch.ones_like(linear.weight, dtype=torch.bool)
        return masked.train(linear.training)

    def describe(self) -> dict[str, Any]:
        """Constructor arguments, for saving."""
        return {
            "in_features": self.in_features,
            "out_features": self.out_features,
            "bias": self.bias is not None,
            "movement": self.scores is not None,
        }

    @property
    def sparsity(self) -> float:
        """Share of weights that are pruned."""
        return 1 - float(self.mask.double().mean())

    def masked_weight(self) -> Tensor:
        """W ∘ M (out, in), zero where pruned."""
        if self.scores is None:
            return self.weight * self.mask.to(self.weight.dtype)
        return self.weight * _StraightThrough.apply(self.scores, self.mask)

    def forward(self, x: Tensor) -> Tensor:
        """(…, in) → (…, out)."""
        return F.linear(x, self.masked_weight(), self.bias)

    @torch.no_grad()
    def finalize(self) -> nn.Linear:
        """The plain linear with zeros in its weight, which stays the same parameter; mask and scores are gone."""
        linear = nn.Linear(self.in_features, self.out_features, self.bias is not None, device="meta")
        self.weight.mul_(self.mask)
        linear.weight, linear.bias = self.weight, self.bias
        return linear.train(self.training)

    def extra_repr(self) -> str:
        """Shape and sparsity."""
        return f"in_features={self.in_features}, out_features={self.out_features}, sparsity={self.sparsity:.3f}"


class _StraightThrough(torch.autograd.Function):
    """The mask as a number; backward hands its gradient to the scores that made it, unchanged."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, mask: Tensor) -> Tensor:
        return mask.to(scores.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


def is_linear(module: nn.Module) -> bool:
    """Whether weights can be pruned one by one here: a plain linear or a masked one, not another method's layer."""
    return type(module) is nn.Linear or isinstance(module, MaskedLinear)


def prunable(model: nn.Module, exclude: Sequence[str] = EXCLUDED) -> dict[str, nn.Linear | MaskedLinear]:
    """Path → linear layer whose weights may be pruned one by one; shared layers and tied weights once.

    Left out: whatever is no linear layer (embeddings, LayerNorms), biases, a weight tied to an embedding, and every
    path with a part in `exclude`, by default embeddings, a masked LM's head and classifiers.
    """
    seen = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    found = {}
    for path, module in model.named_modules():
        if is_linear(module) and not set(path.split(".")) & set(exclude) and id(module.weight) not in seen:
            seen.add(id(module.weight))
            found[path] = module
    return found


def masked_layers(model: nn.Module) -> dict[str, MaskedLinear]:
    """Path → masked layer, shared and tied ones once. Raises ValueError if there is none."""
    layers = {path: layer for path, layer in prunable(model, ()).items() if isinstance(layer, MaskedLinear)}
    if not layers:
        raise ValueError("the model has no masked layer; call apply_masks(model) first")
    return layers


def magnitude_masks(
    model: nn.Module, sparsity: float, *, scope: Scope = "layer", exclude: Sequence[str] = EXCLUDED
) -> dict[str, Tensor]:
    """Path → mask of the model's prunable layers, each ranked by itself or all of them together ("global")."""
    weights = {path: layer.weight for path, layer in prunable(model, exclude).items()}
    if check_scope(scope) == "global":
        return global_magnitude_masks(weights, sparsity)
    return {path: magnitude_mask(weight, sparsity) for path, weight in weights.items()}


def apply_masks(
    model: nn.Module, masks: Mapping[str, Tensor] | None = None, *, movement: bool = False, regrow: bool = False
) -> nn.Module:
    """Put a `MaskedLinear` in the place of each named linear, in all depths that share it; returns the model.

    masks: path → boolean (out, in), True keeps; None: every prunable layer, keeping what it has. A layer that is
    masked already gets the new mask, which may bring weights back only with `regrow`. Raises ValueError for an
    unknown path, a layer that is not linear, a mask of another shape or type, two masks for one weight, or weights
    that are not finite; the model is then as it was.
    """
    modules = dict(model.named_modules(remove_duplicate=False))
    if masks is None:
        masks = {
            path: getattr(layer, "mask", torch.ones_like(layer.weight, dtype=torch.bool))
            for path, layer in prunable(model).items()
        }
    first: dict[int, str] = {}
    for path, mask in masks.items():
        if path not in modules or modules[path] is model:
            raise unknown_name("layer", path, modules.keys() - {""})
        if not is_linear(modules[path]):
            raise ValueError(f"{path} is a {type(modules[path]).__name__}; only plain linear layers are masked")
        check_finite(modules[path].weight, f"{path}.weight")
        check_mask(path, modules[path], mask, regrow)
        other = first.setdefault(id(modules[path].weight), path)
        if not torch.equal(masks[other], mask):
            raise ValueError(f"{other} and {path} share one weight but were given different masks")
    for path in first.values():
        for layer in users(model, modules[path].weight):
            masked = layer if isinstance(layer, MaskedLinear) else MaskedLinear.from_linear(layer)
            replace_module(model, layer, masked)
            masked.mask.copy_(masks[path])
            if movement and masked.scores is None:
                masked.scores = nn.Parameter(torch.zeros_like(masked.weight))
    return model


def finalize(model: nn.Module) -> nn.Module:
    """Make all masks plain zeros in plain linears, ties and sharing kept; returns the model."""
    for layer in [module for module in model.modules() if isinstance(module, MaskedLinear)]:
        replace_module(model, layer, layer.finalize())
    return model


def users(model: nn.Module, weight: nn.Parameter) -> list[nn.Module]:
    """The linear layers that use a weight: more than one where two are tied by their weight alone."""
    return [module for module in model.modules() if is_linear(module) and module.weight is weight]


def check_mask(path: str, layer: nn.Module, mask: Tensor, regrow: bool) -> None:
    """Raise ValueError unless the mask is boolean, fits the layer, and brings weights back only with `regrow`."""
    if mask.dtype != torch.bool or mask.shape != layer.weight.shape:
        raise ValueError(
            f"the mask of {path} must be boolean of shape {tuple(layer.weight.shape)}, "
            f"got {mask.dtype} {tuple(mask.shape)}"
        )
    if isinstance(layer, MaskedLinear) and not regrow and (back := int((mask & ~layer.mask.to(mask.device)).sum())):
        raise ValueError(f"the new mask of {path} brings back {back} pruned weights; say regrow=True to allow it")


def check_scope(scope: str) -> str:
    """The scope itself. Raises ValueError unless it is "layer" or "global"."""
    if scope not in get_args(Scope):
        raise unknown_name("scope", scope, get_args(Scope))
    return scope

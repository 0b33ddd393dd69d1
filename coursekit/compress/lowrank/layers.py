"""A linear layer kept as two smaller ones, and its way back."""

from typing import Any, Self

import torch
from torch import Tensor, nn

from coursekit.compress.checks import check_finite
from coursekit.compress.lowrank.factors import aware_factors, check_rank, check_weight, corrected_bias, svd_factors
from coursekit.compress.lowrank.moments import InputMoments


class LowRankLinear(nn.Module):
    """y = up(down(x)): in → rank without bias, then rank → out with the original bias, which counts once.

    Parameters rank·(in + out) and the bias; a product of two matrices, so of rank `rank` at most. `down` and `up` are
    plain linears: what trains, prunes or quantizes a linear does so with either factor. Raises ValueError for a rank
    out of range.
    """

    def __init__(self, in_features: int, out_features: int, rank: int, bias: bool = True) -> None:
        super().__init__()
        check_rank(rank, (out_features, in_features))
        self.in_features, self.out_features, self.rank = in_features, out_features, rank
        self.down = nn.Linear(in_features, rank, bias=False)
        self.up = nn.Linear(rank, out_features, bias=bias)

    @classmethod
    def from_factors(cls, up: Tensor, down: Tensor, bias: Tensor | None = None) -> Self:
        """The layer for factors (out, rank) and (rank, in), which become its parameters."""
        with torch.device("meta"):  # no random numbers are drawn
            layer = cls(down.shape[1], up.shape[0], down.shape[0], bias is not None)
        layer.up.weight, layer.down.weight = nn.Parameter(up.contiguous()), nn.Parameter(down.contiguous())
        layer.up.bias = None if bias is None else nn.Parameter(bias)
        return layer

    def describe(self) -> dict[str, Any]:
        """Constructor arguments, for saving."""
        sizes = {"in_features": self.in_features, "out_features": self.out_features, "rank": self.rank}
        return sizes | {"bias": self.bias is not None}

    @property
    def weight(self) -> Tensor:
        """The product (out, in) that the factors stand for, formed when asked for."""
        return self.up.weight @ self.down.weight

    @property
    def bias(self) -> Tensor | None:
        """The bias (out,), or None."""
        return self.up.bias

    def forward(self, x: Tensor) -> Tensor:
        """(…, in) → (…, out) through (…, rank)."""
        return self.up(self.down(x))

    @torch.no_grad()
    def merge(self) -> nn.Linear:
        """The plain linear with the product as its weight and a copy of the bias: the same outputs, to rounding."""
        linear = nn.Linear(self.in_features, self.out_features, self.bias is not None, device="meta")
        product = self.up.weight.double() @ self.down.weight.double()
        linear.weight = nn.Parameter(product.to(self.up.weight.dtype))
        linear.bias = None if self.bias is None else nn.Parameter(self.bias.detach().clone())
        return linear.train(self.training)

    def extra_repr(self) -> str:
        """Shape and rank."""
        return f"in_features={self.in_features}, out_features={self.out_features}, rank={self.rank}"


@torch.no_grad()
def factorize(linear: nn.Linear, rank: int, moments: InputMoments | None = None) -> LowRankLinear:
    """The best layer of that rank in place of a linear, which is not changed.

    Without moments, nearest in weights: the truncated SVD. With those of its real inputs (`input_moments`,
    `moments_of`), nearest in outputs: see `aware_factors`; a bias is corrected for the inputs' mean. Raises ValueError
    for anything but a plain linear, 1 ≤ rank ≤ min(out, in), and finite weights.
    """
    if not isinstance(linear, nn.Linear):
        raise ValueError(f"only an nn.Linear can be factorised, got {type(linear).__name__}")
    check_weight(linear.weight)
    if linear.bias is not None:
        check_finite(linear.bias, "the bias")
    bias = None if linear.bias is None else linear.bias.detach().clone()
    if moments is None:
        up, down = svd_factors(linear.weight, rank)
    else:
        up, down = aware_factors(linear.weight, rank, moments, centred=bias is not None)
        if bias is not None:
            bias = corrected_bias(linear.weight, bias, up, down, moments.mean)
    layer = LowRankLinear.from_factors(up, down, bias)
    return layer.requires_grad_(linear.weight.requires_grad).train(linear.training)

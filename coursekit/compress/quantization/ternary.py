"""Three values per weight: −α, 0, α."""

import torch
from torch import Tensor

from coursekit.compress.quantization.affine import QuantizedTensor

THRESHOLD = 0.7


@torch.no_grad()
def ternarize(weight: Tensor, *, axis: int | None = None) -> QuantizedTensor:
    """Codes −1, 0, 1: zero where |w| ≤ Δ = 0.7·mean|w|, and the scale α is the mean of the other |w|.

    Ternary Weight Networks (Li et al. 2016, equations 5 and 6), where Δ approximates the best threshold for normal
    weights; TernaryBERT (Zhang et al. 2020) uses one α per matrix (axis None) and, for embeddings, one per row
    (axis 0). All-zero rows give zeros. Raises ValueError for NaN, infinity or an axis that does not exist.
    """
    if not weight.is_floating_point() or weight.numel() == 0:
        raise ValueError(f"expected floating point weights, got {weight.dtype} of shape {tuple(weight.shape)}")
    if axis is not None and not -weight.dim() <= axis < weight.dim():
        raise ValueError(f"axis {axis} does not exist: the weight has {weight.dim()} dimensions")
    if not weight.isfinite().all():
        raise ValueError(f"{int((~weight.isfinite()).sum())} of {weight.numel()} weights are NaN or infinite")
    spanned = list(range(weight.dim()))
    if axis is not None:
        spanned.remove(axis % weight.dim())
    size = weight.abs().float()

    def mean(values: Tensor) -> Tensor:
        """Mean over what shares a scale; the sum of no axes at all would be one of all axes."""
        return values.mean(spanned, keepdim=axis is not None) if spanned else values

    kept = size > THRESHOLD * mean(size)
    share = mean(kept.float())
    scale = torch.where(share > 0, mean(size * kept) / share.clamp(min=1 / weight.numel()), 1.0)
    codes = (weight.sign() * kept).to(torch.int8)
    return QuantizedTensor(codes, scale, torch.zeros_like(scale, dtype=torch.int32))

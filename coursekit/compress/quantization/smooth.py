"""SmoothQuant: outlier channels of the input made smaller, and the weights that read them larger by as much."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


@torch.no_grad()
def smooth_scales(largest: Tensor, weights: Tensor | Sequence[Tensor], alpha: float = 0.5) -> Tensor:
    """s (in,) with s_j = max|X_j|^α / max|W_j|^(1−α); then (X / s)(W·s)ᵀ = XWᵀ and X / s is easier to quantize.

    SmoothQuant (Xiao et al. 2023, equation 4). largest (in,): max |X_j| of calibration inputs. weights (out, in): one,
    or all that read the same input (query, key, value), whose common maximum counts. α = 1 leaves no difference
    between the channels of X, α = 0 none between those of W. A channel never seen, or never read, gets s = 1 (the
    released code clamps both maxima to 1e-5). Raises ValueError for α outside [0, 1], shapes that differ, or numbers
    that are not finite.
    """
    weights = [weights] if isinstance(weights, Tensor) else list(weights)
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha must lie in [0, 1], got {alpha}")
    for weight in weights:
        if weight.dim() != 2 or weight.shape[1:] != largest.shape:
            raise ValueError(f"{tuple(largest.shape)} inputs do not fit a weight of shape {tuple(weight.shape)}")
    read = torch.stack([weight.abs().amax(0) for weight in weights]).amax(0).to(largest)
    if not (largest.isfinite().all() and read.isfinite().all()):
        raise ValueError("inputs or weights are NaN or infinite")
    scales = largest.abs() ** alpha / read ** (1 - alpha)
    return torch.where((largest > 0) & (read > 0), scales, 1.0)


@torch.no_grad()
def fold_into_norm(norm: nn.LayerNorm, linears: Sequence[nn.Linear], scales: Tensor) -> None:
    """Divide a LayerNorm's weight and bias by s and multiply the columns of the linears after it: equal outputs, free.

    Only where the norm's output goes into these linears and nowhere else, as in a pre-norm block. In BERT's post-norm
    block it is also the residual, which would be divided too: there the division stays at the layer's input
    (`Int8Linear` with `smooth`). In place. Raises ValueError for shapes that differ or a scale that is not positive.
    """
    for module in (norm, *linears):
        if module.weight.shape[-1:] != scales.shape:
            raise ValueError(f"{tuple(scales.shape)} scales do not fit a weight of shape {tuple(module.weight.shape)}")
    if not (scales > 0).all():
        raise ValueError(f"scales must be positive, the smallest is {float(scales.min())}")
    norm.weight.div_(scales)
    if norm.bias is not None:
        norm.bias.div_(scales)
    for linear in linears:
        linear.weight.mul_(scales)

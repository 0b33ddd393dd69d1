"""What a layer's real inputs look like: their mean and covariance."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from coursekit.compress.calibration import watch_inputs
from coursekit.train import Batches


@dataclass(frozen=True)
class InputMoments:
    """Over `count` inputs of a layer, in double precision: mean (in,) and covariance (in, in) about it."""

    mean: Tensor
    covariance: Tensor
    count: int

    @property
    def second(self) -> Tensor:
        """E[x xᵀ] (in, in), about zero."""
        return self.covariance + torch.outer(self.mean, self.mean)


def moments_of(inputs: Tensor) -> InputMoments:
    """Moments of inputs (…, in). Raises ValueError for none, or for NaN or infinite ones."""
    rows = inputs.detach().flatten(0, -2).double()
    if not len(rows) or not rows.isfinite().all():
        raise ValueError(f"moments need finite inputs (N, in) with N ≥ 1, got shape {tuple(inputs.shape)}")
    return _moments(rows.sum(0), rows.T @ rows, len(rows))


def input_moments(
    model: nn.Module, batches: Batches | Sequence[Mapping[str, Tensor]], layers: Mapping[str, nn.Module]
) -> dict[str, InputMoments]:
    """Path → moments of what goes into each layer, over all real tokens of all batches; a shared layer's over all uses.

    Evaluation mode, no gradient, all from one pass over the model as it is. Raises ValueError as `watch_inputs`: no
    batches, no real token, a layer that is not used, inputs that are not finite.
    """
    sums: dict[str, tuple[Tensor, Tensor, int]] = {}

    def see(name: str, rows: Tensor) -> None:
        total, products, count = sums.get(name, (0, 0, 0))
        rows = rows.float()  # a batch in single precision, sums over batches in double
        sums[name] = total + rows.sum(0).double(), products + (rows.T @ rows).double(), count + len(rows)

    watch_inputs(model, batches, layers, see)
    return {name: _moments(*sums[name]) for name in layers}


def _moments(total: Tensor, products: Tensor, count: int) -> InputMoments:
    mean = total / count
    covariance = products / count - torch.outer(mean, mean)
    covariance.diagonal().clamp_(min=0)  # a constant input may come out as -1e-17
    return InputMoments(mean, covariance, count)

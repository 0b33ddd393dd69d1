"""Ranges of activations, seen in calibration or in training, and what calibration collects."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from coursekit.compress.calibration import watch_inputs
from coursekit.compress.quantization.affine import affine_parameters
from coursekit.train import Batches


class RangeObserver(nn.Module):
    """Smallest and largest value seen; low and high are 0-d buffers, stored with the model.

    momentum None: over everything. Otherwise a moving average, low ← momentum·low + (1 − momentum)·min x, that starts
    at the first range seen: ranges drift while weights train (Q8BERT, section 3). It looks while in training mode, and
    in evaluation mode it is frozen.
    """

    def __init__(self, momentum: float | None = None) -> None:
        super().__init__()
        if momentum is not None and not 0 <= momentum < 1:
            raise ValueError(f"momentum must lie in [0, 1), got {momentum}")
        self.momentum = momentum
        self.register_buffer("low", torch.tensor(torch.inf))
        self.register_buffer("high", torch.tensor(-torch.inf))

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """x itself, noticed if in training mode and not empty."""
        if self.training and x.numel():
            low, high = x.amin().to(self.low), x.amax().to(self.high)
            if self.momentum is not None and self.low.isfinite():
                low, high = self.low.lerp(low, 1 - self.momentum), self.high.lerp(high, 1 - self.momentum)
            elif self.momentum is None:
                low, high = torch.minimum(self.low, low), torch.maximum(self.high, high)
            self.low.copy_(low)
            self.high.copy_(high)
        return x

    def affine_parameters(self) -> tuple[Tensor, Tensor]:
        """(scale, zero point) of asymmetric int8 codes. Raises ValueError if nothing was seen."""
        if not (self.low.isfinite() and self.high.isfinite()):
            raise ValueError("an observer has seen no values; calibrate, or train for a step, first")
        return affine_parameters(self.low, self.high, symmetric=False)


@dataclass
class InputStatistics:
    """What calibration knows of one layer's inputs, over all real tokens.

    low, high (in,): per channel; count: rows; hessian (in, in): XᵀX / rows, if asked for.
    """

    low: Tensor
    high: Tensor
    count: int = 0
    hessian: Tensor | None = None

    @property
    def largest(self) -> Tensor:
        """max |x| per channel (in,): its outliers are what SmoothQuant moves."""
        return torch.maximum(self.high, -self.low)


def input_statistics(
    model: nn.Module,
    batches: Batches | Sequence[Mapping[str, Tensor]],
    layers: Mapping[str, nn.Module],
    *,
    hessian: bool = False,
) -> dict[str, InputStatistics]:
    """Name → statistics of what goes into each layer, over all batches; a shared layer's over all its uses.

    `hessian` also forms XᵀX / rows, in² numbers for each layer. Raises as `watch_inputs`.
    """
    seen: dict[str, InputStatistics] = {}

    def see(name: str, rows: Tensor) -> None:
        rows = rows.float()
        if name not in seen:
            seen[name] = InputStatistics(rows[0].clone(), rows[0].clone())
            if hessian:
                seen[name].hessian = rows.new_zeros(rows.shape[1], rows.shape[1])
        known = seen[name]
        known.low, known.high = torch.minimum(known.low, rows.amin(0)), torch.maximum(known.high, rows.amax(0))
        known.count += len(rows)
        if hessian:  # a running mean, so that many tokens neither overflow nor drown the next
            known.hessian += (rows.T @ rows - len(rows) * known.hessian) / known.count

    watch_inputs(model, batches, layers, see)
    return seen

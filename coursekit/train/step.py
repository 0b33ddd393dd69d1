"""One step of training, exact however its items are spread over batches and processes.

The loss of a step is the mean over all its items: rows, or valid tokens, as the loss counts them. Each batch gives
the sum of its items' losses, the gradients of the sums add up, and one division at the end makes the mean of them.
Means of means would weigh a batch of few items like one of many.
"""

import math
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import find_batch_size, send_to_device, slice_tensors
from torch import Tensor, nn

from coursekit.train.config import TrainConfig, make_optimizer
from coursekit.train.pieces import DivergedError, Loss, LossFunction
from coursekit.train.runtime import autocast

Sums = dict[str, float]  # "loss", "items", "tokens", and the parts of the loss as "part …"


class Stepper:
    """Optimizer and gradients of one model, in this process and those launched with it."""

    def __init__(
        self,
        model: nn.Module,
        loss: LossFunction,
        config: TrainConfig,
        accelerator: Accelerator,
        device: torch.device,
    ) -> None:
        self.clip, self.accelerator, self.device = config.clip, accelerator, device
        self.rank, self.processes = accelerator.process_index, accelerator.num_processes
        self.optimizer = make_optimizer(model, config)
        self.weights = [weight for group in self.optimizer.param_groups for weight in group["params"]]
        self.summed = accelerator.prepare_model(_SummedLoss(model, loss, config.precision, device))

    def step(self, batches: list[Any], lr: float) -> tuple[Sums, float]:
        """Gradients of all batches, then one move of the optimizer; returns sums over the items and gradient norm.

        Raises DivergedError, before the move, if loss or gradient is not finite.
        """
        sums: Sums = {}
        self.optimizer.zero_grad()
        for number, batch in enumerate(batches):
            rows, real = self._share(batch)
            # Processes exchange gradients once a step: in the backward pass of its last batch.
            with nullcontext() if number + 1 == len(batches) else self.accelerator.no_sync(self.summed):
                total, found = self.summed(rows)
                self.accelerator.backward(total * real)
            add(sums, {name: value * real for name, value in found.items()})
        sums = self._over_processes(sums)
        norm = self._rescale_gradients(sums["items"])
        if not math.isfinite(sums["loss"] + norm):
            raise DivergedError(f"loss {sums['loss'] / (sums['items'] or 1):.3g}, gradient norm {norm:.3g}")
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.step()
        return sums, norm

    def _share(self, batch: Any) -> tuple[Any, int]:
        """This process's rows of a batch, and 1; where there are too few, one row that does not count, and 0."""
        real = 1
        if self.processes > 1:
            real = int(self.rank < find_batch_size(batch))
            batch = slice_tensors(batch, slice(self.rank, None, self.processes) if real else slice(1))
        return send_to_device(batch, self.device), real

    def _over_processes(self, sums: Sums) -> Sums:
        if self.processes == 1:
            return sums
        names = sorted(sums)
        values = torch.tensor([sums[name] for name in names], dtype=torch.float64, device=self.device)
        return dict(zip(names, self.accelerator.reduce(values).tolist(), strict=True))

    def _rescale_gradients(self, items: float) -> float:
        """Make the gradient of the sum that of the mean, clip it, and return its norm before clipping.

        Data parallelism averages over processes: the sum is `processes` times what it leaves.
        """
        gradients = [weight.grad for weight in self.weights if weight.grad is not None]
        scale = self.processes / (items or 1)
        norm = float(torch.nn.utils.get_total_norm(gradients)) * scale
        if self.clip is not None:
            scale *= min(1.0, self.clip / (norm + 1e-6))
        for gradient in gradients:
            gradient.mul_(scale)
        return norm


class _SummedLoss(nn.Module):
    """Model and loss as one module: data parallelism sees all of the computation, the loss sees the plain model."""

    def __init__(self, model: nn.Module, loss: LossFunction, precision: str, device: torch.device) -> None:
        super().__init__()
        self.model, self.loss, self.precision, self.device = model, loss, precision, device

    def forward(self, batch: Any) -> tuple[Tensor, Sums]:
        """Sum of the loss over the items, with its gradient, and all sums as numbers."""
        with autocast(self.precision, self.device):
            loss = self.loss(self.model, batch)
        if not isinstance(loss, Loss) or loss.mean.dim():
            raise ValueError(f"loss(model, batch) must return a Loss with a scalar mean, got {loss!r:.60}")
        items, mean = float(loss.count), loss.mean.float()
        means = {"loss": mean, **{f"part {name}": part for name, part in loss.parts.items()}}
        sums = {name: float(torch.as_tensor(part).detach()) * items if items else 0.0 for name, part in means.items()}
        if not items:
            mean = mean.nan_to_num()  # the mean over nothing: in a process's share there may be nothing
        return mean * items, {**sums, "items": items, "tokens": _tokens(batch)}


def add(sums: Sums, more: Mapping[str, float]) -> None:
    """Add to sums by name."""
    for name, value in more.items():
        sums[name] = sums.get(name, 0.0) + value


def _tokens(batch: Any) -> int:
    """Real tokens of a batch of texts, rows of any other."""
    mask = batch.get("attention_mask") if isinstance(batch, Mapping) else None
    return find_batch_size(batch) if mask is None else int(mask.sum())

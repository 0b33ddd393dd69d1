"""What a training is made of and what comes out: losses, batches, frozen parts, results."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Loss:
    """A mean over `count` items (rows, valid tokens, …); parts: other means over the same items, only logged.

    The count is what makes accumulation and several processes exact: means are weighed by it.
    """

    mean: Tensor
    count: int | Tensor
    parts: Mapping[str, float | Tensor] = field(default_factory=dict)


LossFunction = Callable[[nn.Module, Any], Loss]


class Batches(Protocol):
    """Where batches come from. A plain list of batches serves too: every epoch is then the same.

    A batch is a tensor, or a dict, list or tuple of tensors, each with one row per example.
    """

    def epoch(self, number: int) -> Sequence[Any]:
        """The batches of an epoch, the same for the same number; best built only when indexed."""


def epoch_of(batches: Batches | Sequence[Any], number: int) -> Sequence[Any]:
    """The batches of an epoch. Raises ValueError if there are none."""
    epoch = batches.epoch(number) if hasattr(batches, "epoch") else batches
    if not len(epoch):
        raise ValueError(f"epoch {number} has no batches")
    return epoch


class Frozen(nn.Module):
    """A module inside a trained one that does not train, such as a teacher: no gradients, never in training mode.

    `train()` on a module reaches its children, so a plain teacher would wake up with its dropout on.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module.requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode, whatever `mode` is."""
        return super().train(False)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the module returns, without a gradient."""
        with torch.no_grad():
            return self.module(*args, **kwargs)


@dataclass
class TrainResult:
    """What happened in a training.

    history      every `log_every` steps: step, epoch, lr and gradient norm (before clipping) of the last step; loss
                 and its parts as means over the items since the entry before
    evaluations  step, epoch, and what `evaluate` said; best is the one whose weights were kept
    seconds      of the steps alone; tokens: real ones (true in "attention_mask"), or rows where there is no mask
    """

    steps: int = 0
    seconds: float = 0.0
    tokens: int = 0
    history: list[dict[str, float]] = field(default_factory=list, repr=False)
    evaluations: list[dict[str, float]] = field(default_factory=list)
    best: dict[str, float] | None = None

    @property
    def tokens_per_second(self) -> float:
        """Speed of the steps."""
        return self.tokens / self.seconds if self.seconds else 0.0


class DivergedError(ValueError):
    """The loss or its gradient is no longer finite."""

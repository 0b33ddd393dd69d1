"""How to train, as data: the settings, the learning rate they mean, and the optimizer they make."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from coursekit.errors import unknown_name

SCHEDULES = ("linear", "constant")
PRECISIONS = ("auto", "fp32", "bf16")


@dataclass(frozen=True)
class TrainConfig:
    """Settings of one training. Exactly one of `epochs` and `steps` says how long; a step is one update.

    lr               highest learning rate
    warmup           share of the steps in which the rate rises linearly from 0
    schedule         afterwards: "linear" falls to 0, "constant" stays
    weight_decay     decoupled (AdamW), on matrices only: not on biases, LayerNorms and other vectors
    clip             largest L2 norm of the gradient of all trained weights together; None for no limit
    accumulate       batches per step
    precision        "bf16" computes matrix products in bfloat16 and keeps the weights in fp32; "auto" does so
                     where the hardware has it
    seed             of random draws in the model and the loss, such as dropout; batches have their own
    log_every        steps between entries of the history
    evaluate_every, checkpoint_every   steps between evaluations, and checkpoints; None: after each epoch
    Raises ValueError for a value outside its range.
    """

    epochs: int | None = None
    steps: int | None = None
    lr: float = 2e-4
    warmup: float = 0.06
    schedule: Literal["linear", "constant"] = "linear"
    weight_decay: float = 0.01
    clip: float | None = 1.0
    accumulate: int = 1
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    seed: int = 0
    log_every: int = 10
    evaluate_every: int | None = None
    checkpoint_every: int | None = None

    def __post_init__(self) -> None:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError(f"give epochs or steps, not both: got epochs={self.epochs}, steps={self.steps}")
        for name in ("epochs", "steps", "accumulate", "log_every", "evaluate_every", "checkpoint_every"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or value < 1):
                raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")
        for name in ("lr", "clip"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name} must be positive, got {value}")
        if not 0 <= self.warmup < 1:
            raise ValueError(f"warmup is a share of the steps in [0, 1), got {self.warmup}")
        if not 0 <= self.weight_decay < math.inf:
            raise ValueError(f"weight_decay must not be negative, got {self.weight_decay}")
        if self.schedule not in SCHEDULES:
            raise unknown_name("schedule", self.schedule, SCHEDULES)
        if self.precision not in PRECISIONS:
            raise unknown_name("precision", self.precision, PRECISIONS)


def learning_rate(config: TrainConfig, step: int, total: int) -> float:
    """Rate of step `step` (0 … total − 1), with w = round(warmup·total) steps of warm-up.

    lr·(step + 1)/w while step < w, then lr·(total − step)/(total − w), or lr if constant: never 0 in a step.
    """
    rising = round(config.warmup * total)
    if step < rising:
        return config.lr * (step + 1) / rising
    return config.lr * (total - step) / (total - rising) if config.schedule == "linear" else config.lr


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW over what requires a gradient, shared weights once, weight decay on matrices only.

    Raises ValueError if nothing does.
    """
    trained = [weight for weight in model.parameters() if weight.requires_grad]  # lists a shared one once
    if not trained:
        raise ValueError(f"nothing to train: no parameter of this {type(model).__name__} requires a gradient")
    groups = [
        {"params": [weight for weight in trained if weight.dim() > 1], "weight_decay": config.weight_decay},
        {"params": [weight for weight in trained if weight.dim() < 2], "weight_decay": 0.0},
    ]
    fused = all(weight.device.type in ("cpu", "cuda") for weight in trained)
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=config.lr, fused=fused)

"""What every compression asks of its input before it changes anything."""

import math
from collections.abc import Sequence
from numbers import Real

from torch import Tensor, nn


def check_finite(given: Tensor | nn.Module, name: str = "") -> None:
    """Raise ValueError that names a NaN or infinite tensor, or parameter of a module; on device meta nothing is."""
    named = given.named_parameters(prefix=name) if isinstance(given, nn.Module) else [(name, given)]
    for where, value in named:
        if not value.is_meta and not value.isfinite().all():
            bad = int((~value.isfinite()).sum())
            raise ValueError(f"{where} has {bad} NaN or infinite entries; shape {tuple(value.shape)}")


def is_number(value: object) -> bool:
    """Whether a value is a real number; no boolean, no tensor."""
    return isinstance(value, Real) and not isinstance(value, bool)


def check_positive(name: str, value: float) -> None:
    """Raise ValueError unless the value is a finite number above 0."""
    if not (is_number(value) and 0 < value < math.inf):
        raise ValueError(f"{name} must be positive and finite, got {value!r}")


def no_linear(model: nn.Module, task: str, exclude: Sequence[str]) -> ValueError:
    """Error for a model without a plain linear layer for the task; where layers are masked, what to do first."""
    masked = any(hasattr(module, "finalize") for module in model.modules())
    hint = "; it has masked layers: make their zeros permanent first, with pruning.finalize(model)" if masked else ""
    return ValueError(f"{type(model).__name__} has no plain nn.Linear to {task} outside {tuple(exclude)}{hint}")

"""Compressed layers back to plain ones."""

import copy
from collections.abc import Callable
from typing import TypeVar

from torch import nn

Model = TypeVar("Model", bound=nn.Module)
WAYS_BACK = ("merge", "dequantize", "finalize")  # of low-rank and LoRA layers, of codes, of masks


def plain(model: Model) -> Model:
    """A copy in which every low-rank, LoRA, quantized or masked layer is a plain one of the same outputs, to rounding.

    Numbers stay rounded, ranks low and zeros zero, and what is shared stays shared; only the way they are kept is the
    ordinary one, so bytes and products are those of a dense model. Integer products become real ones: activations are
    no longer rounded. Heads, neurons and layers that were removed do not come back.
    """
    replaced = {id(module): way() for module in model.modules() if (way := way_back(module))}
    return copy.deepcopy(model, replaced)


def way_back(module: nn.Module) -> Callable[[], nn.Module] | None:
    """What makes a plain layer of a compressed one; None for a layer that is not compressed."""
    return next((getattr(module, way) for way in WAYS_BACK if callable(getattr(module, way, None))), None)

"""What zeros are worth on disk, and the report of a pruned model."""

from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor, nn

from coursekit.compress.pruning.masked import MaskedLinear
from coursekit.compress.report import LayerReport, Report, stored_layers


@dataclass(frozen=True)
class SparseBytes:
    """Bytes of one weight in three forms; only the smallest is worth writing, and only if something reads it.

    dense    every value, zeros too
    csr      values that are not zero, a column number for each, and where each row begins
    bitmask  values that are not zero, and a bit for each entry
    """

    dense: int
    csr: int
    bitmask: int

    @property
    def smallest(self) -> str:
        """The form that takes least; dense among equals."""
        return min(("dense", "csr", "bitmask"), key=lambda form: getattr(self, form))


def sparse_bytes(weight: Tensor | MaskedLinear, *, value_bytes: int | None = None, index_bytes: int = 4) -> SparseBytes:
    """Bytes of a weight (out, in) dense, in compressed sparse rows, and as bits with values.

    Zeros are counted in W ∘ M, or in a boolean mask, whose values then need `value_bytes` (default: 4 for a mask, the
    weight's own otherwise). index_bytes: of one column number or row start; 4, or 8 as torch makes them. With 4-byte
    values and indices CSR pays above 50 % zeros, the bitmask above 1/32 of them. Raises ValueError unless 2-d.
    """
    values = weight.masked_weight().detach() if isinstance(weight, MaskedLinear) else weight
    if values.dim() != 2:
        raise ValueError(f"a weight has two dimensions (out, in), got shape {tuple(values.shape)}")
    if value_bytes is None:
        value_bytes = values.element_size() if values.is_floating_point() else 4
    kept, size = int(values.count_nonzero()), values.numel()
    return SparseBytes(
        dense=size * value_bytes,
        csr=kept * (value_bytes + index_bytes) + (len(values) + 1) * index_bytes,
        bitmask=kept * value_bytes + -(-size // 8),
    )


def pruning_report(before: nn.Module, after: nn.Module) -> Report:
    """Every layer with weights of its own, in a model before and after pruning: shapes, zeros, bytes as stored.

    A shared layer stands under its first path; after `drop_layers` the layers left are numbered anew. `before` may be
    a model of the same shape on device meta. Bytes are those of today's file: a mask adds to them, and zeros in a
    dense weight save nothing (`sparse_bytes` says what they could).
    """
    old, new = stored_layers(before), stored_layers(after)
    rows = []
    for path in dict.fromkeys([*old, *new]):
        (module, size), (other, left) = (layers.get(path, (None, 0)) for layers in (old, new))
        rows.append(LayerReport(path, _what(module, other), size, left))
    return Report(rows)


def _what(old: nn.Module | None, new: nn.Module | None) -> str:
    if new is None:
        return "removed"
    if old is None:
        return "new"
    if isinstance(new, MaskedLinear):
        return f"masked, {new.sparsity:.1%} zeros"
    if type(new) is not type(old):
        return f"{type(old).__name__} → {type(new).__name__}"
    shapes = ["×".join(map(str, shape)) for shape in (_shape(old), _shape(new))]
    if shapes[0] != shapes[1]:
        return f"{shapes[0]} → {shapes[1]}"
    if type(new) is nn.Linear and (zeros := int((new.weight == 0).sum())):
        return f"{zeros / new.weight.numel():.1%} zeros, stored dense"
    return f"skipped: {type(new).__name__} left as it was"


def _shape(module: nn.Module) -> torch.Size:
    return next(chain(module.parameters(False), module.buffers(False))).shape

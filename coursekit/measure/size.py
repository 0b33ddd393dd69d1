"""How many bytes a model takes on disk."""

from collections import defaultdict
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from coursekit.measure.hygiene import require_module


def stored_bytes(model: nn.Module) -> int:
    """Bytes of the model as serialised: each distinct parameter and persistent buffer once, by its storage.

    Tied and shared tensors count once; the codes and scales of a quantized layer count as such; a mask kept
    beside its weight counts too. The file's header is not included. Raises ValueError for a state that is
    not made of tensors.
    """
    require_module(model)
    views: dict[int, dict[tuple[int, int], int]] = defaultdict(dict)
    whole: dict[int, int] = {}
    for name, value in model.state_dict(keep_vars=True).items():
        if not isinstance(value, Tensor):
            raise ValueError(f"{name} is stored as {type(value).__name__}; only tensors have a known size")
        for tensor in _strided(value.detach()):
            storage = tensor.untyped_storage()
            where = storage._cdata  # the storage's address; data_ptr() is 0 for every tensor on meta
            views[where][_extent(tensor)] = tensor.numel() * tensor.element_size()
            whole[where] = storage.nbytes()
    # Views that overlap, as a tie with a part of a table, cannot take more than the memory they lie in.
    return sum(min(whole[where], sum(parts.values())) for where, parts in views.items())


def _extent(tensor: Tensor) -> tuple[int, int]:
    """First and last byte of the storage that the tensor touches: equal for a matrix and its transpose."""
    last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    start = tensor.storage_offset() * tensor.element_size()
    return start, start + last * tensor.element_size()


def _strided(tensor: Tensor) -> Iterator[Tensor]:
    """The dense tensors behind a sparse one, or behind a subclass that wraps several (codes and scales)."""
    if tensor.layout is torch.sparse_csr:
        yield from (tensor.crow_indices(), tensor.col_indices(), tensor.values())
    elif tensor.layout is torch.sparse_coo:
        yield from (tensor._indices(), tensor._values())
    elif hasattr(tensor, "__tensor_flatten__"):
        for name in tensor.__tensor_flatten__()[0]:
            yield from _strided(getattr(tensor, name))
    else:
        yield tensor

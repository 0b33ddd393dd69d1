"""Sequences of different lengths, gathered so that little of a batch is padding, and padded."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch


class Batch(NamedTuple):
    """Padded sequences, in the order an encoder takes them: `encoder(*batch)`.

    `input_ids` (B, T) long; `attention_mask` (B, T) bool, true on real tokens; `token_type_ids` (B, T) long
    or None.
    """

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    token_type_ids: torch.Tensor | None = None


def pad(
    sequences: Sequence[Sequence[int]],
    pad_id: int,
    *,
    token_type_ids: Sequence[Sequence[int]] | None = None,
    multiple_of: int = 1,
) -> Batch:
    """Pad B sequences on the right to the longest of them, rounded up to a multiple of `multiple_of`.

    Token types are padded with 0. Raises ValueError for no sequences, an empty sequence, `multiple_of` below
    1, or token types of other lengths than the sequences.
    """
    lengths = [len(sequence) for sequence in sequences]
    if not lengths:
        raise ValueError("cannot pad an empty list of sequences")
    if 0 in lengths:
        raise ValueError(f"sequence {lengths.index(0)} is empty; each needs at least one token")
    if multiple_of < 1:
        raise ValueError(f"multiple_of must be at least 1, got {multiple_of}")
    if token_type_ids is not None and (found := [len(types) for types in token_type_ids]) != lengths:
        raise ValueError(f"token types of lengths {found} do not fit sequences of lengths {lengths}")
    width = -(-max(lengths) // multiple_of) * multiple_of
    mask = torch.arange(width) < torch.tensor(lengths)[:, None]
    types = None if token_type_ids is None else _filled(token_type_ids, width, 0)
    return Batch(_filled(sequences, width, pad_id), mask, types)


def _filled(rows: Sequence[Sequence[int]], width: int, value: int) -> torch.Tensor:
    table = np.full((len(rows), width), value, dtype=np.int64)
    for line, row in zip(table, rows, strict=True):
        line[: len(row)] = row
    return torch.from_numpy(table)


def length_batches(
    lengths: Sequence[int],
    *,
    batch_size: int | None = None,
    max_tokens: int | None = None,
    generator: torch.Generator | None = None,
) -> list[list[int]]:
    """Batches of indices into `lengths`, each index once, sequences of similar length together.

    A batch holds at most `batch_size` sequences, or at most `max_tokens` tokens with its padding counted:
    give exactly one. Without a generator the batches go from short to long; with one, equal lengths are
    mixed and the batches come in random order, the same for the same state of the generator. Raises
    ValueError for no lengths, a length or limit below 1, or a sequence longer than `max_tokens`.
    """
    if (batch_size is None) == (max_tokens is None):
        raise ValueError(f"give batch_size or max_tokens, not both; got {batch_size} and {max_tokens}")
    if (limit := max_tokens if batch_size is None else batch_size) < 1:
        raise ValueError(f"batch_size and max_tokens must be at least 1, got {limit}")
    sizes = np.asarray(lengths)
    if sizes.size == 0:
        raise ValueError("cannot make batches of no sequences")
    if sizes.min() < 1:
        raise ValueError(f"lengths must be at least 1; lengths[{sizes.argmin()}] is {sizes.min()}")
    if max_tokens is not None and sizes.max() > max_tokens:
        raise ValueError(f"sequence {sizes.argmax()} has {sizes.max()} tokens, max_tokens is {max_tokens}")

    order = np.arange(len(sizes))
    if generator is not None:
        order = torch.randperm(len(sizes), generator=generator).numpy()
    order = order[np.argsort(sizes[order], kind="stable")]
    batches: list[list[int]] = []
    for index in order.tolist():
        # lengths ascend, so this sequence sets the padded width of the batch it joins
        room = batch_size if max_tokens is None else max_tokens // int(sizes[index])
        if not batches or len(batches[-1]) >= room:
            batches.append([])
        batches[-1].append(index)
    if generator is not None:
        batches = [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]
    return batches

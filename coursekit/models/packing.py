"""A batch without its padding: the tokens of all texts in one line, attention within texts of equal length."""

from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Packing:
    """Where the N real tokens of a padded batch (B, T) lie.

    tokens (N,): their places in the flattened batch, text by text, from short texts to long; groups: (texts, tokens in
    each) of every run of texts of equal length; shape: (B, T). Linear layers and LayerNorms do not care which text a
    token belongs to; attention does, and runs once for each group.
    """

    tokens: Tensor
    groups: tuple[tuple[int, int], ...]
    shape: tuple[int, int]

    @classmethod
    def of(cls, mask: Tensor) -> Self:
        """From a mask (B, T), true on real tokens, wherever in a row they are."""
        lengths = mask.sum(1)
        order = lengths.argsort(stable=True)
        places = torch.arange(mask.numel(), device=mask.device).view_as(mask)
        sizes, counts = (each.tolist() for each in lengths.unique(return_counts=True))  # ascending
        groups = tuple((count, size) for count, size in zip(counts, sizes, strict=True) if size)
        return cls(places[order][mask[order]], groups, (len(mask), mask.shape[1]))

    def pack(self, x: Tensor) -> Tensor:
        """(B, T, H) → (1, N, H)."""
        return x.flatten(0, 1)[self.tokens][None]

    def unpack(self, x: Tensor) -> Tensor:
        """(1, N, H) → (B, T, H), zero where there is padding."""
        padded = x.new_zeros(self.shape[0] * self.shape[1], x.shape[-1])
        padded[self.tokens] = x[0]
        return padded.view(*self.shape, -1)

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Attention of each text to itself: (1, A, N, d) three times → (1, A, N, d)."""
        contexts, start = [], 0
        for texts, length in self.groups:
            own = slice(start, start + texts * length)
            parts = (x[0, :, own].unflatten(1, (texts, length)).transpose(0, 1) for x in (query, key, value))
            context = F.scaled_dot_product_attention(*parts)  # (texts, A, length, d)
            contexts.append(context.transpose(1, 2).flatten(0, 1))
            start = own.stop
        return torch.cat(contexts)[None].transpose(1, 2)

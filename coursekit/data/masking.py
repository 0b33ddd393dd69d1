"""Hide a part of the tokens, so that a model can be asked for them (BERT, Devlin et al. 2019, section 3.1)."""

from collections.abc import Collection

import torch
from torch import Tensor

IGNORED = -100  # the label of a token that is not asked for


def mask_tokens(
    input_ids: Tensor,
    *,
    special_ids: Collection[int],
    mask_id: int,
    vocab_size: int,
    probability: float = 0.15,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Corrupted ids and labels, new tensors of the shape of input_ids (…, T); the same for the same generator state.

    Each token that is not special is chosen on its own with `probability`. A chosen one becomes [MASK] in 8 cases of
    10, a random token that is not special in 1, and stays in 1; its label is the id it had. All other labels are -100.
    Nothing may happen to be chosen. Raises ValueError for a probability outside [0, 1], ids outside the vocabulary, or
    a vocabulary of special ids alone.
    """
    ordinary = ordinary_tokens(input_ids, special_ids, mask_id, vocab_size, probability)
    chosen = ordinary[input_ids] & (_uniform(input_ids, generator) < probability)
    return corrupt(input_ids, chosen, ordinary, mask_id, generator)


def whole_word_mask(
    input_ids: Tensor,
    *,
    continuation_ids: Collection[int],
    special_ids: Collection[int],
    mask_id: int,
    vocab_size: int,
    probability: float = 0.15,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """As `mask_tokens` for input_ids (B, T), but the pieces of a word are chosen together.

    continuation_ids: pieces that go on the word before them, such as "##ing". Each row has a budget in pieces, its
    share `probability` of them rounded up or down at random; its words are taken in random order, and one that no
    longer fits the budget is passed over. Each chosen piece is then corrupted on its own, as in BERT.
    """
    if input_ids.dim() != 2:
        raise ValueError(f"input_ids must be (B, T), got shape {tuple(input_ids.shape)}")
    ordinary = ordinary_tokens(input_ids, special_ids, mask_id, vocab_size, probability)
    pieces = ordinary[input_ids]
    continues = _among(continuation_ids, vocab_size, input_ids.device)[input_ids] & pieces
    continues[:, 1:] &= pieces[:, :-1]  # a piece after a special token, or at the start, begins a word
    continues[:, :1] = False
    words = (pieces & ~continues).cumsum(1) - 1  # (B, T): the number of each piece's word in its row
    budgets = (pieces.sum(1) * probability + _uniform(pieces[:, 0], generator)).floor()
    chosen = torch.zeros_like(pieces)
    for row in range(len(input_ids)):
        if pieces[row].any():
            sizes = words[row][pieces[row]].bincount()
            taken = _fill(sizes.tolist(), int(budgets[row]), generator)
            chosen[row] = taken.to(words.device)[words[row].clamp_min(0)] & pieces[row]
    return corrupt(input_ids, chosen, ordinary, mask_id, generator)


def _fill(sizes: list[int], budget: int, generator: torch.Generator) -> Tensor:
    """Which words (W,) fit the budget, taken in random order."""
    taken = torch.zeros(len(sizes), dtype=torch.bool)
    for word in torch.randperm(len(sizes), generator=generator, device=generator.device).tolist():
        if sizes[word] <= budget:
            taken[word] = True
            budget -= sizes[word]
    return taken


def ordinary_tokens(
    input_ids: Tensor, special_ids: Collection[int], mask_id: int, vocab_size: int, probability: float
) -> Tensor:
    """(V,) bool: ids that may be hidden, and may take another's place."""
    if not 0 <= probability <= 1:
        raise ValueError(f"probability must lie in [0, 1], got {probability}")
    if input_ids.is_floating_point() or input_ids.dtype == torch.bool:
        raise ValueError(f"input_ids must be integers, got {input_ids.dtype}")
    ordinary = ~_among([*special_ids, mask_id], vocab_size, input_ids.device)
    if not ordinary.any():
        raise ValueError(f"all {vocab_size} ids of the vocabulary are special; none can be hidden")
    if input_ids.numel() and not (0 <= input_ids.min() and input_ids.max() < vocab_size):
        low, high = int(input_ids.min()), int(input_ids.max())
        raise ValueError(f"input_ids range from {low} to {high}, outside the vocabulary of {vocab_size}")
    return ordinary


def _among(ids: Collection[int], vocab_size: int, device: torch.device) -> Tensor:
    """(V,) bool: true for `ids`."""
    if wrong := [i for i in ids if not 0 <= i < vocab_size]:
        raise ValueError(f"id {wrong[0]} is outside the vocabulary of {vocab_size}")
    table = torch.zeros(vocab_size, dtype=torch.bool, device=device)
    table[torch.tensor(list(ids), dtype=torch.long, device=device)] = True
    return table


def corrupt(
    input_ids: Tensor, chosen: Tensor, ordinary: Tensor, mask_id: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Replace chosen tokens 80/10/10 and label them."""
    lot, pool = _uniform(input_ids, generator), ordinary.nonzero().squeeze(1)
    random = pool[(_uniform(input_ids, generator) * len(pool)).long().clamp_max(len(pool) - 1)]
    hidden = input_ids.masked_fill(chosen & (lot < 0.8), mask_id)
    hidden = torch.where(chosen & (lot >= 0.8) & (lot < 0.9), random.to(input_ids.dtype), hidden)
    return hidden, input_ids.long().masked_fill(~chosen, IGNORED)


def _uniform(like: Tensor, generator: torch.Generator) -> Tensor:
    """Numbers in [0, 1) of a tensor's shape. Double precision: even the last of a large vocabulary can be drawn."""
    drawn = torch.rand(like.shape, generator=generator, device=generator.device, dtype=torch.float64)
    return drawn.to(like.device)

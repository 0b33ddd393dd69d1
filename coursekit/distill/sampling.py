"""DistilBERT's choice of the tokens to hide: rare words more often."""

import math
from collections.abc import Collection

import torch
from torch import Tensor

from coursekit.data.masking import corrupt, ordinary_tokens


def smoothed_mask(
    input_ids: Tensor,
    attention_mask: Tensor,
    *,
    counts: Tensor,
    special_ids: Collection[int],
    mask_id: int,
    probability: float = 0.15,
    smoothing: float = 0.7,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Corrupted ids and labels as `mask_tokens`, for input_ids (B, T) and counts (V,), how often each id occurs.

    The released code hides ⌈probability · real tokens of the batch⌉ tokens, drawn without replacement by
    count^(−smoothing), special ones never: so a text may lose many tokens, or none. Fewer if there are not so many.
    """
    ordinary = ordinary_tokens(input_ids, special_ids, mask_id, len(counts), probability)
    weights = counts.double().clamp_min(1).pow(-smoothing) * ordinary
    drawn_from = (weights[input_ids] * attention_mask.bool()).flatten()
    wanted = min(math.ceil(probability * int(attention_mask.sum())), int((drawn_from > 0).sum()))
    chosen = torch.zeros_like(drawn_from, dtype=torch.bool)
    if wanted:
        chosen[torch.multinomial(drawn_from, wanted, generator=generator)] = True
    return corrupt(input_ids, chosen.view_as(input_ids), ordinary, mask_id, generator)

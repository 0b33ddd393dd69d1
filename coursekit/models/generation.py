"""From a trained encoder–decoder to text: greedy and beam search."""

import torch
from torch import Tensor

from coursekit.models.seq2seq import DecoderCache, Seq2Seq


@torch.inference_mode()
def generate(
    model: Seq2Seq,
    source_ids: Tensor,
    source_mask: Tensor | None = None,
    *,
    start_id: int,
    end_id: int,
    max_length: int,
    beams: int = 1,
    length_penalty: float = 1.0,
    use_cache: bool = True,
) -> list[list[int]]:
    """The best target of each source (B, S), without start and end tokens; beams = 1 is greedy decoding.

    Hypotheses are ranked by log-probability / length^length_penalty, the end token counted. At most max_length
    tokens each. use_cache=False recomputes every step from the beginning: slower, same tokens (for tests).
    Raises ValueError for an empty source, beams < 1, or max_length outside 1 … positions.
    """
    positions = model.config.encoder.max_positions
    if not 1 <= max_length <= positions:
        raise ValueError(f"max_length must lie between 1 and the {positions} positions, got {max_length}")
    if beams < 1:
        raise ValueError(f"beams must be at least 1, got {beams}")
    model.eval()
    batch = source_ids.shape[0]
    memory = model.encode(source_ids, source_mask).repeat_interleave(beams, 0)  # (B·K, S, H)
    mask = None if source_mask is None else source_mask.repeat_interleave(beams, 0)
    tokens = source_ids.new_full((batch * beams, 1), start_id)
    # All beams of a source start equal, so only the first may bring forth hypotheses at first.
    scores = memory.new_full((batch, beams), -torch.inf)
    scores[:, 0] = 0
    done = torch.zeros(batch * beams, dtype=torch.bool, device=source_ids.device)
    cache = DecoderCache(len(model.layers)) if use_cache else None
    for _ in range(max_length):
        told = tokens[:, -1:] if use_cache else tokens
        log_probs = model.decode(told, memory, mask, cache)[:, -1].float().log_softmax(-1)  # (B·K, V)
        log_probs[done] = -torch.inf  # a finished hypothesis only repeats its end token, at no cost
        log_probs[done, end_id] = 0
        tokens, scores, rows = _extend(tokens, scores, log_probs)
        done = done[rows] | (tokens[:, -1] == end_id)
        if cache:
            cache.reorder(rows)
        if done.all():
            break
    return _best(tokens.view(batch, beams, -1)[:, :, 1:], scores, end_id, length_penalty)


def _extend(tokens: Tensor, scores: Tensor, log_probs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The K best one-token continuations of each source: tokens (B·K, t+1), scores (B, K), rows continued (B·K)."""
    batch, beams = scores.shape
    vocabulary = log_probs.shape[-1]
    total = scores[:, :, None] + log_probs.view(batch, beams, vocabulary)
    scores, chosen = total.flatten(1).topk(beams)  # (B, K) over K·V continuations
    first = torch.arange(batch, device=chosen.device)[:, None] * beams
    rows = (first + chosen // vocabulary).flatten()
    return torch.cat((tokens[rows], (chosen % vocabulary).view(-1, 1)), 1), scores, rows


def _best(tokens: Tensor, scores: Tensor, end_id: int, length_penalty: float) -> list[list[int]]:
    """tokens (B, K, t), scores (B, K): the best hypothesis of each source, cut before its end token."""
    ended = tokens == end_id
    lengths = (~ended).sum(-1) + ended.any(-1)  # the first end token counts, its repetitions do not
    winner = (scores / lengths**length_penalty).argmax(1)
    best = tokens[torch.arange(len(tokens), device=tokens.device), winner].tolist()
    return [row[: row.index(end_id)] if end_id in row else row for row in best]

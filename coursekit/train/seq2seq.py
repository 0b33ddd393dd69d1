"""Sequence to sequence: batches of pairs, the label-smoothed loss, translating and scoring."""

from collections.abc import Iterable, Mapping, Sequence

import torch
import torch.nn.functional as F
from accelerate.utils import send_to_device
from torch import Tensor, nn

from coursekit.data import Pairs, SubwordTokenizer, length_batches, pad
from coursekit.models import Seq2Seq, generate
from coursekit.train.evaluation import inference
from coursekit.train.pieces import Loss, LossFunction
from coursekit.train.text import TextBatches


class PairBatches(TextBatches):
    """Tokenised pairs as batches: input_ids and attention_mask (B, S), target_ids (B, T + 1) from [START] to [END].

    sources, targets   token ids of each side, [END] last, as `SubwordTokenizer.encode` gives them
    max_tokens         tokens a side in a batch, padding counted; pairs of similar length meet
    seed               as in TextBatches
    Raises ValueError for unequal numbers of sources and targets, and for a pair longer than max_tokens.
    """

    def __init__(
        self,
        sources: Sequence[Sequence[int]],
        targets: Sequence[Sequence[int]],
        tokenizer: SubwordTokenizer,
        *,
        max_tokens: int,
        seed: int | None = None,
    ) -> None:
        if len(sources) != len(targets):
            raise ValueError(f"{len(sources)} sources and {len(targets)} targets; each source needs one target")
        super().__init__(sources, pad_id=tokenizer.pad_id, max_tokens=max_tokens, seed=seed)
        self.targets = [[tokenizer.start_id, *target] for target in targets]
        self.lengths = [max(len(a), len(b)) for a, b in zip(sources, targets, strict=True)]

    def build(self, rows: list[int]) -> dict[str, Tensor]:
        """The batch of some rows."""
        return super().build(rows) | {"target_ids": pad([self.targets[row] for row in rows], self.pad_id).input_ids}


def translation_loss(smoothing: float = 0.0) -> LossFunction:
    """Cross-entropy of the next target token, a mean over real target tokens ([END] is one, padding is not).

    With label smoothing ε the target is 1 − ε on the right token and ε spread over all V (Szegedy et al. 2016):
    (1 − ε)·(−log p_right) + ε·mean_v(−log p_v). Raises ValueError unless 0 ≤ ε < 1.
    """
    if not 0 <= smoothing < 1:
        raise ValueError(f"smoothing must lie in [0, 1), got {smoothing}")

    def loss(model: nn.Module, batch: Mapping[str, Tensor]) -> Loss:
        told, right = batch["target_ids"][:, :-1], batch["target_ids"][:, 1:]
        pad_id = model.config.encoder.pad_id
        logits = model(batch["input_ids"], batch["attention_mask"], told).logits.float()  # (B, T, V)
        count = int((right != pad_id).sum())
        total = F.cross_entropy(
            logits.flatten(0, 1), right.flatten(), reduction="sum", ignore_index=pad_id, label_smoothing=smoothing
        )
        return Loss(total / max(count, 1), count)

    return loss


def score_pairs(model: Seq2Seq, batches: PairBatches) -> tuple[Tensor, Tensor]:
    """For each pair, in order: −log of its target's probability in nats (N,), and its number of target tokens (N,)."""
    rows, nats, tokens = [], [], []
    with inference(model, "fp32") as device:
        for numbers, batch in zip(batches.plan(0), batches.epoch(0), strict=True):
            batch = send_to_device(batch, device)
            right = batch["target_ids"][:, 1:]
            logits = model(batch["input_ids"], batch["attention_mask"], batch["target_ids"][:, :-1]).logits
            losses = F.cross_entropy(logits.mT, right, reduction="none", ignore_index=batches.pad_id)  # (B, T)
            rows += numbers
            nats.append(losses.sum(1).cpu())
            tokens.append((right != batches.pad_id).sum(1).cpu())
    order = torch.tensor(rows).argsort()
    return torch.cat(nats)[order], torch.cat(tokens)[order]


def translate(
    model: Seq2Seq,
    tokenizer: SubwordTokenizer,
    sources: Iterable[str],
    *,
    beams: int = 1,
    max_length: int = 96,
    batch_size: int = 64,
) -> list[str]:
    """Translations in the order of the sources, each of at most max_length pieces; beams = 1 is greedy."""
    ids = tokenizer.encode(sources)
    device = next(model.parameters()).device
    found: list[list[int]] = [[]] * len(ids)
    for rows in length_batches([len(each) for each in ids], batch_size=batch_size):
        batch = pad([ids[row] for row in rows], tokenizer.pad_id)
        best = generate(
            model,
            batch.input_ids.to(device),
            batch.attention_mask.to(device),
            start_id=tokenizer.start_id,
            end_id=tokenizer.end_id,
            max_length=max_length,
            beams=beams,
        )
        for row, tokens in zip(rows, best, strict=True):
            found[row] = tokens
    return tokenizer.decode(found)


def pair_batches(
    pairs: Pairs, tokenizer: SubwordTokenizer, *, max_tokens: int = 1000, seed: int | None = None
) -> PairBatches:
    """A split as `PairBatches`; shuffled only if there is a seed."""
    sources, targets = tokenizer.encode(pairs.sources), tokenizer.encode(pairs.targets)
    return PairBatches(sources, targets, tokenizer, max_tokens=max_tokens, seed=seed)

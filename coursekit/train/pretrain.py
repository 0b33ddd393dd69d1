"""Masked-language-model pretraining: running text as rows of tokens, hidden anew each epoch, and what is learnt."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from coursekit.data import IGNORED, Tokenizer, mask_tokens, pad
from coursekit.train.evaluation import evaluate
from coursekit.train.pieces import Loss
from coursekit.train.text import TextBatches, inputs
from coursekit.train.vocabulary_loss import count_right, summed_nats

# For every new shape of a product PyTorch's CPU back-end makes and keeps code and buffers, megabytes with a large
# vocabulary. Numbers of projected tokens are rounded up to this, lengths to 8, so that there are few shapes.
ROUND = 64


def rows_of_tokens(
    documents: Iterable[Sequence[str]], tokenizer: Tokenizer, *, length: int = 128
) -> Iterator[list[int]]:
    """Rows [CLS] … [SEP] of at most `length` tokens: whole sentences of one document, as many as fit.

    A sentence that is longer than a row is cut. Raises ValueError for a length below 3.
    """
    if length < 3:
        raise ValueError(f"length must be at least 3 ([CLS], a token, [SEP]), got {length}")
    room = length - 2
    for document in documents:
        row: list[int] = []
        for ids in tokenizer.encode(document, max_length=None):
            ids = ids[1:-1]
            for piece in (ids[start : start + room] for start in range(0, len(ids), room)):
                if len(row) + len(piece) > room:
                    yield [tokenizer.cls_id, *row, tokenizer.sep_id]
                    row = []
                row += piece
        if row:
            yield [tokenizer.cls_id, *row, tokenizer.sep_id]


class MaskedBatches:
    """Rows of tokens as batches for `masked_lm_loss`: input_ids, attention_mask and labels, each (B, T).

    Rows of similar length meet, in other batches and another order each epoch, and other tokens are hidden each time:
    what is hidden depends on seed, epoch and number of the batch alone, so that a resumed training sees the same.
    hide_all: [MASK] for every token that is asked for, as an evaluation wants it, not only for 8 in 10. Raises
    ValueError for a probability outside [0, 1].
    """

    def __init__(
        self,
        rows: Sequence[Sequence[int]],
        tokenizer: Tokenizer,
        *,
        batch_size: int | None = None,
        max_tokens: int | None = None,
        seed: int = 0,
        probability: float = 0.15,
        hide_all: bool = False,
    ) -> None:
        if not 0 <= probability <= 1:
            raise ValueError(f"probability must lie in [0, 1], got {probability}")
        limits = {"batch_size": batch_size, "max_tokens": max_tokens}
        self.rows, self.pad_id = rows, tokenizer.pad_id
        self.texts = TextBatches(rows, pad_id=tokenizer.pad_id, seed=seed, **limits)
        self.seed, self.hide_all = seed, hide_all
        self.masking = {
            "special_ids": tokenizer.special_ids,
            "mask_id": tokenizer.mask_id,
            "vocab_size": tokenizer.vocab_size,
            "probability": probability,
        }

    def epoch(self, number: int) -> "_Epoch":
        """The batches of an epoch; each is built when it is asked for."""
        return _Epoch(self, number, self.texts.plan(number))

    def build(self, rows: Sequence[int], epoch: int, number: int) -> dict[str, Tensor]:
        """The batch of some rows, with tokens hidden as befits its epoch and its number there."""
        batch = pad([self.rows[row] for row in rows], self.pad_id, multiple_of=8)
        state = np.random.SeedSequence((self.seed, epoch, number)).generate_state(1, np.uint64)
        generator = torch.Generator().manual_seed(int(state[0]))
        input_ids, labels = mask_tokens(batch.input_ids, generator=generator, **self.masking)
        if self.hide_all:
            input_ids = input_ids.masked_fill(labels != IGNORED, self.masking["mask_id"])
        return {"input_ids": input_ids, "attention_mask": batch.attention_mask, "labels": labels}


@dataclass(frozen=True)
class _Epoch(Sequence):
    batches: MaskedBatches
    epoch: int
    plan: list[list[int]]

    def __len__(self) -> int:
        return len(self.plan)

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        return self.batches.build(self.plan[number], self.epoch, number)


def masked_lm_loss(model: nn.Module, batch: Mapping[str, Tensor]) -> Loss:
    """Cross-entropy of a `MaskedLM` at the tokens that have a label, a mean over them; part: accuracy (top-1).

    Only these are projected onto the vocabulary, and as many others as make the number a multiple of `ROUND`. The
    loss is 0 if no token has a label.
    """
    labels = batch["labels"]  # (B, T)
    projected = round_up(labels != IGNORED)
    logits, labels = model(*inputs(batch), positions=projected).logits.float(), labels[projected]  # (N, V), (N,)
    count = (labels != IGNORED).sum()
    right = count_right(logits, labels)
    return Loss(summed_nats(logits, labels) / count.clamp_min(1), count, {"accuracy": right / count.clamp_min(1)})


def round_up(asked: Tensor) -> Tensor:
    """`asked` (B, T) with as many false entries made true as bring the number of true ones to a multiple of ROUND."""
    flat = asked.flatten().clone()
    flat[(~flat).nonzero()[: -int(flat.sum()) % ROUND]] = True
    return flat.view_as(asked)


def masked_lm_metrics(
    model: nn.Module, batches: MaskedBatches | Sequence[Any], *, precision: str = "fp32"
) -> dict[str, float]:
    """What a model knows about hidden tokens: loss, accuracy (top-1) and perplexity = exp(loss), over all of them.

    Give batches with hide_all: else a tenth of the tokens that are asked for can be read off the input.
    """
    found = evaluate(model, batches, masked_lm_loss, precision=precision)
    return {**found, "perplexity": math.exp(found["loss"])}

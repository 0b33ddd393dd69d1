"""Batches of texts for the loop, and the loss of a classifier."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coursekit.data import length_batches, pad
from coursekit.train.pieces import Loss


class TextBatches:
    """Tokenised texts as batches: dicts with input_ids and attention_mask (B, T), and a tensor per column.

    sequences        token ids of each text
    columns          one value or tensor row per text, for example labels=…, teacher_logits=…
    token_type_ids   as sequences, for pairs of texts; the batch has them then
    batch_size or max_tokens    texts in a batch, or tokens with padding
    seed             None: from short to long, the same each epoch. A number: texts of similar length still meet, but
                     different ones each epoch, and the batches come in random order
    Raises ValueError for columns of another length than the texts.
    """

    def __init__(
        self,
        sequences: Sequence[Sequence[int]],
        *,
        pad_id: int,
        batch_size: int | None = None,
        max_tokens: int | None = None,
        seed: int | None = None,
        token_type_ids: Sequence[Sequence[int]] | None = None,
        **columns: Sequence[Any] | Tensor,
    ) -> None:
        self.sequences, self.token_type_ids, self.pad_id, self.seed = sequences, token_type_ids, pad_id, seed
        self.limits = {"batch_size": batch_size, "max_tokens": max_tokens}
        self.lengths = [len(sequence) for sequence in sequences]
        self.columns = {name: torch.as_tensor(values) for name, values in columns.items()}
        for name, values in self.columns.items():
            if len(values) != len(sequences):
                raise ValueError(f"{name} has {len(values)} rows for {len(sequences)} texts")

    def plan(self, number: int) -> list[list[int]]:
        """The rows of each batch of an epoch."""
        generator = None
        if self.seed is not None:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + number)
        return length_batches(self.lengths, generator=generator, **self.limits)

    def epoch(self, number: int) -> "_Epoch":
        """The batches of an epoch; each is padded when it is asked for."""
        return _Epoch(self, self.plan(number))

    def build(self, rows: list[int]) -> dict[str, Tensor]:
        """The batch of some rows."""
        types = None if self.token_type_ids is None else [self.token_type_ids[row] for row in rows]
        batch = pad([self.sequences[row] for row in rows], self.pad_id, token_type_ids=types)
        named = {name: tensor for name, tensor in batch._asdict().items() if tensor is not None}
        return named | {name: values[rows] for name, values in self.columns.items()}


@dataclass(frozen=True)
class _Epoch(Sequence):
    batches: TextBatches
    rows: list[list[int]]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        return self.batches.build(self.rows[number])


def inputs(batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor | None]:
    """What a model takes from a batch of texts: `model(*inputs(batch))`."""
    return batch["input_ids"], batch["attention_mask"], batch.get("token_type_ids")


def classification_loss(model: nn.Module, batch: Mapping[str, Tensor]) -> Loss:
    """Cross-entropy with batch["labels"] (B,), a mean over rows; part: accuracy."""
    logits, labels = model(*inputs(batch)).logits, batch["labels"]
    if labels.is_floating_point():
        raise ValueError("the labels are scores, not numbers of classes; use regression_loss")
    accuracy = (logits.argmax(-1) == labels).float().mean()
    return Loss(F.cross_entropy(logits.float(), labels), len(labels), {"accuracy": accuracy})


def regression_loss(model: nn.Module, batch: Mapping[str, Tensor]) -> Loss:
    """Squared error of a classifier's one output against the scores batch["labels"] (B,), a mean over rows.

    Raises ValueError for a model with more outputs.
    """
    logits, labels = model(*inputs(batch)).logits, batch["labels"]
    if logits.shape[-1] != 1:
        raise ValueError(f"a regression has one output (num_labels=1), the model {logits.shape[-1]}")
    return Loss(F.mse_loss(logits.squeeze(-1).float(), labels.float()), len(labels))

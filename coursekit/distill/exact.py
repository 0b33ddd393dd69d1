"""Means that stay exact when a step is spread over batches and processes.

The loop weighs a batch's loss by its rows. A mean over tokens or pairs of a part of a step weighs otherwise, so each
batch is told how many of them the whole step has for each row, and its means are put right by that.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from coursekit.data import IGNORED
from coursekit.train import Batches
from coursekit.train.pieces import epoch_of

COUNTED = ("tokens", "pairs", "targets")


def count_items(batch: Mapping[str, Tensor]) -> Tensor:
    """(3,): real tokens of a batch, pairs of them in the same row, and labels that are not −100."""
    lengths = batch["attention_mask"].sum(1)
    labels = batch.get("labels")
    targets = lengths.new_zeros(()) if labels is None or labels.is_floating_point() else (labels != IGNORED).sum()
    return torch.stack((lengths.sum(), lengths.square().sum(), targets))


def correction(batch: Mapping[str, Tensor], counts: str) -> Tensor | float:
    """What a mean over this batch's items is multiplied by, for a step whose batches are `StepBatches`."""
    if "per_row" not in batch or counts not in COUNTED:
        return 1.0
    number = COUNTED.index(counts)
    expected = batch["per_row"][0, number] * len(batch["per_row"])
    return torch.where(expected > 0, count_items(batch)[number] / expected, 1.0)


class StepBatches:
    """Batches with a column per_row (B, 3): tokens, pairs and targets for each row of the `accumulate` batches that
    make a step together."""

    def __init__(self, batches: Batches | Sequence[Any], accumulate: int) -> None:
        self.batches, self.accumulate = batches, accumulate

    def epoch(self, number: int) -> "_Epoch":
        """The batches of an epoch; those of a step are built together."""
        return _Epoch(epoch_of(self.batches, number), self.accumulate)


class _Epoch(Sequence):
    def __init__(self, batches: Sequence[Any], accumulate: int) -> None:
        self.batches, self.accumulate = batches, accumulate
        self.step, self.group = -1, []

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        step, place = divmod(range(len(self))[number], self.accumulate)
        if step != self.step:
            first = step * self.accumulate
            group = [self.batches[i] for i in range(first, min(first + self.accumulate, len(self)))]
            rows = sum(len(batch["input_ids"]) for batch in group)
            per_row = sum(count_items(batch) for batch in group).float() / rows
            self.group = [{**batch, "per_row": per_row.repeat(len(batch["input_ids"]), 1)} for batch in group]
            self.step = step
        return self.group[place]

"""What a trained model is worth: means over items, and its answers in the order of the questions."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from accelerate.utils import send_to_device
from torch import Tensor, nn

from coursekit.models import Encoder
from coursekit.train.pieces import Batches, LossFunction, epoch_of
from coursekit.train.runtime import autocast
from coursekit.train.step import Sums, add
from coursekit.train.text import TextBatches, inputs, regression_loss


def evaluate(
    model: nn.Module, batches: Batches | Sequence[Any], loss: LossFunction, *, precision: str = "fp32"
) -> dict[str, float]:
    """Mean of the loss and of its parts over all items of epoch 0, whatever the sizes of the batches.

    The model is in evaluation mode meanwhile, then as before. With several processes each does all of it. Raises
    ValueError for no batches, or no items in them.
    """
    sums: Sums = {}
    with inference(model, precision) as device:
        for batch in epoch_of(batches, 0):
            found = loss(model, send_to_device(batch, device))
            if items := float(found.count):  # the mean over nothing may be NaN
                means = {"loss": found.mean, **found.parts}
                add(sums, {"items": items, **{name: float(mean) * items for name, mean in means.items()}})
    items = sums.pop("items", 0.0)
    if not items:
        raise ValueError("nothing to evaluate: every batch has a count of 0")
    return {name: total / items for name, total in sums.items()}


def predict(model: nn.Module, batches: TextBatches, *, precision: str = "fp32") -> Tensor:
    """Logits (N, labels) of a classifier on the CPU, row i for text i, however the batches were put together."""
    rows, logits = [], []
    with inference(model, precision) as device:
        for numbers, batch in zip(batches.plan(0), batches.epoch(0), strict=True):
            rows += numbers
            logits.append(model(*inputs(send_to_device(batch, device))).logits.float().cpu())
    return torch.cat(logits)[torch.tensor(rows).argsort()]


def regression_metrics(model: nn.Module, batches: TextBatches, *, precision: str = "fp32") -> dict[str, float]:
    """How well a model with one output finds the scores: loss (squared error), and as GLUE reports for STS-B pearson
    and spearman, the correlations of the values and of their ranks; NaN where all outputs or all scores are equal.
    """
    found = evaluate(model, batches, regression_loss, precision=precision)
    pair = torch.stack([predict(model, batches, precision=precision).squeeze(-1), batches.columns["labels"]]).double()
    ranks = torch.stack([_ranks(values) for values in pair])
    return {**found, "pearson": float(torch.corrcoef(pair)[0, 1]), "spearman": float(torch.corrcoef(ranks)[0, 1])}


def _ranks(values: Tensor) -> Tensor:
    """Rank of each value (N,); equal ones share the mean of theirs."""
    _, place, counts = values.unique(return_inverse=True, return_counts=True)
    return (counts.cumsum(0) - (counts - 1) / 2)[place].double()


@contextmanager
def inference(model: nn.Module, precision: str) -> Iterator[torch.device]:
    """The model in evaluation mode without gradients or padding, then as before; yields the device it is on."""
    training, device = model.training, next(model.parameters()).device
    encoders = {part: part.skip_padding for part in model.modules() if isinstance(part, Encoder)}
    model.eval()
    for encoder in encoders:
        encoder.skip_padding = True
    # Autocast converts each weight once and keeps it; but not in inference mode, where every batch would convert anew.
    without = torch.inference_mode() if precision == "fp32" else torch.no_grad()
    try:
        with without, autocast(precision, device):
            yield device
    finally:
        model.train(training)
        for encoder, before in encoders.items():
            encoder.skip_padding = before

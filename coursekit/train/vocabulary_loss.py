"""Cross-entropy over a vocabulary, in fewer passes over memory than `F.cross_entropy` makes."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from coursekit.data import IGNORED


class _SummedNats(torch.autograd.Function):
    """−Σ log p(label). With V = 30,522 the logits of a batch are tens of megabytes, so their passes count.

    The gradient, softmax − one-hot, is written over the log-probabilities that were kept: no third array of (N, V).
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor) -> Tensor:
        log_p = logits.log_softmax(-1)
        rows = (labels != IGNORED).nonzero()[:, 0]
        wanted = labels[rows]
        ctx.save_for_backward(log_p, rows, wanted)
        return F.nll_loss(log_p, labels, ignore_index=IGNORED, reduction="sum")

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor, None]:
        log_p, rows, wanted = ctx.saved_tensors
        scale = log_p.new_zeros(len(log_p), 1)
        scale[rows] = outer
        gradient = log_p.exp_()
        gradient[rows, wanted] -= 1
        return gradient.mul_(scale), None


def summed_nats(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of logits (N, V) and labels (N,), a sum in nats over the labels that are not `IGNORED`.

    Raises IndexError for another label outside the vocabulary. The gradient can be taken once: a second backward pass
    through the same graph is a RuntimeError of PyTorch's.
    """
    return _SummedNats.apply(logits, labels)


def count_right(logits: Tensor, labels: Tensor) -> Tensor:
    """How many labels (N,) have the largest logit of their row (N, V); `IGNORED` ones do not count."""
    logits, asked = logits.detach(), labels != IGNORED
    own = logits.gather(1, labels.clamp_min(0)[:, None])[:, 0]
    return ((own >= logits.amax(-1)) & asked).sum()

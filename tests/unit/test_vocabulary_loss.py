"""Cross-entropy over a vocabulary: PyTorch's values and gradients, and what happens at the edges."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from coursekit.data import IGNORED
from coursekit.train.vocabulary_loss import count_right, summed_nats


def test_by_hand():
    logits = torch.tensor([[0.0, 0.0], [2.0, 0.0]], requires_grad=True)
    loss = summed_nats(logits, torch.tensor([1, IGNORED]))
    loss.backward()
    assert loss.item() == pytest.approx(0.6931472)  # ln 2
    torch.testing.assert_close(logits.grad, torch.tensor([[0.5, -0.5], [0.0, 0.0]]))


@settings(deadline=None, max_examples=25)
@given(
    rows=st.integers(1, 6), width=st.integers(2, 9), seed=st.integers(0, 99), scale=st.sampled_from([0.0, 0.3, -2.0])
)
def test_values_and_gradients_are_those_of_pytorch(rows, width, seed, scale):
    draw = torch.Generator().manual_seed(seed)
    logits = 5 * torch.randn(rows, width, generator=draw, dtype=torch.float64)
    labels = torch.randint(0, width, (rows,), generator=draw)
    labels[torch.rand(rows, generator=draw) < 0.3] = IGNORED
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    mine = summed_nats(ours, labels)
    expected = F.cross_entropy(theirs, labels, ignore_index=IGNORED, reduction="sum")
    torch.testing.assert_close(mine, expected)
    (scale * mine).backward()
    (scale * expected).backward()
    torch.testing.assert_close(ours.grad, theirs.grad)
    assert torch.equal(ours.detach(), logits)  # the logits themselves stay
    assert count_right(logits, labels) == ((logits.argmax(-1) == labels) & (labels != IGNORED)).sum()


def test_nothing_asked_is_zero_with_a_gradient_of_zero():
    logits = torch.randn(3, 4, requires_grad=True)
    labels = torch.full((3,), IGNORED)
    loss = summed_nats(logits, labels)
    loss.backward()
    assert loss.item() == 0 and torch.equal(logits.grad, torch.zeros(3, 4)) and count_right(logits, labels) == 0


def test_a_second_backward_pass_is_an_error_and_not_a_wrong_gradient():
    loss = summed_nats(torch.randn(3, 4, requires_grad=True), torch.tensor([0, 1, 2]))
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize("label", [-1, 4])
def test_a_label_outside_the_vocabulary_is_an_error(label):
    with pytest.raises(IndexError, match="out of bounds"):
        summed_nats(torch.randn(2, 4), torch.tensor([0, label]))

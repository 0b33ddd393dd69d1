"""Pruning while training: the cubic schedule, movement pruning, lottery tickets."""

import copy
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from coursekit.compress.pruning import (
    apply_masks,
    by_threshold,
    finalize,
    gradually,
    lottery_ticket,
    magnitude_mask,
    prunable,
    score_penalty,
    set_sparsity,
)
from coursekit.models import Encoder, SequenceClassifier, load, save
from coursekit.train import Loss, TrainConfig, train


def two_layers() -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))


def squared(model: nn.Module, batch: dict) -> Loss:
    return Loss(F.mse_loss(model(batch["x"]), batch["y"]), len(batch["x"]))


def data(count: int = 4) -> list[dict]:
    return [{"x": torch.randn(16, 6), "y": torch.randn(16, 3)} for _ in range(count)]


def zeros(model: nn.Module) -> dict[str, int]:
    return {path: int((~layer.mask).sum()) for path, layer in prunable(model).items()}


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_a_schedule_in_training(scope):
    """The cubic schedule as on_step: the set only grows and ends exactly at the last sparsity."""
    model = apply_masks(two_layers())
    seen = []
    hook = gradually(0.75, start=2, end=10, every=2, scope=scope)

    def on_step(done: int, model: nn.Module) -> None:
        hook(done, model)
        seen.append([layer.mask.clone() for layer in prunable(model).values()])

    train(model, data(), squared, TrainConfig(steps=14, lr=0.01, precision="fp32"), on_step=on_step)
    counts = [sum(int((~mask).sum()) for mask in masks) for masks in seen]
    assert counts[:3] == [0, 0, 0]
    assert counts[4] == sum(round(0.75 * (1 - 0.75**3) * size) for size in ((48, 24) if scope == "layer" else (72,)))
    assert counts[10] == counts[-1] == 54
    for before, after in pairwise(seen):
        assert all((old | ~new).all() for old, new in zip(before, after, strict=True))
    finalize(model)
    assert int((model[0].weight == 0).sum() + (model[2].weight == 0).sum()) == 54
    with pytest.raises(ValueError, match="every must be at least 1"):
        gradually(0.5, start=0, end=2, every=0)
    with pytest.raises(ValueError, match="start < end"):
        gradually(0.5, start=2, end=2)


def test_a_pruning_goes_on_after_an_interruption(tmp_path):
    """Masks are in the checkpoint: stopping and resuming gives the same weights and masks."""
    batches, start = data(), two_layers()
    config = TrainConfig(steps=9, lr=0.01, precision="fp32", checkpoint_every=3)
    whole, parts = (apply_masks(copy.deepcopy(start)) for _ in range(2))
    hook = gradually(0.5, start=1, end=4)
    train(whole, batches, squared, config, on_step=hook)

    def stop(done: int, model: nn.Module) -> None:
        hook(done, model)
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(parts, batches, squared, config, on_step=stop, folder=tmp_path)
    fresh = apply_masks(copy.deepcopy(start))
    train(fresh, batches, squared, config, on_step=hook, folder=tmp_path)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, fresh.state_dict()[name]), name


def test_movement_scores_get_the_straight_through_gradient(tmp_path):
    """Pitfall 67: ∂L/∂S = ∂L/∂(W∘M) ∘ W, for pruned weights too; weights get ∂L/∂(W∘M) ∘ M."""
    model = apply_masks(nn.Sequential(nn.Linear(3, 2)), movement=True)
    layer, x = model[0], torch.tensor([[1.0, 2, 3]])
    layer.mask.copy_(torch.tensor([[True, False, True], [False, True, False]]))
    upstream = torch.tensor([[10.0, -1]])
    (model(x) * upstream).sum().backward()
    outer = upstream.T @ x
    assert torch.allclose(layer.scores.grad, outer * layer.weight)
    assert torch.equal(layer.weight.grad, outer * layer.mask)
    assert set(model.state_dict()) == {"0.weight", "0.bias", "0.scores", "0.mask"}
    assert set(finalize(model).state_dict()) == {"0.weight", "0.bias"}


def test_movement_keeps_what_moves_away_from_zero():
    """Sanh et al., figure 1: SGD on scores adds −lr·∂L/∂W·W, so large weights that shrink are pruned first."""
    model = apply_masks(nn.Sequential(nn.Linear(4, 1, bias=False)), movement=True)
    layer = model[0]
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[5.0, 0.1, -5.0, -0.1]]))
    target = torch.tensor([[1.0, 3.0, -1.0, -3.0]])  # the large ones shrink, the small ones grow
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        (layer.masked_weight() - target).square().sum().backward()
        optimizer.step()
    set_sparsity(model, 0.5)
    assert layer.mask.tolist() == [[False, True, False, True]]
    assert magnitude_mask(torch.tensor([[5.0, 0.1, -5.0, -0.1]]), 0.5).tolist() == [[True, False, True, False]]
    with torch.no_grad():
        layer.scores.copy_(torch.tensor([[4.0, 3, 2, 1]]))
    set_sparsity(model, 0.5)  # regrowth is what scores are for
    assert layer.mask.tolist() == [[True, True, False, False]]


def test_movement_saves_and_trains_on_a_schedule(tiny, tmp_path):
    model = apply_masks(SequenceClassifier(Encoder(tiny), 2), movement=True)
    ids = torch.randint(0, 40, (8, 6))
    batch = {"ids": ids, "labels": (ids[:, 1] > 20).long()}

    def loss(model: nn.Module, batch: dict) -> Loss:
        return Loss(F.cross_entropy(model(batch["ids"]).logits, batch["labels"]), len(batch["labels"]))

    train(model, [batch], loss, TrainConfig(steps=6, precision="fp32"), on_step=gradually(0.5, start=1, end=5))
    for path, count in zeros(model).items():
        assert count == round(0.5 * model.get_submodule(path).weight.numel()), path
    expected = model(ids).logits
    again = load(save(model, tmp_path / "m"))
    assert torch.equal(again(ids).logits, expected)
    assert again.encoder.layers[0].ffn.up.scores.abs().sum() > 0
    assert torch.equal(finalize(again)(ids).logits, expected)


def test_soft_movement():
    model = apply_masks(two_layers())
    set_sparsity(model, 0.5)
    apply_masks(model, movement=True)  # scores can be added later; the masks stay
    assert zeros(model) == {"0": 24, "2": 12}
    assert score_penalty(model).item() == 0.5
    with torch.no_grad():
        model[0].scores.fill_(-1.0)
        model[0].scores[0] = 1.0
    by_threshold(0.3)(1, model)  # sigmoid(−1) = 0.269, sigmoid(1) = 0.731
    assert zeros(model) == {"0": 42, "2": 0}
    assert score_penalty(model).item() == pytest.approx((42 * 0.26894 + 6 * 0.73106 + 24 * 0.5) / 72, abs=1e-4)
    score_penalty(model, rate=2.0).backward()
    by_threshold(0.1, rate=2.0)(2, model)  # sigmoid(−2) = 0.119: back again
    assert zeros(model) == {"0": 0, "2": 0}
    by_threshold(1.0, floor=0.25)(3, model)
    assert zeros(model) == {"0": 36, "2": 18}
    with pytest.raises(ValueError, match=r"threshold must lie in \[0, 1\], got 2"):
        by_threshold(2)
    with pytest.raises(ValueError, match="no masked layer has scores"):
        score_penalty(apply_masks(two_layers()))


def test_lottery_ticket_rewinds_and_prunes_the_same_share_of_what_is_left():
    model = apply_masks(two_layers())
    start = {name: value.clone() for name, value in model.state_dict().items()}
    first_weights = []

    def run(model: nn.Module) -> float:
        first_weights.append(model[0].weight.detach().clone())
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter))
        return model[0].weight.sum().item()

    masks, found = [], []
    for outcome in lottery_ticket(model, run, final=0.488, rounds=3):  # 0.8³ = 0.512 are left
        found.append(outcome)
        masks.append(model[0].mask.clone())
    assert [outcome.sparsity for outcome in found] == pytest.approx([0, 0.2, 0.36, 0.488])
    assert all(isinstance(outcome.result, float) for outcome in found)
    assert [int((~mask).sum()) for mask in masks] == [0, round(0.2 * 48), round(0.36 * 48), round(0.488 * 48)]
    assert all(torch.equal(weight, start["0.weight"]) for weight in first_weights)
    for before, after in pairwise(masks):
        assert (before | ~after).all()


def test_lottery_ticket_refuses_before_training():
    def never(model: nn.Module) -> None:
        raise AssertionError("trained")

    model = apply_masks(two_layers())
    for bad, message in (({"final": 1.0, "rounds": 2}, "got 1.0"), ({"final": 0.5, "rounds": 0}, "got 0")):
        with pytest.raises(ValueError, match=message):
            lottery_ticket(model, never, **bad)
    with pytest.raises(ValueError, match="no masked layer"):
        lottery_ticket(two_layers(), never, final=0.5, rounds=1)
    set_sparsity(model, 0.5)
    with pytest.raises(ValueError, match="brings back"):
        lottery_ticket(model, never, final=0.5, rounds=1)

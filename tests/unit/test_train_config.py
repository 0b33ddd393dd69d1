"""Settings, learning rates computed by hand, and which weights the optimizer gets."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from coursekit.train import TrainConfig, learning_rate, make_optimizer


def test_linear_schedule_by_hand():
    config = TrainConfig(steps=10, lr=1.0, warmup=0.2)
    rates = [learning_rate(config, step, 10) for step in range(10)]
    assert rates == pytest.approx([1 / 2, 1, 1, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8])


def test_constant_schedule_and_no_warmup():
    assert [learning_rate(TrainConfig(steps=3, lr=2.0, warmup=0, schedule="constant"), s, 3) for s in range(3)] == [
        2
    ] * 3
    rates = [learning_rate(TrainConfig(steps=4, lr=2.0, warmup=0.5, schedule="constant"), s, 4) for s in range(4)]
    assert rates == [1, 2, 2, 2]


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 500), st.floats(0, 0.99), st.sampled_from(["linear", "constant"]))
def test_rate_is_positive_and_reaches_its_maximum(total, warmup, schedule):
    config = TrainConfig(steps=total, lr=0.5, warmup=warmup, schedule=schedule)
    rates = [learning_rate(config, step, total) for step in range(total)]
    assert all(0 < rate <= 0.5 for rate in rates)
    assert max(rates) == 0.5


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"steps": 5, "epochs": 1}, "not both"),
        ({}, "epochs or steps"),
        ({"steps": 0}, "steps must be a whole number of at least 1, got 0"),
        ({"epochs": -1}, "got -1"),
        ({"epochs": 1.5}, "got 1.5"),
        ({"steps": 5, "accumulate": 0}, "accumulate"),
        ({"steps": 5, "lr": -1e-4}, "lr must be positive, got -0.0001"),
        ({"steps": 5, "lr": math.nan}, "lr must be positive, got nan"),
        ({"steps": 5, "clip": 0}, "clip must be positive, got 0"),
        ({"steps": 5, "warmup": 1.0}, "warmup"),
        ({"steps": 5, "weight_decay": -0.1}, "weight_decay"),
        ({"steps": 5, "schedule": "liner"}, "unknown schedule 'liner'; nearest: linear"),
        ({"steps": 5, "precision": "fp8"}, "unknown precision 'fp8'"),
    ],
)
def test_bad_settings_are_named(values, message):
    with pytest.raises(ValueError, match=message.replace("'", ".")):
        TrainConfig(**values)


def test_weight_decay_only_on_matrices_and_shared_weights_once():
    shared = nn.Linear(4, 4)
    model = nn.ModuleDict({"a": shared, "b": shared, "norm": nn.LayerNorm(4), "fixed": nn.Linear(4, 4)})
    model["fixed"].requires_grad_(False)
    with_decay, without = make_optimizer(model, TrainConfig(steps=1, weight_decay=0.1)).param_groups
    assert with_decay["weight_decay"] == 0.1 and without["weight_decay"] == 0.0
    assert [id(p) for p in with_decay["params"]] == [id(shared.weight)]
    assert {id(p) for p in without["params"]} == {id(shared.bias), id(model["norm"].weight), id(model["norm"].bias)}


def test_nothing_to_train():
    with pytest.raises(ValueError, match="nothing to train: no parameter of this Linear"):
        make_optimizer(nn.Linear(2, 2).requires_grad_(False), TrainConfig(steps=1))


def test_vectors_are_not_decayed_in_a_step():
    model = nn.Linear(2, 2)
    before = model.bias.detach().clone(), model.weight.detach().clone()
    optimizer = make_optimizer(model, TrainConfig(steps=1, lr=0.1, weight_decay=0.5))
    for weight in model.parameters():
        weight.grad = torch.zeros_like(weight)
    optimizer.step()
    assert torch.equal(model.bias, before[0])
    assert torch.allclose(model.weight, before[1] * (1 - 0.1 * 0.5))

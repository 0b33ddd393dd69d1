"""The loop on toy models: exact sums, clipping, modes, random numbers, errors."""

import math

import pytest
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from coursekit.train import DivergedError, Frozen, Loss, TrainConfig, evaluate, train


def toy(dropout=0.0, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, 3))


def data(sizes=(4, 4, 4, 4), seed=1):
    generator = torch.Generator().manual_seed(seed)
    batches = []
    for size in sizes:
        x = torch.randn(size, 6, generator=generator)
        batches.append({"x": x, "y": x[:, :3].argmax(1)})
    return batches


def loss(model, batch):
    logits = model(batch["x"])
    right = (logits.argmax(1) == batch["y"]).float().mean()
    return Loss(F.cross_entropy(logits, batch["y"]), len(batch["y"]), {"accuracy": right})


def weights(model):
    return torch.cat([weight.detach().flatten() for weight in model.parameters()])


def joined(batches):
    return {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}


@settings(deadline=None, max_examples=8)
@given(st.lists(st.integers(1, 9), min_size=2, max_size=4))
def test_accumulating_unequal_batches_is_one_big_batch(sizes):
    parts, whole = toy(), toy()
    batches = data(sizes)
    settings = {"epochs": 4, "lr": 0.05, "precision": "fp32", "log_every": 1, "clip": 0.2}
    one = train(parts, batches, loss, TrainConfig(accumulate=len(sizes), **settings))
    other = train(whole, [joined(batches)], loss, TrainConfig(**settings))
    assert one.steps == other.steps == 4
    assert torch.allclose(weights(parts), weights(whole), atol=1e-5)
    for mine, theirs in zip(one.history, other.history, strict=True):
        assert mine == pytest.approx(theirs, abs=1e-5)


def test_mean_of_means_would_be_noticed():
    batches = data((1, 9))
    model = toy()
    result = train(model, batches, loss, TrainConfig(epochs=1, accumulate=2, lr=1e-9, precision="fp32"))
    means = [float(loss(toy(), batch).mean.detach()) for batch in batches]
    assert result.history[0]["loss"] == pytest.approx((means[0] + 9 * means[1]) / 10, rel=1e-5)
    assert abs(sum(means) / 2 - (means[0] + 9 * means[1]) / 10) > 0.01


def test_an_epoch_ends_with_a_step_of_what_is_left():
    seen = []
    result = train(
        toy(),
        data((2,) * 5),
        loss,
        TrainConfig(epochs=2, accumulate=2),
        on_step=lambda done, model: seen.append(done),
        evaluate=lambda model: {"x": 1.0},
    )
    assert result.steps == 6 and seen == [0, 1, 2, 3, 4, 5, 6]
    assert [(entry["step"], entry["epoch"]) for entry in result.evaluations] == [(3, 0), (6, 1)]
    assert result.tokens == 20  # rows: there is no attention mask


def test_steps_run_over_epochs_and_stop():
    result = train(toy(), data((2,) * 3), loss, TrainConfig(steps=7, log_every=3))
    assert result.steps == 7
    assert [entry["step"] for entry in result.history] == [3, 6, 7]
    assert set(result.history[0]) == {"step", "epoch", "lr", "norm", "loss", "accuracy"}


def test_learning_drops_the_loss_and_reports_speed():
    model = toy()
    before = evaluate(model, data(), loss)
    result = train(model, data(), loss, TrainConfig(steps=60, lr=0.05))
    assert evaluate(model, data(), loss)["loss"] < before["loss"] / 2
    assert all(weight.grad is None for weight in model.parameters())
    assert result.tokens_per_second == pytest.approx(result.tokens / result.seconds)


def test_clipping_by_the_norm_of_trained_weights_only():
    model = nn.Linear(2, 2, bias=False)
    frozen = nn.Parameter(torch.zeros(3), requires_grad=False)
    frozen.grad = torch.full((3,), 1e6)  # must not shrink the step
    model.frozen = frozen
    gradients = []

    def steep(model, batch):
        return Loss(30 * model.weight[0].sum() + 40 * model.weight[1].sum(), 1)

    def look(done, model):
        if done:
            gradients.append(model.weight.grad.clone())

    result = train(model, [torch.ones(1, 1)], steep, TrainConfig(steps=1, clip=0.5, precision="fp32"), on_step=look)
    assert result.history[0]["norm"] == pytest.approx(math.sqrt(2 * 30**2 + 2 * 40**2))
    assert gradients[0].norm() == pytest.approx(0.5, rel=1e-5)
    assert gradients[0][1, 0] / gradients[0][0, 0] == pytest.approx(40 / 30)
    train(model, [torch.ones(1, 1)], steep, TrainConfig(steps=1, clip=None, precision="fp32"), on_step=look)
    assert gradients[1].tolist() == [[30, 30], [40, 40]]


class Distilling(nn.Module):
    def __init__(self, student, teacher):
        super().__init__()
        self.student, self.teacher = student, teacher


@pytest.mark.parametrize("wrap", [Frozen, nn.Sequential], ids=["frozen", "plain"])
def test_teacher_stays_in_evaluation_mode_only_if_frozen(wrap):
    model = Distilling(toy(dropout=0.5), wrap(toy(dropout=0.5, seed=3)))
    modes = []

    def imitate(model, batch):
        modes.append((model.student.training, any(module.training for module in model.teacher.modules())))
        return Loss(F.mse_loss(model.student(batch["x"]), model.teacher(batch["x"])), len(batch["x"]))

    before = weights(model.teacher).clone()
    train(model, data((4,)), imitate, TrainConfig(epochs=3), evaluate=lambda model: {"x": float(model.eval() is None)})
    assert modes == [(True, wrap is not Frozen)] * 3
    assert torch.equal(before, weights(model.teacher)) == (wrap is Frozen)
    assert not any(module.training for module in model.modules())


def test_frozen_gives_no_gradient():
    frozen = Frozen(toy())
    assert not frozen(torch.ones(1, 6)).requires_grad
    assert not any(weight.requires_grad for weight in frozen.parameters())


def test_random_numbers_of_the_caller_are_untouched_and_do_not_matter():
    models = []
    for seed in (5, 6):
        torch.manual_seed(seed)
        state = torch.get_rng_state()
        models.append(toy(dropout=0.3))
        train(models[-1], data(), loss, TrainConfig(steps=8, seed=2, lr=0.01))
        assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(weights(models[0]), weights(models[1]))
    other = toy(dropout=0.3)
    train(other, data(), loss, TrainConfig(steps=8, seed=3, lr=0.01))
    assert not torch.equal(weights(models[0]), weights(other))


def test_an_earlier_accelerator_of_the_notebook_does_not_matter():
    clean, after = toy(), toy()
    train(clean, data(), loss, TrainConfig(steps=5))
    foreign = Accelerator(gradient_accumulation_steps=4, cpu=True)
    with foreign.accumulate(nn.Linear(1, 1)):
        assert not foreign.sync_gradients
    train(after, data(), loss, TrainConfig(steps=5))
    assert torch.equal(weights(clean), weights(after))


def test_bfloat16_computes_in_it_and_keeps_weights_in_fp32():
    seen = []

    def look(model, batch):
        seen.append(model(batch["x"]).dtype)
        return loss(model, batch)

    model = toy()
    for precision in ("bf16", "fp32"):
        train(model, data(), look, TrainConfig(steps=1, precision=precision))
    assert seen == [torch.bfloat16, torch.float32]
    assert all(weight.dtype == torch.float32 for weight in model.parameters())


def test_the_best_weights_are_kept():
    scores, states = iter([0.2, 0.9, 0.9, 0.1]), []

    def score(model):
        states.append(weights(model).clone())
        return {"accuracy": next(scores)}

    model = toy()
    result = train(model, data(), loss, TrainConfig(epochs=4, lr=0.05), evaluate=score, keep_best="accuracy")
    assert result.best == {"step": 8, "epoch": 1, "accuracy": 0.9}
    assert torch.equal(weights(model), states[1]) and not torch.equal(states[1], states[3])


@pytest.mark.parametrize("bad", ["loss", "gradient"])
def test_a_loss_that_is_not_finite_stops_before_the_step(bad):
    model, kept = toy(), []

    def breaking(model, batch):
        found = loss(model, batch)
        if len(kept) < 3:
            return found
        if bad == "loss":
            return Loss(found.mean * math.nan, found.count)
        return Loss(found.mean + (model[0].weight * 0).abs().sqrt().sum(), found.count)  # slope of √0

    state = torch.get_rng_state()
    with pytest.raises(DivergedError, match="stopped in step 3 of 9: loss .*gradient norm nan"):
        train(
            model,
            data(),
            breaking,
            TrainConfig(steps=9, precision="fp32"),
            on_step=lambda done, model: kept.append(weights(model).clone()),
        )
    assert len(kept) == 3 and torch.equal(weights(model), kept[-1])
    assert not model.training and torch.equal(torch.get_rng_state(), state)


def test_the_mean_over_nothing_counts_nothing():
    def rows(model, batch):
        logits = model(batch["x"])[batch["kept"]]
        return Loss(F.cross_entropy(logits, batch["y"][batch["kept"]]), int(batch["kept"].sum()), {"half": 0.5})

    with_empty, without = toy(), toy()
    batches = [{**batch, "kept": torch.full((4,), number != 1)} for number, batch in enumerate(data((4, 4, 4)))]
    config = TrainConfig(epochs=5, lr=0.05, accumulate=3, precision="fp32")
    train(with_empty, batches, rows, config)
    train(without, [batches[0], batches[2]], rows, config)
    assert torch.equal(weights(with_empty), weights(without))
    idle = toy()
    result = train(idle, [batches[1]], rows, TrainConfig(steps=2, weight_decay=0.0))
    assert result.history[-1]["loss"] == 0 and torch.equal(weights(idle), weights(toy()))


@pytest.mark.parametrize(("every", "expected"), [(None, [3, 6, 7]), (2, [2, 4, 6, 7]), (7, [7]), (9, [7])])
def test_when_evaluations_are_due(every, expected):
    config = TrainConfig(steps=7, evaluate_every=every)
    result = train(toy(), data((2,) * 3), loss, config, evaluate=lambda model: {"x": 1.0})
    assert [entry["step"] for entry in result.evaluations] == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batches": []}, "epoch 0 has no batches"),
        ({"loss": lambda model, batch: model(batch["x"]).sum()}, "must return a Loss with a scalar mean"),
        ({"loss": lambda model, batch: Loss(model(batch["x"]), 1)}, "must return a Loss with a scalar mean"),
        ({"keep_best": "accuracy"}, "needs an evaluate"),
        ({"keep_best": "acuracy", "evaluate": lambda model: {"accuracy": 1.0}}, "unknown metric .acuracy."),
    ],
)
def test_bad_arguments_are_named(change, message):
    arguments = {"batches": data(), "loss": loss, "config": TrainConfig(epochs=1)} | change
    with pytest.raises(ValueError, match=message):
        train(toy(), **arguments)

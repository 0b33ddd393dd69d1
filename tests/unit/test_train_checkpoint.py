"""Resuming: the same weights and history as without interruption, after an exception and after kill -9."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

from coursekit.train import CheckpointError, Loss, TrainConfig, train

CONFIG = {"epochs": 3, "lr": 0.02, "accumulate": 2, "checkpoint_every": 2, "log_every": 3}  # 9 steps of at most 2 × 4


class Toy(nn.Module):
    """A shared layer, dropout, a frozen part, and a buffer that counts forward passes."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.first = self.second = nn.Linear(5, 5)
            self.out, self.fixed = nn.Linear(5, 2), nn.Linear(5, 5).requires_grad_(False)
        self.dropout = nn.Dropout(0.4)
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))

    def forward(self, x):
        self.calls += self.training
        return self.out(self.dropout(self.second(self.first(x).tanh() + self.fixed(x))))


class Data:
    """Six batches of changing order; notes which were built."""

    def __init__(self, seed=0):
        self.seed, self.built = seed, []

    def epoch(self, number):
        order = torch.randperm(6, generator=torch.Generator().manual_seed(self.seed + number)).tolist()
        return Epoch(self, order)


class Epoch:
    def __init__(self, data, order):
        self.data, self.order = data, order

    def __len__(self):
        return len(self.order)

    def __getitem__(self, index):
        self.data.built.append(self.order[index])
        x = torch.randn(4, 5, generator=torch.Generator().manual_seed(self.order[index]))
        return {"x": x, "y": (x.sum(1) > 0).long()}


def loss(model, batch):
    logits = model(batch["x"])
    return Loss(F.cross_entropy(logits, batch["y"]), len(batch["y"]), {"size": logits.abs().mean()})


def score(model):
    return {
        "size": float(torch.rand(()) + model.out.weight.detach().abs().sum())
    }  # draws, as a sloppy evaluation might


class Interrupted(Exception):
    pass


def run(folder=None, stop=None, config=CONFIG, data=None):
    """A training, interrupted after `stop` steps and then resumed; model, result, data."""

    def interrupt(done, model):
        if done == stop:
            raise Interrupted

    arguments = {"evaluate": score, "keep_best": "size", "folder": folder}
    if stop is not None:
        with pytest.raises(Interrupted):
            train(Toy(), Data(), loss, TrainConfig(**config), on_step=interrupt, **arguments)
    model, data = Toy(), data or Data()
    return model, train(model, data, loss, TrainConfig(**config), **arguments), data


def same(model, other):
    return all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), other.state_dict().values(), strict=True))


@pytest.mark.parametrize("stop", [1, 2, 3, 7, 8])
def test_resuming_ends_bitwise_the_same(tmp_path, stop):
    straight, expected, _ = run()
    resumed, found, data = run(tmp_path, stop)
    assert same(straight, resumed)
    assert (found.history, found.evaluations, found.best) == (expected.history, expected.evaluations, expected.best)
    assert (found.steps, found.tokens) == (9, expected.tokens)
    saved = (stop - 1) // 2 * 2  # the step that is interrupted is not saved any more
    assert len(data.built) == 18 - 2 * saved + 1  # batches of finished steps are not built; one to compare the data


def test_a_finished_training_is_not_repeated(tmp_path):
    first, _, _ = run(tmp_path)
    again, result, data = run(tmp_path)
    assert same(first, again) and result.steps == 9 and len(data.built) == 1


def test_shared_weights_stay_shared_and_are_stored_once(tmp_path):
    model, _, _ = run(tmp_path, stop=5)
    assert model.first.weight is model.second.weight
    (folder,) = tmp_path.glob("step-*")
    stored = load_file(folder / "state.safetensors")
    assert "model/first.weight" in stored and "model/second.weight" not in stored
    assert "model/fixed.weight" not in stored and "model/calls" in stored
    assert {name.split("/")[0] for name in stored} == {"model", "best", "optimizer", "random"}


def test_only_the_newest_is_kept_and_litter_of_a_killed_process_goes(tmp_path):
    run(tmp_path, stop=5)
    (tmp_path / ".step-00000006.abc").mkdir()
    run(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000009"]
    assert {path.name for path in tmp_path.glob("*/*")} == {"state.json", "state.safetensors"}


def cut(folder):
    file = folder / "state.safetensors"
    os.truncate(file, file.stat().st_size // 2)


def flip(folder):
    tensors = load_file(folder / "state.safetensors")
    tensors["model/out.bias"] += 1e-6
    save_file(tensors, folder / "state.safetensors")


@pytest.mark.parametrize(
    "damage",
    [
        cut,
        flip,
        lambda folder: (folder / "state.safetensors").unlink(),
        lambda folder: (folder / "state.json").write_text('{"format": 1, "sha'),
        lambda folder: (folder / "state.json").write_text("{}"),
        lambda folder: (folder / "state.json").unlink(),
    ],
)
def test_damage_is_noticed(tmp_path, damage):
    run(tmp_path)
    damage(tmp_path / "step-00000009")
    with pytest.raises(CheckpointError, match="step-00000009 is damaged.*delete it"):
        run(tmp_path)


def test_another_format_is_refused(tmp_path):
    run(tmp_path)
    file = tmp_path / "step-00000009" / "state.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"format": 99}))
    with pytest.raises(CheckpointError, match="has format 99, expected 1"):
        run(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"config": CONFIG | {"lr": 0.03}}, "lr was 0.02, is 0.03"),
        ({"config": CONFIG | {"epochs": 4}}, "epochs was 3, is 4"),
        ({"data": Data(seed=9)}, "first batch was"),
    ],
)
def test_another_training_is_refused(tmp_path, change, message):
    run(tmp_path)
    with pytest.raises(CheckpointError, match=f"is of another training: {message}"):
        run(tmp_path, **change)


def test_another_shape_is_refused(tmp_path):
    config = TrainConfig(steps=1)
    make = {"batches": [torch.ones(2, 3)], "loss": lambda m, x: Loss(m(x).mean(), 1), "config": config}
    train(nn.Linear(3, 2), folder=tmp_path, **make)
    with pytest.raises(CheckpointError, match=r"shape of weight bias was \[2\], is \[4\]"):
        train(nn.Linear(3, 4), folder=tmp_path, **make)
    with pytest.raises(CheckpointError, match="shape of weight bias was .* is None"):
        train(nn.Linear(3, 2, bias=False), folder=tmp_path, **make)


def test_kill_and_resume(tmp_path):
    straight, expected, _ = run()
    environment = os.environ | {"COURSEKIT_QUIET": "1"}
    process = subprocess.Popen([sys.executable, __file__, str(tmp_path)], env=environment)
    deadline = time.monotonic() + 240
    while not list(tmp_path.glob("step-*")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    assert process.wait() != 0, "the training ended before it was killed"
    model, result, data = run(tmp_path)
    assert len(data.built) <= 18 - 2 * 2 + 1  # two steps at least were not repeated
    assert same(straight, model)
    assert (result.history, result.evaluations) == (expected.history, expected.evaluations)


def _slow_training(folder):
    def wait(done, model):
        time.sleep(0.5 if done >= 3 else 0)

    train(Toy(), Data(), loss, TrainConfig(**CONFIG), evaluate=score, keep_best="size", folder=folder, on_step=wait)


if __name__ == "__main__":
    _slow_training(Path(sys.argv[1]))

"""Two real processes: the same loss and weights as one, checkpoints included. This file is also their script."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

from coursekit.train import Loss, TrainConfig, evaluate, train
from coursekit.train.runtime import start_accelerator

SIZES = (5, 1, 4, 3, 1, 6)  # rows of the batches: two of them leave a process without any


class Toy(nn.Module):
    """A layer used twice, one that no loss reaches, one that is frozen."""

    def __init__(self, dropout):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.first = self.second = nn.Linear(4, 4)
            self.unused, self.fixed, self.out = nn.Linear(4, 4), nn.Linear(4, 4).requires_grad_(False), nn.Linear(4, 3)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x):
        return self.out(self.dropout(self.second(self.first(x).tanh() + self.fixed(x))))


def data():
    generator = torch.Generator().manual_seed(4)
    batches = []
    for size in SIZES:
        x = torch.randn(size, 6, 4, generator=generator)  # six tokens a row
        mask = torch.arange(6) < torch.randint(0, 5, (size, 1), generator=generator)  # some rows have none
        batches.append({"x": x, "attention_mask": mask, "y": x[..., :3].argmax(-1)})
    return batches


def token_loss(model, batch):
    logits, labels = model(batch["x"])[batch["attention_mask"]], batch["y"][batch["attention_mask"]]
    right = (logits.argmax(-1) == labels).float().mean()
    return Loss(F.cross_entropy(logits, labels), batch["attention_mask"].sum(), {"accuracy": right})


def run(dropout=0.0, stop=None, folder=None, drawn=None):
    def interrupt(done, model):
        if done == 0 and drawn is not None:
            drawn.append(float(torch.rand(())))
        if done == stop:
            raise InterruptedError

    model = Toy(dropout)
    config = TrainConfig(epochs=4, lr=0.05, accumulate=2, clip=0.3, precision="fp32", log_every=1, checkpoint_every=2)
    result = train(
        model,
        data(),
        token_loss,
        config,
        evaluate=lambda model: evaluate(model, data(), token_loss),
        on_step=interrupt,
        folder=folder,
    )
    return model, result


def script(folder):
    """What each of the processes does; each writes down what it saw."""
    drawn = []
    model, result = run(drawn=drawn)
    dropped, _ = run(dropout=0.3)
    try:
        run(dropout=0.3, stop=7, folder=folder / "checkpoints")
    except InterruptedError:
        pass
    resumed, _ = run(dropout=0.3, folder=folder / "checkpoints")
    rank = torch.distributed.get_rank()
    named = {"plain": model, "dropped": dropped, "resumed": resumed}
    tensors = {f"{name}.{key}": t.clone() for name, m in named.items() for key, t in m.state_dict().items()}
    save_file(tensors, folder / f"{rank}.safetensors")
    found = {
        "world": torch.distributed.get_world_size(),
        "history": result.history,
        "tokens": result.tokens,
        "drawn": drawn,
    }
    (folder / f"{rank}.json").write_text(json.dumps(found))


TORCHRUN = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
ACCELERATE = ["accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--main_process_port", "0"]


@pytest.fixture(scope="module", params=[TORCHRUN, ACCELERATE], ids=["torchrun", "accelerate-launch"])
def two(request, tmp_path_factory):
    """Folder with what two launched processes wrote."""
    folder = tmp_path_factory.mktemp("two")
    command = [sys.executable, "-m", *request.param, __file__]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "COURSEKIT_QUIET": "1"}
    if torch.cuda.is_available():
        environment["ACCELERATE_USE_CPU"] = "1"  # there may be only one GPU
    process = subprocess.Popen(
        [*command, str(folder)], env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        _, errors = process.communicate(timeout=240)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # the launcher and its processes
        raise
    assert process.returncode == 0, errors[-3000:]
    return folder


def test_there_really_were_two(two):
    assert {path.name for path in two.glob("*.json")} == {"0.json", "1.json"}
    assert [json.loads((two / f"{rank}.json").read_text())["world"] for rank in (0, 1)] == [2, 2]


def test_two_processes_give_the_weights_and_losses_of_one(two):
    model, result = run()
    for rank in (0, 1):
        theirs = load_file(two / f"{rank}.safetensors")
        for name, weight in model.state_dict().items():
            assert torch.allclose(weight, theirs[f"plain.{name}"], atol=1e-5), name
        found = json.loads((two / f"{rank}.json").read_text())
        assert found["tokens"] == result.tokens == 4 * int(sum(batch["attention_mask"].sum() for batch in data()))
        assert len(found["history"]) == len(result.history) == 12
        for mine, other in zip(result.history, found["history"], strict=True):
            assert mine == pytest.approx(other, rel=1e-4)


def test_both_processes_hold_the_same_weights(two):
    first, second = (load_file(two / f"{rank}.safetensors") for rank in (0, 1))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_two_processes_resume_bitwise_with_their_own_dropout(two):
    tensors = load_file(two / "0.safetensors")
    names = [name.removeprefix("dropped.") for name in tensors if name.startswith("dropped.")]
    assert all(torch.equal(tensors[f"dropped.{name}"], tensors[f"resumed.{name}"]) for name in names)
    assert not torch.equal(tensors["dropped.out.weight"], tensors["plain.out.weight"])


def test_processes_draw_different_random_numbers(two):
    first, second = (json.loads((two / f"{rank}.json").read_text())["drawn"] for rank in (0, 1))
    assert len(first) == 1 and first != second


def test_launched_processes_that_do_not_meet_are_an_error(monkeypatch):
    start_accelerator()  # this process has long decided to be alone
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="2 processes were launched, Accelerate sees 1"):
        start_accelerator()


if __name__ == "__main__":
    script(Path(sys.argv[1]))

"""Masked-LM pretraining in two processes, killed and resumed, refused and repeated. This file is also their script."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file

from coursekit.data import IGNORED, Tokenizer
from coursekit.models import Encoder, MaskedLM, TransformerConfig
from coursekit.train import CheckpointError, MaskedBatches, TrainConfig, masked_lm_loss, train

VOCAB = SimpleNamespace(pad_id=0, mask_id=4, special_ids=(0, 1, 2, 3, 4), vocab_size=60)
CONFIG = {"steps": 9, "lr": 2e-3, "precision": "fp32", "log_every": 1, "checkpoint_every": 2}


def batches(seed=0, probability=0.15, batch_size=6):
    """25 rows of 4 to 21 tokens, five batches an epoch: with 9 steps every row is masked at least once, most twice."""
    generator = torch.Generator().manual_seed(7)
    lengths = torch.randint(2, 20, (25,), generator=generator).tolist()
    rows = [[2, *torch.randint(5, 60, (length,), generator=generator).tolist(), 3] for length in lengths]
    return MaskedBatches(rows, VOCAB, batch_size=batch_size, seed=seed, probability=probability)


def fresh(dropout=0.0, width=32):
    torch.manual_seed(0)
    return MaskedLM(Encoder(TransformerConfig(60, width, 2, 2, 48, dropout=dropout, max_positions=32, pooler=False)))


def pretrain(folder=None, dropout=0.0, on_step=None, data=None, width=32, **changes):
    model = fresh(dropout, width)
    config = TrainConfig(**CONFIG | changes)
    return model, train(model, data or batches(), masked_lm_loss, config, folder=folder, on_step=on_step)


def same(model, other):
    return all(torch.equal(one, two) for one, two in zip(model.parameters(), other.parameters(), strict=True))


# ---- two processes ----


def in_each_process(folder):
    """What each of the launched processes does and writes down."""
    rows = []  # real tokens of what this process itself computed
    model = fresh()
    model.encoder.register_forward_pre_hook(lambda _, args: rows.append(len(args[0])))
    result = train(model, batches(), masked_lm_loss, TrainConfig(**CONFIG))
    dropped, _ = pretrain(dropout=0.1)
    rank, world = torch.distributed.get_rank(), torch.distributed.get_world_size()
    save_file({name: weight.detach() for name, weight in model.named_parameters()}, folder / f"{rank}.safetensors")
    found = {"world": world, "pid": os.getpid(), "history": result.history, "tokens": result.tokens, "rows": rows}
    found["dropped"] = [float(weight.detach().sum()) for weight in dropped.parameters()]
    (folder / f"{rank}.json").write_text(json.dumps(found))


# With --cpu instead of --multi_gpu, `accelerate launch` starts one process and says nothing.
LAUNCHERS = {
    "torchrun": ["torch.distributed.run", "--standalone", "--nproc-per-node", "2"],
    "accelerate": ["accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--main_process_port", "0"],
}


@pytest.fixture(scope="module", params=LAUNCHERS.values(), ids=LAUNCHERS)
def two(request, tmp_path_factory):
    """What two launched processes wrote down, and the folder with their weights."""
    folder = tmp_path_factory.mktemp("two")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "COURSEKIT_QUIET": "1"}
    if torch.cuda.is_available():
        environment["ACCELERATE_USE_CPU"] = "1"  # there may be only one GPU
    command = [sys.executable, "-m", *request.param, __file__, "two", str(folder)]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        _, errors = process.communicate(timeout=240)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    assert process.returncode == 0, errors[-3000:]
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)], folder


def test_there_really_were_two_and_they_shared_the_work(two):
    first, second = two[0]
    assert (first["world"], second["world"]) == (2, 2)
    assert len({first["pid"], second["pid"], os.getpid()}) == 3
    sizes = [len(batch["input_ids"]) for epoch in (0, 1) for batch in batches().epoch(epoch)][: CONFIG["steps"]]
    assert [sum(each) for each in zip(first["rows"], second["rows"], strict=True)] == [max(size, 2) for size in sizes]


def test_two_processes_give_the_losses_and_weights_of_one(two):
    found, folder = two
    model, result = pretrain()
    for rank, of_rank in enumerate(found):
        assert of_rank["tokens"] == result.tokens
        assert len(of_rank["history"]) == CONFIG["steps"]
        for mine, theirs in zip(result.history, of_rank["history"], strict=True):
            assert theirs == pytest.approx(mine, rel=1e-4)
        for name, weight in load_file(folder / f"{rank}.safetensors").items():
            torch.testing.assert_close(weight, model.get_parameter(name), atol=5e-5, rtol=0)


def test_both_processes_end_with_the_same_weights_dropout_or_not(two):
    (first, second), folder = two
    one, other = (load_file(folder / f"{rank}.safetensors") for rank in (0, 1))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert first["dropped"] == second["dropped"]


# ---- kill and resume ----


def slowly(folder):
    pretrain(folder, dropout=0.1, on_step=lambda done, _: time.sleep(0.5 if done >= 3 else 0))


def test_kill_9_and_resume_end_with_the_weights_of_an_unbroken_run(tmp_path):
    unbroken, expected = pretrain(dropout=0.1)
    environment = os.environ | {"COURSEKIT_QUIET": "1"}
    process = subprocess.Popen([sys.executable, __file__, "slowly", str(tmp_path)], env=environment)
    deadline = time.monotonic() + 240
    while not list(tmp_path.glob("step-*")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    assert process.wait() == -signal.SIGKILL, "the training ended before it was killed"
    steps = []
    resumed, result = pretrain(tmp_path, dropout=0.1, on_step=lambda done, _: steps.append(done))
    assert 2 <= steps[0] < CONFIG["steps"], "nothing was resumed"
    assert same(unbroken, resumed) and result.history == expected.history
    assert not same(unbroken, fresh(0.1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lr": 1e-3}, "lr was 0.002, is 0.001"),
        ({"steps": 10}, "steps was 9, is 10"),
        ({"width": 48}, "shape of weight encoder.embeddings.norm.bias was .32., is .48."),
        ({"data": batches(seed=1)}, "first batch was"),
        ({"data": batches(probability=0.4)}, "first batch was"),
        ({"data": batches(batch_size=5)}, "first batch was"),
    ],
    ids=["rate", "steps", "width", "masking seed", "masking probability", "batch size"],
)
def test_a_checkpoint_of_another_configuration_is_refused(tmp_path, change, message):
    pretrain(tmp_path)
    with pytest.raises(CheckpointError, match=f"is of another training: .*{message}"):
        pretrain(tmp_path, **change)


# ---- the same in other portions, and again ----


@pytest.mark.parametrize("parts", [2, 3])
def test_accumulated_portions_train_as_the_big_batch_over_epochs(parts):
    five = batches(batch_size=5)  # five times five rows: every portion has some

    class Portions:
        """Each batch as portions of unequal numbers of masked tokens."""

        def epoch(self, number):
            return [{n: t[i::parts] for n, t in batch.items()} for batch in five.epoch(number) for i in range(parts)]

    small = [int((part["labels"] != IGNORED).sum()) for part in Portions().epoch(0)]
    assert len(set(small[:parts])) > 1, "equal portions would prove nothing"
    whole, expected = pretrain(data=five)
    portioned, found = pretrain(data=Portions(), accumulate=parts)
    for one, other in zip(expected.history, found.history, strict=True):
        assert other == pytest.approx(one, rel=1e-4)
    for one, other in zip(whole.parameters(), portioned.parameters(), strict=True):
        torch.testing.assert_close(one, other, atol=5e-5, rtol=0)


def test_masks_differ_between_epochs_and_repeat_with_the_seed():
    def hidden(seed, epoch):
        return [batch["labels"] for batch in batches(seed).epoch(epoch)]

    def equal(one, other):
        return all(torch.equal(a, b) for a, b in zip(one, other, strict=True) if a.shape == b.shape)

    assert equal(hidden(0, 0), hidden(0, 0)) and equal(hidden(0, 1), hidden(0, 1))
    assert not equal(hidden(0, 0), hidden(0, 1)) and not equal(hidden(0, 0), hidden(1, 0))
    assert same(pretrain()[0], pretrain()[0])
    assert not same(pretrain()[0], pretrain(data=batches(seed=1))[0])


def test_a_training_in_which_nothing_is_masked_stands_still():
    model, result = pretrain(data=batches(probability=0.0), weight_decay=0.0)
    assert [entry["loss"] for entry in result.history] == [0.0] * CONFIG["steps"]
    assert same(model, fresh())


@pytest.mark.parametrize("probability", [-0.1, 1.5, float("nan")])
def test_a_probability_outside_its_range_is_refused_at_once(probability):
    with pytest.raises(ValueError, match=r"probability must lie in \[0, 1\], got"):
        batches(probability=probability)


def test_a_vocabulary_without_a_mask_token_is_refused(tmp_path):
    from tokenizers import Tokenizer as Fast
    from tokenizers import models

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    fast = Fast(models.WordPiece({word: i for i, word in enumerate([*special, "cat"])}, unk_token="[UNK]"))
    fast.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ValueError, match=r"has no \[MASK\]"):
        Tokenizer(tmp_path)


if __name__ == "__main__":
    {"two": in_each_process, "slowly": slowly}[sys.argv[1]](Path(sys.argv[2]))

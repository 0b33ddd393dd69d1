"""Checkpoints: everything a training needs to go on as if it had never stopped, without pickle.

A checkpoint is the folder `step-00000120`: `state.safetensors` holds the trained weights, the optimizer's moments
and the states of the random generators, `state.json` the rest. It appears whole under its name, then older ones go.
"""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import recursively_apply
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from coursekit.files import atomic_folder, sha256, write_json

FORMAT = 1  # raise when what a checkpoint holds changes


class CheckpointError(ValueError):
    """A checkpoint that is damaged, or that belongs to another training."""


def save_checkpoint(folder: Path | str, step: int, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
    """Write the checkpoint of a step, then delete those before it. `state` is plain data that JSON can hold."""
    folder = Path(folder)
    with atomic_folder(folder / f"step-{step:08d}") as part:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, part / "state.safetensors")
        write_json(part / "state.json", {"format": FORMAT, "sha256": sha256(part / "state.safetensors"), **state})
    for old in sorted(folder.glob("step-*"))[:-1]:
        shutil.rmtree(old)


def load_checkpoint(folder: Path | str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Tensors and state of the newest checkpoint, None if there is none. Raises CheckpointError if damaged."""
    folder = Path(folder)
    for part in folder.glob(".step-*"):  # what a killed process was writing
        shutil.rmtree(part, ignore_errors=True)
    newest = max(folder.glob("step-*"), default=None)
    if newest is None:
        return None
    try:
        state = json.loads((newest / "state.json").read_text(encoding="utf-8"))
        if state["format"] != FORMAT:
            raise CheckpointError(f"{newest} has format {state['format']}, expected {FORMAT}; delete it to start anew")
        if sha256(newest / "state.safetensors") != state["sha256"]:
            raise CheckpointError(f"{newest} is damaged: state.safetensors has changed; delete it to start anew")
        return load_file(newest / "state.safetensors"), state
    except (OSError, KeyError, json.JSONDecodeError, UnicodeDecodeError, SafetensorError) as error:
        raise CheckpointError(f"{newest} is damaged: {error}; delete it to start anew") from error


def check_same(found: dict[str, Any], expected: dict[str, Any], what: str = "") -> None:
    """Raise CheckpointError naming the first entry in which two descriptions of a training differ."""
    for name in sorted(found.keys() | expected.keys()):
        then, now = found.get(name), expected.get(name)
        if isinstance(then, dict) and isinstance(now, dict):
            check_same(then, now, f"{name} ")
        elif then != now:
            raise CheckpointError(
                f"the checkpoint in this folder is of another training: {what}{name} was {then}, is {now}; "
                "give another folder, or delete that one to start anew"
            )


def section(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with the prefix, without it."""
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}


def trained_tensors(model: nn.Module) -> dict[str, Tensor]:
    """What training may change: weights that require a gradient and stored buffers, each tensor once, by name."""
    stored = model.state_dict().keys()  # leaves out buffers that are not stored
    named = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    named |= dict(model.named_buffers())
    return {name: tensor.detach() for name, tensor in named.items() if name in stored}


def copy_into(model: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Write tensors of `trained_tensors` back in place, so shared weights stay shared."""
    for name, tensor in trained_tensors(model).items():
        tensor.copy_(tensors[name])


def optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's state as "optimizer/exp_avg/encoder.layers…" → tensor."""
    names = {weight: name for name, weight in model.named_parameters()}
    return {
        f"optimizer/{key}/{names[weight]}": value
        for weight, state in optimizer.state.items()
        for key, value in state.items()
    }


def restore_optimizer(model: nn.Module, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Give the optimizer the state that `optimizer_tensors` wrote down; names here begin with "exp_avg/…"."""
    names = {weight: name for name, weight in model.named_parameters()}
    trained = [names[weight] for group in optimizer.param_groups for weight in group["params"]]
    numbers = {name: number for number, name in enumerate(trained)}
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        key, _, weight = name.partition("/")
        state.setdefault(numbers[weight], {})[key] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def fingerprint(batch: Any) -> str:
    """Hash of a batch's numbers: a cheap sign that a training goes on with the data it began with."""
    digest = hashlib.sha256()

    def add(tensor: Tensor) -> Tensor:
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        return tensor

    recursively_apply(add, batch)
    return digest.hexdigest()

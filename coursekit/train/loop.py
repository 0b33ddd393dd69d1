"""The one training loop: fine-tuning, pretraining, distillation, pruning and quantization-aware training alike.

What differs between them is the model, the batches and the loss; all three are arguments. The same script runs in
one process or, under a launcher, in many: each then takes its share of the rows of every batch, so batch size, number
of steps and result stay what they were. Two processes on one machine, with or without GPUs:

    torchrun --standalone --nproc-per-node 2 script.py
    accelerate launch --multi_gpu --num_processes 2 script.py    (with --cpu it would start only one)
"""

import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from coursekit.errors import unknown_name
from coursekit.train import checkpoint
from coursekit.train.config import TrainConfig, learning_rate
from coursekit.train.pieces import Batches, DivergedError, LossFunction, TrainResult, epoch_of
from coursekit.train.runtime import own_random_numbers, quiet, random_states, set_random_states, start_accelerator
from coursekit.train.step import Stepper, Sums, add

Evaluate = Callable[[nn.Module], Mapping[str, float]]
OnStep = Callable[[int, nn.Module], None]


def train(
    model: nn.Module,
    batches: Batches | Sequence[Any],
    loss: LossFunction,
    config: TrainConfig,
    *,
    evaluate: Evaluate | None = None,
    keep_best: str | None = None,
    on_step: OnStep | None = None,
    folder: Path | str | None = None,
    title: str = "training",
) -> TrainResult:
    """Train a model in place, on the device it is on; it comes back in evaluation mode.

    loss(model, batch) returns a Loss. Nothing but `model.train()` puts the model in training mode, so a module that
    wants to keep a part of itself in evaluation mode overrides `train`, or holds the part as `Frozen(part)`.
    evaluate(model) is called after each epoch, or every `evaluate_every` steps, and at the end; each process calls it.
    keep_best: with "accuracy" the model ends with the weights that had the largest evaluate(model)["accuracy"].
    on_step(done, model) is called with the number of finished steps: at the start, then after each step.
    folder: where checkpoints go; one that is there already is resumed, to the same result as without interruption.

    Random draws come from the default generators, seeded for the training and put back after it. Raises ValueError
    for no batches or nothing to train, DivergedError naming the step, CheckpointError for a foreign or damaged one.
    """
    if keep_best is not None and evaluate is None:
        raise ValueError(f"keep_best={keep_best!r} needs an evaluate that returns it")
    trainer = _Trainer(model, batches, loss, config, title)
    try:
        with own_random_numbers(config.seed + trainer.rank, trainer.device):
            if folder is not None:
                trainer.resume(Path(folder))
            trainer.run(evaluate, keep_best, on_step)
    finally:
        model.to(trainer.home).eval().zero_grad()  # gradients are as large as the weights
    return trainer.result


class _Trainer:
    """One call of `train`: what it is given, and where it stands."""

    def __init__(self, model: nn.Module, batches: Any, loss: LossFunction, config: TrainConfig, title: str) -> None:
        self.model, self.batches, self.config, self.title = model, batches, config, title
        self.accelerator = start_accelerator()
        self.rank, self.processes = self.accelerator.process_index, self.accelerator.num_processes
        self.home = next((weight.device for weight in model.parameters()), torch.device("cpu"))
        self.device = self.accelerator.device if self.processes > 1 else self.home
        self.stepper = Stepper(model.to(self.device), loss, config, self.accelerator, self.device)
        lengths = [len(epoch_of(batches, number)) for number in range(config.epochs or 1)]
        self.total = config.steps or sum(math.ceil(length / config.accumulate) for length in lengths)
        self.result, self.folder = TrainResult(), None
        self.sums: Sums = {}  # since the last entry of the history
        self.best: dict[str, Tensor] = {}

    def run(self, evaluate: Evaluate | None, keep_best: str | None, on_step: OnStep | None) -> None:
        """All steps that are left."""
        result, config = self.result, self.config
        hidden = quiet() or not self.accelerator.is_main_process
        self.model.train()
        if on_step:
            on_step(result.steps, self.model)
        with tqdm(total=self.total, initial=result.steps, desc=self.title, leave=False, disable=hidden) as bar:
            for epoch, batches, ends in self.steps():
                loss = self.step(batches, epoch)
                bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
                bar.update()
                if on_step:
                    on_step(result.steps, self.model)
                if evaluate and self.due(config.evaluate_every, ends):
                    self.evaluate(evaluate, keep_best, epoch)
                if self.folder and self.due(config.checkpoint_every, ends):
                    self.save()
        if self.best:
            checkpoint.copy_into(self.model, self.best)

    def steps(self) -> Iterator[tuple[int, list[Any], bool]]:
        """Of each step not yet done: epoch, batches, and whether the epoch ends. No other batch is built."""
        step = 0
        for epoch in itertools.count():
            plan = epoch_of(self.batches, epoch)
            for first in range(0, len(plan), self.config.accumulate):
                if step == self.total:
                    return
                step += 1
                if step > self.result.steps:
                    numbers = range(len(plan))[first : first + self.config.accumulate]
                    yield epoch, [plan[number] for number in numbers], numbers[-1] + 1 == len(plan)

    def due(self, every: int | None, epoch_ends: bool) -> bool:
        """Whether something is done now that is done every so many steps, or after each epoch, and at the end."""
        done = self.result.steps
        return done == self.total or (epoch_ends if every is None else done % every == 0)

    def step(self, batches: list[Any], epoch: int) -> float:
        """One step, noted in the result; returns its mean loss."""
        result, started = self.result, time.perf_counter()
        lr = learning_rate(self.config, result.steps, self.total)
        try:
            sums, norm = self.stepper.step(batches, lr)
        except DivergedError as error:
            raise DivergedError(
                f"{self.title} stopped in step {result.steps + 1} of {self.total}: {error}, learning rate {lr:.3g}; "
                "the weights are those before that step"
            ) from None
        result.steps += 1
        result.tokens += round(sums["tokens"])
        result.seconds += time.perf_counter() - started
        add(self.sums, sums)
        if self.due(self.config.log_every, False):
            items = self.sums["items"] or 1
            means = {name.removeprefix("part "): total / items for name, total in self.sums.items()}
            del means["items"], means["tokens"]
            result.history.append({**means, "step": result.steps, "epoch": epoch, "lr": lr, "norm": norm})
            self.sums = {}
        return sums["loss"] / (sums["items"] or 1)

    def evaluate(self, evaluate: Evaluate, keep_best: str | None, epoch: int) -> None:
        metrics = {"step": self.result.steps, "epoch": epoch, **evaluate(self.model)}
        self.model.train()
        self.result.evaluations.append(metrics)
        if keep_best is None:
            return
        if keep_best not in metrics:
            raise unknown_name("metric", keep_best, metrics)
        if self.result.best is None or metrics[keep_best] > self.result.best[keep_best]:
            self.result.best = metrics
            self.best = {name: t.clone() for name, t in checkpoint.trained_tensors(self.model).items()}

    def save(self) -> None:
        """Write a checkpoint: the first process writes, the others wait."""
        tensors = {f"model/{name}": t for name, t in checkpoint.trained_tensors(self.model).items()}
        tensors |= {f"best/{name}": t for name, t in self.best.items()}
        tensors |= checkpoint.optimizer_tensors(self.model, self.stepper.optimizer)
        for kind, state in random_states(self.device).items():
            of_all = self.accelerator.gather(state[None].to(self.device)).cpu()
            tensors |= {f"random/{kind}/{rank}": state for rank, state in enumerate(of_all)}
        if self.accelerator.is_main_process:
            state = {"settings": self.settings, "result": asdict(self.result), "sums": self.sums}
            checkpoint.save_checkpoint(self.folder, self.result.steps, tensors, state)
        self.accelerator.wait_for_everyone()

    def resume(self, folder: Path) -> None:
        """Go to where the checkpoint in the folder was written, if there is one; write the next ones there."""
        self.folder = folder
        self.settings = {  # what must not change between an interruption and its continuation
            **asdict(self.config),
            "number of steps": self.total,
            "number of processes": self.processes,
            "first batch": checkpoint.fingerprint(epoch_of(self.batches, 0)[0]),
            "shape of weight": {n: [*t.shape] for n, t in checkpoint.trained_tensors(self.model).items()},
        }
        if (found := checkpoint.load_checkpoint(folder)) is None:
            return
        tensors, state = found
        checkpoint.check_same(state["settings"], self.settings)
        checkpoint.copy_into(self.model, checkpoint.section(tensors, "model/"))
        checkpoint.restore_optimizer(self.model, self.stepper.optimizer, checkpoint.section(tensors, "optimizer/"))
        set_random_states(
            {kind: tensors[f"random/{kind}/{self.rank}"] for kind in random_states(self.device)}, self.device
        )
        self.best = {n: t.to(self.device) for n, t in checkpoint.section(tensors, "best/").items()}
        self.result, self.sums = TrainResult(**state["result"]), state["sums"]

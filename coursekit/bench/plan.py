"""What a training will take: operations and bytes by arithmetic, time by the throughput of a short measured run.

time = tokens · FLOPs per token / (FLOP/s of a device · devices · efficiency)
"""

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from coursekit.bench.arithmetic import Config, Memory, tokens_read, trained_model, training_flops, training_memory
from coursekit.compress.pruning import drop_layers
from coursekit.data import mask_tokens
from coursekit.measure import count_parameters, machine, peak_memory
from coursekit.measure.hygiene import synchronise
from coursekit.models import Encoder, Seq2SeqConfig, TransformerConfig, preset
from coursekit.train import TrainConfig, has_bf16, masked_lm_loss
from coursekit.train.runtime import start_accelerator
from coursekit.train.step import Stepper

EFFICIENCY = 0.9  # of several devices: two processes on one CPU were measured at 0.94 to 0.96


@dataclass(frozen=True)
class Throughput:
    """FLOP/s of one device while training, and where the figure is from."""

    flops_per_second: float
    source: str


@dataclass(frozen=True)
class Plan:
    """An estimate: `tokens` tokens through a model on `devices` devices, each with `batch` sequences of `length`.

    price is that of a device for an hour, in any currency.
    """

    name: str
    parameters: int
    tokens: float
    flops_per_token: float
    throughput: Throughput
    memory: Memory
    devices: int = 1
    batch: int = 32
    length: int = 128
    precision: str = "fp32"
    efficiency: float = 1.0
    price: float | None = None

    @property
    def flops(self) -> float:
        """Of the whole training."""
        return self.tokens * self.flops_per_token

    @property
    def tokens_per_second(self) -> float:
        """Of all devices together."""
        return self.throughput.flops_per_second * self.devices * self.efficiency / self.flops_per_token

    @property
    def seconds(self) -> float:
        """From start to end."""
        return self.tokens / self.tokens_per_second

    @property
    def device_hours(self) -> float:
        """What is paid for."""
        return self.seconds * self.devices / 3600

    @property
    def cost(self) -> float | None:
        """device_hours · price; None without a price."""
        return None if self.price is None else self.device_hours * self.price


def plan(
    name: str,
    tokens: float,
    *,
    devices: int = 1,
    batch: int = 32,
    length: int = 128,
    precision: str = "auto",
    device: str = "cpu",
    throughput: Throughput | None = None,
    efficiency: float | None = None,
    price: float | None = None,
) -> Plan:
    """Estimate the pretraining of a preset: masked-LM for an encoder, translation for a Seq2Seq.

    throughput: measured here on a few of the model's layers if it is not given. efficiency: share of the devices'
    throughput that is left where there are several; 0.9 by default, 1 for one device. Tokens are those the model reads,
    padding and both sides of a translation included. Raises ValueError for an unknown preset or a number that is not
    positive.
    """
    sizes = {"tokens": tokens, "devices": devices, "batch": batch, "length": length, "efficiency": efficiency}
    for what, value in (sizes | {"price": price}).items():
        if value is not None and not 0 < value < math.inf:
            raise ValueError(f"{what} must be positive, got {value}")
    config = preset(name)
    precision = actual_precision(precision, device)
    throughput = throughput or measure_throughput(config, batch, length, precision, device)
    return Plan(
        name=name,
        parameters=count_parameters(trained_model(config)).total,
        tokens=tokens,
        flops_per_token=training_flops(config, length) / tokens_read(config, length),
        throughput=throughput,
        memory=training_memory(config, batch, length, precision, device),
        devices=devices,
        batch=batch,
        length=length,
        precision=precision,
        efficiency=(EFFICIENCY if devices > 1 else 1.0) if efficiency is None else efficiency,
        price=price,
    )


def actual_precision(precision: str, device: str) -> str:
    """ "fp32" or "bf16": what "auto" means on a device."""
    return ("bf16" if has_bf16(device) else "fp32") if precision == "auto" else precision


def measure_throughput(
    config: Config, batch: int, length: int, precision: str, device: str = "cpu", steps: int = 3
) -> Throughput:
    """FLOP/s of training steps of the first layers of a model (of its encoder), median of `steps`."""
    part = _part(config)
    (seconds,) = _seconds([_step(part, batch, length, precision, device)], steps)
    rows = f"{batch} × {length} tokens, {precision}"
    source = f"{steps} steps of {part.num_layers} of its layers, {rows}, on {machine()}"
    return Throughput(batch * training_flops(part, length) / seconds, source)


def _part(config: Config) -> TransformerConfig:
    """The model with its first two layers, and the last where the middle is of another width."""
    encoder = config.encoder if isinstance(config, Seq2SeqConfig) else config
    last = encoder.num_layers - 1
    kept = [0, 1, last] if encoder.inner_size is not None else [*range(min(2, last + 1))]
    with torch.device("meta"):
        return drop_layers(Encoder(encoder), kept).config


@dataclass(frozen=True)
class Check:
    """A plan beside a real run of the whole model: seconds of a step, and its peak bytes above weights and optimizer.

    planned_seconds are by the FLOP/s of the part that was timed in turn with the whole, step by step, so that a busy
    machine slows both. Ratios are measured / planned. The bytes planned are a bound: gradients come while activations
    go.
    """

    planned_seconds: float
    seconds: float
    planned_bytes: int
    bytes: int

    @property
    def ratio(self) -> float:
        """Of the times."""
        return self.seconds / self.planned_seconds

    @property
    def bytes_ratio(self) -> float:
        """Of the peaks."""
        return self.bytes / self.planned_bytes


def check_plan(planned: Plan, *, device: str = "cpu", steps: int = 3) -> Check:
    """Train the whole model for a few steps and compare. Raises ValueError for a Seq2Seq: only its encoder is timed."""
    config = preset(planned.name)
    if isinstance(config, Seq2SeqConfig):
        raise ValueError(f"a plan is checked on encoders; {planned.name} is a Seq2Seq")
    how = (planned.batch, planned.length, planned.precision, device)
    part, whole = (_step(each, *how) for each in (_part(config), config))
    part_seconds, seconds = _seconds([part, whole], steps)
    flops = [training_flops(each, planned.length) for each in (config, _part(config))]
    memory = planned.memory
    peak = peak_memory(whole, device=device, grad=True)
    return Check(part_seconds * flops[0] / flops[1], seconds, memory.gradients + memory.activations, peak)


def _step(config: TransformerConfig, batch: int, length: int, precision: str, device: str) -> Callable[[], None]:
    """One step of the training loop on random tokens."""
    model = trained_model(config, device)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, model.config.vocab_size, (batch, length), generator=generator)
    hidden, labels = mask_tokens(
        ids, special_ids=range(5), mask_id=4, vocab_size=model.config.vocab_size, generator=generator
    )
    rows = {"input_ids": hidden, "attention_mask": torch.ones_like(ids, dtype=torch.bool), "labels": labels}
    rows = {name: tensor.to(device) for name, tensor in rows.items()}
    config = TrainConfig(steps=1, precision=precision)
    stepper = Stepper(model.train(), masked_lm_loss, config, start_accelerator(), torch.device(device))

    def step() -> None:
        stepper.step([rows], 1e-5)
        stepper.optimizer.zero_grad()  # gradients come and go within a step

    return step


def _seconds(calls: Sequence[Callable[[], None]], rounds: int) -> list[float]:
    """Median time of each, called in turn, after a round that is not timed."""
    times: list[list[float]] = [[] for _ in calls]
    for number in range(rounds + 1):
        for call, taken in zip(calls, times, strict=True):
            synchronise()
            started = time.perf_counter()
            call()
            synchronise()
            if number:
                taken.append(time.perf_counter() - started)
    return [statistics.median(taken) for taken in times]

"""What a measurement must leave as it found it: training flags, random states, threads, garbage collection."""

import gc
import random
from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Integral

import numpy as np
import torch
from torch import nn


def require_counts(minimum: int = 1, **values: object) -> None:
    """Raise ValueError naming the first value that is not an integer of at least `minimum`."""
    for name, value in values.items():
        if not isinstance(value, Integral) or isinstance(value, bool) or value < minimum:
            raise ValueError(f"{name} must be an integer of at least {minimum}, got {value!r}")


def require_module(model: object) -> None:
    """Raise ValueError unless `model` is a torch module."""
    if not isinstance(model, nn.Module):
        raise ValueError(f"model must be a torch.nn.Module, got {type(model).__name__} {model!r:.40}")


@contextmanager
def untouched_rng() -> Iterator[None]:
    """Restore the random states of torch (CPU and, if in use, CUDA), numpy and Python on leaving."""
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    python, legacy_numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=devices):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(legacy_numpy)


@contextmanager
def evaluating(*models: nn.Module) -> Iterator[None]:
    """Put models in evaluation mode and give every module its own flag back on leaving."""
    flags = [(module, module.training) for model in models for module in model.modules()]
    try:
        for model in models:
            model.eval()
        yield
    finally:
        for module, training in flags:
            module.training = training


@contextmanager
def threads_set(count: int | None) -> Iterator[int]:
    """Let torch use `count` threads within (None: as many as now); yields the number in use."""
    if count is not None:
        require_counts(threads=count)
    before = torch.get_num_threads()
    try:
        if count is not None:
            torch.set_num_threads(int(count))
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(before)


@contextmanager
def garbage_paused() -> Iterator[None]:
    """Collect garbage now, and not again before leaving."""
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def synchronise() -> None:
    """Wait until the accelerator in use, if any, has finished: its calls return before its work is done."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    elif torch.backends.mps.is_available():
        torch.mps.synchronize()

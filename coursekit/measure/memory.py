"""How much memory a call needs beyond what was there before it."""

import os
from collections.abc import Callable
from typing import Any

import torch
from torch.autograd.profiler import profile

from coursekit.measure.hygiene import synchronise, untouched_rng


def peak_memory(fn: Callable[[], Any], *, device: torch.device | str = "cpu", grad: bool = False) -> int:
    """Peak bytes that tensors made by `fn` held at once on `device`, above what was held when it began.

    CPU: torch's profiler reports each allocation and release of its allocator; the peak is the largest running
    sum. Buffers that kernels (oneDNN, BLAS) take elsewhere are not seen. CUDA: `max_memory_allocated` after a
    reset. One untimed call goes before. Inference mode unless `grad`; random states are restored.
    """
    device = torch.device(device)
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"peak memory is measured on cpu or cuda, got {device.type!r}")
    with untouched_rng(), torch.inference_mode(not grad):
        fn()
        return _cuda_peak(fn, device) if device.type == "cuda" else _cpu_peak(fn)


def _cpu_peak(fn: Callable[[], Any]) -> int:
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else the profiler announces itself on stderr
    with profile(use_cpu=True, use_kineto=True, profile_memory=True) as profiler:
        fn()
    changes = (event for event in profiler.kineto_results.events() if event.name() == "[memory]")
    held = peak = 0
    for event in sorted(changes, key=lambda event: event.start_ns()):
        if event.device_type() == torch.autograd.DeviceType.CPU:
            held += event.nbytes()
            peak = max(peak, held)
    return peak


def _cuda_peak(fn: Callable[[], Any], device: torch.device) -> int:
    synchronise()
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    fn()
    synchronise()
    return torch.cuda.max_memory_allocated(device) - before

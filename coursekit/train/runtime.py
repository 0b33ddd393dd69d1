"""Where training runs: processes, number formats, random numbers, and whether to draw a progress bar."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, DistributedType
from torch import Tensor

KNOWN = (DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU)


def start_accelerator() -> Accelerator:
    """The processes that `torchrun` or `accelerate launch` started, or this one alone.

    Raises ValueError for a kind of launch that the loop does not know (sharded models, fp16).
    """
    # Without cpu=True Accelerate ignores torchrun on a machine without GPU: each process would train for itself.
    accelerator = Accelerator(
        cpu=not torch.cuda.is_available(),
        device_placement=False,  # a model is trained where it is
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],  # a pooler without a loss
    )
    launched = int(os.environ.get("WORLD_SIZE", 1))
    if accelerator.num_processes != launched:
        raise ValueError(f"{launched} processes were launched, Accelerate sees {accelerator.num_processes}")
    if accelerator.distributed_type not in KNOWN or accelerator.mixed_precision not in ("no", "bf16"):
        raise ValueError(
            f"launched as {accelerator.distributed_type.value} in {accelerator.mixed_precision}; expected one "
            "process or data parallel ones, and no mixed precision or bf16"
        )
    return accelerator


def has_bf16(device: torch.device | str = "cpu") -> bool:
    """Whether the hardware multiplies in bfloat16; emulation, which is slower than fp32, does not count."""
    if torch.device(device).type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # Private names, and the only ones that PyTorch 2.6 to 2.13 all have; without them: fp32.
    checks = (getattr(torch.cpu, name, bool) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return torch.device(device).type == "cpu" and any(check() for check in checks)


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """Context in which matrix products run in bfloat16: "bf16", or "auto" where `has_bf16`; "fp32" forbids it."""
    wanted = precision == "bf16" or (precision == "auto" and has_bf16(device))
    return torch.autocast(device.type, torch.bfloat16, enabled=wanted)


@contextmanager
def own_random_numbers(seed: int, device: torch.device) -> Iterator[None]:
    """Seed the default generators for the block and give them back as they were."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would also reseed every GPU
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield


def random_states(device: torch.device) -> dict[str, Tensor]:
    """States of the default generators that training on a device draws from."""
    states = {"cpu": torch.get_rng_state()}
    return states | {"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else states


def set_random_states(states: dict[str, Tensor], device: torch.device) -> None:
    """Put `random_states` back."""
    torch.set_rng_state(states["cpu"])
    if "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)


def quiet() -> bool:
    """Whether COURSEKIT_QUIET asks for no progress bars."""
    return os.environ.get("COURSEKIT_QUIET", "0") not in ("", "0")

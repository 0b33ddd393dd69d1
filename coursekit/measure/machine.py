"""What a timing was taken on, in one line."""

import os
import platform
import subprocess
from pathlib import Path

import psutil
import torch


def machine() -> str:
    """CPU, cores, threads, memory, number formats, GPU, torch and system: to print beside every timing."""
    formats = [kind if names else f"no {kind}" for kind, names in cpu_features().items()]
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    threads = torch.get_num_threads()
    cores = psutil.cpu_count(logical=False) or os.cpu_count()
    return ", ".join(
        [
            cpu_name(),
            f"{cores} cores ({_usable()} usable)",
            f"{threads} thread{'s' * (threads > 1)}",
            f"{psutil.virtual_memory().total / 1e9:.0f} GB",
            f"{torch.backends.cpu.get_cpu_capability()} ({', '.join(formats)})",
            " + ".join(gpus) or "no GPU",
            f"torch {torch.__version__}",
            f"{platform.system()} {platform.machine()}",
        ]
    )


def cpu_features() -> dict[str, list[str]]:
    """Instruction sets that speed up "bf16" and "int8" products on this CPU; empty where there is none."""
    known = getattr(torch.cpu, "get_capabilities", dict)()  # absent from older torch
    present = [name for name, here in known.items() if here is True]
    marks = {"bf16": ("bf16",), "int8": ("vnni", "int8", "i8mm", "dot")}
    return {kind: [name for name in present if any(map(name.count, part))] for kind, part in marks.items()}


def cpu_name() -> str:
    """The CPU's model name."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    if platform.system() == "Darwin":
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(command, capture_output=True, text=True).stdout.strip() or platform.machine()
    return platform.processor() or platform.machine()


def _usable() -> int:
    """Logical CPUs this process may run on, which a container or batch system can limit."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

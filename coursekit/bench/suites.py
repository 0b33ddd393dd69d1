"""The suites by name, and running one or all of them."""

from collections.abc import Callable

import torch

from coursekit.bench.distillation import distillation_cases
from coursekit.bench.frame import Case, Setting, run_cases
from coursekit.bench.gpu import gpu_inference_cases, gpu_training_cases
from coursekit.bench.inference import inference_cases
from coursekit.bench.results import BenchResult
from coursekit.bench.training import training_cases
from coursekit.errors import unknown_name

Suite = Callable[[bool], list[Case]]

# Name → the suite's cases, of all shapes or of the default ones; those for a GPU last.
SUITES: dict[str, Suite] = {
    "training": lambda full: [*training_cases(full), *gpu_training_cases(full)],
    "inference": lambda full: [*inference_cases(full), *gpu_inference_cases(full)],
    "distillation": distillation_cases,
}
ALL = "all"
DEVICES = ("cpu", "cuda")


def run_bench(
    suite: str = ALL,
    *,
    device: str = "cpu",
    full: bool = False,
    rounds: int | None = None,
    threads: int = 1,
    progress: Callable[[str, int, int], None] | None = None,
) -> BenchResult:
    """Time a suite, or "all" of them: every arm of a case in turn in one run, ratios per round, verdicts on the bars.

    A CPU leaves out the cases that are for a GPU; the last result names them.
    full: every shape and more rounds; the default takes about six minutes on a quiet CPU of two cores. rounds: at most
    so many. threads: of the CPU; the bars are stated for 1. progress(case, number, of) is called before each case.
    Raises ValueError for an unknown suite or device, a GPU that is not there, or arms that do not compute the same.
    """
    if suite != ALL and suite not in SUITES:
        raise unknown_name("suite", suite, [*SUITES, ALL])
    if device not in DEVICES:
        raise unknown_name("device", device, DEVICES)
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("no CUDA device is there, or this torch is built without CUDA; --device cpu runs everywhere")
    for name, count in {"rounds": rounds, "threads": threads}.items():
        if count is not None and count < 1:
            raise ValueError(f"{name} must be at least 1, got {count}")
    chosen = SUITES if suite == ALL else [suite]
    cases = [case for name in chosen for case in SUITES[name](full)]
    options = {"--device cuda": device != "cpu", "--full": full, f"--threads {threads}": threads != 1}
    options[f"--rounds {rounds}"] = rounds is not None
    command = " ".join(["coursekit bench", suite, *(option for option, given in options.items() if given)])
    return run_cases(suite, cases, Setting(device, threads, rounds), command=command, progress=progress)

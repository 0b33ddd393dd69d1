"""Is this machine ready for the course? Each finding is fine or says what to do."""

import os
import platform
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from coursekit.course.progress import progress_file
from coursekit.course.units import course_root
from coursekit.files import cache_folder

DISK_BYTES = 1.0e9
"""Room for every asset, pip's copies of its archive, and the teachers made here."""
MEMORY_BYTES = 2.0e9
"""What a lesson may need besides what other programs use."""
TRAINING_SECONDS = 5.0


@dataclass(frozen=True)
class Finding:
    """One line of the report. A finding that is not `ok` and not `needed` is advice: the course works without."""

    name: str
    ok: bool
    detail: str
    remedy: str = ""
    needed: bool = True

    def __str__(self) -> str:
        mark = "OK" if self.ok else "TO DO" if self.needed else "advice"
        return f"{mark:<7}{self.name}: {self.detail}" + (f" -> {self.remedy}" if self.remedy else "")


def doctor() -> list[Finding]:
    """Everything that `examine` finds."""
    return list(examine())


def examine(*, training: bool = True) -> Iterator[Finding]:
    """The findings, each as soon as it is made; the last, a short `training`, takes up to five seconds.

    A test that fails itself is a finding too: nothing is raised.
    """
    looks = (_python, _packages, _widgets, _cpu, _threads, _gpu, _memory, _disk, _folders, _assets)
    for look in (*looks, _training) if training else looks:
        try:
            yield from look()
        except Exception as error:
            name = look.__name__.strip("_")
            yield Finding(name, False, f"{type(error).__name__}: {error}", "reinstall the packages of the course")


def _python() -> Iterator[Finding]:
    from packaging.specifiers import SpecifierSet

    version = platform.python_version()
    wanted = metadata.metadata("coursekit")["Requires-Python"] or ""
    ok = SpecifierSet(wanted).contains(version, prereleases=True)
    remedy = "" if ok else f"make the environment with Python {wanted}"
    yield Finding("Python", ok, f"{version} in {sys.prefix}", remedy)


def _packages() -> Iterator[Finding]:
    """Every package that the installed coursekit asks for, against the range it asks for."""
    from packaging.requirements import Requirement

    versions, faults = [], []
    for line in metadata.requires("coursekit") or []:
        wanted = Requirement(line)
        if wanted.marker and not wanted.marker.evaluate({"extra": ""}):
            continue
        try:
            version = metadata.version(wanted.name)
        except metadata.PackageNotFoundError:
            faults.append(Finding(wanted.name, False, "not installed", f'pip install "{line}"'))
            continue
        versions.append(f"{wanted.name} {version}")
        if not wanted.specifier.contains(version, prereleases=True):
            faults.append(Finding(wanted.name, False, f"version {version}", f'pip install "{line}"'))
    yield Finding("packages", not faults, ", ".join(versions), "see the next lines" if faults else "")
    yield from faults


def _widgets() -> Iterator[Finding]:
    """The widgets of the notebooks and their part in JupyterLab have to fit together."""
    from packaging.requirements import Requirement

    for line in metadata.requires("ipywidgets") or []:
        wanted = Requirement(line)
        if re.sub(r"[-_.]+", "-", wanted.name).lower() != "jupyterlab-widgets":
            continue
        try:
            version = metadata.version(wanted.name)
        except metadata.PackageNotFoundError:
            version = ""
        extension = Path(sys.prefix, "share", "jupyter", "labextensions", "@jupyter-widgets", "jupyterlab-manager")
        ok = bool(version) and wanted.specifier.contains(version) and extension.is_dir()
        detail = f"ipywidgets {metadata.version('ipywidgets')}, jupyterlab_widgets {version or 'not installed'}"
        if version and not extension.is_dir():
            detail += f", nothing in {extension}"
        yield Finding("widgets", ok, detail, "" if ok else f'pip install --force-reinstall "{wanted}"')


def _cpu() -> Iterator[Finding]:
    from coursekit.measure import cpu_features, cpu_name

    features = cpu_features()
    said = [f"{kind} by {', '.join(names)}" if names else f"no {kind}" for kind, names in features.items()]
    remedy = "" if all(features.values()) else "lessons train in fp32 and low-precision speed-ups will be smaller"
    yield Finding("CPU", all(features.values()), f"{cpu_name()}; {'; '.join(said)}", remedy, needed=False)


def _threads() -> Iterator[Finding]:
    """Whether the threads that torch takes are faster than one, measured now."""
    import psutil
    import torch

    from coursekit.measure import latency

    threads = torch.get_num_threads()
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    busy = psutil.cpu_percent(interval=0.3)
    detail = f"{usable} usable cores, {threads} thread{'s' * (threads > 1)}, {busy:.0f} % busy"
    if threads == 1:
        yield Finding("threads", True, detail)
        return
    left = torch.ones(384, 384)
    one, all_ = (latency(lambda: left @ left, threads=count, repeats=30).median for count in (1, threads))
    slower = all_ > 0.95 * one
    detail += f"; {threads} threads take {all_ / one:.2f} of the time of one"
    remedy = "set OMP_NUM_THREADS=1: more threads than free cores wait for each other" if slower else ""
    yield Finding("threads", not slower, detail, remedy, needed=False)


def _gpu() -> Iterator[Finding]:
    import torch

    cards = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
    said = ", ".join(f"{card.name}, {card.total_memory / 1e9:.0f} GB" for card in cards)
    yield Finding("GPU", True, said or "none, and none is needed")


def _memory() -> Iterator[Finding]:
    import psutil

    memory = psutil.virtual_memory()
    total, free = memory.total, memory.available
    limit = _container_limit()
    if limit and limit[0] < total:
        total, free = limit[0], min(free, limit[0] - limit[1])
    ok = free >= MEMORY_BYTES
    remedy = "" if ok else f"close other programs until {MEMORY_BYTES / 1e9:.0f} GB are free"
    detail = f"{free / 1e9:.1f} of {total / 1e9:.1f} GB free"
    yield Finding("memory", ok, detail, remedy, needed=total < MEMORY_BYTES)


def _container_limit(folder: Path = Path("/sys/fs/cgroup")) -> tuple[int, int] | None:
    """Bytes this container may use and uses without its file cache, or None where there is no limit."""
    try:
        limit = int((folder / "memory.max").read_text())
        used = int((folder / "memory.current").read_text())
        cached = re.search(r"^inactive_file (\d+)$", (folder / "memory.stat").read_text(), re.MULTILINE)
    except (OSError, ValueError):  # no cgroup, or "max"
        return None
    return limit, used - int(cached[1] if cached else 0)


def _disk() -> Iterator[Finding]:
    folder = _existing(cache_folder())
    free = shutil.disk_usage(folder).free
    ok = free >= DISK_BYTES
    remedy = "" if ok else f"free {DISK_BYTES / 1e9:.0f} GB, or set COURSEKIT_CACHE to a folder on another disk"
    yield Finding("disk", ok, f"{free / 1e9:.1f} GB free at {folder}", remedy)


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    folder = folder.expanduser().absolute()
    return next(path for path in (folder, *folder.parents) if path.is_dir())


def _folders() -> Iterator[Finding]:
    """The folders that the course writes to."""
    try:
        work = course_root() / "my-work"
        yield Finding("course", True, str(work.parent))
        yield _writable("my-work", work, "give yourself write access to the course folder, or copy it")
    except FileNotFoundError as error:
        yield Finding("course", False, str(error), "go to the course folder", needed=False)
    yield _writable("cache", cache_folder(), "set COURSEKIT_CACHE to a folder you can write to")
    yield _writable("progress", progress_file().parent, "set COURSEKIT_PROGRESS to a file you can write to")


def _writable(name: str, folder: Path, remedy: str) -> Finding:
    try:
        with tempfile.TemporaryFile(dir=_existing(folder)):
            pass
    except OSError as error:
        return Finding(name, False, f"{folder} cannot be written ({error.strerror})", remedy)
    return Finding(name, True, f"{folder} can be written")


def _assets() -> Iterator[Finding]:
    from coursekit.data import assets, assets_folder, verify

    for name in assets():
        problems = verify(name)
        detail = problems[0] if problems else f"whole, hashes right, in {assets_folder() / name}"
        yield Finding(f"asset {name}", not problems, detail, f"coursekit fetch {name}" if problems else "")


def _training() -> Iterator[Finding]:
    """Steps of a tiny classifier on made-up data for up to five seconds: does it learn, and how fast?"""
    import torch

    from coursekit.models import Encoder, SequenceClassifier, TransformerConfig

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = SequenceClassifier(Encoder(TransformerConfig(100, 64, 2, 4, 256, dropout=0.0)), num_labels=2)
        tokens = torch.randint(1, 100, (16, 16))
    labels = tokens[:, 0] % 2
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses: list[float] = []
    start = time.perf_counter()
    while time.perf_counter() - start < TRAINING_SECONDS and len(losses) < 200:
        loss = torch.nn.functional.cross_entropy(model(tokens).logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    speed = len(losses) / (time.perf_counter() - start)
    down = losses[-1] < losses[0]
    detail = f"{len(losses)} steps, {speed:.0f} per second, loss {losses[0]:.2f} to {losses[-1]:.2f}"
    remedy = "" if down else "the loss has to fall: reinstall torch"
    yield Finding("training", down, detail, remedy)

"""What every study has in common: runs that are kept one by one, and a summary of all of them.

A study is arms × seeds. A finished run is a file in the cache, so an interrupted study goes on where it stopped; the
summary is a file in the course, which lessons plot.
"""

import hashlib
import importlib
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from typing import Any

from filelock import FileLock, Timeout
from tqdm.auto import tqdm

from coursekit.course.units import course_root
from coursekit.errors import unknown_name
from coursekit.files import cache_folder, write_json
from coursekit.measure import Difference, machine, paired_bootstrap

Settings = dict[str, Any]
Numbers = dict[str, Any]
Measure = tuple[str, Callable[[list[Any], list[Any]], Difference]]
PACKAGES = ("coursekit", "torch", "tokenizers", "sacrebleu")


@dataclass(frozen=True)
class Table:
    """A summary as the command prints it. All columns but the first are numbers; note: how to read them."""

    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]
    note: str


@dataclass(frozen=True)
class Study:
    """A comparison. All that decides a run's numbers is in its arm, its seed and the settings.

    settings(quick)             plain data that JSON can hold; quick ones only show that the study works
    run(arm, seed, settings)    numbers of one run (and curves), and what comparing needs, which stays in the cache
    baselines(settings)         what to show beside the arms and takes no training
    compare(details, settings)  differences between arms; details[arm] is a list with what each seed's run kept
    table(summary)              what the command prints of a full study beside the path, if anything
    """

    name: str
    title: str
    minutes: int
    arms: tuple[str, ...]
    seeds: tuple[int, ...]
    settings: Callable[[bool], Settings]
    run: Callable[[str, int, Settings], tuple[Numbers, Any]]
    baselines: Callable[[Settings], Numbers]
    compare: Callable[[Mapping[str, list[Any]], Settings], Numbers]
    table: Callable[[Mapping[str, Any]], Table] | None = None


STUDIES = (
    "sharing",
    "sentence_order",
    "pretraining",
    "low_rank",
    "pruning",
    "quantization",
    "distillation",
    "triple_loss",
    "layers",
    "tinybert",
    "leaderboard",
)


def run_study(name: str, *, quick: bool = False) -> Path:
    """Run what is left of a study and write its summary; returns the summary's path.

    That is `notebooks/studies/NAME.json`; a quick study, one seed on toy settings, stays in the cache. A progress bar
    over the runs, or a line for each where there is no terminal, goes to standard error. Raises ValueError for an
    unknown name, or where another process is at the same study.
    """
    study = find_study(name)
    return run(study, quick, course_root() / "notebooks" / "studies" if not quick else None)


def load_study(name: str) -> dict[str, Any]:
    """The summary of a study as `run_study` wrote it, for a lesson to plot.

    Raises ValueError for an unknown name, FileNotFoundError if it has not been run.
    """
    return json.loads(stored_study(name).read_text(encoding="utf-8"))


def stored_study(name: str) -> Path:
    """The file of `load_study`; raises the same."""
    study = find_study(name)
    file = course_root() / "notebooks" / "studies" / f"{name}.json"
    if not file.is_file():
        raise FileNotFoundError(f"no {file}; `coursekit study {name}` makes it in about {study.minutes} minutes")
    return file


@dataclass(frozen=True)
class StudyEntry:
    """One line about a study: what it asks, its minutes on two cores, and the date of what is stored, if anything."""

    name: str
    title: str
    minutes: int
    stored: str | None


def list_studies() -> list[StudyEntry]:
    """Every study of the course, in the order of the units."""
    entries = []
    for study in map(find_study, STUDIES):
        file = course_root() / "notebooks" / "studies" / f"{study.name}.json"
        stored = json.loads(file.read_text(encoding="utf-8"))["date"][:10] if file.is_file() else None
        entries.append(StudyEntry(study.name, study.title, study.minutes, stored))
    return entries


def find_study(name: str) -> Study:
    """A study by name. Raises ValueError with the nearest names for an unknown one."""
    if name not in STUDIES:
        raise unknown_name("study", name, STUDIES)
    return importlib.import_module(f"coursekit.course.studies.{name}").STUDY


def run(study: Study, quick: bool, folder: Path | None) -> Path:
    """`run_study` for any study; its summary goes to `folder`, or to the cache."""
    settings = study.settings(quick)
    seeds = study.seeds[:1] if quick else study.seeds
    versions = {"python": python_version(), **{package: version(package) for package in PACKAGES}}
    cache = cache_folder() / "studies" / study.name / _key(settings, versions)
    cache.mkdir(parents=True, exist_ok=True)
    todo = [(arm, seed) for seed in seeds for arm in study.arms]  # a seed of every arm first: early results compare
    try:
        with FileLock(cache / "lock", timeout=0):
            runs = [_run_once(study, *each, settings, cache) for each in _shown(todo, study.name)]
    except Timeout:
        raise ValueError(f"another process is running the study {study.name!r} in {cache}; wait for it") from None
    details: dict[str, list[Any]] = {arm: [] for arm in study.arms}
    for each in runs:
        details[each["arm"]].append(each.pop("details"))
    summary = {
        "study": study.name,
        "title": study.title,
        "command": f"coursekit study {study.name}{' --quick' if quick else ''}",
        "date": max(run["date"] for run in runs),
        "machine": sorted({run["machine"] for run in runs}),
        "versions": versions,
        "settings": settings,
        "baselines": study.baselines(settings),
        "differences": study.compare(details, settings),
        "arms": {arm: summarise([run["numbers"] for run in runs if run["arm"] == arm]) for arm in study.arms},
        "runs": runs,
    }
    file = (folder or cache) / f"{study.name}.json"
    write_json(file, summary)
    return file


def _run_once(study: Study, arm: str, seed: int, settings: Settings, cache: Path) -> dict[str, Any]:
    """One run: from the cache, or made and put there."""
    file = cache / f"{arm}-{seed}.json"
    if file.is_file():
        return json.loads(file.read_text(encoding="utf-8"))
    started = time.perf_counter()
    numbers, details = study.run(arm, seed, settings)
    seconds = round(time.perf_counter() - started, 1)
    date = datetime.now(UTC).isoformat(timespec="seconds")
    done = {"arm": arm, "seed": seed, "date": date, "machine": machine(), "seconds": seconds, "numbers": numbers}
    done["details"] = details
    write_json(file, done)
    return done


def _shown(todo: Sequence[tuple[str, int]], title: str) -> Any:
    """The runs to do under a bar, or with a line for each."""
    if sys.stderr.isatty():
        return tqdm(todo, desc=title, unit="run")

    def lines() -> Any:
        for number, (arm, seed) in enumerate(todo, start=1):
            print(f"{title}: run {number} of {len(todo)}, {arm}, seed {seed}", file=sys.stderr, flush=True)
            yield arm, seed

    return lines()


def summarise(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Over the runs of an arm, for every number: mean, sd (sample standard deviation; None for one run), min, max."""
    summary = {}
    for name, value in runs[0].items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            values = [run[name] for run in runs]
            summary[name] = {
                "mean": statistics.fmean(values),
                "sd": statistics.stdev(values) if len(values) > 1 else None,
                "min": min(values),
                "max": max(values),
            }
    return summary


accuracy_difference = partial(paired_bootstrap, seed=0)
"""Of two lists with 1 or 0 per item for each seed's run: the difference of accuracies, over items and seeds."""


def differences(
    details: Mapping[str, list[Any]], compared: Iterable[tuple[str, str]], measures: Mapping[str, Measure]
) -> Numbers:
    """{"one − other": {measure: difference, interval, p}} for each pair of arms that is compared.

    measures[name] is the key under which each seed's run kept its part of the details, and what compares the two
    lists of such parts. A measure that the first arm has no part for is left out.
    """
    return {
        f"{one} − {other}": {
            name: compare(*([run[key] for run in details[arm]] for arm in (one, other)))._asdict()
            for name, (key, compare) in measures.items()
            if key in details[one][0]
        }
        for one, other in compared
    }


def accuracy_differences(
    compared: Iterable[tuple[str, str]], name: str = "test_accuracy"
) -> Callable[[Mapping[str, list[Any]], Settings], Numbers]:
    """A study's `compare`: accuracy of one arm minus another's as `name`, with 95 % intervals over items and seeds.

    Each run kept 1 or 0 for each item under "right".
    """

    def compare(details: Mapping[str, list[Any]], settings: Settings) -> Numbers:
        return differences(details, compared, {name: ("right", accuracy_difference)})

    return compare


def _key(settings: Settings, versions: Mapping[str, str]) -> str:
    """What must be equal for two runs to be of one study."""
    return hashlib.sha256(json.dumps([settings, versions], sort_keys=True).encode()).hexdigest()[:12]

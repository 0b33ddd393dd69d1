"""Labelled text, split so that nothing of a test film is ever seen in training.

Every choice below is an order by SHA-256, not a random generator: the same on every platform and version.
"""

import bz2
import csv
import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from coursekit.data.assets import fetch
from coursekit.errors import unknown_name

T = TypeVar("T")


@dataclass(frozen=True)
class Split:
    """Texts with their labels (an index into `Task.labels`) and groups (the film a snippet is about).

    labels: of a regression, the scores. second: where a label is about two texts, the other one of each.
    """

    texts: list[str]
    labels: list[int] | list[float]
    groups: list[str]
    second: list[str] | None = None

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, n: int, seed: int = 0) -> "Split":
        """A random subset of `n` rows in random order, each label in its share of the whole (to a row).

        Raises ValueError unless 0 < n ≤ len(self).
        """
        if not 0 < n <= len(self):
            raise ValueError(f"cannot take {n} rows of a split of {len(self)}")
        shuffled = _shuffled(range(len(self)), seed)
        rows_of = {label: [i for i in shuffled if self.labels[i] == label] for label in set(self.labels)}
        exact = {label: n * len(rows) / len(self) for label, rows in rows_of.items()}
        quota = {label: int(share) for label, share in exact.items()}
        by_remainder = sorted(quota, key=lambda label: (quota[label] - exact[label], label))
        for label in by_remainder[: n - sum(quota.values())]:
            quota[label] += 1
        chosen = {i for label, rows in rows_of.items() for i in rows[: quota[label]]}
        return self._rows([i for i in shuffled if i in chosen])

    def _rows(self, indices: list[int]) -> "Split":
        columns = (self.texts, self.labels, self.groups, self.second)
        return Split(*(None if column is None else [column[i] for i in indices] for column in columns))


@dataclass(frozen=True)
class Task:
    """A classification task, or with one name in `labels` a regression. `labels[k]` is the name of label k, that of
    the model's output k; no group is in two of the splits.
    """

    name: str
    labels: tuple[str, ...]
    train: Split
    validation: Split
    test: Split


def load_task(name: Path | str, *, labels: Sequence[str] | None = None) -> Task:
    """A labelled task: the course's own, your CSV, or one of GLUE.

    "rotten-tomatoes"    film reviews, rotten 0 or fresh 1, fetched if need be
    a file .csv or .tsv  with columns text and label and, if there are, second (the other text of a pair) and group
                         (what must not be in two splits); a tenth each for validation and test: see `csv_task`
    "sst2", "mnli", …    GLUE's tasks, fetched; or a folder laid out as GLUE has it, such as "data/SST-2": see `GLUE`
    labels: for a CSV, the names of its labels in the order that your model has them

    Rotten Tomatoes is split by film. Always predicting "fresh" is right as often as the share of fresh:

    | split      | rows  | films | fresh |
    |------------|-------|-------|-------|
    | train      | 9,784 | 394   | 0.575 |
    | validation | 776   | 31    | 0.586 |
    | test       | 2,211 | 82    | 0.589 |

    Raises ValueError for an unknown name or a file that is no such table, AssetError if the data cannot be had.
    """
    from coursekit.data import glue, tables  # they are made of what is here

    path = Path(name)
    if path.suffix in tables.DELIMITERS:
        return tables.csv_task(path, labels)
    if labels is not None:
        raise ValueError(f"labels are for a CSV file; {name} has its own")
    if path.is_dir():
        return glue.glue_task(path)
    if name in glue.GLUE:
        return glue.glue_task(glue.fetch_glue(name), name)
    if name not in _TASKS:
        raise unknown_name("task", str(name), [*_TASKS, *glue.GLUE])
    return _TASKS[name]()


def _rotten_tomatoes() -> Task:
    labels = ("rotten", "fresh")
    file = fetch("rotten-tomatoes") / "rotten_tomatoes_corpus_full.csv.bz2"
    with bz2.open(file, "rt", encoding="utf-8", newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["category"] != "plot"]
    everything = Split(
        [row["text"] for row in rows],
        [labels.index(row["category"]) for row in rows],
        [row["movie_name"] for row in rows],
    )
    # 13 is the first seed whose three splits are all within 1.5 points of the whole's share of fresh, 0.578
    return Task("rotten-tomatoes", labels, *split_by_group(everything, test=0.17, validation=0.06, seed=13))


_TASKS: dict[str, Callable[[], Task]] = {"rotten-tomatoes": _rotten_tomatoes}


def split_by_group(everything: Split, *, test: float, validation: float, seed: int) -> tuple[Split, ...]:
    """(train, validation, test): whole groups in a fixed shuffled order fill test, then validation.

    A text that test has is dropped from validation and train, one that validation has from train.
    """
    members: dict[str, list[int]] = {}
    for index, group in enumerate(everything.groups):
        members.setdefault(group, []).append(index)
    goals = {"test": test * len(everything), "validation": validation * len(everything)}
    parts: dict[str, list[int]] = {"test": [], "validation": [], "train": []}
    for group in _shuffled(members, seed):
        part = next((name for name, goal in goals.items() if len(parts[name]) < goal), "train")
        parts[part] += members[group]
    whole = [_normalised(text) for text in everything.texts]
    if everything.second is not None:
        whole = [f"{text}\t{_normalised(other)}" for text, other in zip(whole, everything.second, strict=True)]
    seen: set[str] = set()
    for name, indices in parts.items():
        parts[name] = [i for i in indices if whole[i] not in seen]
        seen |= {whole[i] for i in indices}
    return tuple(everything._rows(sorted(parts[name])) for name in ("train", "validation", "test"))


def _normalised(text: str) -> str:
    return " ".join(text.lower().split())


def _shuffled(items: Iterable[T], seed: int) -> list[T]:
    return sorted(items, key=lambda item: hashlib.sha256(f"{seed}:{item}".encode()).digest())

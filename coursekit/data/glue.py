"""GLUE's classification tasks (Wang et al. 2018), read from the files that GLUE gives out."""

import csv
import shutil
import urllib.request
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from coursekit.data.corpora import Split, Task, split_by_group
from coursekit.data.packages import AssetError
from coursekit.errors import unknown_name
from coursekit.files import atomic_file, atomic_folder, cache_folder

SITE = "https://dl.fbaipublicfiles.com/glue/data/"
SECONDS = 30  # without a byte, then the download is given up
MOST_VALIDATION = 2000  # rows of the training file kept for choosing
SHARE_VALIDATION = 0.05
TRUTH = ("0", "1")


@dataclass(frozen=True)
class GlueTask:
    """A task's folder, columns and labels (as in the file, in order of number); no archive: its licence forbids one.

    names: what the labels mean, where the file has numbers. columns: for a file without a header.
    """

    folder: str
    archive: str | None
    first: str
    second: str | None
    label: str
    labels: tuple[str, ...]
    names: tuple[str, ...] | None = None
    test: str = "dev.tsv"
    columns: tuple[str, ...] | None = None


_ENTAILMENT = ("entailment", "not_entailment")
GLUE = {
    "cola": GlueTask(
        *("CoLA", "CoLA.zip", "sentence", None, "label", TRUTH, ("unacceptable", "acceptable")),
        columns=("source", "label", "mark", "sentence"),
    ),
    "sst2": GlueTask("SST-2", "SST-2.zip", "sentence", None, "label", TRUTH, ("negative", "positive")),
    "mrpc": GlueTask(
        *("MRPC", None, "#1 String", "#2 String", "Quality", TRUTH, ("not_equivalent", "equivalent")),
    ),
    "qqp": GlueTask(
        *("QQP", "QQP-clean.zip", "question1", "question2", "is_duplicate", TRUTH, ("not_duplicate", "duplicate"))
    ),
    "mnli": GlueTask(
        *("MNLI", "MNLI.zip", "sentence1", "sentence2", "gold_label", ("entailment", "neutral", "contradiction")),
        test="dev_matched.tsv",
    ),
    "qnli": GlueTask("QNLI", "QNLIv2.zip", "question", "sentence", "label", _ENTAILMENT),
    "rte": GlueTask("RTE", "RTE.zip", "sentence1", "sentence2", "label", _ENTAILMENT),
    "wnli": GlueTask("WNLI", "WNLI.zip", "sentence1", "sentence2", "label", TRUTH, _ENTAILMENT[::-1]),
}
"""By name. STS-B, which asks for a number, is left out."""


def glue_task(folder: Path | str) -> Task:
    """The task in a folder as GLUE lays it out: its name says which (`SST-2`), `train.tsv` and `dev.tsv` hold the rows.

    GLUE keeps the labels of its test set, so `dev.tsv` is the test here (for MNLI the matched one), and a twentieth of
    the training rows, 2,000 at most, is for choosing. Rows without a label are left out. Raises ValueError for a folder
    of another name or files of other columns or labels, FileNotFoundError for missing ones.
    """
    folder = Path(folder)
    name = next((name for name, task in GLUE.items() if task.folder.lower() == folder.name.lower()), None)
    if name is None:
        raise unknown_name("GLUE folder", folder.name, [task.folder for task in GLUE.values()])
    task = GLUE[name]
    seen = _split(folder / "train.tsv", task)
    test = _split(folder / task.test, task)
    share = min(SHARE_VALIDATION, MOST_VALIDATION / len(seen))
    train, validation, _ = split_by_group(seen, test=0, validation=share, seed=0)
    return Task(name, task.names or task.labels, train, validation, test)


def fetch_glue(name: str) -> Path:
    """The folder of a task in the cache, downloaded from GLUE's own site if it is not there yet.

    GLUE publishes no hashes, so what came over https is believed. Raises ValueError for an unknown name, AssetError
    where the archive cannot be had or is damaged.
    """
    if name not in GLUE:
        raise unknown_name("GLUE task", name, GLUE)
    task = GLUE[name]
    home = cache_folder() / "glue" / task.folder
    if home.is_dir():
        return home
    otherwise = f"a folder laid out as GLUE has it will do: load_task('…/{task.folder}')"
    if task.archive is None:
        raise AssetError(f"GLUE gives {name} to nobody as one archive; {otherwise}")
    archive = home.with_suffix(".zip")
    try:
        with atomic_file(archive) as part, urllib.request.urlopen(SITE + task.archive, timeout=SECONDS) as source:
            with open(part, "wb") as stream:
                shutil.copyfileobj(source, stream)
        with zipfile.ZipFile(archive) as packed, atomic_folder(home) as folder:
            for file in ("train.tsv", task.test):  # by name: nothing else of the archive is written anywhere
                (folder / file).write_bytes(packed.read(f"{task.folder}/{file}"))
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise AssetError(f"{SITE}{task.archive} cannot be fetched ({error}); {otherwise}") from None
    finally:
        archive.unlink(missing_ok=True)
    return home


def _split(file: Path, task: GlueTask) -> Split:
    if not file.is_file():
        raise FileNotFoundError(f"no {file}; expected the files that GLUE gives out")
    rows = list(_rows(file, task))
    if not rows:
        raise ValueError(f"{file} has no rows with a label")
    first, second, labels = (list(column) for column in zip(*rows, strict=True))
    groups = [f"{one}\t{other}" for one, other in zip(first, second, strict=True)]
    return Split(first, labels, groups, second if task.second else None)


def _rows(file: Path, task: GlueTask) -> Iterator[tuple[str, str, int]]:
    """(first text, second text or "", number of the label). GLUE quotes nothing: a quotation mark is one."""
    with open(file, encoding="utf-8-sig", newline="") as stream:
        table = csv.DictReader(stream, fieldnames=task.columns, delimiter="\t", quoting=csv.QUOTE_NONE)
        wanted = [column for column in (task.first, task.second, task.label) if column]
        if missing := [column for column in wanted if column not in (table.fieldnames or ())]:
            raise ValueError(f"{file} has no column {missing[0]!r}; expected {', '.join(wanted)}")
        for row in table:
            if row[task.label] is None or row[task.label] == "-":  # a torn row; one that annotators disagreed about
                continue
            if row[task.label] not in task.labels:
                raise ValueError(f"{file} has the label {row[task.label]!r}; expected {', '.join(task.labels)}")
            second = row[task.second] if task.second else ""
            yield row[task.first], second, task.labels.index(row[task.label])

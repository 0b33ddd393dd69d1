"""GLUE's tasks (Wang et al. 2018), read from the files that GLUE gives out."""

import csv
import math
import shutil
import urllib.request
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from coursekit.data.corpora import Split, Task, split_by_group
from coursekit.data.packages import AssetError
from coursekit.errors import unknown_name
from coursekit.files import atomic_file, atomic_folder, cache_folder

SITE = "https://dl.fbaipublicfiles.com/glue/data/"
MRPC_SITE = "https://dl.fbaipublicfiles.com/senteval/senteval_data/"  # Microsoft's two files, which GLUE has not packed
SECONDS = 30  # without a byte, then the download is given up
MOST_VALIDATION = 2000  # rows of the training file kept for choosing
SHARE_VALIDATION = 0.05
TRUTH = ("0", "1")


@dataclass(frozen=True)
class GlueTask:
    """A task's folder, columns and labels (as in the file, in order of number); no labels: the column is a score.

    names: what the labels mean, where the file has numbers. columns: for a file without a header. archive: None where
    the two files come one by one.
    """

    folder: str
    archive: str | None
    first: str
    second: str | None
    label: str
    labels: tuple[str, ...]
    names: tuple[str, ...] | None = None
    train: str = "train.tsv"
    test: str = "dev.tsv"
    columns: tuple[str, ...] | None = None


_ENTAILMENT = ("entailment", "not_entailment")
_MNLI = ("MNLI", "MNLI.zip", "sentence1", "sentence2", "gold_label", ("entailment", "neutral", "contradiction"))
GLUE = {
    "cola": GlueTask(
        *("CoLA", "CoLA.zip", "sentence", None, "label", TRUTH, ("unacceptable", "acceptable")),
        columns=("source", "label", "mark", "sentence"),
    ),
    "sst2": GlueTask("SST-2", "SST-2.zip", "sentence", None, "label", TRUTH, ("negative", "positive")),
    "mrpc": GlueTask(
        *("MRPC", None, "#1 String", "#2 String", "Quality", TRUTH, ("not_equivalent", "equivalent")),
        *("msr_paraphrase_train.txt", "msr_paraphrase_test.txt"),
    ),
    "stsb": GlueTask("STS-B", "STS-B.zip", "sentence1", "sentence2", "score", (), ("similarity",)),
    "qqp": GlueTask(
        *("QQP", "QQP-clean.zip", "question1", "question2", "is_duplicate", TRUTH, ("not_duplicate", "duplicate"))
    ),
    "mnli": GlueTask(*_MNLI, test="dev_matched.tsv"),
    "mnli-mm": GlueTask(*_MNLI, test="dev_mismatched.tsv"),
    "qnli": GlueTask("QNLI", "QNLIv2.zip", "question", "sentence", "label", _ENTAILMENT),
    "rte": GlueTask("RTE", "RTE.zip", "sentence1", "sentence2", "label", _ENTAILMENT),
    "wnli": GlueTask("WNLI", "WNLI.zip", "sentence1", "sentence2", "label", TRUTH, _ENTAILMENT[::-1]),
}
"""By name. STS-B is a regression: labels are scores from 0 to 5, its one name is that of the model's one output."""


def glue_task(folder: Path | str, name: str | None = None) -> Task:
    """The task in a folder as GLUE lays it out: its name says which (`SST-2`), `train.tsv` and `dev.tsv` hold the rows.

    name: of the task where the folder has two of them; MNLI is tested on `dev_matched.tsv`, "mnli-mm" on the other.
    GLUE keeps the labels of its test sets, so `dev.tsv` is the test here, and a twentieth of the training rows, 2,000
    at most, is for choosing. Rows without a label are left out. MRPC may be Microsoft's two files instead: then their
    test, whose labels are public, is the test. Raises ValueError for a folder of another name or files of other columns
    or labels, FileNotFoundError for missing ones.
    """
    folder = Path(folder)
    name = name or next((name for name, task in GLUE.items() if task.folder.lower() == folder.name.lower()), None)
    if name is None:
        raise unknown_name("GLUE folder", folder.name, {task.folder for task in GLUE.values()})
    if name not in GLUE:
        raise unknown_name("GLUE task", name, GLUE)
    task = GLUE[name]
    if (folder / "dev.tsv").is_file():
        task = replace(task, train="train.tsv", test="dev.tsv")
    seen, test = _split(folder / task.train, task), _split(folder / task.test, task)
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
    if all((home / file).is_file() for file in (task.train, task.test)):
        return home
    files = sorted({file for each in GLUE.values() if each.folder == task.folder for file in (each.train, each.test)})
    archive, address = home.with_suffix(".zip"), SITE + task.archive if task.archive else MRPC_SITE
    try:
        with atomic_folder(home) as folder:
            if task.archive:
                _download(address, archive)
                with zipfile.ZipFile(archive) as packed:
                    for file in files:  # by name: nothing else of the archive is written anywhere
                        (folder / file).write_bytes(packed.read(f"{task.folder}/{file}"))
            else:
                for file in files:
                    _download(address + file, folder / file)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        layout = "laid out as GLUE has it" if task.archive else f"with Microsoft's {' and '.join(files[::-1])}"
        raise AssetError(
            f"{address} cannot be fetched ({error}); a folder {layout} will do: load_task('…/{task.folder}')"
        ) from None
    finally:
        archive.unlink(missing_ok=True)
    return home


def _download(address: str, file: Path) -> None:
    with atomic_file(file) as part, urllib.request.urlopen(address, timeout=SECONDS) as source:
        with open(part, "wb") as stream:
            shutil.copyfileobj(source, stream)


def _split(file: Path, task: GlueTask) -> Split:
    if not file.is_file():
        raise FileNotFoundError(f"no {file}; expected the files that GLUE gives out")
    rows = list(_rows(file, task))
    if not rows:
        raise ValueError(f"{file} has no rows with a label")
    first, second, labels = (list(column) for column in zip(*rows, strict=True))
    groups = [f"{one}\t{other}" for one, other in zip(first, second, strict=True)]
    return Split(first, labels, groups, second if task.second else None)


def _rows(file: Path, task: GlueTask) -> Iterator[tuple[str, str, float]]:
    """(first text, second text or "", number of the label or score). GLUE quotes nothing: a quotation mark is one."""
    with open(file, encoding="utf-8-sig", newline="") as stream:
        table = csv.DictReader(stream, fieldnames=task.columns, delimiter="\t", quoting=csv.QUOTE_NONE)
        wanted = [column for column in (task.first, task.second, task.label) if column]
        if missing := [column for column in wanted if column not in (table.fieldnames or ())]:
            raise ValueError(f"{file} has no column {missing[0]!r}; expected {', '.join(wanted)}")
        for row in table:
            if row[task.label] is None or row[task.label] == "-":  # a torn row; one that annotators disagreed about
                continue
            yield row[task.first], row[task.second] if task.second else "", _label(row[task.label], task, file)


def _label(found: str, task: GlueTask, file: Path) -> float:
    if found in task.labels:
        return task.labels.index(found)
    try:
        if not task.labels and math.isfinite(score := float(found)):
            return score
    except ValueError:
        pass
    raise ValueError(f"{file} has the label {found!r}; expected {', '.join(task.labels) or 'a number'}")

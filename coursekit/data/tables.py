"""Your own texts and labels: a CSV as a task."""

import csv
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from coursekit.data.corpora import Split, Task, split_by_group

DELIMITERS = {".csv": ",", ".tsv": "\t"}
SHARE = 0.1  # of the rows, for validation and for test


def csv_task(file: Path | str, labels: Sequence[str] | None = None) -> Task:
    """The task of a table with the columns text and label, named as the file.

    Labels are names, or the numbers 0, 1, 2… of a model's outputs. Names get the order of `labels`, or the alphabet's:
    say it if your model has another. Rows are split by their column group, or by text, so that nothing is in two
    splits: eight tenths to learn from, one for choosing, one for the test; the same rows each time.

    Raises FileNotFoundError, and ValueError for a table without these columns, an empty cell, labels that are not those
    given, fewer than two of them, or too few rows for three splits with all labels to learn from.
    """
    file = Path(file)
    if not file.is_file():
        raise FileNotFoundError(f"no file {file}; expected a CSV with the columns text and label")
    rows = list(_rows(file))
    names = _names(file, [row["label"] for row in rows], labels)
    index = {name: number for number, name in enumerate(names)}
    everything = Split(
        [row["text"] for row in rows],
        [index[row["label"]] for row in rows],
        [row["group"] for row in rows],
        [row["second"] for row in rows] if rows[0]["second"] is not None else None,
    )
    train, validation, test = split_by_group(everything, test=SHARE, validation=SHARE, seed=0)
    unseen = [name for name, number in index.items() if number not in set(train.labels)]
    if unseen or not validation.texts or not test.texts:
        sizes = f"{len(train)}, {len(validation)} and {len(test)} rows"
        missing = f"; none to learn {unseen[0]!r} from" if unseen else ""
        raise ValueError(f"{file} has too few rows or groups for three splits: they would have {sizes}{missing}")
    return Task(file.stem, names, train, validation, test)


def _rows(file: Path) -> Iterator[Mapping[str, str | None]]:
    """Rows with text, label, second (None where there is no such column) and group."""
    with open(file, encoding="utf-8-sig", newline="") as stream:
        table = csv.DictReader(stream, delimiter=DELIMITERS[file.suffix])
        columns = table.fieldnames or []
        if not {"text", "label"} <= set(columns):
            raise ValueError(f"{file} has the columns {', '.join(columns) or '(none)'}; expected text and label")
        number = 0
        for number, row in enumerate(table, start=1):
            for column in ("text", "label"):
                if not (row[column] or "").strip():
                    raise ValueError(f"{file}: row {number} has no {column}")
            second = row.get("second")
            whole = f"{row['text']}\t{second}" if second else row["text"]
            yield {
                "text": row["text"],
                "label": row["label"].strip(),
                "second": second,
                "group": row.get("group") or " ".join(whole.lower().split()),
            }
    if not number:
        raise ValueError(f"{file} has no rows below its header")


def _names(file: Path, found: Sequence[str], labels: Sequence[str] | None) -> tuple[str, ...]:
    """The labels in order."""
    counts = Counter(found)
    numbers = {str(number) for number in range(len(counts))}
    names = tuple(labels) if labels is not None else tuple(sorted(counts))
    if labels is None and all(name.isdecimal() for name in counts):
        if counts.keys() != numbers:
            raise ValueError(f"{file} has the labels {', '.join(sorted(counts))}; numbers must be 0, 1, 2…")
        names = tuple(sorted(counts, key=int))
    if unknown := sorted(counts.keys() - set(names)):
        raise ValueError(f"{file} has the label {unknown[0]!r}; expected {', '.join(names)}")
    if len(counts) < 2:
        raise ValueError(f"{file} has only the label {names[0]!r}; expected at least two")
    return names

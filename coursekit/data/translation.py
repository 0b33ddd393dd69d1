"""Pairs of sentences, source and target, split so that no chapter of the test is seen in training."""

import ast
import csv
import gzip
import html
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from coursekit.data.assets import fetch
from coursekit.data.corpora import Split, split_by_group
from coursekit.errors import unknown_name


@dataclass(frozen=True)
class Pairs:
    """Sentences, their translations, and their groups (the chapter that a verse is from)."""

    sources: list[str]
    targets: list[str]
    groups: list[str]

    def __len__(self) -> int:
        return len(self.sources)


@dataclass(frozen=True)
class Translation:
    """A translation task; no group and no source is in two of the splits."""

    name: str
    train: Pairs
    validation: Pairs
    test: Pairs


def load_translation(name: str, *, max_words: int = 24) -> Translation:
    """The translation task `name`, fetched if need be: "kjv-web", King James to World English Bible.

    Verses are paired by book, chapter and number; a pair stays if each side has 1 to `max_words` words, as separated
    by spaces. Whole chapters make a split. With 24 words, on average 17 a source:

    | split      | pairs  | chapters |
    |------------|--------|----------|
    | train      | 13,992 | 1,026    |
    | validation | 974    | 81       |
    | test       | 1,015  | 75       |

    The two are close: the source itself is a strong translation, to be shown beside every other. Raises ValueError
    for an unknown name or max_words < 1, AssetError if the data cannot be had.
    """
    if name not in _TASKS:
        raise unknown_name("translation task", name, _TASKS)
    if max_words < 1:
        raise ValueError(f"max_words must be at least 1, got {max_words}")
    everything = _TASKS[name]()
    short = [
        row
        for row, sides in enumerate(zip(everything.sources, everything.targets, strict=True))
        if all(1 <= len(side.split()) <= max_words for side in sides)
    ]
    if not short:
        raise ValueError(f"no pair of {name} has at most {max_words} words a side")
    # The splitter of labelled texts, with row numbers for labels: it also drops a source that two splits would have.
    rows = Split([everything.sources[row] for row in short], short, [everything.groups[row] for row in short])
    splits = split_by_group(rows, test=0.06, validation=0.06, seed=0)
    columns = (everything.sources, everything.targets, everything.groups)
    return Translation(
        name, *(Pairs(*([column[row] for row in split.labels] for column in columns)) for split in splits)
    )


def without_brackets(text: str) -> str:
    """The text without the `[ ]` that King James's printers put around words they had added."""
    return text.replace("[", "").replace("]", "")


def _kjv_web() -> Pairs:
    """All verses that both have, in the order of the books."""
    old = _read_kjv(fetch("kjv-bible") / "plain_text_readers_bible.py")
    new, books = _read_web(fetch("web-bible"))
    both = [number for number in old if number in new]
    groups = [f"{books[number // 1_000_000]} {number // 1000 % 1000}" for number in both]
    return Pairs([old[number] for number in both], [new[number] for number in both], groups)


_TASKS: dict[str, Callable[[], Pairs]] = {"kjv-web": _kjv_web}


def _read_kjv(file: Path) -> dict[int, str]:
    """Verses by number: book·10⁶ + chapter·10³ + verse. The file is a Python program; it is parsed, never run.

    It says bible = Bible(version, text, starts, ends, …): one string, and where in it each verse begins and ends.
    """
    tree = ast.parse(file.read_text(encoding="utf-8"))
    call = next(node.value for node in tree.body if isinstance(node, ast.Assign))
    text, starts, ends = (ast.literal_eval(argument) for argument in call.args[1:4])
    return {number: _clean(text[start : ends[number]]) for number, start in starts.items()}


def _read_web(folder: Path) -> tuple[dict[int, str], dict[int, str]]:
    """Verses by number, as above, without their {footnotes}; and the names of the books by number."""
    verses = {int(row[0]): _clean(re.sub(r"\{[^}]*\}", "", row[4])) for row in _rows(folder / "t_web.csv.gz")}
    return verses, {int(row[0]): row[1] for row in _rows(folder / "key_english.csv.gz")}


def _rows(file: Path) -> list[list[str]]:
    with gzip.open(file, "rt", encoding="utf-8", newline="") as stream:
        return list(csv.reader(stream))[1:]


def _clean(text: str) -> str:
    """One space between words, none at the ends; one kind of apostrophe; no mark-up."""
    return " ".join(html.unescape(text).replace("’", "'").replace(">", " ").split())

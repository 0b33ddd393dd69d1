"""What a teacher says about fixed texts, asked once and kept in memory-mapped files.

A cache belongs to the teacher's weights, the texts and what was asked; the hash of all three is written beside it. It
appears whole or not at all, and its bytes are checked when it is opened.
"""

import hashlib
import json
import sys
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from coursekit.data import length_batches
from coursekit.distill.recipes import Recipe
from coursekit.distill.states import Asked, State, asked_of_teacher, encoder_of, is_masked_lm
from coursekit.distill.stored import FORMATS, Shelf, Writer, joined_states, state_name
from coursekit.errors import unknown_name
from coursekit.files import atomic_folder, cache_folder, sha256, write_json
from coursekit.train import TextBatches
from coursekit.train.evaluation import inference
from coursekit.train.runtime import start_accelerator

FORMAT = "coursekit teacher cache 1"


def cache_teacher(
    teacher: nn.Module,
    texts: TextBatches,
    recipe: Recipe,
    *,
    who: str = "teacher",
    stored: Literal["fp32", "fp16", "bf16"] = "fp16",
    precision: Literal["auto", "fp32", "bf16"] = "fp32",
    folder: Path | str | None = None,
) -> "CachedBatches":
    """The texts as batches that bring the teacher's answers for all stages in which it teaches as `who`.

    stored     number format: relative error up to 2⁻¹¹ (fp16) or 2⁻⁸ (bf16) for each number; `cache.errors` has the
               largest error found, relative to the largest number of its kind
    precision  in which the teacher computes
    folder     None: under the cache folder, by teacher, texts and what is asked
    A cache that is damaged, or of another teacher, other texts or other questions, is made again, which is said.
    Shuffling and batch sizes do not matter: answers are found by the number of the text. Raises ValueError for batches
    other than `TextBatches`, for logits of a masked LM without top_k, or a number too large for fp16; FileExistsError
    for a folder that holds something else.
    """
    if not isinstance(texts, TextBatches):
        raise ValueError(f"only fixed texts can be cached, as TextBatches; got {type(texts).__name__}")
    if stored not in FORMATS:
        raise unknown_name("number format", stored, FORMATS)
    asked = asked_of_teacher(term for stage in recipe.stages if stage.teacher == who for term in stage.terms)
    if not asked:
        raise ValueError(f"{recipe.name} asks {who!r} nothing: there is nothing to cache")
    if is_masked_lm(teacher) and Asked("logits") in asked:
        raise ValueError("the logits of every token over the vocabulary are too many to keep; give the recipe a top_k")
    about = {
        "format": FORMAT,
        "teacher": weights_hash(teacher),
        "texts": texts_hash(texts),
        "asked": [str(ask) for ask in asked],
        "stored": stored,
        "precision": precision,
    }
    name = hashlib.sha256(json.dumps(about).encode()).hexdigest()[:16]
    folder = cache_folder() / "teacher-answers" / name if folder is None else Path(folder)
    with start_accelerator().main_process_first():
        cache = _read(folder, about)
        if cache is None:
            _write(folder, about, teacher, texts, asked)
            cache = TeacherCache(folder)
    return CachedBatches(texts, cache)


class TeacherCache:
    """Opened answers. Raises FileNotFoundError if the folder has no cache, ValueError if it is damaged."""

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        file = self.folder / "cache.json"
        if not file.is_file():
            raise FileNotFoundError(f"no teacher cache in {self.folder}")
        try:
            self.about = json.loads(file.read_text(encoding="utf-8"))
            shelves = self.about["shelves"]
            self.lengths = np.fromfile(self.folder / "lengths.bin", "<i8")
            for name, shelf in shelves.items():
                if sha256(self.folder / shelf["file"]) != shelf["sha256"]:
                    raise ValueError(f"{shelf['file']} ({name}) has changed")
            if hashlib.sha256(self.lengths.tobytes()).hexdigest() != self.about["lengths"]:
                raise ValueError("lengths.bin has changed")
            self.shelves = {name: Shelf(self.folder, shelf, self.lengths) for name, shelf in shelves.items()}
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"the teacher cache in {self.folder} is damaged: {error}") from error

    @property
    def errors(self) -> dict[str, float]:
        """For each state the largest error of storing it, relative to its largest number."""
        return {name: shelf["error"] for name, shelf in self.about["shelves"].items()}

    @property
    def bytes(self) -> int:
        """Size on disk."""
        return sum(file.stat().st_size for file in self.folder.iterdir())

    def read(self, rows: Sequence[int], names: Collection[str] | None = None) -> dict[str, State]:
        """States by name for some texts, all or those named, padded as their batch is (B, …, T, …)."""
        width = int(self.lengths[rows].max())
        wanted = {name: shelf for name, shelf in self.shelves.items() if names is None or state_name(name) in names}
        return joined_states({name: shelf.read(rows, width) for name, shelf in wanted.items()})


@dataclass(frozen=True)
class CachedBatches:
    """`TextBatches` whose batches have an entry "teacher": the cached answers for their texts, all or those named."""

    texts: TextBatches
    cache: TeacherCache
    names: tuple[str, ...] | None = None

    def plan(self, number: int) -> list[list[int]]:
        """The rows of each batch of an epoch."""
        return self.texts.plan(number)

    def epoch(self, number: int) -> "_Epoch":
        """The batches of an epoch; each is read when it is asked for."""
        return _Epoch(self, self.plan(number))

    def build(self, rows: list[int]) -> dict[str, Any]:
        """The batch of some rows."""
        return self.texts.build(rows) | {"teacher": self.cache.read(rows, self.names)}

    def only(self, teacher: nn.Module, asked: Iterable[Asked]) -> "CachedBatches":
        """The same with no more than what is asked.

        Raises ValueError unless these are this teacher's answers, to these texts, and all that is asked is there.
        """
        if self.cache.about["teacher"] != weights_hash(teacher):
            raise ValueError(f"the cache in {self.cache.folder} is of a teacher with other weights; make it again")
        if self.cache.about["texts"] != texts_hash(self.texts):
            raise ValueError(f"the cache in {self.cache.folder} is of other texts; make it again")
        names = tuple(map(str, asked))
        for name in names:
            if name not in self.cache.about["asked"]:
                known = ", ".join(self.cache.about["asked"])
                raise ValueError(f"the cache in {self.cache.folder} has no {name}, only {known}; make it again")
        return replace(self, names=names)


@dataclass(frozen=True)
class _Epoch(Sequence):
    batches: CachedBatches
    rows: list[list[int]]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> dict[str, Any]:
        return self.batches.build(self.rows[number])


def weights_hash(model: nn.Module) -> str:
    """SHA-256 of a model's config and of everything it stores."""
    digest = hashlib.sha256(json.dumps(encoder_of(model).config.to_dict(), sort_keys=True).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def texts_hash(texts: TextBatches) -> str:
    """SHA-256 of the token ids and token types of all texts, in order."""
    digest = hashlib.sha256()
    for sequences in (texts.sequences, texts.token_type_ids or ()):
        for sequence in sequences:
            digest.update(len(sequence).to_bytes(8, "little") + np.asarray(sequence, "<i8").tobytes())
    return digest.hexdigest()


def _read(folder: Path, about: dict[str, Any]) -> TeacherCache | None:
    """The cache in the folder if it can be used; else None, and it is said why."""
    if not folder.exists():
        return None
    if not (folder / "cache.json").is_file():
        raise FileExistsError(f"{folder} exists and is not a teacher cache; give another folder")
    try:
        cache = TeacherCache(folder)
    except ValueError as error:
        print(f"{error}: making it again", file=sys.stderr)
        return None
    for name, wanted in about.items():
        if cache.about.get(name) != wanted:
            print(f"the teacher cache in {folder} has other {name}: making it again", file=sys.stderr)
            return None
    return cache


def _write(folder: Path, about: dict[str, Any], teacher: nn.Module, texts: TextBatches, asked: Sequence[Asked]) -> None:
    """Ask the teacher about all texts, from short to long, and write the cache."""
    lengths = np.asarray(texts.lengths, "<i8")
    with atomic_folder(folder) as part, inference(teacher, about["precision"]) as device:
        writer = Writer(part, lengths, about["stored"])
        for rows in length_batches(texts.lengths, max_tokens=max(4096, int(lengths.max()))):
            writer.write(teacher, texts.build(rows), rows, asked, device)
        lengths.tofile(part / "lengths.bin")
        shelves = {"lengths": hashlib.sha256(lengths.tobytes()).hexdigest(), "shelves": writer.close()}
        write_json(part / "cache.json", about | shelves)

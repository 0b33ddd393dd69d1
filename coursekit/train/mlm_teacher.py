"""The masked-LM teacher: the real encoder taught to fill gaps in running text; made once, kept with the course.

`python -m coursekit.train.mlm_teacher` makes it again, from the same text by the same settings; after an interruption
the same command goes on where it stopped.
"""

import hashlib
import json
import platform
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import nn

from coursekit.data import Documents, Tokenizer, TokenStore, assets, fetch, load_documents, load_task
from coursekit.files import atomic_folder, cache_folder, sha256, write_json
from coursekit.measure import machine
from coursekit.models import MaskedLM
from coursekit.train.config import TrainConfig
from coursekit.train.difference import read_difference, write_difference
from coursekit.train.loop import train
from coursekit.train.pretrain import MaskedBatches, masked_lm_loss, masked_lm_metrics, rows_of_tokens
from coursekit.train.runtime import own_random_numbers
from coursekit.train.teacher import pretrained_encoder

HOME = Path(__file__).parents[1] / "weights" / "mlm-teacher"
VERSION = 1  # raise when the code here, or what it calls, would train another teacher
COMMAND = "python -m coursekit.train.mlm_teacher"


@dataclass(frozen=True)
class Pretraining:
    """How to pretrain: settings, tokens in a row, tokens in a batch with its padding, share of tokens to hide."""

    config: TrainConfig
    length: int = 128
    max_tokens: int = 4096
    probability: float = 0.15


SETTINGS = Pretraining(TrainConfig(steps=5000, lr=5e-4, log_every=25, checkpoint_every=50))


@dataclass(frozen=True)
class MLMTeacher:
    """A masked language model, its tokenizer, and how it was made and scored (`teacher.json`)."""

    model: MaskedLM
    tokenizer: Tokenizer
    about: dict[str, Any]


def running_text() -> list[Documents]:
    """All running text the course has: news, the Bible in modern English, and review snippets, one a document."""
    reviews = load_task("rotten-tomatoes")
    splits = (reviews.train, reviews.validation, reviews.test)
    snippets = Documents("reviews", *([[text] for text in split.texts] for split in splits))
    return [load_documents("news"), load_documents("bible"), snippets]


def make_mlm_teacher(
    folder: Path | str = HOME, settings: Pretraining = SETTINGS, texts: Sequence[Documents] | None = None
) -> MLMTeacher:
    """Train the teacher, write it into the folder (`weights.safetensors`, `teacher.json`), and read it back.

    All weights of the MiniLM encoder and of a new head, tied to its word table, learn to fill gaps in the train parts
    of the texts (None: `running_text()`). Checkpoints lie in the cache folder until the end; a second call resumes.
    The file holds what training changed, in 8 bits a weight; the test scores in `teacher.json` are those of the file.
    """
    texts, tokenizer = running_text() if texts is None else texts, Tokenizer(fetch("minilm"))
    work = cache_folder() / "mlm-teacher" / _key(settings, texts)
    documents = chain.from_iterable(text.train for text in texts)
    rows = TokenStore.write(
        work / "rows", rows_of_tokens(documents, tokenizer, length=settings.length), tokenizer.vocab_size
    )
    validation = {text.name: held_out(text.validation, tokenizer, settings.length) for text in texts}
    model = untrained(rows, tokenizer, settings.config.seed)
    result = train(
        model,
        MaskedBatches(
            rows, tokenizer, max_tokens=settings.max_tokens, probability=settings.probability, seed=settings.config.seed
        ),
        masked_lm_loss,
        settings.config,
        evaluate=lambda model: _said(scores(model, validation)),
        on_step=_say,
        folder=work / "checkpoints",
        title="masked LM",
    )
    test = {text.name: held_out(text.test, tokenizer, settings.length) for text in texts}
    with atomic_folder(Path(folder)) as part:
        write_difference(part / "weights.safetensors", model, pretrained_encoder())
        stored = read_difference(part / "weights.safetensors", pretrained_encoder())
        about = {
            **_circumstances(settings),
            "text": {text.name: {"documents": len(text.train)} for text in texts},
            "rows": {"count": len(rows), "tokens": rows.total_tokens},
            "weights": {
                "sha256": sha256(part / "weights.safetensors"),
                "bytes": (part / "weights.safetensors").stat().st_size,
            },
            "result": asdict(result),
            "test": {"trained": scores(model, test), "stored": scores(stored, test)},
        }
        write_json(part / "teacher.json", about)
    shutil.rmtree(work)
    return load_mlm_teacher(folder)


def load_mlm_teacher(folder: Path | str = HOME) -> MLMTeacher:
    """The teacher that `make_mlm_teacher` wrote; the encoder it began with is fetched if need be.

    Raises FileNotFoundError if there is none, ValueError if its weights are damaged or belong to another encoder.
    """
    folder = Path(folder)
    if not (folder / "teacher.json").is_file():
        raise FileNotFoundError(f"no masked-LM teacher in {folder}; make it with: {COMMAND}")
    about = json.loads((folder / "teacher.json").read_text(encoding="utf-8"))
    weights = folder / "weights.safetensors"
    if not weights.is_file() or sha256(weights) != about["weights"]["sha256"]:
        raise ValueError(f"{weights} is missing or damaged; make it again with: {COMMAND}")
    if about["encoder"] != _encoder_sha256():
        raise ValueError(f"the teacher in {folder} began with another encoder; make it again with: {COMMAND}")
    return MLMTeacher(read_difference(weights, pretrained_encoder()), Tokenizer(fetch("minilm")), about)


def untrained(rows: TokenStore, tokenizer: Tokenizer, seed: int = 0) -> MaskedLM:
    """The MiniLM encoder with a new head whose bias is the log of each token's share of the rows.

    To know from the start what a token is worth without context saves the first hundred steps.
    """
    with own_random_numbers(seed, torch.device("cpu")):
        model = MaskedLM(pretrained_encoder())
    counts = torch.full((tokenizer.vocab_size,), 0.5, dtype=torch.float64)
    for row in rows:
        counts += torch.from_numpy(row.astype("int64")).bincount(minlength=tokenizer.vocab_size)
    counts[list(tokenizer.special_ids)] = 0.5
    with torch.no_grad():
        model.head.bias.copy_((counts / counts.sum()).log())
    return model


def held_out(documents: Sequence[Sequence[str]], tokenizer: Tokenizer, length: int = 128) -> MaskedBatches:
    """Held-out documents as batches to score a model on: the same tokens hidden each time, all behind [MASK]."""
    rows = list(rows_of_tokens(documents, tokenizer, length=length))
    return MaskedBatches(rows, tokenizer, batch_size=32, seed=1, hide_all=True)


def scores(model: nn.Module, texts: Mapping[str, MaskedBatches]) -> dict[str, float]:
    """Top-1 accuracy and perplexity on each text, such as "news accuracy"."""
    found = {name: masked_lm_metrics(model, batches, precision="auto") for name, batches in texts.items()}
    return {f"{name} {metric}": found[name][metric] for name in found for metric in ("accuracy", "perplexity")}


def _say(step: int, model: nn.Module) -> None:
    if step % 25 == 0:
        print(f"{time.strftime('%H:%M:%S')} step {step}", file=sys.stderr, flush=True)


def _said(found: dict[str, float]) -> dict[str, float]:
    print({name: round(value, 4) for name, value in found.items()}, file=sys.stderr, flush=True)
    return found


def _key(settings: Pretraining, texts: Sequence[Documents]) -> str:
    """Name of everything that decides the weights."""
    decides = [VERSION, asdict(settings), _encoder_sha256(), [text.train for text in texts]]
    return hashlib.sha256(json.dumps(decides).encode()).hexdigest()[:12]


def _circumstances(settings: Pretraining) -> dict[str, Any]:
    return {
        "command": COMMAND,
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "encoder": _encoder_sha256(),
        "settings": asdict(settings),
    }


def _encoder_sha256() -> str:
    members = assets()["minilm"].sources[0].members
    return next(member.sha256 for member in members if member.name == "model.safetensors")


if __name__ == "__main__":
    made = make_mlm_teacher()
    print(json.dumps(made.about["test"], indent=2))

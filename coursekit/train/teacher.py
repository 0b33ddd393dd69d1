"""The course's teacher: the real encoder fine-tuned on a real task, made once and kept."""

import hashlib
import json
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from torch import Tensor

from coursekit.data import Split, Task, Tokenizer, assets, fetch, load_task
from coursekit.errors import unknown_name
from coursekit.files import atomic_folder, cache_folder, sha256, write_json
from coursekit.models import Encoder, SequenceClassifier, from_huggingface, load, save
from coursekit.train.checkpoint import CheckpointError
from coursekit.train.config import TrainConfig
from coursekit.train.evaluation import evaluate, predict, regression_metrics
from coursekit.train.loop import train
from coursekit.train.pieces import TrainResult
from coursekit.train.runtime import own_random_numbers, start_accelerator
from coursekit.train.text import TextBatches, classification_loss, regression_loss

VERSION = 1  # raise when the code here, or what it calls, would train another teacher


@dataclass(frozen=True)
class Profile:
    """How to fine-tune: settings, number of training texts (None: all), texts per batch."""

    config: TrainConfig
    limit: int | None = None
    batch_size: int = 32


PROFILES = {
    "quick": Profile(TrainConfig(epochs=1, lr=2e-4, checkpoint_every=32), limit=2000),
    "full": Profile(TrainConfig(epochs=3, lr=2e-4, checkpoint_every=150)),
}


@dataclass(frozen=True)
class Teacher:
    """A fine-tuned classifier, its tokenizer, its task, and what happened while it trained."""

    model: SequenceClassifier = field(repr=False)
    tokenizer: Tokenizer = field(repr=False)
    task: Task = field(repr=False)
    result: TrainResult

    @property
    def validation_accuracy(self) -> float:
        """Accuracy on the validation split after training."""
        return self.result.evaluations[-1]["accuracy"]

    def predict(self, texts: Iterable[str]) -> Tensor:
        """Logits (N, labels), a row per text."""
        batches = TextBatches(self.tokenizer.encode(texts), pad_id=self.tokenizer.pad_id, batch_size=64)
        return predict(self.model, batches)


def accuracy(teacher: Teacher, split: Split) -> float:
    """Share of a split's texts whose label the teacher finds."""
    batches = text_batches(split, teacher.tokenizer, batch_size=64)
    return evaluate(teacher.model, batches, classification_loss)["accuracy"]


def text_batches(split: Split, tokenizer: Tokenizer, *, batch_size: int = 32, seed: int | None = None) -> TextBatches:
    """A split as `TextBatches` with the column labels; shuffled only if there is a seed."""
    about = {"pad_id": tokenizer.pad_id, "batch_size": batch_size, "seed": seed, "labels": split.labels}
    if split.second is None:
        return TextBatches(tokenizer.encode(split.texts), **about)
    sequences, types = tokenizer.encode_pairs(split.texts, split.second)
    return TextBatches(sequences, token_type_ids=types, **about)


def pretrained_encoder() -> Encoder:
    """The real MiniLM encoder with dropout off, which in a few epochs on short texts saves time and costs nothing."""
    published = from_huggingface(fetch("minilm"))
    encoder = Encoder(published.config.replace(dropout=0.0))
    encoder.load_state_dict(published.state_dict())
    return encoder.eval()


def finetune(task: Task, profile: Profile, *, folder: Path | str | None = None) -> Teacher:
    """Fine-tune the real encoder on a task; on the GPU if there is one, the result is on the CPU.

    The word table, half of all weights, stays as it is: a step takes a tenth less and validation sees no difference.
    folder: for checkpoints, to resume after an interruption.
    """
    config, tokenizer = profile.config, Tokenizer(fetch("minilm"))
    texts = task.train if profile.limit is None else task.train.take(profile.limit)
    with own_random_numbers(config.seed, torch.device("cpu")):
        model = SequenceClassifier(pretrained_encoder(), len(task.labels))
    model.encoder.embeddings.word.requires_grad_(False)
    validation = text_batches(task.validation, tokenizer, batch_size=64)
    regression = len(task.labels) == 1
    result = train(
        model.to("cuda" if torch.cuda.is_available() else "cpu"),
        text_batches(texts, tokenizer, batch_size=profile.batch_size, seed=config.seed),
        regression_loss if regression else classification_loss,
        config,
        evaluate=lambda model: (
            regression_metrics(model, validation) if regression else evaluate(model, validation, classification_loss)
        ),
        folder=folder,
        title=f"fine-tuning on {task.name}",
    )
    return Teacher(model.to("cpu").requires_grad_(True), tokenizer, task, result)


def load_teacher(profile: str = "quick", task: str = "rotten-tomatoes") -> Teacher:
    """A fine-tuned teacher: trained on first use, read from the cache afterwards.

    "quick" sees 2,000 texts once, "full" all of them three times. The cache is by everything that decides the weights:
    texts, labels, encoder, settings, version of this code. An interrupted training resumes, a damaged teacher is
    trained anew, and a second caller waits for the first. Raises ValueError for an unknown profile or task.
    """
    if profile not in PROFILES:
        raise unknown_name("profile", profile, PROFILES)
    data, accelerator = load_task(task), start_accelerator()
    home = cache_folder() / "teachers" / f"{data.name}-{profile}-{_key(data, PROFILES[profile])}"
    home.parent.mkdir(parents=True, exist_ok=True)
    with _alone(Path(f"{home}.lock")) if accelerator.is_main_process else nullcontext():
        accelerator.wait_for_everyone()  # until the first process holds the lock for all
        teacher = _read(home, data)
        if teacher is None:
            teacher = _finetune_again(data, PROFILES[profile], Path(f"{home}-training"))
            if accelerator.is_main_process:
                _keep(teacher, home)
                shutil.rmtree(f"{home}-training")
        accelerator.wait_for_everyone()
    return teacher


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold a lock that the system gives back if this process dies."""
    lock = FileLock(path)
    try:
        held = lock.acquire(timeout=5)
    except Timeout:
        print("another process is making this teacher: waiting for it", file=sys.stderr)
        held = lock.acquire()
    with held:
        yield


def _finetune_again(task: Task, profile: Profile, folder: Path) -> Teacher:
    """`finetune`, from the start if the checkpoint in the folder cannot be used."""
    try:
        return finetune(task, profile, folder=folder)
    except CheckpointError as error:
        print(f"{error}: starting anew", file=sys.stderr)
        shutil.rmtree(folder)
        return finetune(task, profile, folder=folder)


def _keep(teacher: Teacher, home: Path) -> None:
    with atomic_folder(home) as part:
        save(teacher.model, part / "model")
        about = {"sha256": sha256(part / "model" / "model.safetensors"), "result": asdict(teacher.result)}
        write_json(part / "teacher.json", about)


def _read(home: Path, task: Task) -> Teacher | None:
    """The kept teacher; None if there is none, or a damaged one, which is said."""
    if not home.exists():
        return None
    try:
        about = json.loads((home / "teacher.json").read_text(encoding="utf-8"))
        if sha256(home / "model" / "model.safetensors") != about["sha256"]:
            raise ValueError("its weights have changed")
        return Teacher(load(home / "model"), Tokenizer(fetch("minilm")), task, TrainResult(**about["result"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"the teacher in {home} is damaged ({error}): training it again", file=sys.stderr)
        return None


def _key(task: Task, profile: Profile) -> str:
    decides = {
        "version": VERSION,
        "profile": asdict(profile),
        "encoder": {member.name: member.sha256 for member in assets()["minilm"].sources[0].members},
        "texts": [
            [column for column in (split.texts, split.labels, split.second) if column is not None]
            for split in (task.train, task.validation)
        ],
        "labels": task.labels,
    }
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:12]

"""What the studies of distillation have in common: many texts, few with a label, and a teacher taught with those.

A pool of training texts is drawn by the seed; some of them show their label, the others are only text. A teacher is the
real encoder fine-tuned either on the pool's labelled texts and nothing else, so that nobody has seen more labels than
the others, or "elsewhere": on as many labelled texts outside the pool, which its students never see. All teachers and
students of a seed have the same pool.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from coursekit.course.studies.frame import Numbers, Settings
from coursekit.data import IGNORED, Split, Task, Tokenizer, fetch, load_task
from coursekit.models import SequenceClassifier
from coursekit.train import (
    TextBatches,
    TrainConfig,
    classification_loss,
    predict,
    pretrained_encoder,
    text_batches,
    train,
)
from coursekit.train.runtime import own_random_numbers

DECIDING = (
    "task",
    "pool_texts",
    "elsewhere_texts",
    "labels",
    "steps",
    "lr",
    "batch_size",
    "precision",
)  # what makes a teacher


def common(quick: bool) -> Settings:
    """Settings of all these studies. steps: of a training on so many labels; texts None means all of the split."""
    full = {
        "task": "rotten-tomatoes",
        "pool_texts": 3000,
        "elsewhere_texts": 3000,
        "labels": {"50": 50, "200": 200, "1000": 1000, "3000": 3000},
        "steps": {"50": 40, "200": 60, "1000": 94, "3000": 94, "elsewhere": 94},
        "lr": 2e-4,
        "batch_size": 32,
        "precision": "auto",
        "validation_texts": None,
        "test_texts": None,
    }
    small = {
        "pool_texts": 24,
        "elsewhere_texts": 24,
        "labels": {"50": 4, "200": 8, "1000": 12, "3000": 24},
        "steps": dict.fromkeys(full["steps"], 1),
        "batch_size": 8,
        "validation_texts": 12,
        "test_texts": 12,
    }
    return full | small if quick else full


@dataclass(frozen=True)
class Pool:
    """Texts with all their labels, what is known of these (−100: nothing), and the labelled ones alone."""

    texts: Split
    known: list[int]
    labelled: Split

    def batches(self, settings: Settings, seed: int) -> TextBatches:
        """All texts with what is known of their labels."""
        sequences = tokenizer().encode(self.texts.texts)
        return TextBatches(
            sequences, pad_id=tokenizer().pad_id, batch_size=settings["batch_size"], seed=seed, labels=self.known
        )


def pool(labels: str, seed: int, settings: Settings) -> Pool:
    """The texts of a seed, as many of them labelled as `labels` names."""
    texts = task(settings).train.take(settings["pool_texts"], seed)
    labelled = texts.take(settings["labels"][labels], seed)
    chosen = set(labelled.texts)
    known = [label if text in chosen else IGNORED for text, label in zip(texts.texts, texts.labels, strict=True)]
    return Pool(texts, known, labelled)


def elsewhere(seed: int, settings: Settings) -> Split:
    """Labelled texts of which none is in the pool of this seed."""
    train_texts, count = task(settings).train, settings["pool_texts"]
    ours = set(train_texts.take(count, seed).texts)
    more = train_texts.take(count + settings["elsewhere_texts"], seed)
    kept = [row for row, text in enumerate(more.texts) if text not in ours]
    return Split(*([column[row] for row in kept] for column in (more.texts, more.labels, more.groups)))


def task(settings: Settings) -> Task:
    """The task, loaded once."""
    return _task(settings["task"])


_task = lru_cache(maxsize=1)(load_task)


@lru_cache(maxsize=1)
def tokenizer() -> Tokenizer:
    """The real encoder's."""
    return Tokenizer(fetch("minilm"))


def device() -> torch.device:
    """The GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def config(settings: Settings, seed: int, steps: int, lr: float | None = None) -> TrainConfig:
    """Of one training."""
    return TrainConfig(steps=steps, lr=lr or settings["lr"], precision=settings["precision"], seed=seed)


def classifier(seed: int) -> SequenceClassifier:
    """The pretrained encoder with a new head; its word table does not train, as everywhere in the course."""
    with own_random_numbers(seed, torch.device("cpu")):
        model = SequenceClassifier(pretrained_encoder(), 2)
    model.encoder.embeddings.word.requires_grad_(False)
    return model.to(device())


def learn_alone(
    model: nn.Module, split: Split, settings: Settings, seed: int, steps: int, lr: float | None = None
) -> float:
    """Train on the labels of a split; seconds."""
    batches = text_batches(split, tokenizer(), batch_size=settings["batch_size"], seed=seed)
    return train(model, batches, classification_loss, config(settings, seed, steps, lr), title="alone").seconds


def taught(labels: str, seed: int, settings: Settings) -> SequenceClassifier:
    """The teacher of a seed, fine-tuned on so many labelled texts of the pool, or "elsewhere"; the last are kept."""
    kept = {name: settings[name] for name in DECIDING}
    return _taught(labels, seed, json.dumps(kept, sort_keys=True))


@lru_cache(maxsize=4)
def _taught(labels: str, seed: int, kept: str) -> SequenceClassifier:
    settings, model = json.loads(kept), classifier(seed)
    texts = elsewhere(seed, settings) if labels == "elsewhere" else pool(labels, seed, settings).labelled
    learn_alone(model, texts, settings, seed, settings["steps"][labels])
    return model.eval().requires_grad_(True)


def teachers_right(labels: str, seed: int, settings: Settings) -> list[int]:
    """Which test texts `taught` finds; asked once."""
    return _teachers_right(labels, seed, json.dumps(settings, sort_keys=True))


@lru_cache(maxsize=4)
def _teachers_right(labels: str, seed: int, kept: str) -> list[int]:
    settings = json.loads(kept)
    return right(taught(labels, seed, settings), "test", settings)


def answers(model: nn.Module, texts: Sequence[str], settings: Settings) -> Tensor:
    """Logits (N, labels)."""
    batches = TextBatches(tokenizer().encode(texts), pad_id=tokenizer().pad_id, batch_size=64)
    return predict(model, batches, precision=settings["precision"])


def right(model: nn.Module, side: str, settings: Settings) -> list[int]:
    """1 or 0 for each text of the "validation" or "test" split."""
    split = _limited(side, settings)
    said = answers(model, split.texts, settings).argmax(-1).tolist()
    return [int(answer == label) for answer, label in zip(said, split.labels, strict=True)]


def scores(model: nn.Module, settings: Settings) -> tuple[Numbers, list[int]]:
    """Accuracy on validation and test, and right or wrong on each test text."""
    found = {side: right(model, side, settings) for side in ("validation", "test")}
    return {f"{side}_accuracy": round(sum(each) / len(each), 4) for side, each in found.items()}, found["test"]


def agreement(ours: Sequence[int], theirs: Sequence[int]) -> float:
    """Share of texts on which two models of two labels say the same, from right or wrong on each."""
    return round(sum(a == b for a, b in zip(ours, theirs, strict=True)) / len(ours), 4)


def _limited(side: str, settings: Settings) -> Split:
    split, limit = getattr(task(settings), side), settings[f"{side}_texts"]
    return split if limit is None else split.take(limit)


def bag_of_words(labels: str, seed: int, settings: Settings) -> float:
    """Test accuracy of a logistic regression on TF-IDF of words and word pairs, taught with the same labels."""
    labelled, test = pool(labels, seed, settings).labelled, _limited("test", settings)
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    model = LogisticRegression(C=10, max_iter=1000).fit(words.fit_transform(labelled.texts), labelled.labels)
    return round(float(model.score(words.transform(test.texts), test.labels)), 4)


def majority(settings: Settings) -> float:
    """Test accuracy of always naming the larger class of the training texts."""
    train_labels, test = task(settings).train.labels, _limited("test", settings)
    larger = int(2 * sum(train_labels) > len(train_labels))
    return round(test.labels.count(larger) / len(test), 4)


def majority_alone(settings: Settings) -> dict[str, float]:
    """Baselines of a study that has no other: always the larger class."""
    return {"majority": majority(settings)}

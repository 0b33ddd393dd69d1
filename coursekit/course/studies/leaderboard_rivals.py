"""Whatever answers the task, behind one face: our models, and what needs no trained encoder at all."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from coursekit.compress.pruning import prunable, sparse_bytes
from coursekit.course.studies import few_labels
from coursekit.course.studies.frame import Numbers, Settings
from coursekit.course.studies.leaderboard_siblings import Int8Sibling
from coursekit.course.studies.leaderboard_starts import Ground
from coursekit.course.studies.leaderboard_steps import Made
from coursekit.data import Split
from coursekit.export import plain
from coursekit.measure import count_flops, count_parameters, peak_memory, stored_bytes
from coursekit.train import TextBatches, inputs, predict, pretrained_encoder

Encoder = Callable[[Tensor, Tensor], Tensor]  # ids and mask (B, T) → last states (B, T, H)


@dataclass(frozen=True)
class Rival:
    """One row of the table.

    answers   texts → the label of each (N,)
    call      texts in a batch → what is timed: from token ids on, or from text where there are none
    numbers   parameters, bytes as stored, FLOPs for one text, bytes at peak for a batch, CPU seconds of training
    """

    answers: Callable[[Sequence[str]], np.ndarray]
    call: Callable[[int], Callable[[], Any]]
    numbers: Numbers

    def right(self, split: Split) -> list[int]:
        """1 or 0 for each text."""
        return [int(a == b) for a, b in zip(self.answers(split.texts), split.labels, strict=True)]


def judged(side: str, settings: Settings) -> Split:
    """The texts of "validation" or "test" that are judged: all, but in a quick study."""
    split, limit = getattr(few_labels.task(settings), side), settings[f"{side}_texts"]
    return split if limit is None else split.take(limit)


def of_model(made: Made, masked: bool, settings: Settings) -> Rival:
    """A classifier. Parameters are counted with codes folded back. masked: `sparse_bytes` too, each matrix in the
    smallest of its forms."""
    model, words = made.model, made.tokenizer

    def answers(texts: Sequence[str]) -> np.ndarray:
        batches = TextBatches(words.encode(texts), pad_id=words.pad_id, batch_size=64)
        return predict(model, batches, precision=settings["precision"]).argmax(-1).numpy()

    call = partial(_call, model, settings)
    numbers = {
        "parameters": count_parameters(plain(model)).total,
        "bytes": stored_bytes(model),
        "flops": count_flops(model, 1, settings["tokens"]),
        "peak_bytes": peak_memory(call(settings["batches"][-1])),
        "cpu_seconds": round(made.seconds, 1),
    }
    if masked:
        forms = [sparse_bytes(layer.weight.detach()) for layer in prunable(model).values()]
        numbers["sparse_bytes"] = numbers["bytes"] + sum(getattr(form, form.smallest) - form.dense for form in forms)
    return Rival(answers, call, numbers)


def _call(model: nn.Module, settings: Settings, batch: int) -> Callable[[], Any]:
    """The model on any token ids: which they are costs no time."""
    ids = _ids(batch, settings, model.config.vocab_size)
    return lambda: model(ids)


def _ids(batch: int, settings: Settings, vocabulary: int) -> Tensor:
    """(B, T), the same for every model with the same vocabulary."""
    return torch.randint(vocabulary, (batch, settings["tokens"]), generator=torch.Generator().manual_seed(0))


def bag_of_words(seed: int, settings: Settings) -> Rival:
    """Logistic regression on TF-IDF of words and pairs of words, in single precision; it is timed from text on."""
    texts, started = Ground(seed, settings).texts, time.process_time()
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, dtype=np.float32)
    known = words.fit_transform(texts.texts)
    model = LogisticRegression(C=10, max_iter=1000).fit(known, texts.labels)
    spent, some = time.process_time() - started, judged("validation", settings).texts
    entries = words.transform(some).nnz / len(some)
    numbers = {
        "parameters": 2 * len(words.vocabulary_) + 1,  # how rare a word is, and what it says
        "bytes": 4 * (2 * len(words.vocabulary_) + 1) + sum(len(word.encode()) + 1 for word in words.vocabulary_),
        "flops": round(2 * entries),
        "cpu_seconds": round(spent, 1),
    }

    def answers(texts: Sequence[str]) -> np.ndarray:
        return model.predict(words.transform(texts))

    return Rival(answers, lambda batch: lambda: answers((some * batch)[:batch]), numbers)


def probe(seed: int, settings: Settings, int8: bool = False) -> Rival:
    """The encoder as published, or its public int8 sibling, frozen: logistic regression on the mean of its states."""
    encoder, texts, started = _frozen(int8), Ground(seed, settings).texts, time.process_time()
    model = LogisticRegression(C=10, max_iter=1000).fit(_means(encoder, texts.texts), texts.labels)
    weight, bias = (torch.from_numpy(part).float() for part in (model.coef_, model.intercept_))
    whole, extra = pretrained_encoder(), model.coef_.size + 1
    stored = encoder.file.stat().st_size if int8 else stored_bytes(whole)
    numbers = {
        "parameters": count_parameters(whole).total + extra,
        "bytes": stored + 4 * extra,
        "flops": count_flops(whole, 1, settings["tokens"]),
        "cpu_seconds": round(time.process_time() - started, 1),
    }

    def answers(texts: Sequence[str]) -> np.ndarray:
        return model.predict(_means(encoder, texts))

    def call(batch: int) -> Callable[[], Any]:
        ids = _ids(batch, settings, whole.config.vocab_size)
        mask = torch.ones_like(ids).bool()
        return lambda: encoder(ids, mask).mean(1) @ weight.T + bias

    if not int8:
        numbers["peak_bytes"] = peak_memory(call(settings["batches"][-1]))  # the sibling's memory is not torch's
    return Rival(answers, call, numbers)


@lru_cache(maxsize=1)
def _frozen(int8: bool) -> Any:
    if int8:
        return Int8Sibling()
    model = pretrained_encoder()
    return lambda ids, mask: model(ids, mask).last_hidden


def _means(encoder: Encoder, texts: Sequence[str]) -> np.ndarray:
    """(N, H): mean over the real tokens of each text, of length 1."""
    words = few_labels.tokenizer()
    batches = TextBatches(words.encode(texts), pad_id=words.pad_id, batch_size=64)
    rows, found = [], []
    with torch.inference_mode():
        for numbers, batch in zip(batches.plan(0), batches.epoch(0), strict=True):
            ids, mask, _ = inputs(batch)
            states = encoder(ids, mask) * mask[..., None]
            rows += numbers
            found.append(nn.functional.normalize(states.sum(1), dim=-1))
    return torch.cat(found)[torch.tensor(rows).argsort()].numpy()


RIVALS: dict[str, Callable[[int, Settings], Rival]] = {
    "bag-of-words": bag_of_words,
    "probe": probe,
    "sibling-int8": partial(probe, int8=True),
}

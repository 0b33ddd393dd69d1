"""DistilBERT's triple loss and its ablation (Sanh et al. 2019, Table 4), in small: then a few labels.

The teacher is the course's masked language model of six layers. A student of three learns on running text, with the
whole loss or without one of its parts, from layers 0, 2, 4 of the teacher or from random weights; `mlm-alone` has no
teacher, `start` skips this stage. Each is scored on hidden words, then fine-tuned on the same labelled reviews and
tested. All arms of a seed see the same rows with the same words hidden.

The soft targets and the masked words are compared at hidden words only (the released code offers that, its default is
all tokens): to score 30,522 words at every token would take more than all layers together.
"""

import copy
import json
import random
from functools import lru_cache
from typing import Any

import torch
from torch import nn

from coursekit.course.studies.few_labels import (
    common,
    config,
    device,
    learn_alone,
    majority_alone,
    pool,
    scores,
    tokenizer,
)
from coursekit.course.studies.frame import Numbers, Settings, Study, accuracy_differences
from coursekit.data import load_documents
from coursekit.distill import Recipe, distilbert, distill, fresh_student, init_from_teacher
from coursekit.measure import count_parameters
from coursekit.models import MaskedLM, SequenceClassifier
from coursekit.train import MaskedBatches, masked_lm_metrics, rows_of_tokens
from coursekit.train.mlm_teacher import load_mlm_teacher
from coursekit.train.runtime import own_random_numbers

WITHOUT = {  # arm → the terms it lacks
    "triple": (),
    "no-soft": ("soft",),
    "no-cosine": ("cosine",),
    "no-mlm": ("hard",),
    "mlm-alone": ("soft", "cosine"),
    "random": (),
}
ARMS = ("teacher", "start", *WITHOUT)
COMPARED = tuple((arm, "triple") for arm in ARMS if arm != "triple")
BARE = {"token_types": 0, "pooler": False}  # what DistilBERT leaves out


def settings(quick: bool) -> Settings:
    """Sizes and recipe. documents: of each source, for learning; held_out: of each source, for scoring."""
    full = {
        "documents": {"news": 150, "bible": 40},
        "snippets": 1000,
        "held_out": {"news": 40, "bible": 10},
        "row_tokens": 64,
        "batch_tokens": 1024,
        "distil_steps": 100,
        "distil_lr": 5e-4,
        "labelled": "1000",
    }
    small = {"documents": {"news": 2}, "snippets": 4, "held_out": {"news": 1}, "distil_steps": 2, "batch_tokens": 128}
    return common(quick) | full | (small if quick else {})


documents = lru_cache(maxsize=2)(load_documents)


@lru_cache(maxsize=1)
def _teacher() -> MaskedLM:
    return load_mlm_teacher().model.to(device()).eval()


def _rows(seed: int, settings: Settings) -> list[list[int]]:
    """Running text of a seed: news, the Bible, and review snippets of the pool without their labels."""
    draw, wanted = random.Random(seed), settings["documents"]
    texts = [text for name, count in wanted.items() for text in draw.sample(documents(name).train, count)]
    texts += [[text] for text in pool(settings["labelled"], seed, settings).texts.texts[: settings["snippets"]]]
    return list(rows_of_tokens(texts, tokenizer(), length=settings["row_tokens"]))


@lru_cache(maxsize=1)
def _held_out(kept: str, length: int) -> MaskedBatches:
    """The same rows with the same words hidden for every arm and seed."""
    texts = [text for name, count in json.loads(kept).items() for text in documents(name).test[:count]]
    rows = list(rows_of_tokens(texts, tokenizer(), length=length))
    return MaskedBatches(rows, tokenizer(), batch_size=32, seed=1, hide_all=True)


def student(arm: str, seed: int) -> MaskedLM:
    """Three layers of the teacher, or as many at random."""
    if arm == "random":
        model = fresh_student(_teacher(), seed=seed, num_layers=_recipe(arm).student_layers, **BARE)
        return model.to(device())
    return init_from_teacher(_teacher(), _recipe("triple").start, bare=True)


def _recipe(arm: str) -> Recipe:
    return distilbert(6, 3, masked_only=True).without(*WITHOUT[arm])


def run(arm: str, seed: int, settings: Settings) -> tuple[Numbers, dict[str, Any]]:
    """Distil on running text, score on hidden words, fine-tune, test once. Kept: right or wrong on each test text."""
    model, seconds = _teacher() if arm == "teacher" else student(arm, seed), 0.0
    numbers: Numbers = {}
    if arm in WITHOUT:
        rows = _rows(seed, settings)
        batches = MaskedBatches(rows, tokenizer(), max_tokens=settings["batch_tokens"], seed=seed)
        training = config(settings, seed, settings["distil_steps"], settings["distil_lr"])
        result = distill(model, _teacher(), _recipe(arm), batches, training).stages["distil"]
        seconds = result.seconds
        numbers["tokens"] = result.tokens
    held_out = _held_out(json.dumps(settings["held_out"]), settings["row_tokens"])
    found = masked_lm_metrics(model, held_out, precision=settings["precision"])
    numbers |= {f"masked_lm_{name}": round(found[name], 4) for name in ("accuracy", "loss")}
    tuned = _fine_tuned(model, seed, settings)
    accuracies, test = scores(tuned, settings)
    numbers |= accuracies | {"parameters": count_parameters(tuned).total, "seconds": round(seconds, 1)}
    return numbers, {"right": test}


def _fine_tuned(model: MaskedLM, seed: int, settings: Settings) -> nn.Module:
    """A classifier on a copy of the encoder, taught with the labelled texts of the seed."""
    encoder = copy.deepcopy(model.encoder)
    with own_random_numbers(seed, torch.device("cpu")):
        classifier = SequenceClassifier(encoder, 2).to(device())
    classifier.encoder.embeddings.word.requires_grad_(False)
    labelled = pool(settings["labelled"], seed, settings).labelled
    learn_alone(classifier, labelled, settings, seed, settings["steps"][settings["labelled"]])
    return classifier


STUDY = Study(
    name="triple_loss",
    title="DistilBERT's triple loss on running text, without each of its parts, then a few labels",
    minutes=30,
    arms=ARMS,
    seeds=(0, 1, 2),
    settings=settings,
    run=run,
    baselines=majority_alone,
    compare=accuracy_differences(COMPARED),
)

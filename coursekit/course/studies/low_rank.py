"""How far the fine-tuned encoder can be factorised, and what a short training afterwards brings back.

Arms are method × share of each layer's numbers kept, without and with recovery: the texts the teacher was fine-tuned
on, once more, so no label is new. Two rivals have the same recovery: the dense model (what more training does by
itself) and three of the six layers (another way to halve them). Chosen on validation, for aware-0.3 and seed 0 alone:
the learning rate; 5e-5, 1e-4 and 2e-4 gave .782, .787 and .789. Seeds draw the calibration texts and the order of
training; without either, an arm's runs are equal.
"""

import copy
from functools import lru_cache
from typing import Any

from torch import nn

from coursekit.compress.lowrank import compress
from coursekit.compress.pruning import drop_layers
from coursekit.course.studies.frame import Numbers, Settings, Study, accuracy_differences
from coursekit.data import Split
from coursekit.measure import count_flops, count_parameters, stored_bytes
from coursekit.train import (
    PROFILES,
    Teacher,
    TrainConfig,
    classification_loss,
    load_teacher,
    predict,
    text_batches,
    train,
)

KEEPS = {"0.5": 0.5, "0.3": 0.3, "0.15": 0.15}
RECOVERED = "+train"
ARMS = (
    "dense",
    *(f"{method}-{keep}" for keep in KEEPS for method in ("svd", "aware")),
    f"dense{RECOVERED}",
    f"layers-3{RECOVERED}",
    *(f"{method}-{keep}{RECOVERED}" for keep in KEEPS for method in ("svd", "aware")),
)
COMPARED = (
    *((f"aware-{keep}", f"svd-{keep}") for keep in KEEPS),
    *((f"{method}-{keep}{RECOVERED}", f"{method}-{keep}") for keep in KEEPS for method in ("svd", "aware")),
    *((f"aware-{keep}{RECOVERED}", f"svd-{keep}{RECOVERED}") for keep in KEEPS),
    *((f"aware-{keep}{RECOVERED}", f"dense{RECOVERED}") for keep in KEEPS),
    (f"dense{RECOVERED}", "dense"),
    (f"aware-0.5{RECOVERED}", f"layers-3{RECOVERED}"),
)


def settings(quick: bool) -> Settings:
    """Recipe and sizes; texts None means all of the split, and teacher_texts what the teacher has seen."""
    full = {
        "teacher": "quick",
        "task": "rotten-tomatoes",
        "teacher_texts": PROFILES["quick"].limit,
        "calibration_texts": 256,
        "kept_layers": [0, 2, 4],
        "epochs": 1,
        "steps": None,
        "lr": 2e-4,
        "batch_size": 32,
        "precision": "auto",
        "validation_texts": None,
        "test_texts": None,
    }
    small = {"calibration_texts": 8, "epochs": None, "steps": 2, "validation_texts": 16, "test_texts": 16}
    return full | small if quick else full


@lru_cache(maxsize=1)
def _teacher(profile: str, task: str) -> Teacher:
    return load_teacher(profile, task)


def compressed(arm: str, seed: int, settings: Settings, teacher: Teacher) -> nn.Module:
    """The model of an arm before recovery: a copy of the teacher's, made smaller."""
    kind, _, keep = arm.removesuffix(RECOVERED).partition("-")
    model = copy.deepcopy(teacher.model)
    if kind == "layers":
        drop_layers(model.encoder, settings["kept_layers"])
        return model
    if kind == "dense":
        return model
    calibration = None
    if kind == "aware":
        texts = teacher.task.train.take(settings["teacher_texts"]).take(settings["calibration_texts"], seed)
        calibration = text_batches(texts, teacher.tokenizer, batch_size=settings["batch_size"])
    return compress(model, KEEPS[keep], calibration)


def run(arm: str, seed: int, settings: Settings) -> tuple[Numbers, dict[str, Any]]:
    """Compress, recover where the arm says so, and test once. Kept for comparing: right or wrong on each test text."""
    teacher = _teacher(settings["teacher"], settings["task"])
    model, seconds = compressed(arm, seed, settings, teacher), 0.0
    if arm.endswith(RECOVERED):
        model.encoder.embeddings.word.requires_grad_(False)  # as in the teacher's fine-tuning
        texts = teacher.task.train.take(settings["teacher_texts"])
        batches = text_batches(texts, teacher.tokenizer, batch_size=settings["batch_size"], seed=seed)
        chosen = {name: settings[name] for name in ("epochs", "steps", "lr", "precision")}
        seconds = train(
            model, batches, classification_loss, TrainConfig(seed=seed, **chosen), title=f"{arm}, seed {seed}"
        ).seconds
    right = {
        name: _right(model, getattr(teacher.task, name), settings[f"{name}_texts"], teacher)
        for name in ("validation", "test")
    }
    numbers = {
        "parameters": count_parameters(model).total,
        "bytes": stored_bytes(model),
        "flops": count_flops(model, 1, 128),
        **{f"{name}_accuracy": round(sum(each) / len(each), 4) for name, each in right.items()},
        "seconds": round(seconds, 1),
    }
    return numbers, {"right": right["test"]}


def _right(model: nn.Module, split: Split, limit: int | None, teacher: Teacher) -> list[int]:
    """1 or 0 for each text of a split."""
    texts = split if limit is None else split.take(limit)
    said = predict(model, text_batches(texts, teacher.tokenizer, batch_size=64)).argmax(-1).tolist()
    return [int(answer == label) for answer, label in zip(said, texts.labels, strict=True)]


def baselines(settings: Settings) -> dict[str, Any]:
    """Always the larger class of the training texts, on validation and test."""
    task = _teacher(settings["teacher"], settings["task"]).task
    larger = int(sum(task.train.labels) * 2 > len(task.train.labels))
    splits = {"validation": task.validation.labels, "test": task.test.labels}
    return {f"majority_{name}": round(labels.count(larger) / len(labels), 4) for name, labels in splits.items()}


STUDY = Study(
    name="low_rank",
    title="Low rank with and without recovery: the fine-tuned encoder on film reviews",
    minutes=30,
    arms=ARMS,
    seeds=(0, 1, 2),
    settings=settings,
    run=run,
    baselines=baselines,
    compare=accuracy_differences(COMPARED),
)

"""How few bits a fine-tuned encoder stands, by which method: one fine-tuning per seed, then every scheme on it.

A seed draws the encoder's fine-tuning (its classifier and the order of texts), the calibration texts, and the order of
the texts of further training. "row" is one scale for each output row, "g64" one for 64 neighbours of it. QAT goes on
training with the rounding in the forward pass; `fp32-more` is its control, the same steps without it. Nothing is
chosen on the test set: α = 0.5 was fixed, the steps of QAT were set on validation, with the weights of the lesson.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from coursekit.compress.quantization import SCHEMES, Scheme, convert_qat, prepare_qat, quantize_model
from coursekit.course.studies.frame import Numbers, Settings, Study, accuracy_difference, differences
from coursekit.data import Split, Task, Tokenizer, fetch, load_task
from coursekit.files import cache_folder
from coursekit.measure import stored_bytes
from coursekit.models import load, save
from coursekit.train import Profile, TrainConfig, classification_loss, finetune, predict, text_batches, train


@dataclass(frozen=True)
class Arm:
    """A scheme (None: full precision) and what goes with it."""

    scheme: Scheme | None = None
    embeddings: bool = False
    smooth: float | None = None
    smooth_all: bool = True  # False: only the layers after a LayerNorm, as SmoothQuant's released code does
    trained: bool = False

    @property
    def calibrated(self) -> bool:
        """Whether it looks at calibration texts."""
        return self.smooth is not None or (
            self.scheme is not None and (self.scheme.gptq or self.scheme.activations == "static")
        )


NOT_AFTER_A_NORM = ("classifier", "pooler", "output", "down")
ARMS = {
    "fp32": Arm(),
    "fp32-more": Arm(trained=True),
    "int8": Arm(SCHEMES["int8"]),
    "int8-static": Arm(SCHEMES["int8-static"]),
    "int8-smooth": Arm(SCHEMES["int8"], smooth=0.5),
    "int8-static-smooth": Arm(SCHEMES["int8-static"], smooth=0.5),
    "int8-static-smooth-norms": Arm(SCHEMES["int8-static"], smooth=0.5, smooth_all=False),
    "int8-embeddings": Arm(SCHEMES["int8"], embeddings=True),
    "int4-row": Arm(Scheme(4)),
    "int4-g64": Arm(Scheme(4, 64)),
    "int4-g32": Arm(Scheme(4, 32)),
    "int4-row-gptq": Arm(Scheme(4, gptq=True)),
    "int4-g64-embeddings": Arm(Scheme(4, 64), embeddings=True),
    "int3-row": Arm(Scheme(3)),
    "int3-g64": Arm(Scheme(3, 64)),
    "int3-row-gptq": Arm(Scheme(3, gptq=True)),
    "int3-g64-gptq": Arm(Scheme(3, 64, gptq=True)),
    "int3-row-qat": Arm(Scheme(3), trained=True),
    "ternary": Arm(SCHEMES["ternary"]),
    "ternary-qat": Arm(SCHEMES["ternary"], trained=True),
}
COMPARED = (
    *((arm, "fp32") for arm in ARMS if arm != "fp32"),
    ("int8-smooth", "int8"),
    ("int8-static-smooth", "int8-static"),
    ("int8-static-smooth-norms", "int8-static"),
    ("int4-g32", "int4-row"),
    ("int4-row-gptq", "int4-row"),
    ("int3-row-gptq", "int3-row"),
    ("int3-g64-gptq", "int3-g64"),
    ("int3-row-qat", "int3-row-gptq"),
    ("int3-row-qat", "fp32-more"),
    ("ternary-qat", "ternary"),
    ("ternary-qat", "fp32-more"),
)


def settings(quick: bool) -> Settings:
    """Sizes and recipe; None means all texts of a split."""
    full = {
        "task": "rotten-tomatoes",
        "teacher_texts": 5000,
        "teacher_lr": 2e-4,
        "calibration_texts": 256,
        "qat_texts": 2000,
        "qat_lr": 3e-4,
        "qat_batch_size": 16,
        "batch_size": 32,
        "validation_texts": None,
        "test_texts": None,
    }
    small = {"teacher_texts": 64, "calibration_texts": 16, "qat_texts": 32, "validation_texts": 32, "test_texts": 48}
    return full | small if quick else full


def _part(split: Split, size: int | None) -> Split:
    return split if size is None else split.take(size)


@lru_cache(maxsize=1)
def _task(name: str) -> tuple[Task, Tokenizer]:
    return load_task(name), Tokenizer(fetch("minilm"))


@lru_cache(maxsize=1)  # all arms of a seed come one after the other
def _finetuned(name: str, texts: int, lr: float, batch_size: int, seed: int) -> tuple[nn.Module, dict[str, Tensor]]:
    """The model of a seed, kept on disk, and what it says of each text it has been asked about."""
    folder = cache_folder() / "studies" / "quantization" / f"model-{name}-{texts}-{lr}-{batch_size}-{seed}"
    if not folder.is_dir():
        profile = Profile(TrainConfig(epochs=1, lr=lr, seed=seed), limit=texts, batch_size=batch_size)
        save(finetune(_task(name)[0], profile).model, folder)
    return load(folder), {}


def quantized(model: nn.Module, arm: Arm, seed: int, settings: Settings) -> nn.Module:
    """The model by an arm; it is not changed."""
    task, tokenizer = _task(settings["task"])
    if not arm.trained:
        calibration = text_batches(task.train.take(settings["calibration_texts"], seed=seed), tokenizer)
        options = {"embeddings": arm.embeddings, "smooth": arm.smooth}
        options |= {"calibration": calibration} if arm.calibrated else {}
        if arm.scheme is None:
            return model
        if arm.smooth_all:
            return quantize_model(model, arm.scheme, **options)
        model = quantize_model(model, arm.scheme, exclude=NOT_AFTER_A_NORM, **options)
        return quantize_model(model, arm.scheme, calibration=calibration)
    texts = task.train.take(settings["qat_texts"], seed=seed)
    batches = text_batches(texts, tokenizer, batch_size=settings["qat_batch_size"], seed=seed)
    trained = copy.deepcopy(model) if arm.scheme is None else prepare_qat(model, arm.scheme)
    trained.encoder.embeddings.word.requires_grad_(False)
    config = TrainConfig(epochs=1, lr=settings["qat_lr"], seed=seed)
    train(trained, batches, classification_loss, config, title=f"{settings['task']}, seed {seed}")
    return trained if arm.scheme is None else convert_qat(trained)


def _logits(model: nn.Module, split: Split, tokenizer: Tokenizer) -> Tensor:
    return predict(model, text_batches(split, tokenizer, batch_size=64))


def run(name: str, seed: int, settings: Settings) -> tuple[Numbers, dict[str, Any]]:
    """One model by one arm. agreement: share of texts with the answer of the seed's full-precision model; logit_error:
    ‖logits − its logits‖ / ‖its logits‖.
    """
    task, tokenizer = _task(settings["task"])
    keys = ("task", "teacher_texts", "teacher_lr", "batch_size")
    model, said = _finetuned(*(settings[key] for key in keys), seed)
    parts = {
        "validation": _part(task.validation, settings["validation_texts"]),
        "test": _part(task.test, settings["test_texts"]),
    }
    other = quantized(model, ARMS[name], seed, settings)
    numbers: Numbers = {"stored_bytes": stored_bytes(other)}
    details = {}
    for split, texts in parts.items():
        if split not in said:
            said[split] = _logits(model, texts, tokenizer)
        reference = said[split]
        logits = reference if other is model else _logits(other, texts, tokenizer)
        right = logits.argmax(-1) == torch.tensor(texts.labels)
        same = logits.argmax(-1) == reference.argmax(-1)
        numbers[f"{split}_accuracy"] = round(float(right.float().mean()), 5)
        numbers[f"{split}_agreement"] = round(float(same.float().mean()), 5)
        numbers[f"{split}_logit_error"] = round(float((logits - reference).norm() / reference.norm()), 4)
        details[split] = {"right": right.int().tolist(), "same": same.int().tolist()}
    return numbers, details["test"]


def baselines(settings: Settings) -> dict[str, Any]:
    """Always the class that most training texts have, and the numbers of texts."""
    task, _ = _task(settings["task"])
    usual = np.bincount(task.train.labels).argmax()
    test = _part(task.test, settings["test_texts"])
    return {
        "majority_test_accuracy": round(float(np.mean(np.array(test.labels) == usual)), 5),
        "test_texts": len(test),
        "validation_texts": len(_part(task.validation, settings["validation_texts"])),
    }


def compare(details: Mapping[str, list[dict[str, Any]]], settings: Settings) -> dict[str, Any]:
    """Test accuracy, and agreement with full precision, of one arm minus another's; intervals over texts and seeds."""
    measures = {"test_accuracy": ("right", accuracy_difference), "test_agreement": ("same", accuracy_difference)}
    return differences(details, COMPARED, measures)


STUDY = Study(
    name="quantization",
    title="Bits against accuracy: one fine-tuned encoder by twenty schemes",
    minutes=30,
    arms=tuple(ARMS),
    seeds=(0, 1, 2),
    settings=settings,
    run=run,
    baselines=baselines,
    compare=compare,
)

"""What makes the models of the leaderboard: a start, and steps that each turn a model into a smaller one.

An arm is a chain of names such as ("teacher", "distil", "neurons", "int8"). Chains that begin alike share what they
share, and a model knows the CPU seconds of its whole chain. A step that follows codes first folds them back to real
numbers: what was rounded stays rounded until something trains.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import nn

from coursekit.compress.lowrank import compress, factorize_embeddings, rank_for_budget
from coursekit.compress.pruning import (
    apply_masks,
    best_neurons,
    calibrate,
    drop_layers,
    finalize,
    gradually,
    head_importance,
    least_heads,
    magnitude_masks,
    n_m_mask,
    neuron_importance,
    prunable,
    prune_ffn,
    prune_heads,
    prune_tokenizer,
    prune_vocabulary,
    task_vocabulary,
    wanda_mask,
)
from coursekit.compress.quantization import convert_qat, prepare_qat, quantize_model
from coursekit.course.studies import few_labels
from coursekit.course.studies.frame import Settings
from coursekit.course.studies.leaderboard_starts import KEPT, LAYERS, STARTS, Ground, trainable
from coursekit.data import Tokenizer, fetch
from coursekit.distill import (
    Recipe,
    distilbert,
    distill,
    fresh_student,
    init_from_teacher,
    minilm,
    pkd,
    soft_and_hard,
    theseus,
    tinybert,
)
from coursekit.export import plain
from coursekit.files import cache_folder
from coursekit.models import SequenceClassifier
from coursekit.train import TextBatches, classification_loss
from coursekit.train.loop import OnStep
from coursekit.train.runtime import own_random_numbers


@dataclass(frozen=True)
class Made:
    """A model, the tokenizer it reads with, and the CPU seconds of everything that made it, its teacher included."""

    model: SequenceClassifier
    tokenizer: Tokenizer
    seconds: float


def made(chain: tuple[str, ...], seed: int, settings: Settings) -> Made:
    """The model at the end of a chain; the last few are kept."""
    return _made(chain, seed, json.dumps(settings, sort_keys=True))


@lru_cache(maxsize=8)
def _made(chain: tuple[str, ...], seed: int, kept: str) -> Made:
    *earlier, last = chain
    ground = Ground(seed, json.loads(kept))
    before = _made(tuple(earlier), seed, kept) if earlier else None
    started = time.process_time()
    with own_random_numbers(seed, torch.device("cpu")):
        if before is None:
            return Made(STARTS[last](ground).eval(), few_labels.tokenizer(), time.process_time() - started)
        model, tokenizer = trainable(plain(before.model)), before.tokenizer
        if last == "words":
            model, tokenizer = _words(model, ground)
        elif last in CODES:
            model = quantize_model(model, calibration=ground.calibration(tokenizer), **CODES[last])
        else:
            model = STEPS[last](model, ground)
    return Made(model.eval(), tokenizer, before.seconds + time.process_time() - started)


# Steps that prune, factorise or go on: the model, changed, and then trained on the labels for `recovery_steps`.


def _recover(model: nn.Module, ground: Ground, on_step: OnStep | None = None) -> nn.Module:
    ground.learn(trainable(model), ground.settings["recovery_steps"], order=100, on_step=on_step)
    return finalize(model)


def _recovered(change: Callable[[nn.Module, TextBatches], nn.Module]) -> Callable[[nn.Module, Ground], nn.Module]:
    return lambda model, ground: _recover(change(model, ground.calibration(few_labels.tokenizer())), ground)


def _heads(model: nn.Module, calibration: TextBatches) -> nn.Module:
    return prune_heads(model, least_heads(head_importance(model, calibration, classification_loss), 0.5))


def _neurons(model: nn.Module, calibration: TextBatches) -> nn.Module:
    return prune_ffn(model, best_neurons(neuron_importance(model, calibration, classification_loss), 0.5))


def _two_in_four(model: nn.Module, calibration: TextBatches) -> nn.Module:
    return apply_masks(model, {path: n_m_mask(layer.weight, 2, 4) for path, layer in prunable(model).items()})


def _wanda(model: nn.Module, calibration: TextBatches) -> nn.Module:
    norms = calibrate(model, calibration)
    return apply_masks(
        model, {path: wanda_mask(layer.weight, norms[path], 0.5) for path, layer in prunable(model).items()}
    )


def _movement(model: nn.Module, ground: Ground) -> nn.Module:
    """Scores learn beside the weights; half of these are gone when seven tenths of the steps are."""
    end = max(1, round(0.7 * ground.settings["recovery_steps"]))
    return _recover(apply_masks(model, movement=True), ground, gradually(0.5, start=0, end=end))


def _word_table(model: nn.Module, ground: Ground) -> nn.Module:
    """Half the numbers of the word table: of its SVD in which a word weighs as often as it is in the training texts."""
    ids = [number for text in few_labels.tokenizer().encode(ground.texts.texts) for number in text]
    table = model.encoder.embeddings.word.weight
    use = torch.bincount(torch.tensor(ids), minlength=len(table))
    model.encoder = factorize_embeddings(model.encoder, rank_for_budget(*table.shape, 0.5), use)
    return _recover(model, ground)


def _rounded(scheme: str) -> Callable[[nn.Module, Ground], nn.Module]:
    """Rounded in the forward pass while it trains."""

    def step(model: nn.Module, ground: Ground) -> nn.Module:
        trained = prepare_qat(model, scheme)
        trained.encoder.embeddings.word.requires_grad_(False)
        ground.learn(trained, ground.settings["recovery_steps"], order=100)
        return convert_qat(trained)

    return step


# Steps that distil: three layers of what is there, or a narrow model at random, and the teacher of the seed answers.


def _distilled(recipe: Recipe, narrow: bool = False) -> Callable[[nn.Module, Ground], nn.Module]:
    def step(model: nn.Module, ground: Ground) -> nn.Module:
        settings, teacher = ground.settings, made(("teacher",), ground.seed, ground.settings).model
        steps, lr = settings["narrow_steps" if narrow else "steps"], settings["narrow_lr" if narrow else "lr"]
        if narrow:
            student = fresh_student(teacher, seed=ground.seed, **settings["narrow"])
        else:
            student = trainable(init_from_teacher(model, KEPT))
        share = max(1, steps // len(recipe.stages))  # all recipes take as many steps
        configs: dict[str, Any] = {}
        for stage in recipe.stages:
            configs[stage.name] = few_labels.config(settings, ground.seed, share, lr)
        distill(student, teacher, recipe, ground.batches(few_labels.tokenizer(), ground.seed + 200), configs)
        return student

    return step


STEPS: dict[str, Callable[[nn.Module, Ground], nn.Module]] = {
    "more": _recovered(lambda model, calibration: model),
    "low-rank": _recovered(lambda model, calibration: compress(model, 0.5, calibration)),
    "word-table": _word_table,
    "masked": _recovered(lambda model, calibration: apply_masks(model, magnitude_masks(model, 0.5))),
    "wanda": _recovered(_wanda),
    "movement": _movement,
    "2:4": _recovered(_two_in_four),
    "heads": _recovered(_heads),
    "neurons": _recovered(_neurons),
    "layers": _recovered(lambda model, calibration: drop_layers(model, range(3))),
    "ternary": _rounded("ternary"),
    "int8-qat": _rounded("int8"),
    "distil": _distilled(soft_and_hard(*LAYERS)),
    "distilbert": _distilled(distilbert(*LAYERS)),
    "pkd": _distilled(pkd(*LAYERS)),
    "theseus": _distilled(theseus(*LAYERS)),
    "minilm": _distilled(minilm(*LAYERS, fine_tune=True)),
    "tinybert": _distilled(tinybert(*LAYERS)),
    "narrow-tinybert": _distilled(tinybert(*LAYERS), narrow=True),
}

CODES: dict[str, dict[str, Any]] = {
    "int8": {"scheme": "int8"},
    "int8-static": {"scheme": "int8-static"},
    "int8-static-smooth": {"scheme": "int8-static", "smooth": 0.5},
    "int8-tables": {"scheme": "int8", "embeddings": True},
    "int4-tables": {"scheme": "int4-gptq", "embeddings": True},
}
"""Steps that round and do not train."""


def _words(model: nn.Module, ground: Ground) -> tuple[nn.Module, Tokenizer]:
    """Only the pieces that the training texts use."""
    whole = few_labels.tokenizer()
    ids = prune_vocabulary(model, whole, task_vocabulary(whole, whole.encode(ground.texts.texts)))
    file = cache_folder() / "studies" / "leaderboard" / f"tokenizer-{ground.settings['texts']}-{ground.seed}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    return model, prune_tokenizer(fetch("minilm"), ids, file)

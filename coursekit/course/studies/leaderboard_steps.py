"""What makes the models of the leaderboard: a start, and steps that each turn a model into a smaller one.

An arm is a chain of names such as ("teacher", "distil", "neurons", "int8"). Chains that begin alike share what they
share, and a model knows the CPU seconds of its whole chain. A step that follows codes first folds them back to real
numbers: what was rounded stays rounded until something trains.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import torch
from torch import nn

from coursekit.compress.lowrank import compress
from coursekit.compress.pruning import (
    apply_masks,
    best_neurons,
    drop_layers,
    finalize,
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
)
from coursekit.compress.quantization import convert_qat, prepare_qat, quantize_model
from coursekit.course.studies import few_labels
from coursekit.course.studies.frame import Settings
from coursekit.course.studies.leaderboard_siblings import three_layers
from coursekit.data import Split, Tokenizer, fetch
from coursekit.distill import (
    Recipe,
    distilbert,
    distill,
    fresh_student,
    init_from_teacher,
    match_layers,
    minilm,
    pkd,
    soft_and_hard,
    theseus,
    tinybert,
)
from coursekit.export import plain
from coursekit.files import cache_folder
from coursekit.models import Encoder, SequenceClassifier, SharingPlan
from coursekit.train import TextBatches, classification_loss, pretrained_encoder, text_batches, train
from coursekit.train.runtime import own_random_numbers

LAYERS = (6, 3)
KEPT = match_layers("distilbert-init", *LAYERS)  # every 3-layer model begins with layers 0, 2 and 4 of what it was


@dataclass(frozen=True)
class Made:
    """A model, the tokenizer it reads with, and the CPU seconds of everything that made it, its teacher included."""

    model: SequenceClassifier
    tokenizer: Tokenizer
    seconds: float


@dataclass(frozen=True)
class Ground:
    """What every step of a seed may use."""

    seed: int
    settings: Settings

    @property
    def texts(self) -> Split:
        """The labelled texts, the same for everything that trains."""
        return few_labels.task(self.settings).train.take(self.settings["texts"], self.seed)

    def batches(self, tokenizer: Tokenizer, seed: int) -> TextBatches:
        """All of them, in an order of the seed."""
        return text_batches(self.texts, tokenizer, batch_size=self.settings["batch_size"], seed=seed)

    def calibration(self, tokenizer: Tokenizer) -> TextBatches:
        """A few of them, for what looks at activations."""
        few = self.texts.take(self.settings["calibration_texts"], self.seed)
        return text_batches(few, tokenizer, batch_size=self.settings["batch_size"])

    def learn(self, model: nn.Module, steps: int, order: int = 0, lr: float | None = None) -> None:
        """Train on the labels; `order` tells trainings of one seed apart."""
        config = few_labels.config(self.settings, self.seed, steps, lr)
        batches = self.batches(few_labels.tokenizer(), self.seed + order)
        train(model, batches, classification_loss, config, title=f"{steps} steps, seed {self.seed}")


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
        model, tokenizer = _trainable(plain(before.model)), before.tokenizer
        if last == "words":
            model, tokenizer = _words(model, ground)
        elif last in CODES:
            model = quantize_model(model, calibration=ground.calibration(tokenizer), **CODES[last])
        else:
            model = STEPS[last](model, ground)
    return Made(model.eval(), tokenizer, before.seconds + time.process_time() - started)


def _trainable(model: nn.Module) -> nn.Module:
    """All weights learn but the word table, as everywhere in the course."""
    model.requires_grad_(True)
    model.encoder.embeddings.word.requires_grad_(False)
    return model


def equal_steps(settings: Settings) -> dict[str, int]:
    """Steps that spend what teacher and student together spend, for six layers that share weights and for three alone.

    Counted in forward passes of six layers over a batch: a step that learns costs 3, of three layers half as much,
    and asking the teacher 1. So S steps of the teacher and S of its student cost 3·S + (1.5 + 1)·S = 5.5·S.
    """
    total = 5.5 * settings["steps"]
    return {"six": round(total / 3), "three": round(total / 1.5)}


# Starts: models that no teacher taught.


def _teacher(ground: Ground) -> nn.Module:
    model = few_labels.classifier(ground.seed)
    ground.learn(model, ground.settings["steps"])
    return model


def _alone(ground: Ground, long: bool = False) -> nn.Module:
    """Three layers of the published encoder, on the labels alone."""
    model = _trainable(init_from_teacher(few_labels.classifier(ground.seed), KEPT))
    ground.learn(model, equal_steps(ground.settings)["three"] if long else ground.settings["steps"])
    return model


def _sibling(ground: Ground) -> nn.Module:
    """The public encoder of three layers, which has no pooler, with a new head."""
    model = _trainable(SequenceClassifier(three_layers(), 2))
    ground.learn(model, ground.settings["steps"])
    return model


def _shared(ground: Ground, plan: SharingPlan) -> nn.Module:
    """Six depths on fewer stored blocks; a block begins as the published layer at its first depth."""
    published = pretrained_encoder()
    encoder = Encoder(published.config.replace(sharing=plan))
    for part in ("embeddings", "pooler"):
        getattr(encoder, part).load_state_dict(getattr(published, part).state_dict())
    for depth, block in enumerate(plan.attention):
        encoder.layers[depth].load_state_dict(published.layers[plan.attention.index(block)].state_dict())
    model = _trainable(SequenceClassifier(encoder, 2))
    ground.learn(model, equal_steps(ground.settings)["six"])
    return model


def _narrow(ground: Ground) -> nn.Module:
    """A small model that begins at random: its words learn too."""
    settings = ground.settings
    model = fresh_student(few_labels.classifier(ground.seed), seed=ground.seed, **settings["narrow"])
    ground.learn(model, settings["narrow_steps"], lr=settings["narrow_lr"])
    return model


STARTS: dict[str, Callable[[Ground], nn.Module]] = {
    "teacher": _teacher,
    "alone": _alone,
    "alone-long": partial(_alone, long=True),
    "sibling": _sibling,
    "shared-2": partial(_shared, plan=SharingPlan.every(6, 2)),
    "shared-all": partial(_shared, plan=SharingPlan.all(6)),
    "narrow": _narrow,
}

# Steps that prune, factorise or go on: the model, changed, and then trained on the labels for `recovery_steps`.


def _recovered(change: Callable[[nn.Module, TextBatches], nn.Module]) -> Callable[[nn.Module, Ground], nn.Module]:
    def step(model: nn.Module, ground: Ground) -> nn.Module:
        model = _trainable(change(model, ground.calibration(few_labels.tokenizer())))
        ground.learn(model, ground.settings["recovery_steps"], order=100)
        finalize(model)
        return model

    return step


def _heads(model: nn.Module, calibration: TextBatches) -> nn.Module:
    return prune_heads(model, least_heads(head_importance(model, calibration, classification_loss), 0.5))


def _neurons(model: nn.Module, calibration: TextBatches) -> nn.Module:
    return prune_ffn(model, best_neurons(neuron_importance(model, calibration, classification_loss), 0.5))


def _two_in_four(model: nn.Module, calibration: TextBatches) -> nn.Module:
    return apply_masks(model, {path: n_m_mask(layer.weight, 2, 4) for path, layer in prunable(model).items()})


def _ternary(model: nn.Module, ground: Ground) -> nn.Module:
    """Rounded in the forward pass while it trains."""
    trained = prepare_qat(model, "ternary")
    trained.encoder.embeddings.word.requires_grad_(False)
    ground.learn(trained, ground.settings["recovery_steps"], order=100)
    return convert_qat(trained)


# Steps that distil: three layers of what is there, or a narrow model at random, and the teacher of the seed answers.


def _distilled(recipe: Recipe, narrow: bool = False) -> Callable[[nn.Module, Ground], nn.Module]:
    def step(model: nn.Module, ground: Ground) -> nn.Module:
        settings, teacher = ground.settings, made(("teacher",), ground.seed, ground.settings).model
        steps, lr = settings["narrow_steps" if narrow else "steps"], settings["narrow_lr" if narrow else "lr"]
        if narrow:
            student = fresh_student(teacher, seed=ground.seed, **settings["narrow"])
        else:
            student = _trainable(init_from_teacher(model, KEPT))
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
    "masked": _recovered(lambda model, calibration: apply_masks(model, magnitude_masks(model, 0.5))),
    "2:4": _recovered(_two_in_four),
    "heads": _recovered(_heads),
    "neurons": _recovered(_neurons),
    "layers": _recovered(lambda model, calibration: drop_layers(model, range(3))),
    "ternary": _ternary,
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

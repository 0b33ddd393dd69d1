"""How far each kind of pruning goes: one task, one fine-tuned model per seed, the same short recovery for all arms.

An arm is a method and a sparsity, the share of the encoder's matrices that is gone. What is pruned at once is judged
before and after the recovery; `dense` recovers without pruning, so that more training is not taken for a gain of
pruning. `rewound` (a lottery ticket of one round) takes the fine-tuned model's mask back to the published encoder;
`fresh-` arms prune while they fine-tune that one. In both the weights take as many steps as in fine-tuning and recovery
together. Nothing is chosen but on training texts, and the test set is used once per run, after training.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from coursekit.compress.pruning import (
    apply_masks,
    best_neurons,
    calibrate,
    drop_layers,
    finalize,
    gradually,
    head_importance,
    least_heads,
    magnitude_mask,
    magnitude_masks,
    n_m_mask,
    neuron_importance,
    prunable,
    prune_ffn,
    prune_heads,
    sparse_bytes,
    wanda_mask,
)
from coursekit.course.studies.frame import Numbers, Settings, Study, accuracy_differences
from coursekit.data import Split, Task, Tokenizer, fetch, load_task
from coursekit.measure import count_flops, count_parameters, stored_bytes
from coursekit.models import SequenceClassifier
from coursekit.train import (
    Profile,
    TextBatches,
    TrainConfig,
    classification_loss,
    evaluate,
    finetune,
    predict,
    pretrained_encoder,
    text_batches,
    train,
)
from coursekit.train.runtime import own_random_numbers


@dataclass(frozen=True)
class Start:
    """What all arms of a seed begin with: a fine-tuned model, the same one before, and texts to look at."""

    task: Task
    tokenizer: Tokenizer
    tuned: SequenceClassifier
    untuned: SequenceClassifier
    calibration: TextBatches


Prune = Callable[[SequenceClassifier, float, Start], nn.Module]


def _by_mask(mask: Callable[[Tensor, float], Tensor]) -> Prune:
    """Prune every matrix by itself with mask(weight, sparsity)."""

    def prune(model: SequenceClassifier, sparsity: float, start: Start) -> nn.Module:
        return apply_masks(model, {path: mask(layer.weight, sparsity) for path, layer in prunable(model).items()})

    return prune


def _wanda(model: SequenceClassifier, sparsity: float, start: Start) -> nn.Module:
    norms = calibrate(model, start.calibration)
    return apply_masks(
        model, {path: wanda_mask(model.get_submodule(path).weight, norm, sparsity) for path, norm in norms.items()}
    )


def _heads(model: SequenceClassifier, share: float, start: Start) -> nn.Module:
    return prune_heads(model, least_heads(head_importance(model, start.calibration, classification_loss), share))


def _neurons(model: SequenceClassifier, share: float, start: Start) -> nn.Module:
    return prune_ffn(model, best_neurons(neuron_importance(model, start.calibration, classification_loss), share))


def _layers(model: SequenceClassifier, share: float, start: Start) -> nn.Module:
    depth = len(model.encoder.layers)
    return drop_layers(model, range(round((1 - share) * depth)))


def _rewound(model: SequenceClassifier, sparsity: float, start: Start) -> nn.Module:
    return apply_masks(model, magnitude_masks(start.tuned, sparsity))


AT_ONCE: dict[str, Prune] = {
    "dense": lambda model, sparsity, start: model,
    "random": _by_mask(lambda weight, sparsity: magnitude_mask(torch.rand(weight.shape), sparsity)),
    "magnitude": lambda model, sparsity, start: apply_masks(model, magnitude_masks(model, sparsity)),
    "global": lambda model, sparsity, start: apply_masks(model, magnitude_masks(model, sparsity, scope="global")),
    "wanda": _wanda,
    "2:4": _by_mask(lambda weight, sparsity: n_m_mask(weight, 2, 4)),
    "heads": _heads,
    "neurons": _neurons,
    "layers": _layers,
    "rewound": _rewound,
}
"""Pruned at once, then trained."""

WHILE_TRAINING = {"gradual": False, "movement": True, "fresh-gradual": False, "fresh-movement": True}
"""Pruned by a cubic schedule while training: whether scores decide, not magnitudes."""

FROM_PUBLISHED = ("rewound", "fresh-gradual", "fresh-movement")

SHARES = {
    "dense": (0,),
    "random": (50,),
    "magnitude": (50, 70, 80, 90),
    "global": (50, 70),
    "wanda": (50, 70, 80),
    "2:4": (50,),
    "gradual": (70, 80),
    "movement": (50, 70),
    "heads": (25, 50, 75),
    "neurons": (50, 75, 90),
    "layers": (33, 50, 67),
    "rewound": (70,),
    "fresh-gradual": (70,),
    "fresh-movement": (70,),
}
"""Method → per cent of what it prunes: weights, heads, neurons, or layers."""

ARMS = {f"{method}-{share}": (method, share / 100) for method, shares in SHARES.items() for share in shares}
COMPARED = (
    ("magnitude-50", "dense-0"),
    ("magnitude-50", "random-50"),
    ("wanda-50", "magnitude-50"),
    ("wanda-70", "magnitude-70"),
    ("global-70", "magnitude-70"),
    ("2:4-50", "magnitude-50"),
    ("gradual-70", "magnitude-70"),
    ("gradual-80", "magnitude-80"),
    ("movement-50", "magnitude-50"),
    ("movement-70", "gradual-70"),
    ("fresh-movement-70", "fresh-gradual-70"),
    ("rewound-70", "magnitude-70"),
    ("neurons-75", "magnitude-50"),
    ("layers-50", "magnitude-50"),
)


def settings(quick: bool) -> Settings:
    """Sizes and recipe; texts None means all."""
    full = {
        "task": "rotten-tomatoes",
        "tuning_texts": 2000,
        "tuning_steps": 63,
        "texts": None,
        "steps": 48,
        "lr": 2e-4,
        "batch_size": 32,
        "calibration_texts": 128,
        "schedule": [0.05, 0.7],
        "judged_texts": None,
        "precision": "auto",
    }
    small = {"tuning_texts": 16, "tuning_steps": 1, "texts": 16, "steps": 2, "batch_size": 8}
    small |= {"calibration_texts": 4, "judged_texts": 8}
    return full | small if quick else full


@lru_cache(maxsize=1)
def _start(seed: int, task: str, texts: int, steps: int, lr: float, batch_size: int, seen: int) -> Start:
    """The fine-tuned model of a seed, and what it was before: the published encoder with the same new classifier."""
    data, tokenizer = load_task(task), Tokenizer(fetch("minilm"))
    profile = Profile(TrainConfig(steps=steps, lr=lr, seed=seed), limit=texts, batch_size=batch_size)
    with own_random_numbers(seed, torch.device("cpu")):
        untuned = SequenceClassifier(pretrained_encoder(), len(data.labels))
    calibration = text_batches(data.train.take(seen), tokenizer, batch_size=batch_size)
    return Start(data, tokenizer, finetune(data, profile).model, untuned, calibration)


def run(arm: str, seed: int, settings: Settings) -> tuple[Numbers, dict[str, Any]]:
    """Prune, train, judge. `sparsity` is the share of the encoder's matrices that is gone, whatever the method.

    `one_shot` is accuracy on validation before the recovery, where pruning was at once. Bytes are of the model as
    stored with its zeros, and with every matrix in its smallest form (`sparse_bytes`).
    """
    method, share = ARMS[arm]
    names = ("task", "tuning_texts", "tuning_steps", "lr", "batch_size", "calibration_texts")
    start = _start(seed, *(settings[name] for name in names))
    model = copy.deepcopy(start.untuned if method in FROM_PUBLISHED else start.tuned)
    dense = {path: layer.weight.numel() for path, layer in prunable(model).items()}
    numbers: Numbers = {}
    with own_random_numbers(seed, torch.device("cpu")):
        if method in AT_ONCE:
            model = AT_ONCE[method](model, share, start)
            if method not in FROM_PUBLISHED:
                numbers["one_shot"] = _accuracy(model, start.task.validation, start, settings)
        else:
            apply_masks(model, movement=WHILE_TRAINING[method])
    result = _train(model, method, share, seed, start, settings)
    finalize(model)
    right = _right(model, start.task.test, start, settings)
    left = {path: int(layer.weight.count_nonzero()) for path, layer in prunable(model).items()}
    numbers |= {
        "sparsity": round(1 - sum(left.values()) / sum(dense.values()), 4),
        "validation": _accuracy(model, start.task.validation, start, settings),
        "test": round(float(right.mean()), 4),
        "parameters": count_parameters(model).total,
        "bytes": stored_bytes(model),
        "sparse_bytes": _sparse_bytes(model),
        "flops": count_flops(model, 1, 26),
        "loss": round(result.history[-1]["loss"], 4) if result.history else None,
        "seconds": round(result.seconds, 1),
    }
    return numbers, {"right": [int(value) for value in right]}


def _train(model: nn.Module, method: str, share: float, seed: int, start: Start, settings: Settings) -> Any:
    """The recovery, or the whole fine-tuning where an arm begins with the published encoder. Words stay frozen."""
    steps = settings["steps"] + (settings["tuning_steps"] if method in FROM_PUBLISHED else 0)
    hook = None
    if method in WHILE_TRAINING:
        first, last = (max(1, round(part * steps)) for part in settings["schedule"])
        hook = gradually(share, start=first, end=max(last, first + 1))
    texts = start.task.train if settings["texts"] is None else start.task.train.take(settings["texts"])
    model.encoder.embeddings.word.requires_grad_(False)
    return train(
        model,
        text_batches(texts, start.tokenizer, batch_size=settings["batch_size"], seed=seed + 100),
        classification_loss,
        TrainConfig(steps=steps, lr=settings["lr"], precision=settings["precision"], seed=seed),
        on_step=hook,
        title=f"{method} {share:.0%}, seed {seed}",
    )


def _sparse_bytes(model: nn.Module) -> int:
    """Bytes with each matrix that may be pruned as the smallest of dense, CSR and bits with values."""
    forms = [sparse_bytes(layer.weight.detach()) for layer in prunable(model).values()]
    return stored_bytes(model) + sum(getattr(form, form.smallest) - form.dense for form in forms)


def _accuracy(model: nn.Module, split: Split, start: Start, settings: Settings) -> float:
    texts = text_batches(split.take(settings["judged_texts"] or len(split)), start.tokenizer, batch_size=64)
    return round(evaluate(model, texts, classification_loss, precision=settings["precision"])["accuracy"], 4)


def _right(model: nn.Module, split: Split, start: Start, settings: Settings) -> Any:
    """(N,) booleans: which texts of a split the model answers right."""
    split = split.take(settings["judged_texts"] or len(split))
    logits = predict(model, text_batches(split, start.tokenizer, batch_size=64), precision=settings["precision"])
    return (logits.argmax(-1) == torch.tensor(split.labels)).numpy()


def baselines(settings: Settings) -> dict[str, Any]:
    """Always answering the larger class of the training texts, and the dense encoder's counts."""
    task = load_task(settings["task"])
    usual = max(set(task.train.labels), key=task.train.labels.count)
    model = SequenceClassifier(pretrained_encoder(), len(task.labels))
    shares = {split: getattr(task, split).labels.count(usual) / len(getattr(task, split)) for split in _SPLITS}
    return {
        "majority": {split: round(share, 4) for split, share in shares.items()},
        "prunable": sum(layer.weight.numel() for layer in prunable(model).values()),
        "parameters": count_parameters(model).total,
        "bytes": stored_bytes(model),
        "flops": count_flops(model, 1, 26),
    }


_SPLITS = ("validation", "test")


STUDY = Study(
    name="pruning",
    title="Accuracy against sparsity, one recovery for all: film reviews",
    minutes=35,
    arms=tuple(ARMS),
    seeds=(0, 1, 2),
    settings=settings,
    run=run,
    baselines=baselines,
    compare=accuracy_differences(COMPARED, "test"),
)

"""TinyBERT in small: its two stages, its augmentation, each of its losses, and which layers meet.

The student has three layers of half the teacher's width and begins at random. General distillation: inner layers of
the pretrained encoder, on running text. Task distillation: inner layers, then the answers, of the encoder fine-tuned on
1,000 labels, on those texts and their augmentations. Each arm leaves out or changes one thing (Jiao et al. 2020, Tables
2 to 4): a loss that is left out is left out of both stages. `alone` has no teacher; `unlabelled` has the other texts of
the pool in place of augmented ones. Every arm takes as many steps in a stage as `full`; what skips the task stage is
trained on the labels for as many.

Departures: the map to the teacher's width is learnt anew for the task (the released code hands it on); neighbours of
words of several pieces come from the encoder's word table, not GloVe.
"""

import copy
import json
import random
from dataclasses import replace
from functools import lru_cache
from typing import Any

from torch import nn

from coursekit.course.studies.few_labels import (
    agreement,
    common,
    config,
    device,
    learn_alone,
    majority_alone,
    pool,
    scores,
    task,
    taught,
    teachers_right,
    tokenizer,
)
from coursekit.course.studies.frame import Numbers, Settings, Study, accuracy_differences
from coursekit.data import Split, load_documents
from coursekit.data.augment import MaskedLMProposer, NeighbourProposer, TinyBERTProposer, augment_task
from coursekit.distill import Recipe, Term, distill, fresh_student, tinybert
from coursekit.measure import count_flops, count_parameters
from coursekit.train import TextBatches, TrainConfig, pretrained_encoder, rows_of_tokens, text_batches
from coursekit.train.evaluation import inference
from coursekit.train.mlm_teacher import load_mlm_teacher

LAYERS = (6, 3)
LABELS = "1000"
WITHOUT = {  # arm → the losses it lacks
    "no-embedding": ("embedding",),
    "no-hidden": ("hidden",),
    "no-attention": ("attention",),
    "no-layers": ("hidden", "attention"),
}
MAPS = ("top", "bottom")
STAGES = ("no-general", "no-task", "no-augmentation", "no-prediction", "unlabelled")
ARMS = ("teacher", "alone", "full", *STAGES, *WITHOUT, *MAPS)
COMPARED = (*((arm, "full") for arm in ARMS if arm != "full"), ("no-task", "alone"), ("no-general", "alone"))


def settings(quick: bool) -> Settings:
    """Sizes and recipe. student: where its config differs from the teacher's; it needs as many heads."""
    full = {
        "student": {"num_layers": LAYERS[1], "hidden_size": 192, "intermediate_size": 768},
        "documents": {"news": 300, "bible": 60},
        "row_tokens": 64,
        "batch_tokens": 1024,
        "augmentations": 3,
        "candidates": 15,
        "replaced": 0.4,
        "general_steps": 150,
        "inner_steps": 150,
        "prediction_steps": 80,
        "student_lr": 1e-3,
        "prediction_lr": 5e-4,
    }
    small = {"general_steps": 1, "inner_steps": 1, "prediction_steps": 1, "documents": {"news": 1}, "augmentations": 1}
    return common(quick) | full | (small if quick else {})


def run(arm: str, seed: int, settings: Settings) -> tuple[Numbers, dict[str, Any]]:
    """Teach one model and test it once. Kept: right or wrong on each test text."""
    teacher = taught(LABELS, seed, settings)
    model, seconds = (teacher, 0.0) if arm == "teacher" else _student(arm, seed, settings)
    numbers, test = scores(model, settings)
    numbers |= {
        "parameters": count_parameters(model).total,
        "flops": count_flops(model, 1, 128),
        "agreement": agreement(test, teachers_right(LABELS, seed, settings)),
        "seconds": round(seconds, 1),
    }
    return numbers, {"right": test}


def _student(arm: str, seed: int, settings: Settings) -> tuple[nn.Module, float]:
    """The student of an arm, and the seconds of its task stage."""
    dropped, layers = WITHOUT.get(arm, ()), arm if arm in MAPS else "uniform"
    if arm in ("alone", "no-general"):
        model = _fresh(seed, settings)
    else:
        model = copy.deepcopy(_general(dropped, layers, seed, json.dumps(settings, sort_keys=True)))
    if arm in ("alone", "no-task"):
        labelled = pool(LABELS, seed, settings).labelled
        steps = settings["inner_steps"] + settings["prediction_steps"]
        return model, learn_alone(model, labelled, settings, seed, steps, settings["prediction_lr"])
    teacher, plan = taught(LABELS, seed, settings), tinybert(*LAYERS, layers=layers).without(*dropped)
    if arm == "no-prediction":
        plan = replace(plan, stages=(plan.stages[0], replace(plan.stages[1], terms=(Term("hard"),))))
    batches = text_batches(_texts(arm, seed, settings), tokenizer(), batch_size=settings["batch_size"], seed=seed)
    return model, distill(model, teacher, plan, batches, _configs(plan, seed, settings)).seconds


def _configs(plan: Recipe, seed: int, settings: Settings) -> dict[str, TrainConfig]:
    """The inner stages at a constant rate, the prediction at one that falls."""
    configs = {}
    for stage in plan.stages:
        lr = settings["prediction_lr" if stage.name == "prediction" else "student_lr"]
        one = config(settings, seed, settings[f"{stage.name}_steps"], lr)
        configs[stage.name] = replace(one, schedule=stage.schedule or one.schedule)
    return configs


def _fresh(seed: int, settings: Settings) -> nn.Module:
    return fresh_student(taught(LABELS, seed, settings), seed=seed, **settings["student"]).to(device())


@lru_cache(maxsize=2)
def _general(dropped: tuple[str, ...], layers: str, seed: int, kept: str) -> nn.Module:
    """A student after general distillation; arms that do not differ in it share one."""
    settings = json.loads(kept)
    model, whole = _fresh(seed, settings), tinybert(*LAYERS, layers=layers, general=True)
    plan = whole.without("inner", "prediction").without(*dropped)
    draw, wanted = random.Random(seed), settings["documents"]
    documents = [text for name, count in wanted.items() for text in draw.sample(_documents(name).train, count)]
    rows = list(rows_of_tokens(documents, tokenizer(), length=settings["row_tokens"]))
    batches = TextBatches(rows, pad_id=tokenizer().pad_id, max_tokens=settings["batch_tokens"], seed=seed)
    pretrained = pretrained_encoder().to(device())
    distill(model, pretrained, plan, batches, _configs(plan, seed, settings), others={"pretrained": pretrained})
    return model


_documents = lru_cache(maxsize=2)(load_documents)


def _texts(arm: str, seed: int, settings: Settings) -> Split:
    """The texts of the task stage with their labels."""
    given = pool(LABELS, seed, settings)
    if arm == "unlabelled":
        return given.texts  # with true labels, which no loss of this arm looks at
    if arm == "no-augmentation":
        return given.labelled
    return _augmented(seed, json.dumps(settings, sort_keys=True))


@lru_cache(maxsize=1)
def _augmented(seed: int, kept: str) -> Split:
    """The labelled texts, each followed by its augmentations."""
    settings, (model, propose) = json.loads(kept), _proposers()
    options = {"p": settings["replaced"], "n": settings["augmentations"], "k": settings["candidates"]}
    labelled = replace(task(settings), train=pool(LABELS, seed, settings).labelled)
    with inference(model, settings["precision"]):
        return augment_task(labelled, propose=propose, rng=random.Random(seed), **options).train


@lru_cache(maxsize=1)
def _proposers() -> tuple[nn.Module, TinyBERTProposer]:
    """The masked language model, and TinyBERT's rule with it."""
    model = load_mlm_teacher().model.to(device()).eval()
    words = NeighbourProposer(pretrained_encoder().embeddings.word.weight, tokenizer())
    return model, TinyBERTProposer(MaskedLMProposer(model, tokenizer()), words)


STUDY = Study(
    name="tinybert",
    title="TinyBERT in small: stages, augmentation, losses and layer maps",
    minutes=40,
    arms=ARMS,
    seeds=(0, 1, 2),
    settings=settings,
    run=run,
    baselines=majority_alone,
    compare=accuracy_differences(COMPARED),
)

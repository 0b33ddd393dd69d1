"""When a teacher helps: accuracy against the number of labels, with much text that has none.

All students have the same pool of 3,000 texts. `alone-N` are three layers (0, 2, 4 of the pretrained encoder) taught
with the N labels that the pool shows. `soft-N` have the same labels, and a teacher's answers to all texts of the pool;
`soft-none` has the answers alone. Their `teacher` has six layers and learnt from 3,000 labelled texts outside the pool:
it brings labels that its students never see.

Where nobody has more labels, the teacher is taught with the pool's own: `same-teacher-N`, and its student `same-N`.
Beside them, at 200 labels: `choice-200`, where the teacher's first choice is taken for the label, and `labelled-200`,
which has its answers to the 200 labelled texts alone; and, at 1,000, students that begin at random.

Share of the soft loss and temperature are chosen by the arms `try-…`, at 200 labels, on validation, with seeds of their
own (100 and up); no other arm uses those seeds. What was tried is all there.
"""

from typing import Any

from torch import nn

from coursekit.course.studies.few_labels import (
    Pool,
    agreement,
    answers,
    bag_of_words,
    classifier,
    common,
    config,
    elsewhere,
    learn_alone,
    majority,
    pool,
    right,
    scores,
    taught,
    teachers_right,
    tokenizer,
)
from coursekit.course.studies.frame import Numbers, Settings, Study, accuracy_differences
from coursekit.data import IGNORED, Split
from coursekit.distill import cache_teacher, distill, fresh_student, init_from_teacher, match_layers, soft_and_hard
from coursekit.measure import count_parameters
from coursekit.train import text_batches

LABELS = ("50", "200", "1000", "3000")
SAME = ("200", "1000", "3000")
LAYERS = (6, 3)
FRESH = 100  # added to the seeds of the arms that choose
TRIES = {  # arm → (share of the soft loss, temperature)
    "try-half-T1": (0.5, 1.0),
    "try-half-T2": (0.5, 2.0),
    "try-half-T4": (0.5, 4.0),
    "try-most-T2": (0.9, 2.0),
    "try-most-T4": (0.9, 4.0),
}
OTHERS = ("choice-200", "labelled-200", "random-alone-1000", "random-soft-1000")
ARMS = (
    "teacher",
    *(f"{kind}-{n}" for n in LABELS for kind in ("alone", "soft")),
    "soft-none",
    *(f"{kind}-{n}" for n in SAME for kind in ("same-teacher", "same")),
    *OTHERS,
    *TRIES,
)
COMPARED = (
    *((f"soft-{n}", f"alone-{n}") for n in LABELS),
    *(("teacher", f"soft-{n}") for n in ("50", "3000")),
    *((f"same-teacher-{n}", f"alone-{n}") for n in SAME),
    *((f"same-{n}", f"alone-{n}") for n in SAME),
    ("soft-200", "choice-200"),
    ("soft-200", "labelled-200"),
    ("labelled-200", "alone-200"),
    ("soft-200", "soft-none"),
    ("random-soft-1000", "random-alone-1000"),
    ("soft-1000", "random-soft-1000"),
)


def settings(quick: bool) -> Settings:
    """Sizes, recipe, and what was chosen: alpha, the share of the soft loss, and the temperature."""
    return common(quick) | {"alpha": 0.9, "temperature": 2.0, "random_lr": 1e-3}


def student(start: str, seed: int) -> nn.Module:
    """Three layers: of the pretrained encoder, or with random weights."""
    whole = classifier(seed)
    if start == "random":
        return fresh_student(whole, seed=seed, num_layers=LAYERS[1]).to(next(whole.parameters()).device)
    model = init_from_teacher(whole, match_layers("distilbert-init", *LAYERS))
    model.encoder.embeddings.word.requires_grad_(False)
    return model


def run(arm: str, seed: int, settings: Settings) -> tuple[Numbers, dict[str, Any]]:
    """Teach one model and test it once; `try-…` looks at validation alone. Kept: right or wrong on each test text."""
    if arm in TRIES:
        tried = settings | dict(zip(("alpha", "temperature"), TRIES[arm], strict=True))
        model = student("pretrained", seed + FRESH)
        seconds = _distil(model, "200", seed + FRESH, tried)
        found = right(model, "validation", settings)
        return {"validation_accuracy": round(sum(found) / len(found), 4), "seconds": round(seconds, 1)}, {}
    model, who, seconds = _taught_as(arm, seed, settings)
    numbers, test = scores(model, settings)
    numbers |= {"parameters": count_parameters(model).total, "seconds": round(seconds, 1)}
    if "teacher" in arm:
        numbers |= _confidence(model, arm, seed, settings)
    elif who is not None:
        numbers["agreement"] = agreement(test, teachers_right(who, seed, settings))
    return numbers, {"right": test}


def _taught_as(arm: str, seed: int, settings: Settings) -> tuple[nn.Module, str | None, float]:
    """The model of an arm, what its teacher was taught with, and the seconds of its training (no teacher's own)."""
    kind, _, labels = arm.rpartition("-")
    if "teacher" in arm:
        return taught("elsewhere" if arm == "teacher" else labels, seed, settings), None, 0.0
    begin = "random" if kind.startswith("random") else "pretrained"
    model, lr = student(begin, seed), settings["random_lr" if begin == "random" else "lr"]
    if kind.endswith("alone"):
        labelled = pool(labels, seed, settings).labelled
        return model, None, learn_alone(model, labelled, settings, seed, settings["steps"][labels], lr)
    who = labels if kind == "same" else "elsewhere"
    if kind == "choice":
        texts = _labelled_by(taught(who, seed, settings), pool(labels, seed, settings), settings)
        return model, who, learn_alone(model, texts, settings, seed, _steps(texts, settings), lr)
    if labels == "none":
        seconds = _distil(model, "50", seed, settings | {"alpha": 1.0}, who, lr=lr)  # whose labels no loss looks at
    else:
        seconds = _distil(model, labels, seed, settings, who, lr=lr, everything=kind != "labelled")
    return model, who, seconds


def _distil(
    model: nn.Module,
    labels: str,
    seed: int,
    settings: Settings,
    who: str = "elsewhere",
    *,
    lr: float | None = None,
    everything: bool = True,
) -> float:
    """Learn from a teacher's answers, to all texts of the pool or to the labelled ones; seconds."""
    teacher, given = taught(who, seed, settings), pool(labels, seed, settings)
    recipe = soft_and_hard(*LAYERS, alpha=settings["alpha"], temperature=settings["temperature"])
    batches, steps = given.batches(settings, seed), _steps(given.texts, settings)
    if not everything:
        batches = text_batches(given.labelled, tokenizer(), batch_size=settings["batch_size"], seed=seed)
        steps = settings["steps"][labels]
    cached = cache_teacher(teacher, batches, recipe, precision=settings["precision"])
    return distill(model, teacher, recipe, cached, config(settings, seed, steps, lr)).seconds


def _steps(texts: Split, settings: Settings) -> int:
    """One epoch."""
    return -(-len(texts) // settings["batch_size"])


def _labelled_by(teacher: nn.Module, texts: Pool, settings: Settings) -> Split:
    """The pool with the teacher's likelier class for a label wherever the label is not known."""
    said = answers(teacher, texts.texts.texts, settings).argmax(-1).tolist()
    labels = [own if own != IGNORED else other for own, other in zip(texts.known, said, strict=True)]
    return Split(texts.texts.texts, labels, texts.texts.groups)


def _confidence(teacher: nn.Module, arm: str, seed: int, settings: Settings) -> Numbers:
    """Mean probability of the teacher's first choice, on texts it was taught with and on others (up to 500 each)."""
    seen = elsewhere(seed, settings) if arm == "teacher" else pool(arm.rpartition("-")[2], seed, settings).labelled
    new = pool("50", seed, settings).texts if arm == "teacher" else elsewhere(seed, settings)
    kinds = {"seen": seen.texts[:500], "new": new.texts[:500]}
    top = {name: answers(teacher, texts, settings).softmax(-1).amax(-1) for name, texts in kinds.items()}
    return {f"confidence_{name}": round(float(found.mean()), 4) for name, found in top.items()}


def baselines(settings: Settings) -> dict[str, Any]:
    """Always the larger class; and a bag of words taught with the same labels, for each seed."""
    words = {n: [bag_of_words(n, seed, settings) for seed in STUDY.seeds] for n in LABELS}
    return {"majority": majority(settings), "bag_of_words": words}


STUDY = Study(
    name="distillation",
    title="When a teacher helps: accuracy against the number of labels",
    minutes=30,
    arms=ARMS,
    seeds=(0, 1, 2),
    settings=settings,
    run=run,
    baselines=baselines,
    compare=accuracy_differences(COMPARED),
)

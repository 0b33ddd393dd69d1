"""Inner layers at equal compute: soft targets alone, PKD-Skip, PKD-Last, BERT-of-Theseus, MiniLM.

All students are three layers and begin as the first three of the teacher, a fine-tuned encoder of six (PKD and Theseus
begin so; MiniLM's paper begins at random, which `minilm-random` does). Every arm may spend the same number of
operations, counted in forward passes of the student over a batch (`step_cost`): who asks a teacher pays for it in each
step, so an arm that asks takes fewer steps. Two regimes: few labels, `-200`, whose teacher was taught elsewhere with
3,000, where methods that need no labels learn from all texts of the pool and Theseus cannot; and `-3000`, where every
text has its label and the teacher was taught with the same.

Nothing was tuned for any method but MiniLM's random start: one learning rate for all, weights, temperatures and
schedules as the papers or the recipes' defaults have them. PKD halves its weight between answers and labels, `soft` has
answers only; `soft-skip` has PKD-Skip's layers with the weight and temperature of `soft`, and tells the two apart.
"""

from typing import Any

from torch import nn

from coursekit.course.studies.few_labels import (
    agreement,
    common,
    config,
    majority,
    pool,
    scores,
    task,
    taught,
    teachers_right,
    tokenizer,
)
from coursekit.course.studies.frame import Numbers, Settings, Study, accuracy_differences
from coursekit.data import Split
from coursekit.distill import (
    Distillation,
    Recipe,
    Stage,
    Term,
    distill,
    distillation_loss,
    fresh_student,
    init_from_teacher,
    match_layers,
    minilm,
    pkd,
    soft_and_hard,
    theseus,
)
from coursekit.distill.states import asked_of_teacher
from coursekit.train import evaluate, text_batches

LAYERS = (6, 3)
METHODS = ("alone", "soft", "pkd-skip", "pkd-last", "theseus", "minilm")
CONTROL = "soft-skip"
REGIMES = {"200": "elsewhere", "3000": "3000"}  # labels shown → what the teacher was taught with
ARMS = (*(f"{method}-{labels}" for labels in REGIMES for method in (*METHODS, CONTROL)), "minilm-random-3000")
COMPARED = (
    *((f"{method}-{labels}", f"alone-{labels}") for labels in REGIMES for method in METHODS[1:]),
    *((f"{method}-{labels}", f"soft-{labels}") for labels in REGIMES for method in METHODS[2:]),
    *((f"pkd-skip-{labels}", f"pkd-last-{labels}") for labels in REGIMES),
    *((f"{CONTROL}-{labels}", f"{other}-{labels}") for labels in REGIMES for other in ("soft", "pkd-skip")),
    ("minilm-3000", "minilm-random-3000"),
)
SHARES = {"replace": 0.5, "student": 0.5}  # of the compute, in recipes of two stages; the rest is fine-tuning


def settings(quick: bool) -> Settings:
    """Sizes and recipe; compute: forward passes of the student over a batch, 3 for a step of a student alone."""
    own = {
        "compute": 12 if quick else 3 * 150,
        "alpha": 1.0,
        "temperature": 2.0,
        "patient_temperature": 5.0,
        "beta": 1.0,
        "random_lr": 2e-3,
        "distance_texts": 8 if quick else 256,
    }
    return common(quick) | own


def recipe(method: str, settings: Settings) -> Recipe:
    """What an arm does."""
    if method == "alone":
        return Recipe("alone", *LAYERS, (Stage("fine-tune", (Term("hard"),)),))
    if method == "soft":
        return soft_and_hard(*LAYERS, alpha=settings["alpha"], temperature=settings["temperature"])
    if method == CONTROL:
        return pkd(
            *LAYERS, which="skip", alpha=settings["alpha"], beta=settings["beta"], temperature=settings["temperature"]
        )
    if method.startswith("pkd"):
        which = method.removeprefix("pkd-")
        return pkd(*LAYERS, which=which, beta=settings["beta"], temperature=settings["patient_temperature"])
    return theseus(*LAYERS) if method == "theseus" else minilm(*LAYERS, fine_tune=True)


def step_cost(stage: Stage) -> float:
    """Operations of one step, in forward passes of the student; embeddings and heads are left out.

    A layer costs one pass forward, one for the gradient of its input, and one for the gradient of its weights if it has
    any to learn. So a student alone costs 3, and a teacher of N layers that is asked N/M more. In a replacing stage a
    share r of the student's M layers takes part on average, and 1 − r of the teacher's N, which learn nothing.
    """
    deeper = LAYERS[0] / LAYERS[1]
    if stage.replacing is None:
        return 3 + (deeper if asked_of_teacher(stage.terms) else 0)
    rate = sum(stage.replacing.rate(step, 1000) for step in range(1000)) / 1000
    return 2 * (rate + deeper * (1 - rate)) + rate


def steps(recipe: Recipe, compute: float) -> dict[str, int]:
    """Steps of each stage that spend the compute."""
    shares = {stage.name: SHARES.get(stage.name, 1.0) for stage in recipe.stages}
    if len(shares) > 1:
        shares["fine-tune"] = 1 - SHARES[recipe.stages[0].name]
    return {stage.name: max(1, round(shares[stage.name] * compute / step_cost(stage))) for stage in recipe.stages}


def run(arm: str, seed: int, settings: Settings) -> tuple[Numbers, dict[str, Any]]:
    """Carry out one recipe and test once. Kept: right or wrong on each test text."""
    method, labels = arm.rsplit("-", 1)
    teacher, given = taught(REGIMES[labels], seed, settings), pool(labels, seed, settings)
    plan = recipe(method.removesuffix("-random"), settings)
    counts = steps(plan, settings["compute"])
    model = init_from_teacher(teacher, match_layers("bottom", *LAYERS))
    if method.endswith("random"):
        model = fresh_student(teacher, seed=seed, num_layers=LAYERS[1]).to(next(teacher.parameters()).device)
    else:
        model.encoder.embeddings.word.requires_grad_(False)
    labelled = text_batches(given.labelled, tokenizer(), batch_size=settings["batch_size"], seed=seed)
    everything = given.batches(settings, seed)
    batches = {stage.name: everything if asked_of_teacher(stage.terms) else labelled for stage in plan.stages}
    rates = {"student": settings["random_lr"]} if method.endswith("random") else {}
    configs = {name: config(settings, seed, count, rates.get(name)) for name, count in counts.items()}
    seconds = distill(model, teacher, plan, batches, configs).seconds
    numbers, test = scores(model, settings)
    numbers |= distances(model, teacher, task(settings).validation.take(settings["distance_texts"]), settings)
    numbers["agreement"] = agreement(test, teachers_right(REGIMES[labels], seed, settings))
    numbers |= {f"steps_{name}": count for name, count in counts.items()} | {"seconds": round(seconds, 1)}
    return numbers, {"right": test}


def distances(student: nn.Module, teacher: nn.Module, texts: Split, settings: Settings) -> Numbers:
    """How far the student is from its teacher in what each method asks for, on texts neither has learnt from."""
    skip, last = (match_layers(f"pkd-{which}", *LAYERS).hidden for which in ("skip", "last"))
    ends = match_layers("minilm", *LAYERS).attention
    terms = (
        Term("soft", name="soft_distance"),
        Term("patient", layers=skip, name="skip_distance"),
        Term("patient", layers=last, name="last_distance"),
        Term("attention-kl", layers=ends, name="attention_distance"),
        Term("values", layers=ends, name="value_distance"),
    )
    flags = [weight.requires_grad for weight in teacher.parameters()]
    pair = Distillation(student, teacher, terms)
    found = evaluate(pair, text_batches(texts, tokenizer()), distillation_loss, precision=settings["precision"])
    for weight, flag in zip(teacher.parameters(), flags, strict=True):
        weight.requires_grad_(flag)
    return {term.name: round(found[term.name], 5) for term in terms}


def baselines(settings: Settings) -> dict[str, Any]:
    """Always the larger class; and what a step of each method costs, in forward passes of the student."""
    plans = {method: recipe(method, settings) for method in METHODS}
    costs = {
        method: {stage.name: round(step_cost(stage), 3) for stage in plan.stages} for method, plan in plans.items()
    }
    return {"majority": majority(settings), "step_cost": costs}


STUDY = Study(
    name="layers",
    title="Inner layers at equal compute: soft targets, PKD, BERT-of-Theseus, MiniLM",
    minutes=25,
    arms=ARMS,
    seeds=(0, 1, 2),
    settings=settings,
    run=run,
    baselines=baselines,
    compare=accuracy_differences(COMPARED),
)

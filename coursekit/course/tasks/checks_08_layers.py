"""Checks of unit 08 on data: which layers meet, how patience is measured, how often a module is replaced, a recipe."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from coursekit.course.expect import Draw, Wrong, expect_call
from coursekit.distill import (
    Distillation,
    Recipe,
    Replacing,
    Stage,
    Term,
    distillation_loss,
    fresh_student,
    match_layers,
    patient_loss,
)
from coursekit.distill.pair import projection_name
from coursekit.distill.refusals import check_pair
from coursekit.distill.terms import KINDS
from coursekit.models import Encoder, SequenceClassifier, TransformerConfig

# ---- 08.1: which layers are patient ----


def patient_layers(which: str, teacher_layers: int, student_layers: int) -> list[tuple[int, int]]:
    """Stand-in for 08.1."""
    return list(match_layers(f"pkd-{which}", teacher_layers, student_layers).hidden)


def _pairs(skip: Callable, last: Callable, students: Callable = lambda m: range(1, m)) -> Callable:
    """A variant: student states, and the teacher's for each as a function of (m, N, M)."""
    return lambda which, n, m: [(i, (skip if which == "skip" else last)(i, n, m)) for i in students(m)]


def check_patient_layers(answer: Callable, draw: Draw) -> None:
    """08.1, both strategies in each draw."""
    student, times = draw.integer(3, 5), draw.integer(3, 4)

    def skip(i, n, m):
        return i * n // m

    def last(i, n, m):
        return n - m + i

    variants = {
        "a pair is (student, teacher), in this order": lambda *a: [(t, s) for s, t in patient_layers(*a)],
        "the last layer is left to the soft targets": _pairs(skip, last, lambda m: range(1, m + 1)),
        "the embeddings take no part": _pairs(skip, last, lambda m: range(m)),
        "skip and last are exchanged": _pairs(last, skip),
        "the teacher's states are counted like layers, from 0; state 0 is the output of the embeddings": _pairs(
            lambda *a: skip(*a) - 1, lambda *a: last(*a) - 1
        ),
        "skip takes every (N/M)-th state, not always every second": _pairs(lambda i, n, m: 2 * i, last),
        "last ends with the teacher's very last state; that one is the soft targets' too": _pairs(
            skip, lambda *a: last(*a) + 1
        ),
        "last is as far from the end in the teacher as in the student, not as far from the beginning": _pairs(
            skip, lambda i, n, m: i
        ),
    }
    for which in ("skip", "last"):
        given = (which, times * student, student)
        expect_call(answer, given, patient_layers(*given), mistakes=variants)


# ---- 08.2: the patient loss ----


def check_patience(answer: Callable, draw: Draw) -> None:
    """08.2 against 2 − 2·cos."""
    shape = draw.integer(5, 7), draw.integer(2, 4), draw.integer(8, 10)
    s, t = draw.normal(*shape) + 0.3, draw.normal(*shape) * 2
    unit = F.normalize
    expect_call(
        answer,
        (s, t),
        (2 - 2 * F.cosine_similarity(s, t, dim=-1)).mean(),
        mistakes={
            "the states are compared as they are; each should have length 1 first": lambda s, t: (
                (s - t).square().sum(-1).mean()
            ),
            "only the teacher's states have length 1": lambda s, t: (s - unit(t, dim=-1)).square().sum(-1).mean(),
            "this is a mean over the hidden width too; the formula has a sum there": lambda s, t: F.mse_loss(
                unit(s, dim=-1), unit(t, dim=-1)
            ),
            "layers are added up; take their mean": lambda s, t: s.shape[1] * patient_loss(s, t),
            "texts are added up; take their mean": lambda s, t: s.shape[0] * patient_loss(s, t),
            "texts and layers are added up; take the mean over both": lambda s, t: (
                s.shape[:2].numel() * patient_loss(s, t)
            ),
            "length 1 is given across the layers, not to each state": lambda s, t: (
                (unit(s, dim=1) - unit(t, dim=1)).square().sum(-1).mean()
            ),
            "this is the distance; its square is asked for": lambda s, t: (
                (unit(s, dim=-1) - unit(t, dim=-1)).norm(dim=-1).mean()
            ),
            "1 − cosine is half of the squared distance": lambda s, t: patient_loss(s, t) / 2,
        },
    )


# ---- 08.3: how often a module is replaced ----


def replacing_rate(step: int, total: int, base: float, reach: float) -> float:
    """Stand-in for 08.3."""
    return Replacing(base, reach).rate(step, total)


def check_rate(answer: Callable, draw: Draw) -> None:
    """08.3 on the slope, where it should end, and after it."""
    total, base, reach = draw.integer(100, 400), draw.number(0.15, 0.45), draw.number(0.4, 0.7)
    early, late = int(draw.number(0.2, 0.5) * reach * total), int(draw.number(0.85, 0.98) * total)
    slope = {
        "at step 0 it should be the base, not 0": lambda t, n, b, r: min(1.0, t / (r * n)),
        "the slope is from 0 to 1 and stands on top of the base; from the base to 1 it is flatter": (
            lambda t, n, b, r: min(1.0, b + t / (r * n))
        ),
        "it reaches 1 at the end of the training; it should after `reach` of the steps": lambda t, n, b, r: (
            b + (1 - b) * t / n
        ),
        "it falls; the successor should stand in more and more often": lambda t, n, b, r: max(
            b, 1 - (1 - b) * t / (r * n)
        ),
        "it stays at the base": lambda t, n, b, r: b,
    }
    expect_call(answer, (early, total, base, reach), replacing_rate(early, total, base, reach), mistakes=slope)
    over = {"a probability ends at 1": lambda t, n, b, r: b + (1 - b) * t / (r * n)}
    expect_call(answer, (late, total, base, reach), 1.0, mistakes=over)


# ---- 08.7: a recipe of one's own ----


def own_recipe(teacher_layers: int, student_layers: int) -> Recipe:
    """Stand-in for 08.7: attention everywhere and the last values, then soft and hard."""
    match = match_layers("uniform", teacher_layers, student_layers)
    inner = Stage("inner", (Term("attention-kl", layers=match.attention), Term("values", layers=match.attention[-1:])))
    answers = Stage("answers", (Term("soft", temperature=2.0), Term("hard", weight=0.5)))
    return Recipe("attention, then answers", teacher_layers, student_layers, (inner, answers))


def check_recipe(answer: Callable, draw: Draw) -> None:
    """08.7: what is asked for, by name, then one step of every stage with small models."""
    student_layers = draw.integer(2, 3)
    teacher_layers = draw.integer(2, 3) * student_layers
    recipe = answer(teacher_layers, student_layers)
    if recipe is None:
        raise Wrong("it returns None; is a `return` missing?")
    if not isinstance(recipe, Recipe):
        raise Wrong(f"expected a Recipe, got a {type(recipe).__name__}")
    if (recipe.teacher_layers, recipe.student_layers) != (teacher_layers, student_layers):
        raise Wrong(
            f"asked for {teacher_layers} → {student_layers} layers, the recipe is for {recipe.teacher_layers} → "
            f"{recipe.student_layers}"
        )
    if len(recipe.stages) < 2:
        raise Wrong("it has a single stage; inner layers come first, answers and labels afterwards")
    _explain_first(recipe.stages[0], teacher_layers, student_layers)
    _explain_last(recipe.stages[-1])
    if recipe.start is not None:
        raise Wrong("a student of half the width cannot begin with the teacher's layers: leave `start` out")
    _try_out(recipe, draw)


def _explain_first(stage: Stage, teacher_layers: int, student_layers: int) -> None:
    outside = [term.kind for term in stage.terms if not KINDS[term.kind].layers]
    if outside:
        raise Wrong(f"the first stage compares inner layers and nothing else, but it has {outside[0]!r}")
    for term in stage.terms:
        last = 0 if KINDS[term.kind].state in ("hidden", "cls") else 1  # hidden states count one further
        for student, teacher in term.layers:
            for role, layer, count in (("student", student, student_layers), ("teacher", teacher, teacher_layers)):
                if not 0 <= layer <= count - last:
                    raise Wrong(
                        f"{term.kind!r} names {role} layer {layer}, which is not there; pairs are (student, teacher)"
                    )
        if KINDS[term.kind].width and not term.project:
            raise Wrong(f"{term.kind!r} compares states of one width, and the student is half as wide; it needs a map")
    if len({(KINDS[t.kind].state in ("hidden", "cls"), s) for t in stage.terms for s, _ in t.layers}) < 2:
        raise Wrong("the first stage looks at one layer of the student only; it should be two at least")


def _explain_last(stage: Stage) -> None:
    kinds: dict[str, Term] = {term.kind: term for term in stage.terms}
    if "soft" not in kinds:
        raise Wrong("the last stage does not look at the teacher's answers")
    if "hard" not in kinds:
        raise Wrong("the last stage does not look at the labels")
    if kinds["soft"].temperature <= 1:
        raise Wrong(f"the soft targets have temperature {kinds['soft'].temperature:g}; it should be above 1")


def _try_out(recipe: Recipe, draw: Draw) -> None:
    """The loss of each stage and its gradient, with small models; what the library refuses it says itself."""
    config = TransformerConfig(30, 16, recipe.teacher_layers, 2, 24, max_positions=12, dropout=0.0)
    teacher = SequenceClassifier(Encoder(config), 2).eval()
    student = fresh_student(teacher, num_layers=recipe.student_layers, hidden_size=8, intermediate_size=12)
    ids = draw.integers(5, 29, 4, 7)
    batch = {"input_ids": ids, "attention_mask": draw.mask(4, 7), "labels": torch.tensor([0, 1, 1, 0])}
    for stage in recipe.stages:
        if stage.replacing:
            raise Wrong("layers of half the width cannot take the places of the teacher's")
        if (stage.teacher, stage.student) != ("teacher", "student"):
            raise Wrong(f"there is one teacher and one student; stage {stage.name!r} names others")
        check_pair(stage, student, teacher)
        names = {projection_name(term, layer) for term in stage.terms if term.project for layer, _ in term.layers}
        maps = nn.ModuleDict({name: nn.Linear(8, 16) for name in sorted(names)})
        loss = distillation_loss(Distillation(student, teacher, stage.terms, maps), batch).mean
        loss.backward()
        if not loss.isfinite():
            raise Wrong(f"the loss of stage {stage.name!r} is {loss.item()}")

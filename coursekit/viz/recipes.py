"""Distillation recipes as pictures: teacher beside student, a line for every state that a term compares."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch

from coursekit.distill import Recipe, Stage, Term
from coursekit.viz.style import GREY
from coursekit.viz.towers import (
    DEEP,
    EMPTY,
    INK,
    LEFT,
    LOGITS,
    LOOKS,
    RIGHT,
    STACK,
    WIDE,
    box,
    joins,
    line,
    thick,
    towers,
)

ROW = 0.56  # height of a row of the list under the picture


def recipe_panels(recipes: Mapping[str, Recipe], *, columns: int = 3) -> Figure:
    """A panel for each recipe, title → recipe: the teacher's layers, the student's, and which terms join which.

    Hidden states are joined at the layers' upper edges, where they come out (0: the embeddings); attention, values,
    queries and keys at the layers' middles. Under each picture its stages and terms with weights and options. A
    student's box names the teacher's layer that it begins with. Raises ValueError for no recipes.
    """
    if not recipes:
        raise ValueError("recipe_panels expects at least one recipe, got none")
    rows = -(-len(recipes) // columns)
    lines = [max(map(_rows, list(recipes.values())[row * columns : (row + 1) * columns])) for row in range(rows)]
    heights = [STACK + 2.75 + ROW * count for count in lines]
    width = 3.55 * min(columns, len(recipes))
    figure = plt.figure(figsize=(width, 0.43 * sum(heights)))
    grid = figure.add_gridspec(rows, min(columns, len(recipes)), height_ratios=heights)
    for number, (title, recipe) in enumerate(recipes.items()):
        row, column = divmod(number, columns)
        axis = figure.add_subplot(grid[row, column])
        _draw(axis, recipe)
        axis.set(xlim=(-0.3, 4.75), ylim=(-0.75 - ROW * lines[row], LOGITS + 0.9))
        axis.set_title(title, loc="center", fontsize=12)
    return figure


def recipe_panel(recipe: Recipe, *, title: str | None = None) -> Figure:
    """One recipe as in `recipe_panels`, under its own name or another."""
    return recipe_panels({title or recipe.name: recipe})


# ---- drawing ----


def _draw(axis: Axes, recipe: Recipe) -> None:
    replaces = any(stage.replacing for stage in recipe.stages)
    towers(axis, recipe.teacher_layers, recipe.student_layers, recipe.start, replaces=replaces)
    terms = [term for stage in recipe.stages for term in stage.terms]
    teaches, labels = (any(term.kind in kinds for term in terms) for kinds in (("soft", "logits"), ("hard",)))
    for x, used in ((LEFT, teaches), (RIGHT, teaches or labels)):
        box(axis, x, LOGITS - 0.3, 0.6, "answer", DEEP if used else EMPTY, INK if used else GREY, used)
    if labels:
        x, weight = RIGHT + WIDE, next(term.weight for term in terms if term.kind == "hard")
        axis.text(x + 0.22, LOGITS + 0.56, "label", color=INK, fontsize=9.5, va="bottom")
        style = {"arrowstyle": "-|>", "mutation_scale": 11, "lw": thick(weight), "color": LOOKS["hard"].colour}
        arrow = FancyArrowPatch((x + 0.5, LOGITS + 0.52), (x + 0.03, LOGITS), connectionstyle="arc3,rad=-0.35", **style)
        arrow.set_gid("hard label")
        axis.add_patch(arrow)
    found = joins(recipe)
    for number, join in enumerate(found):
        same = [other for other in found if (other.teacher, other.student) == (join.teacher, join.student)]
        place = [other is join for other in same].index(True)
        line(axis, join, LOOKS[join.term.kind], 0.24 * (place - (len(same) - 1) / 2), gid=f"{number} {join.name}")
    _list(axis, recipe)


# ---- the list under a picture ----


def _list(axis: Axes, recipe: Recipe) -> None:
    place = -0.78
    for number, stage in enumerate(recipe.stages, start=1):
        if heading := _heading(recipe, stage, number):
            axis.text(-0.25, place, heading, fontsize=9, weight="bold", color=INK, va="center")
            place -= ROW
        for term in stage.terms:
            look = LOOKS[term.kind]
            axis.plot([-0.25, 0.29], [place, place], color=look.colour, ls=look.line, lw=2, marker="")
            mark = {"marker": look.marker, "ms": 5.5, "mec": "white", "mew": 0.6, "markevery": 1}
            axis.plot([0.02], [place], color=look.colour, ls="", **mark)
            axis.text(0.42, place, in_words(term), fontsize=9, va="center", color=INK)
            place -= ROW


def _rows(recipe: Recipe) -> int:
    headings = (bool(_heading(recipe, stage, number)) for number, stage in enumerate(recipe.stages, start=1))
    return sum(headings) + sum(len(stage.terms) for stage in recipe.stages)


def _heading(recipe: Recipe, stage: Stage, number: int) -> str:
    """What to say above a stage's terms; nothing where it is the only one and needs no words."""
    words = stage.name if len(recipe.stages) > 1 else ""
    if stage.teacher != "teacher":
        words += f" (teacher: {stage.teacher})"
    if stage.student != "student":
        words += f" ({recipe.teacher_layers} layers)"
    if stage.replacing:
        base, reach = stage.replacing.base, stage.replacing.reach
        words += f", p = {base:g}" + (f" to 1 at {reach:.0%} of the steps" if reach else "")
    if stage.schedule:
        words += f", {stage.schedule} rate"
    return f"{number}. {words.strip(' ,')}" if words else ""


def in_words(term: Term) -> str:
    """A term in a few words: weight, what is compared, options."""
    words = "embeddings, MSE" if term.name == "embedding" else LOOKS[term.kind].words
    if term.temperature != 1:
        words += f", T = {term.temperature:g}"
    if term.top_k:
        words += f", top {term.top_k}"
    if term.masked_only:
        words += ", hidden words only"
    if term.project:
        words += ", one map" if term.project == "one" else ", own maps"
    if term.heads:
        words += f", {term.heads} heads"
    return words if term.weight == 1 else f"{term.weight:g} × {words}"

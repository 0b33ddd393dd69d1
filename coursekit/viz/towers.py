"""Teacher and student as two columns of layers, with lines between what is compared; the map of a strategy."""

from dataclasses import dataclass
from typing import NamedTuple

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from coursekit.distill import LayerMatch, Recipe, Term
from coursekit.viz.style import GREY, PALETTE

INK, PALE, EMPTY, DEEP = "#222222", "#f0f0f0", "#ffffff", "#dfe7ee"
LEFT, RIGHT, WIDE = 0.0, 2.65, 1.2  # where the columns of teacher and student stand, and how wide they are
STACK, FLOOR, GAP = 6.0, 1.0, 0.09  # height of a stack of layers, where it begins, room between boxes
LOGITS = FLOOR + STACK + 0.58


class Look(NamedTuple):
    """Colour, line and marker of a kind of term, and the words for it."""

    colour: str
    line: str
    marker: str
    words: str


LOOKS = {
    "soft": Look(PALETTE[0], "-", "o", "soft targets"),
    "logits": Look(PALETTE[0], "--", "o", "logits, MSE"),
    "hard": Look(PALETTE[1], "-", "s", "labels"),
    "cosine": Look(PALETTE[2], "--", "^", "hidden state, cosine"),
    "hidden": Look(PALETTE[2], "-", "^", "hidden states, MSE"),
    "patient": Look(PALETTE[2], "-.", "v", "[CLS] states, normalised"),
    "attention": Look(PALETTE[3], "-", "D", "attention scores, MSE"),
    "attention-kl": Look(PALETTE[3], "--", "D", "attention, KL"),
    "values": Look(PALETTE[4], "-", "P", "value relations, KL"),
    "queries": Look(PALETTE[4], "--", "X", "query relations, KL"),
    "keys": Look(PALETTE[4], ":", "d", "key relations, KL"),
}


@dataclass(frozen=True)
class Join:
    """A line: the term and its stage (from 1), heights at the teacher and the student, and a name for both ends."""

    term: Term
    stage: int
    teacher: float
    student: float
    name: str


def layer_map(match: LayerMatch, teacher_layers: int, student_layers: int, *, title: str = "") -> Figure:
    """A `LayerMatch` as lines between the layers: hidden states at upper edges, attention at middles."""
    figure, (picture, words) = plt.subplots(1, 2, figsize=(8.6, 4.6), width_ratios=(1.15, 1))
    towers(picture, teacher_layers, student_layers, None, solid=True)
    terms = [
        Term(kind, layers=pairs) for kind, pairs in (("hidden", match.hidden), ("attention", match.attention)) if pairs
    ]
    place = 0.97
    for term in terms:
        for join in layer_joins(term, 1, teacher_layers, student_layers):
            line(picture, join, LOOKS[term.kind], 0.0, gid=join.name)
        look = LOOKS[term.kind]
        words.plot([0, 0.09], [place, place], color=look.colour, ls=look.line, marker=look.marker, markevery=[0, 1])
        start = "the embeddings' output is 0" if term.kind == "hidden" else "the first layer is 0"
        words.text(0.13, place, f"{term.kind}: {start}", weight="bold", va="center", color=INK, fontsize=10)
        for number, (student, teacher) in enumerate(term.layers, start=1):
            words.text(
                0.13, place - 0.058 * number, f"student {student} meets teacher {teacher}", va="center", fontsize=10
            )
        place -= 0.058 * (len(term.layers) + 2)
    words.set(xlim=(-0.03, 1), ylim=(0, 1))
    words.set_axis_off()
    picture.set(xlim=(-0.3, 4.1), ylim=(-0.3, FLOOR + STACK + 0.1), title=title)
    return figure


def joins(recipe: Recipe) -> list[Join]:
    """The lines of a recipe's picture, each once; those of a teaching assistant are left to the words under it."""
    found: list[Join] = []
    for number, stage in enumerate(recipe.stages, start=1):
        for term in stage.terms if stage.student == "student" else ():
            if term.layers:
                found += layer_joins(term, number, recipe.teacher_layers, recipe.student_layers)
            elif term.kind != "hard":
                found.append(Join(term, number, LOGITS, LOGITS, f"{term.name} logits"))
    return list({(join.term, join.name): join for join in reversed(found)}.values())[::-1]


def layer_joins(term: Term, stage: int, teacher_layers: int, student_layers: int) -> list[Join]:
    """The lines of one term between layers of stacks so deep."""
    at_edges = term.state in ("hidden", "cls")
    height = _edge if at_edges else _middle
    return [
        Join(term, stage, height(t, teacher_layers), height(s, student_layers), f"{term.name} {s}-{t}")
        for s, t in term.layers
    ]


def _edge(state: int, layers: int) -> float:
    """Height where hidden state 0 … layers comes out."""
    return FLOOR + state * STACK / layers - GAP


def _middle(layer: int, layers: int) -> float:
    return FLOOR + (layer + 0.5) * STACK / layers - GAP / 2


def towers(
    axis: Axes,
    teacher: int,
    student: int,
    start: LayerMatch | None,
    *,
    replaces: bool = False,
    solid: bool = False,
) -> None:
    """Both columns; the student's layers are as much taller as they are fewer."""
    origin = dict(start.attention) if start else {}
    for x, layers in ((LEFT, teacher), (RIGHT, student)):
        known = solid or x == LEFT or bool(start)
        box(axis, x, 0.16, FLOOR - GAP - 0.16, "embeddings", PALE if known else EMPTY, INK, known, size=8.5)
        for layer in range(layers):
            words, own = str(layer + 1), solid or x == LEFT or layer in origin
            if x == RIGHT and layer in origin:
                words += f"\nbegins as {origin[layer] + 1}" if STACK / layers > 1.2 else f" (as {origin[layer] + 1})"
            bottom, height = FLOOR + layer * STACK / layers, STACK / layers - GAP
            box(axis, x, bottom, height, words, PALE if own else EMPTY, INK, own, size=9 if height > 0.45 else 7)
    for x, name in ((LEFT, "teacher"), (RIGHT, "student")):
        axis.text(x + WIDE / 2, 0.0, name, ha="center", va="top", fontsize=9.5, color=GREY, style="italic")
    for module in range(student if replaces else 0):
        bottom, height = FLOOR + module * STACK / student - GAP / 2, STACK / student
        frame = {"boxstyle": "round,pad=0,rounding_size=0.12", "fill": False, "ls": "--", "lw": 1.6, "ec": PALETTE[5]}
        axis.add_patch(FancyBboxPatch((LEFT - 0.1, bottom), WIDE + 0.2, height, gid=f"module {module}", **frame))
        arrow = {"arrowstyle": "<|-|>", "mutation_scale": 12, "ls": "--", "lw": 1.4, "color": PALETTE[5]}
        middle = bottom + height / 2
        axis.add_patch(FancyArrowPatch((LEFT + WIDE + 0.12, middle), (RIGHT - 0.03, middle), **arrow))
    axis.set_axis_off()


def box(
    axis: Axes, x: float, bottom: float, height: float, words: str, face: str, ink: str, solid: bool, size: float = 9
) -> None:
    """A box; a dashed one is what begins at random, or is not looked at."""
    style = "round,pad=0,rounding_size=0.08"
    edge = {"facecolor": face, "edgecolor": "#8a8a8a", "ls": "-" if solid else (0, (3, 2)), "lw": 0.9}
    axis.add_patch(FancyBboxPatch((x, bottom), WIDE, height, boxstyle=style, **edge))
    axis.text(x + WIDE / 2, bottom + height / 2, words, ha="center", va="center", fontsize=size, color=ink)


def line(axis: Axes, join: Join, look: Look, shift: float, gid: str = "") -> None:
    """Draw a join, moved up by `shift`; gid names the line."""
    axis.plot(
        [LEFT + WIDE, RIGHT],
        [join.teacher + shift, join.student + shift],
        color=look.colour,
        ls=look.line,
        lw=thick(join.term.weight),
        marker=look.marker,
        ms=5.5,
        markevery=1,
        mec="white",
        mew=0.6,
        zorder=4,
        gid=gid,
    )


def thick(weight: float) -> float:
    """Line width of a term's weight."""
    return min(3.6, 1.1 + 0.5 * weight)

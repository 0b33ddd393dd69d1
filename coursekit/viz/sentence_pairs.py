"""Figures of unit 03, the tasks: how pairs are made, what masking does to a sentence, what is asked of a batch."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from coursekit.viz.style import GREY, PALETTE

WHITE = "#ffffff"
FATES = {  # what became of a token → colour, and how it is marked without colour
    "left alone": ("#ffffff", ""),
    "[MASK]": ("#9ecae9", "//"),
    "another token": ("#f2b48c", ".."),
    "as it was, but asked": ("#a5dcc6", "xx"),
}


def how_pairs_are_made() -> Figure:
    """Two articles as rows of sentences, and the three pairs made of them: in order, from elsewhere, swapped."""
    figure, axis = plt.subplots(figsize=(9.2, 3.5))
    for row, (name, colour) in enumerate((("a", PALETTE[0]), ("b", PALETTE[1]))):
        axis.text(-0.25, 3.1 - row, f"article {name.upper()}", ha="right", va="center", fontsize=10)
        for place in range(4):
            _box(axis, place * 1.05, 3.1 - row, f"{name}{place + 1}", colour)
    examples = (
        ("the next sentence\nNSP 0, SOP 0", "a2", "a3"),
        ("a random one\nNSP 1", "a2", "b4"),
        ("the same two, swapped\nSOP 1", "a3", "a2"),
    )
    for column, (title, first, second) in enumerate(examples):
        left = column * 3.1 - 0.6
        axis.text(left + 1.0, 1.22, title, ha="center", va="center", fontsize=10)
        for offset, sentence in ((0.0, first), (1.05, second)):
            _box(axis, left + offset, 0.45, sentence, PALETTE[0] if sentence[0] == "a" else PALETTE[1])
        axis.text(left + 0.45, -0.15, "segment 0", ha="center", va="center", fontsize=9, color=GREY)
        axis.text(left + 1.5, -0.15, "segment 1", ha="center", va="center", fontsize=9, color=GREY)
    axis.set(xlim=(-1.6, 8.4), ylim=(-0.4, 3.6))
    axis.axis("off")
    return figure


def _box(axis: Axes, left: float, middle: float, text: str, colour: str) -> None:
    axis.add_patch(
        FancyBboxPatch(
            (left + 0.06, middle - 0.26), 0.8, 0.52, boxstyle="round,pad=0.04", facecolor=WHITE, edgecolor=colour, lw=2
        )
    )
    axis.text(left + 0.46, middle, text, ha="center", va="center", color=colour, fontweight="bold")


def masking_strip(tokens: Sequence[str], shown: Sequence[str], asked: Sequence[bool], *, per_row: int = 10) -> Figure:
    """A sentence after masking, token by token.

    tokens: as they were; shown: what the model sees; asked: whether it is asked for. Under a token that is asked for
    stands what it was. Raises ValueError for lists of different lengths, or no tokens.
    """
    if not tokens or not len(tokens) == len(shown) == len(asked):
        raise ValueError(
            f"tokens, shown and asked must have one length, got {len(tokens)}, {len(shown)} and {len(asked)}"
        )
    rows = -(-len(tokens) // per_row)
    figure, axis = plt.subplots(figsize=(9.6, 0.95 * rows + 0.7))
    for number, (was, seen, question) in enumerate(zip(tokens, shown, asked, strict=True)):
        row, column = divmod(number, per_row)
        colour, hatch = FATES[fate(was, seen, question)]
        axis.add_patch(plt.Rectangle((column, -row), 0.94, 0.5, facecolor=colour, hatch=hatch, edgecolor=GREY, lw=0.8))
        plate = {"boxstyle": "round,pad=0.12", "facecolor": WHITE, "edgecolor": "none", "alpha": 0.85}
        axis.text(column + 0.47, 0.25 - row, seen, ha="center", va="center", fontsize=8.5, bbox=plate)
        if question:
            axis.text(column + 0.47, -0.16 - row, was, ha="center", va="center", fontsize=8.5, fontweight="bold")
    patches = [plt.Rectangle((0, 0), 1, 1, facecolor=c, hatch=h, edgecolor=GREY) for c, h in FATES.values()]
    figure.legend(patches, FATES, loc="outside lower center", ncols=4, fontsize=9)
    axis.set(xlim=(-0.1, per_row + 0.1), ylim=(-rows + 0.6, 0.6))
    axis.axis("off")
    return figure


def fate(was: str, seen: str, asked: bool) -> str:
    """What became of a token, a key of FATES."""
    if not asked:
        return "left alone"
    if seen == "[MASK]":
        return "[MASK]"
    return "as it was, but asked" if seen == was else "another token"

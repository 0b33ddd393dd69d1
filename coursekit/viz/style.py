"""How figures look, and how one is shown: once, with a text for those who cannot see it and one for those who can."""

import html
import io

import matplotlib
import matplotlib.pyplot as plt
from cycler import cycler
from IPython import get_ipython
from IPython.display import HTML, Image, Markdown, display
from matplotlib.figure import Figure

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#7B2FD0", "#704214", "#000000")
"""Five of Okabe and Ito's colours, violet and brown: all stand out on white (contrast 3) and from each other without
one kind of cone (`coursekit.viz.colours`), which their orange, sky blue and yellow do not."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LINES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1, 1, 1)), (0, (1, 1)))
GREY = "#666666"  # of what is not a series: reference lines, small words

DPI = 144
INCH = 96  # CSS pixels


def use_style() -> None:
    """Set matplotlib's defaults: series differ in colour, marker and line; the ground is white in dark themes too."""
    series = cycler(color=PALETTE) + cycler(marker=MARKERS) + cycler(linestyle=LINES)
    matplotlib.rcParams.update(
        {
            "axes.prop_cycle": series * cycler(markevery=[0.08]),  # a long curve carries a few markers, not hundreds
            "axes.axisbelow": True,
            "axes.grid": True,
            "axes.spines.right": False,
            "axes.spines.top": False,
            "axes.titlelocation": "left",
            "axes.titlesize": 12,
            "axes.titleweight": "bold",
            "figure.constrained_layout.use": True,
            "figure.facecolor": "white",
            "figure.figsize": (7.2, 4.0),
            "font.size": 11,
            "grid.color": "#dddddd",
            "grid.linewidth": 0.8,
            "legend.edgecolor": "white",
            "legend.framealpha": 0.85,
            "lines.linewidth": 2,
            "lines.markersize": 6,
            "savefig.facecolor": "white",
        }
    )


def to_png(figure: Figure, dpi: int = DPI) -> bytes:
    """The figure as PNG; the figure is closed."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=dpi, metadata={"Software": None})
    plt.close(figure)
    return stream.getvalue()


def captioned(figure: Figure | HTML, *, alt: str, caption: str) -> tuple[Image | HTML, Markdown]:
    """The figure as PNG with its alt text, and what stands under it; the figure is closed. Raises as `show` does."""
    if not isinstance(figure, Figure | HTML):
        raise ValueError(f"show expects a matplotlib figure or a table in HTML, got {type(figure).__name__}")
    for name, text in (("alt", alt), ("caption", caption)):
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"a figure needs {name}=, a text that is not empty, got {text!r}")
    kind = "figure" if isinstance(figure, Figure) else "table"
    words = Markdown(f"{caption}\n\n<details><summary>The {kind} in words</summary>{html.escape(alt)}</details>")
    if isinstance(figure, HTML):
        return figure, words
    width = round(figure.get_figwidth() * INCH)
    return Image(to_png(figure), format="png", width=width, alt=alt), words


def show(figure: Figure | HTML, *, alt: str, caption: str) -> None:
    """Show the figure once, as PNG, with its caption under it, and close it; outside IPython it is only closed.

    A table is shown as the HTML it is. `alt` says what is drawn for readers who cannot see it, `caption` in one
    sentence what to see. `alt` is stored in the output's metadata, where nbconvert's classic template and others look
    for it; JupyterLab 4 has no alt texts for PNG outputs, so it is also folded under the caption, for every front end.
    Raises ValueError for an empty text or something that is neither.
    """
    shown = captioned(figure, alt=alt, caption=caption)
    if get_ipython() is not None:
        display(*shown)

"""A figure with controls: the figure function is the widget; a reader without a kernel sees it drawn once."""

import base64
import html
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

import ipywidgets
from IPython import get_ipython
from IPython.display import HTML, display
from matplotlib.figure import Figure
from traitlets import TraitError

from coursekit.errors import unknown_name
from coursekit.viz.style import show, to_png

LIVE_DPI = 80
REMEMBERED = 128
"""So many drawings are kept: going back to a value draws nothing."""
NOTES = "COURSEKIT_WIDGETS"
"""Environment variable with the file to which `explore` notes how fast each control answers; without it, nothing."""


def explore(
    figure_function: Callable[..., Figure | HTML],
    *,
    alt: str,
    caption: str,
    static: dict[str, object] | None = None,
    **controls: object,
) -> None:
    """Controls over `figure_function(**values)`, and under them its static twin for the values `static`.

    A control is an ipywidgets widget or what `interact` takes: (low, high, step) for a slider, a list for a menu, a
    truth value for a box; `static` has the values to begin with, where they are not the widgets' own. All are reached
    with Tab and changed with the arrow keys or Space. A change calls the figure function once, and not at all for
    values seen before; it should only draw what was computed earlier, or write a table in HTML. A ValueError of the
    function is shown in place of the figure. Where there is no kernel only the twin remains. Raises ValueError without
    controls, for a name in `static` that is no control, or a value that its control cannot have.
    """
    if not controls:
        raise ValueError("explore expects at least one control, such as width=(1, 10, 1)")
    widgets = _widgets(controls)
    for name, value in (static or {}).items():
        if name not in widgets:
            raise unknown_name("control", name, widgets)
        _begin(widgets[name], name, value)
    values = {name: widget.value for name, widget in widgets.items()}
    if hasattr(get_ipython(), "kernel"):
        live = _live(figure_function, widgets)
        if file := os.environ.get(NOTES):
            _note_answers(widgets, caption, Path(file))
        display(live)
    show(figure_function(**values), alt=alt, caption=f"{caption} (Drawn for {_named(values)}.)")


def _named(values: dict[str, object]) -> str:
    return ", ".join(f"{name} = {value}" for name, value in values.items())


def _widgets(controls: dict[str, object]) -> dict[str, ipywidgets.Widget]:
    """One widget for each control, described by its name."""
    widgets = {}
    for name, control in controls.items():
        try:
            widget = ipywidgets.interactive.widget_from_abbrev(control)
        except ValueError:
            widget = None
        if widget is None:
            raise ValueError(
                f"control {name} is {control!r}, expected (low, high, step), a list, True, False or a widget"
            )
        widget.description = widget.description or name
        widget.tooltip = widget.tooltip or name  # without one the label's is "null"
        widgets[name] = widget
    return widgets


def _begin(widget: ipywidgets.Widget, name: str, value: object) -> None:
    """Set a control to its first value; a slider would clamp it, a menu refuse it in its own words."""
    with suppress(TraitError):
        widget.value = value
    if widget.value != value:
        raise ValueError(f"static has {name} = {value!r}, which its control cannot have")


def _live(figure_function: Callable[..., Figure | HTML], widgets: dict[str, ipywidgets.Widget]) -> ipywidgets.Widget:
    """The controls above one image that follows them; its alt text says for which values it is drawn."""
    picture = ipywidgets.HTML()

    @lru_cache(REMEMBERED, typed=True)
    def drawn(**values: object) -> str:
        figure = figure_function(**values)
        if isinstance(figure, HTML):
            return f'<div class="jp-RenderedHTMLCommon">{figure.data}</div>'  # JupyterLab's own look of tables
        png = base64.b64encode(to_png(figure, LIVE_DPI)).decode()
        alt = html.escape(f"The figure described below, drawn for {_named(values)}.")
        return f'<img style="max-width: 100%" alt="{alt}" src="data:image/png;base64,{png}">'

    def redraw(_change: object = None) -> None:
        try:
            picture.value = drawn(**{name: widget.value for name, widget in widgets.items()})
        except ValueError as error:
            picture.value = f'<p role="alert">{html.escape(str(error))}</p>'

    for widget in widgets.values():
        widget.observe(redraw, names="value")
    redraw()
    return ipywidgets.VBox([*widgets.values(), picture])


def _note_answers(widgets: dict[str, ipywidgets.Widget], caption: str, file: Path) -> None:
    """Turn every control to its ends and back; note how long each turn to a new value took, a line of JSON each."""
    for name, widget in widgets.items():
        at_first = widget.value
        for end in _ends(widget):
            start = time.perf_counter()
            setattr(widget, *end)
            seconds = time.perf_counter() - start
            if widget.value != at_first:
                note = {"caption": caption, "control": name, "value": str(widget.value), "seconds": seconds}
                with file.open("a", encoding="utf-8") as lines:
                    lines.write(json.dumps(note, ensure_ascii=False) + "\n")
            widget.value = at_first


def _ends(widget: ipywidgets.Widget) -> Iterator[tuple[str, object]]:
    """What to set to bring a control to its first and last value: a trait's name and its value."""
    if hasattr(widget, "options"):
        yield from (("index", index) for index in sorted({0, len(widget.options) - 1}))
    elif hasattr(widget, "min"):
        yield from (("value", value) for value in (widget.min, widget.max))
    elif isinstance(widget.value, bool):
        yield "value", not widget.value

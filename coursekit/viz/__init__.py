"""Figures and widgets: a widget is a figure function plus controls."""

from coursekit.viz.style import MARKERS, PALETTE, show, use_style
from coursekit.viz.widgets import explore

__all__ = ["MARKERS", "PALETTE", "explore", "show", "use_style"]

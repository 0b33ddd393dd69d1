"""Which cells of a lesson are slides, so that `jupyter nbconvert --to slides` shows headings and figures."""

import ast

from nbformat import NotebookNode

FIGURES = ("show", "explore", "viz.show", "viz.explore")


def mark_slides(lesson: NotebookNode) -> None:
    """Set every cell's slide type: titles and sections are slides, subsections and figures stand below, the rest is
    skipped.
    """
    for cell in lesson.cells:
        cell.metadata["slideshow"] = {"slide_type": slide_type(cell)}


def slide_type(cell: NotebookNode) -> str:
    """reveal.js's word for a cell: "slide", "subslide" or "skip"."""
    if cell.cell_type == "markdown":
        level = len(cell.source) - len(cell.source.lstrip("#")) if cell.source.startswith("#") else 0
        return {1: "slide", 2: "slide", 3: "subslide"}.get(level, "skip")
    calls = [node for node in ast.walk(ast.parse(cell.source)) if isinstance(node, ast.Call)]
    return "subslide" if any(ast.unparse(call.func) in FIGURES for call in calls) else "skip"

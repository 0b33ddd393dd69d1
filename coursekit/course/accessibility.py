"""What readers who cannot see a figure, use a screen reader or jump by headings need of a notebook, looked for in it.

Every rule takes a notebook and returns a line per fault that names the cell; `accessibility_faults` asks them all.
"""

import ast
import re
from collections.abc import Iterator

from markdown_it import MarkdownIt
from markdown_it.token import Token
from nbformat import NotebookNode

SAYS_NOTHING = {"here", "click here", "this", "this link", "link", "more", "read more"}
ALT_WORDS = 4
"""Fewer words than this do not say what a figure shows."""
SENTENCE = re.compile(r"\S+(\s+\S+)+[.!?][)”\"’*_]*$", re.DOTALL)  # two words at least, and its full stop

_MARKDOWN = MarkdownIt("commonmark").enable("table")


def accessibility_faults(notebook: NotebookNode) -> list[str]:
    """Everything the rules of this module find, one line each."""
    rules = (heading_faults, figure_faults, widget_faults, table_faults, link_faults, folding_faults)
    return [fault for rule in rules for fault in rule(notebook)]


def heading_faults(notebook: NotebookNode) -> list[str]:
    """One heading of level 1, the first; none skips a level downwards or is empty."""
    faults, before = [], 0
    for cell in _cells(notebook, "markdown"):
        tokens = _MARKDOWN.parse(cell.source)
        for place, token in enumerate(tokens):
            if token.type != "heading_open":
                continue
            level, text = int(token.tag[1:]), _words(tokens[place + 1])
            if not text:
                faults.append(f"cell {cell.id!r} has a heading without text")
            if level == 1 and before:
                faults.append(f"cell {cell.id!r}: {text!r} is a second heading of level 1; a notebook has one title")
            elif level > before + 1:
                faults.append(f"cell {cell.id!r}: {text!r} is a heading of level {level} after level {before}")
            before = level
    return faults or ([] if before else ["no heading: a notebook begins with its title"])


def figure_faults(notebook: NotebookNode) -> list[str]:
    """Every image has an alt text of several words, and every stored figure another sentence under it."""
    faults = []
    for cell in _cells(notebook, "markdown"):
        for token in _inline(cell.source):
            if token.type == "image" and not token.content.strip():
                faults.append(f"cell {cell.id!r} has an image without alt text")
    for cell in _cells(notebook, "code"):
        outputs = cell.get("outputs", [])
        for output, under in zip(outputs, [*outputs[1:], {}], strict=False):
            for kind in output.get("data", {}):
                if not kind.startswith("image/"):
                    continue
                alt = output.metadata.get(kind, {}).get("alt", "").strip()
                caption = _text(under.get("data", {}).get("text/markdown", "")).split("\n\n")[0].strip()
                if len(alt.split()) < ALT_WORDS:
                    faults.append(f"cell {cell.id!r}: the alt text {alt!r} does not say what the figure shows")
                if not SENTENCE.search(caption):
                    faults.append(f"cell {cell.id!r} has a figure without a sentence under it; use coursekit.viz.show")
                elif caption == alt:
                    faults.append(f"cell {cell.id!r}: caption and alt text of a figure are the same")
    return faults


def widget_faults(notebook: NotebookNode) -> list[str]:
    """Every cell with a widget that was run shows a figure or table too, for readers without a kernel."""
    faults = []
    for cell in _cells(notebook, "code"):
        shown = [item for output in cell.get("outputs", []) for item in output.get("data", {}).items()]
        ran = cell.get("execution_count") is not None
        twin = any(kind.startswith("image/") or kind == "text/html" and "<table" in _text(data) for kind, data in shown)
        if ran and _calls(cell.source, "explore") and not twin:
            faults.append(f"cell {cell.id!r} has a widget without its static twin")
    return faults


def table_faults(notebook: NotebookNode) -> list[str]:
    """Every table has a header for each column; the corner above row labels may be empty."""
    faults = []
    for cell, source in _prose(notebook):
        if any(not all(heads[1:]) for heads in _table_heads(source)):
            faults.append(f"cell {cell.id!r} has a table with a column without header")
    for cell, source in [*_prose(notebook), *_pages(notebook)]:
        for table in re.findall(r"<table\b.*?</table>", source, re.DOTALL | re.IGNORECASE):
            heads = re.findall(r"<th\b[^>]*>(.*?)</th>", table, re.DOTALL | re.IGNORECASE)
            if not any(re.search(r"\w", re.sub(r"<[^>]+>", "", head)) for head in heads):
                faults.append(f"cell {cell.id!r} has an HTML table without headers")
    return faults


def link_faults(notebook: NotebookNode) -> list[str]:
    """Every link has a text of its own that says where it leads."""
    faults = []
    for cell, source in _prose(notebook):
        tokens = list(_inline(source))
        for place, token in enumerate(tokens):
            if token.type != "link_open":
                continue
            end = next(n for n in range(place, len(tokens)) if tokens[n].type == "link_close")
            faults += _link_fault(cell, token.attrGet("href"), "".join(t.content for t in tokens[place + 1 : end]))
    for cell, source in [*_prose(notebook), *_pages(notebook)]:
        for attributes, inner in re.findall(r"<a\b([^>]*)>(.*?)</a>", source, re.DOTALL | re.IGNORECASE):
            target = re.search(r"href=[\"']([^\"']*)", attributes)
            shown = re.sub(r"<img[^>]*alt=[\"']([^\"']*)[\"'][^>]*>", r"\1", inner)
            faults += _link_fault(cell, target[1] if target else "", re.sub(r"<[^>]+>", "", shown))
    return faults


def folding_faults(notebook: NotebookNode) -> list[str]:
    """Everything folded says on its fold what is in it."""
    faults = []
    for cell, source in [*_prose(notebook), *_pages(notebook)]:
        folds = len(re.findall(r"<details\b", source))
        summaries = re.findall(r"<summary\b[^>]*>(.*?)</summary>", source, re.DOTALL)
        if folds > sum(1 for words in summaries if re.sub(r"<[^>]+>", "", words).strip()):
            faults.append(f"cell {cell.id!r} has <details> without a <summary> that says what is in it")
    return faults


def _table_heads(source: str) -> list[list[str]]:
    """The header cells of each table."""
    tokens, heads = _MARKDOWN.parse(source), []
    for place, token in enumerate(tokens):
        if token.type == "thead_open":
            heads.append([])
        elif token.type == "th_open":
            heads[-1].append(_words(tokens[place + 1]))
    return heads


def _link_fault(cell: NotebookNode, target: str | None, text: str) -> list[str]:
    text = " ".join(text.split())
    if text and text.lower().rstrip(".") not in SAYS_NOTHING and text.rstrip("/") != (target or "").rstrip("/"):
        return []
    return [f"cell {cell.id!r}: the link to {target!r} is called {text!r}, which does not say where it leads"]


def _cells(notebook: NotebookNode, kind: str) -> Iterator[NotebookNode]:
    return (cell for cell in notebook.cells if cell.cell_type == kind)


def _prose(notebook: NotebookNode) -> Iterator[tuple[NotebookNode, str]]:
    """Markdown, of cells and of outputs, with the cell it is in."""
    yield from ((cell, cell.source) for cell in _cells(notebook, "markdown"))
    yield from _outputs(notebook, "text/markdown")


def _pages(notebook: NotebookNode) -> Iterator[tuple[NotebookNode, str]]:
    """HTML of outputs, with the cell it is in."""
    yield from _outputs(notebook, "text/html")


def _outputs(notebook: NotebookNode, kind: str) -> Iterator[tuple[NotebookNode, str]]:
    for cell in _cells(notebook, "code"):
        for output in cell.get("outputs", []):
            if kind in output.get("data", {}):
                yield cell, _text(output.data[kind])


def _text(text: str | list[str]) -> str:
    return text if isinstance(text, str) else "".join(text)


def _inline(source: str) -> Iterator[Token]:
    for token in _MARKDOWN.parse(source):
        yield from token.children or []


def _words(token: Token) -> str:
    """What is read of an inline token."""
    return "".join(child.content for child in token.children or []).strip()


def _calls(source: str, function: str) -> bool:
    """Whether the code calls `function`, by itself or as an attribute."""
    try:
        calls = [node.func for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    except SyntaxError:
        return False
    return any(getattr(call, "id", getattr(call, "attr", "")) == function for call in calls)

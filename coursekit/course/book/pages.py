"""One lesson as the body of a page, with what the search knows of it."""

import re
from dataclasses import dataclass, field

from nbconvert.filters import strip_ansi
from nbformat import NotebookNode
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

from coursekit.course.book.text import Link, PageText, plain_text
from coursekit.course.colab import CELL_ID

FOLDED = ("imports",)
CODE = HtmlFormatter(style="xcode", nowrap=False, cssclass="code")


@dataclass
class Section:
    """A heading of a page and the prose under it, for the search."""

    anchor: str
    title: str
    text: str


@dataclass
class Page:
    """A page's body, its headings as (level, anchor, text), and its sections."""

    body: str
    headings: list[tuple[int, str, str]]
    sections: list[Section] = field(default_factory=list)


def lesson_page(notebook: NotebookNode, link: Link) -> Page:
    """The page of a built lesson; the cell for Colab is left out. Raises ValueError for what it cannot show."""
    text, parts, sections = PageText(link), [], []
    for cell in notebook.cells:
        if cell.get("id") == CELL_ID:
            continue
        if cell.cell_type == "markdown":
            made = text.to_html(cell.source)
            _note(sections, text.headings, made)
        else:
            made = _code(cell) + "".join(_output(output, text, cell.id) for output in cell.outputs)
            made = f'<div class="cell">{made}</div>'
        parts.append(made)
    return Page("\n".join(parts), text.headings, sections)


def text_page(source: str, link: Link) -> Page:
    """The page of a Markdown file."""
    text, sections = PageText(link), []
    body = text.to_html(source)
    _note(sections, text.headings[:1], body)
    return Page(body, text.headings, sections)


def _note(sections: list[Section], headings: list[tuple[int, str, str]], made: str) -> None:
    """Add a cell's prose to the section of the heading that came last."""
    for _, anchor, title in headings[len(sections) :]:
        sections.append(Section(anchor, title, ""))
    if sections:
        prose = plain_text(re.sub(r"<h(\d) .*?</h\1>", " ", made, flags=re.DOTALL))
        sections[-1].text = f"{sections[-1].text} {prose}".strip()


def _code(cell: NotebookNode) -> str:
    made = highlight(cell.source, PythonLexer(), CODE).replace("<pre>", '<pre tabindex="0">', 1)
    if cell.id in FOLDED:
        return f"<details><summary>Imports</summary>{made}</details>"
    return made


def _output(output: NotebookNode, text: PageText, cell: str) -> str:
    if output.output_type == "stream":
        return _printed(output.text)
    data = output.get("data", {})
    if "image/png" in data:
        about = output.metadata.get("image/png", {})
        width = f' width="{about["width"]}"' if "width" in about else ""
        alt = _escaped(about.get("alt", ""))
        return f'<img src="data:image/png;base64,{data["image/png"].strip()}" alt="{alt}"{width} loading="lazy">'
    if "text/markdown" in data:
        return f'<div class="says">{text.to_html(data["text/markdown"])}</div>'
    if "text/html" in data:
        return f'<div class="wide says" tabindex="0">{data["text/html"]}</div>'
    if "text/plain" in data:
        return _printed(data["text/plain"])
    raise ValueError(f"cell {cell!r} has an output that the book cannot show: {', '.join(sorted(data))}")


def _printed(words: str) -> str:
    return f'<pre class="printed" tabindex="0">{_escaped(strip_ansi(words).rstrip())}</pre>'


def _escaped(words: str) -> str:
    return words.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")

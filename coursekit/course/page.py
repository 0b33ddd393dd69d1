"""Pieces of HTML for what a notebook shows: JupyterLab keeps all of it where the notebook is not trusted."""

import base64
import html
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

LEFT = 'style="text-align: left; vertical-align: top"'


def text(value: object) -> str:
    """The value as text, safe inside HTML."""
    return html.escape(str(value))


def towards(path: Path, here: Path | None = None) -> str:
    """The file's address in a link from the folder `here`, by default the notebook's."""
    return Path(os.path.relpath(path, here or Path.cwd())).as_posix()


def link(target: str, words: str) -> str:
    """A link to a file beside the notebook, or to an address."""
    return link_around(target, text(words))


def link_around(target: str, inside: str) -> str:
    """A link of HTML, such as a picture with its name."""
    return f'<a href="{html.escape(target)}">{inside}</a>'


def picture(png: bytes, alt: str, width: int) -> str:
    """A PNG as part of the page, `width` CSS pixels wide."""
    data = base64.b64encode(png).decode()
    return f'<img src="data:image/png;base64,{data}" alt="{html.escape(alt)}" width="{width}">'


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], caption: str = "") -> str:
    """A table of HTML cells under headers of plain text; the first cell of a row is its header."""
    head = "".join(f"<th {LEFT}>{text(column)}</th>" for column in columns)
    body = ""
    for first, *others in rows:
        cells = "".join(f"<td {LEFT}>{cell}</td>" for cell in others)
        body += f"<tr><th {LEFT}>{first}</th>{cells}</tr>"
    above = f"<caption {LEFT}>{text(caption)}</caption>" if caption else ""
    return f"<table>{above}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def fold(summary: str, inside: str) -> str:
    """HTML behind a line that opens it."""
    return f"<details><summary>{text(summary)}</summary>{inside}</details>"


def bar(done: int, total: int) -> str:
    """`done` of `total` as filled and empty squares, and in words."""
    return f"{'■' * done}{'□' * (total - done)} {done} of {total}"

"""Markdown to HTML with mathematics as MathML, which browsers draw without a script or a network."""

import html
import re
from collections.abc import Callable

from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

BRACKETS = {"pmatrix": "()", "bmatrix": "[]", "vmatrix": "||"}

Link = Callable[[str], str | None]
"""From an address as the notebook has it to the site's, or None where the site has nothing of the kind."""


class PageText(IPythonRenderer):
    """Renders the Markdown of one page, and keeps its headings: (level, anchor, text without marks)."""

    def __init__(self, link: Link):
        super().__init__(escape=False)
        self.address = link
        self.headings: list[tuple[int, str, str]] = []

    def to_html(self, source: str) -> str:
        """One piece of Markdown; may be called for every cell in turn. Raises ValueError for formulas unknown to it."""
        return MarkdownWithMath(renderer=self).render(source)

    def heading(self, text: str, level: int, **attrs: object) -> str:
        """A heading with an anchor that occurs once in the page."""
        plain = plain_text(text)
        anchor = slug = re.sub(r"[^a-z0-9]+", "-", plain.lower()).strip("-") or "section"
        number, taken = 1, {name for _, name, _ in self.headings}
        while anchor in taken:
            number += 1
            anchor = f"{slug}-{number}"
        self.headings.append((level, anchor, plain))
        here = f'<a class="anchor" href="#{anchor}" aria-label="Link to this section">#</a>'
        return f'<h{level} id="{anchor}">{text} {here}</h{level}>'

    def link(self, text: str, url: str, title: str | None = None) -> str:
        """A link, or only its text where it would lead nowhere."""
        address = self.address(url)
        return text if address is None else super().link(text, address, title)

    def table(self, text: str) -> str:
        """A table that scrolls by itself on a narrow page."""
        return f'<div class="wide" tabindex="0"><table>{text}</table></div>'

    def block_math(self, body: str) -> str:
        """A formula on its own line."""
        return f'<div class="wide formula" tabindex="0">{mathml(body, "block")}</div>'

    def inline_math(self, body: str) -> str:
        """A formula in the text."""
        return mathml(body, "inline")


def mathml(formula: str, display: str) -> str:
    """LaTeX as MathML, with the LaTeX as its text for those who copy it. Raises ValueError for a formula that the
    converter does not know, RuntimeError where it is not installed.
    """
    try:
        from latex2mathml.converter import convert
    except ModuleNotFoundError:
        raise RuntimeError("the book needs latex2mathml; install it with: pip install -e '.[book]'") from None
    source = html.unescape(formula).strip()
    # the converter's brackets of a matrix do not grow, nor does it know \Bigl\lVert; \left and \right do both
    tall = re.sub(r"\\[Bb]igg?([lr])(?![a-z])", lambda side: {"l": r"\left", "r": r"\right"}[side[1]], source)
    for name, (opening, closing) in BRACKETS.items():
        tall = tall.replace(rf"\begin{{{name}}}", rf"\left{opening}\begin{{matrix}}")
        tall = tall.replace(rf"\end{{{name}}}", rf"\end{{matrix}}\right{closing}")
    try:
        made = convert(tall, display=display)
    except Exception as error:
        raise ValueError(f"the formula {source!r} cannot be converted ({type(error).__name__})") from error
    if left := re.search(r"\\[A-Za-z]+", plain_text(made)):
        raise ValueError(f"the formula {source!r} cannot be converted ({left.group()} is unknown)")
    made = re.sub("<mo>(&#x02016;|&#x0007C;)</mo>", r'<mo stretchy="false">\1</mo>', made)  # norms: as tall as a letter
    return made.replace("<math ", f'<math alttext="{html.escape(source)}" ', 1)


def plain_text(markup: str) -> str:
    """HTML without its tags, on one line."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", "", markup)).split())

"""Where running text comes from: each source as a list of texts, one per document, cleaned of what is not prose."""

import csv
import html
import io
import re
import zipfile

from coursekit.data.assets import fetch
from coursekit.data.translation import _read_web


def news() -> list[str]:
    """Bodies of news articles of early 2017, in the order of the file; some are empty, some occur twice."""
    with zipfile.ZipFile(fetch("news") / "NewsArticles.zip") as box:
        text = box.read("NewsArticles.csv").decode("utf-8")
    return [_repair(row["text"]) for row in csv.DictReader(io.StringIO(text, newline=""))]


def web_bible() -> list[str]:
    """Chapters of the World English Bible, verses joined, without footnotes."""
    verses, _ = _read_web(fetch("web-bible"))
    chapters: dict[int, list[str]] = {}
    for number, text in verses.items():
        chapters.setdefault(number // 1000, []).append(text)
    return [" ".join(chapter) for chapter in chapters.values()]


# In the file a quotation mark, apostrophe or dash outside ASCII has become a straight quotation mark, and the space
# that followed it a question mark: `the teachers"?unions`, `he said."?She`, `the bill "?a first`, `I didn"t`.
_DAMAGE = (
    (re.compile(r'(?<=[a-z])"(?=(s|t|re|ve|ll|d|m)\b)'), "'"),
    (re.compile(r' "\?(?=\w)'), " - "),
    (re.compile(r'(?<=s)"\?(?=[a-z])'), "' "),
    (re.compile(r'"\?(?=["\w(])'), '" '),
    (re.compile("[\ufffd\u200b]"), ""),
)


def _repair(text: str) -> str:
    """One article with its typography restored where the damage says what was there; single spaces."""
    text = html.unescape(text)
    for pattern, instead in _DAMAGE:
        text = pattern.sub(instead, text)
    return " ".join(text.split())

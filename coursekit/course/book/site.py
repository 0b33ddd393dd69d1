"""The whole site: lessons, glossary, contents, search. It needs no server: every address is relative."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import nbformat
from jinja2 import Environment, FileSystemLoader

from coursekit.course.book.pages import CODE, Page, lesson_page, text_page
from coursekit.course.units import UNITS, Unit, course_root
from coursekit.files import atomic_folder

ASSETS = Path(__file__).parent / "assets"
GLOSSARY = Path("docs/glossary.md")


@dataclass(frozen=True)
class Entry:
    """A page of the site: file name, title, and what is on it."""

    file: str
    title: str
    page: Page


def build_book(folder: Path, *, root: Path | None = None) -> list[Path]:
    """Make the site of all units that are ready in `folder`, in place of what is there; its pages, contents first.

    The lessons are shown as they are stored, with their outputs; nothing is run. Raises ValueError if `folder` holds
    something else, for a lesson that is not built, or for a cell that cannot be shown; RuntimeError without the
    packages of the extra `book`.
    """
    root, folder = root or course_root(), Path(folder)
    if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not (folder / "search.js").is_file())):
        raise ValueError(f"{folder} holds something else; expected a book to make again, or a name that is free")
    ready = [unit for unit in UNITS if unit.ready_in(root)]
    entries = [_lesson(unit, ready, root) for unit in ready]
    if (root / GLOSSARY).is_file():
        source = (root / GLOSSARY).read_text(encoding="utf-8")
        entries.append(Entry("glossary.html", "Glossary", text_page(source, lambda url: url)))
    pages = {"index.html": _contents(entries, ready)}
    pages |= {entry.file: _lesson_html(entries, number) for number, entry in enumerate(entries)}
    with atomic_folder(folder) as part:
        for name, text in pages.items():
            (part / name).write_text(text, encoding="utf-8")
        (part / "search.js").write_text(_index(entries), encoding="utf-8")
        style = (ASSETS / "book.css").read_text(encoding="utf-8")
        (part / "book.css").write_text(f"{CODE.get_style_defs('.code')}\n{style}", encoding="utf-8")
        shutil.copy(ASSETS / "book.js", part / "book.js")
        (part / "exercises").mkdir()
        for unit in ready:
            shutil.copy(unit.notebook("exercise", root), part / "exercises")
    return [folder / name for name in pages]


def _lesson(unit: Unit, ready: list[Unit], root: Path) -> Entry:
    path = unit.notebook("lesson", root)
    name = path.relative_to(root).as_posix()
    if not path.is_file() or not unit.notebook("exercise", root).is_file():
        raise ValueError(f"{name} or its exercise is not built; run `coursekit build {unit.number} --execute`")
    known = {f"{each.stem}.ipynb": f"{each.stem}.html" for each in ready}
    known |= {f"../exercises/{each.stem}.ipynb": f"exercises/{each.stem}.ipynb" for each in ready}

    def link(url: str) -> str | None:
        return url if "://" in url or url.startswith("#") else known.get(url)

    try:
        page = lesson_page(nbformat.read(path, as_version=4), link)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    return Entry(f"{unit.stem}.html", f"{unit.number} · {unit.title}", page)


def _template():
    return Environment(loader=FileSystemLoader(ASSETS), autoescape=True).get_template("page.html")


def _contents(entries: list[Entry], ready: list[Unit]) -> str:
    """The first page."""
    coming = [unit for unit in UNITS if unit not in ready]
    return _template().render(title="Small transformers", entries=entries, ready=ready, coming=coming, here=None)


def _lesson_html(entries: list[Entry], number: int) -> str:
    here = entries[number]
    before = entries[number - 1] if number else None
    after = entries[number + 1] if number + 1 < len(entries) else None
    return _template().render(title=here.title, entries=entries, here=here, before=before, after=after)


def _index(entries: list[Entry]) -> str:
    """What the search looks through, as a script, because a page opened from a disk may not read other files."""
    sections = [
        {"page": entry.file, "of": entry.title, "anchor": each.anchor, "title": each.title, "text": each.text}
        for entry in entries
        for each in entry.page.sections
    ]
    return f"const SECTIONS = {json.dumps(sections, ensure_ascii=False)};\n"

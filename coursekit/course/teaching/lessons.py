"""What a lesson says of itself: what one will be able to do, how long it takes, its questions with their answers."""

import html
import re
from dataclasses import dataclass
from pathlib import Path

import nbformat

from coursekit.course.sources import read_source
from coursekit.course.units import Unit


@dataclass(frozen=True)
class Question:
    """A concept question and its folded answer, as Markdown."""

    text: str
    answer: str


@dataclass(frozen=True)
class LessonFacts:
    """Objective as Markdown, minutes to read and run, questions; seconds and cores of the stored run, if recorded."""

    objective: str
    minutes: int
    questions: tuple[Question, ...]
    seconds: int | None = None
    cores: int | None = None


def lesson_facts(unit: Unit, root: Path) -> LessonFacts:
    """Read a unit's lesson. Raises ValueError for one that does not begin and end as lessons do."""
    cells = [cell.source for cell in read_source(unit, "lesson", root).cells if cell.cell_type == "markdown"]
    place = unit.source("lesson", root).relative_to(root).as_posix()
    objective = re.search(r"\*\*You will be able to\*\*\s+(.+?)(?=\n\n|\Z)", cells[0], re.DOTALL)
    minutes = re.search(r"(\d+) minutes", cells[0])
    if not objective or not minutes:
        raise ValueError(f"{place}: the first cell says neither what one will be able to do nor how many minutes")
    asked = [cell for cell in cells if cell.startswith("## Questions")]
    if len(asked) != 1:
        raise ValueError(f"{place}: expected one section `## Questions`, got {len(asked)}")
    questions = re.findall(r"<details><summary>(.+?)</summary>(.+?)</details>", asked[0], re.DOTALL)
    return LessonFacts(
        objective=_one_line(objective[1]),
        minutes=int(minutes[1]),
        questions=tuple(Question(_one_line(_unnumbered(text)), answer.strip()) for text, answer in questions),
        **_run(unit.notebook("lesson", root)),
    )


def _run(path: Path) -> dict[str, int]:
    """What `coursekit build --execute` noted of the run that made the outputs."""
    if not path.is_file():
        return {}
    noted = nbformat.read(path, as_version=4).metadata.get("coursekit", {})
    return {name: noted[name] for name in ("seconds", "cores") if name in noted}


def _one_line(text: str) -> str:
    return html.unescape(" ".join(text.split()))


def _unnumbered(text: str) -> str:
    return re.sub(r"^\s*\d+\.\s+", "", text)

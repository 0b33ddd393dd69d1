"""The lecturer's handbook: everything that the tasks and lessons say of themselves, as Markdown to read or print."""

from dataclasses import dataclass
from pathlib import Path

from coursekit.course.tasks import Task, unit_tasks
from coursekit.course.teaching.lessons import LessonFacts, lesson_facts
from coursekit.course.teaching.mistakes import named_mistakes
from coursekit.course.teaching.plans import ROUTES, SYLLABI, Route, time_plan
from coursekit.course.units import UNITS, Unit, course_root
from coursekit.files import atomic_file

MADE = "Made by `coursekit class handbook` from the course's own tasks and lessons; make it again after an update.\n"
BY_ITSELF = "to run by itself, measured (min:s)"


@dataclass(frozen=True)
class Chapter:
    """A unit that is open, what its lesson says, and its tasks."""

    unit: Unit
    facts: LessonFacts
    tasks: tuple[Task, ...]


def write_handbook(folder: Path, *, root: Path | None = None) -> list[Path]:
    """Write points.md, syllabus.md, time-plan.md, and notes-NN.md for every unit whose lesson is built; their paths.

    Raises ValueError if `folder` is a file, or for a lesson that lacks its objective or its questions.
    """
    root, folder = root or course_root(), Path(folder)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; expected a folder, or a name that is free")
    chapters = [
        Chapter(unit, lesson_facts(unit, root), unit_tasks(unit.number)) for unit in UNITS if unit.open_in(root)
    ]
    pages = {"points.md": points(chapters), "syllabus.md": syllabus(chapters), "time-plan.md": time_plans(chapters)}
    pages |= {f"notes-{chapter.unit.number}.md": notes(chapter) for chapter in chapters}
    for name, text in pages.items():
        with atomic_file(folder / name) as part:
            part.write_text(f"{text.rstrip()}\n\n{MADE}", encoding="utf-8")
    return [folder / name for name in pages]


def _table(columns: tuple[str, ...], rows: list[tuple[object, ...]]) -> str:
    cells = [columns, ("---",) * len(columns), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in cells)


def points(chapters: list[Chapter]) -> str:
    """Every task with its points, and the sum of each unit."""
    parts = ["# Points per task\n"]
    columns = ("task", "", "points", "minutes", "difficulty", "importance")
    for chapter in chapters:
        rows = [(t.id, t.title, t.points, t.minutes, f"{t.difficulty}/5", f"{t.importance}/5") for t in chapter.tasks]
        total = ("", "sum", sum(t.points for t in chapter.tasks), sum(t.minutes for t in chapter.tasks), "", "")
        parts.append(f"## {chapter.unit.number} · {chapter.unit.title}\n\n{_table(columns, [*rows, total])}\n")
    total = sum(task.points for chapter in chapters for task in chapter.tasks)
    return "\n".join([*parts, f"{total} points in all."])


def syllabus(chapters: list[Chapter]) -> str:
    """The course in 2, 6 and 12 weeks; units that are not open yet are in brackets."""
    known = {chapter.unit.number: chapter for chapter in chapters}
    parts = ["# Syllabus\n", "Reading is the lesson, run by each participant; exercises are graded homework or lab.\n"]
    for weeks, plan in SYLLABI.items():
        rows = []
        for week, numbers in enumerate(plan, 1):
            names = [_name(unit, known) for unit in UNITS if unit.number in numbers]
            mine = [known[number] for number in numbers if number in known]
            reading = sum(chapter.facts.minutes for chapter in mine)
            work = sum(task.minutes for chapter in mine for task in chapter.tasks)
            score = sum(task.points for chapter in mine for task in chapter.tasks)
            numbers_of_week = (f"{reading} min", f"{work} min", score) if mine else ("", "", "")
            rows.append((week, "<br>".join(names) or "the participants' own reports", *numbers_of_week))
        parts.append(f"## {weeks} weeks\n\n{_table(('week', 'units', 'reading', 'exercises', 'points'), rows)}\n")
    return "\n".join(parts)


def _name(unit: Unit, known: dict[str, Chapter]) -> str:
    name = f"{unit.number} · {unit.title}"
    return name if unit.number in known else f"({name}, in the making)"


def time_plans(chapters: list[Chapter]) -> str:
    """The workshops, slot by slot, and how long each lesson takes to run by itself."""
    known = {chapter.unit.number: chapter for chapter in chapters}
    parts = ["# Time plan of a workshop\n", *[_route(route, known) for route in ROUTES]]
    rows = [(f"{c.unit.number} · {c.unit.title}", f"{c.facts.minutes} min", measured([c.facts])) for c in chapters]
    columns = ("lesson", "to read and run", BY_ITSELF)
    parts.append(f"## The lessons' minutes\n\n{_table(columns, rows)}\n")
    parts.append("On your machines: `coursekit run 00 01` prints the times.")
    return "\n".join(parts)


def measured(lessons: list[LessonFacts]) -> str:
    """What the stored runs of lessons took together, as "2:05 on 2 cores"; nothing is estimated."""
    if not lessons or any(facts.seconds is None for facts in lessons):
        return "not measured"
    seconds, cores = sum(facts.seconds for facts in lessons), sorted({facts.cores for facts in lessons})
    return f"{seconds // 60}:{seconds % 60:02d} on {' and '.join(map(str, cores))} cores"


def _route(route: Route, known: dict[str, Chapter]) -> str:
    """A route's slots; beside each lesson's minutes for people what the machine alone was measured to need."""
    lessons = {number: chapter.facts.minutes for number, chapter in known.items()}
    tasks = {number: chapter.tasks for number, chapter in known.items()}
    rows = []
    for slot in time_plan(route, lessons, tasks):
        what = f"{slot.unit} · {known[slot.unit].unit.title}: {slot.what}" if slot.unit else slot.what
        alone = measured([known[slot.unit].facts]) if slot.is_lesson else ""
        rows.append((f"{slot.start // 60}:{slot.start % 60:02d}", f"{slot.minutes} min", what, alone))
    mine = [known[number].facts for number in route.units if number in known]
    rows.append(("", "", "its lessons together", measured(mine)))
    missing = [number for number in route.units if number not in known]
    note = f"\nStill in the making, and left out: {', '.join(missing)}.\n" if missing else ""
    return f"## {route.title.capitalize()}\n\n{_table(('from', 'for', 'what', BY_ITSELF), rows)}\n{note}"


def notes(chapter: Chapter) -> str:
    """One unit: objective, minutes, concept questions with answers, and what goes wrong in each task."""
    unit, facts = chapter.unit, chapter.facts
    needs = ", ".join(unit.prerequisites) or "nothing"
    parts = [
        f"# {unit.number} · {unit.title}: notes\n",
        f"{unit.summary}\n",
        f"**Objective.** Participants will be able to {facts.objective}\n",
        f"**Time.** {facts.minutes} minutes for the lesson, {sum(task.minutes for task in chapter.tasks)} for its "
        f"{len(chapter.tasks)} tasks; {sum(task.points for task in chapter.tasks)} points. Needs {needs}.\n",
        "## Concept questions\n",
        *[f"{number}. **{q.text}** {' '.join(q.answer.split())}" for number, q in enumerate(facts.questions, 1)],
        "\n## What students get wrong\n",
        "The mistakes that the checks know, in the words in which a participant reads them.\n",
    ]
    for task in chapter.tasks:
        worth = f"{task.points} point{'s' * (task.points > 1)}"
        parts.append(f"### {task.id} · {task.title} ({worth}, difficulty {task.difficulty}/5)\n")
        parts.append("\n".join(f"- {message}" for message in named_mistakes(task)) + "\n")
    return "\n".join(parts)

"""The page that JupyterLab opens on: a map of the course, a route for one's time, progress, and doctor's verdict."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from coursekit.course import page
from coursekit.course.doctor import Finding, examine
from coursekit.course.progress import Progress, progress
from coursekit.course.tasks import unit_tasks
from coursekit.course.units import FAMILIES, UNITS, Unit, course_root, find_unit
from coursekit.files import atomic_file

WELCOME = "welcome.ipynb"
ALTS = {
    "weight sharing": "one matrix with arrows to three layers",
    "low-rank factorization": "a square matrix, and a column times a row instead",
    "pruning": "a matrix with single cells missing, or with whole rows missing",
    "quantization": "a matrix in many shades, and the same in three",
    "knowledge distillation": "a stack of six layers with an arrow to a stack of two",
}
"""What is drawn for each family."""
PICTURE_WIDTH = 150
HEAD = 'style="text-align: left; vertical-align: top; width: 20%"'
INTRO = """# Small transformers

Eleven units on making NLP transformers small. Click a picture or a unit to open its lesson, or press Tab to go
from link to link and Enter to follow one.

This page is as of {:%Y-%m-%d %H:%M}. To bring it up to date, click the next cell and press Shift+Enter. `coursekit lab`
makes it anew: keep your own notes elsewhere."""
CODE = "from coursekit.course import start, welcome\n\nwelcome()"
START = 'start("00")  # copies the exercise of a unit to my-work/, where it is yours'


@dataclass(frozen=True, repr=False)
class Welcome:
    """The page as HTML; `verdict` is doctor's, in one line."""

    html: str
    verdict: str

    def __repr__(self) -> str:
        return f"{self.verdict} The map and your progress are shown in JupyterLab; `coursekit progress` prints them."

    def _repr_html_(self) -> str:
        return self.html


def welcome(*, root: Path | None = None, here: Path | None = None) -> Welcome:
    """The page as it is now; its links begin in the folder `here`, by default the notebook's."""
    root = root or course_root()
    here = here or Path.cwd()
    every = progress()
    open_units = (unit for unit in every.units if find_unit(unit.unit).open_in(root))
    done = Progress(tuple(open_units), every.tasks)
    findings = list(examine(training=False))
    parts = {
        "The map": course_map(root, here, done),
        "The route for your time": routes(root, here),
        "Your progress": done._repr_html_(),
        "This machine": machine(findings),
    }
    body = "".join(f"<h2>{page.text(title)}</h2>{part}" for title, part in parts.items())
    return Welcome(body, verdict(findings))


def course_map(root: Path, here: Path, done: Progress) -> str:
    """Where to begin, the units of each family under its picture, and what is beside and after them."""
    others = [unit for unit in UNITS if not any(unit.number in numbers for numbers in FAMILIES.values())]
    first, *later = others

    def entries(units: list[Unit]) -> str:
        return "".join(unit_entry(unit, root, here, done) for unit in units)

    members = {family: [find_unit(number) for number in numbers] for family, numbers in FAMILIES.items()}
    cells = "".join(f"<td {page.LEFT}>{entries(units)}</td>" for units in members.values())
    heads = "".join(f"<th {HEAD}>{family_entry(*each, root, here)}</th>" for each in members.items())
    families = f"<table><thead><tr>{heads}</tr></thead><tbody><tr>{cells}</tr></tbody></table>"
    before = f"<p><b>Begin here:</b></p>{entries([first])}<p><b>Five ways to make a model smaller:</b></p>"
    return f"{before}{families}<p><b>Beside and after the families:</b></p>{entries(later)}"


def family_entry(family: str, units: list[Unit], root: Path, here: Path) -> str:
    """A family's picture and name, a link to the first of its lessons that is open."""
    from coursekit.viz.measuring import family as drawing
    from coursekit.viz.style import to_png

    picture = page.picture(to_png(drawing(family)), f"{family}: {ALTS[family]}", PICTURE_WIDTH)
    shown = f"{picture}<br>{page.text(family)}"
    for unit in units:
        if unit.open_in(root):
            return page.link_around(page.towards(unit.notebook("lesson", root), here), shown)
    return f"{shown}<br><i>in the making</i>"


def unit_entry(unit: Unit, root: Path, here: Path, done: Progress) -> str:
    """A unit's name, a link to its lesson, its minutes, what is done, and its exercise.

    One that is not open yet is marked so, and unfolds what it will be about.
    """
    name = f"{unit.number} · {unit.title}"
    if not unit.open_in(root):
        needs = f" Needs {', '.join(unit.prerequisites)}." if unit.prerequisites else ""
        return page.fold(f"{name} (in the making)", page.text(f"{unit.summary} {unit.minutes} minutes.{needs}"))
    lesson = page.link(page.towards(unit.notebook("lesson", root), here), name)
    mine = root / "my-work" / unit.notebook("exercise", root).name
    exercise = page.link(page.towards(mine, here), "my exercise") if mine.is_file() else "exercise not started"
    state = "".join(f"<br>{page.bar(each.right, each.total)}" for each in done.units if each.unit == unit.number)
    return f"<p>{lesson}<br>{unit.minutes} minutes, {exercise}{state}</p>"


def routes(root: Path, here: Path) -> str:
    """What fits into an hour, into half a day, into a day; and the whole course."""
    from coursekit.course.teaching.lessons import lesson_facts  # with what reads notebooks: a second, only needed here
    from coursekit.course.teaching.plans import ROUTES, time_plan

    ready = {unit.number: unit for unit in UNITS if unit.open_in(root)}
    lessons = {number: lesson_facts(unit, root).minutes for number, unit in ready.items()}
    tasks = {number: unit_tasks(number) for number in ready}
    rows = []
    for route in ROUTES:
        steps = []
        for slot in time_plan(route, lessons, tasks):
            if slot.is_lesson:
                lesson = page.towards(ready[slot.unit].notebook("lesson", root), here)
                steps.append(f"{page.link(lesson, f'lesson {slot.unit}')}, {slot.minutes} minutes")
            elif slot.unit:
                steps.append(f"{page.text(slot.what)}, {slot.minutes} minutes")
        missing = [number for number in route.units if number not in ready]
        steps += [f"<i>in the making: {', '.join(missing)}</i>"] if missing else []
        rows.append((page.text(route.title), "<br>".join(steps)))
    hours = sum(unit.minutes for unit in UNITS) / 60
    numbers = f"{UNITS[0].number} to {UNITS[-1].number} in this order, lesson and exercise"
    rows.append(("the whole course", f"{numbers}: {hours:.0f} hours. Ready: {', '.join(ready) or 'none'}."))
    return page.table(("you have", "do this"), rows)


def verdict(findings: list[Finding]) -> str:
    """One line: ready, or how many things are to be done."""
    wrong = sum(finding.needed and not finding.ok for finding in findings)
    if wrong:
        return f"This machine is not ready: {wrong} {'thing' if wrong == 1 else 'things'} to do."
    return "This machine is ready for the course."


def machine(findings: list[Finding]) -> str:
    """Doctor's verdict, what to do if anything, and everything that was looked at, folded."""
    rows = {True: [], False: []}
    for finding in findings:
        mark = "fine" if finding.ok else "to do" if finding.needed else "advice"
        rows[finding.ok].append([page.text(cell) for cell in (finding.name, mark, finding.detail, finding.remedy)])
    columns = ("what", "state", "found", "what to do")
    to_do = page.table(columns, rows[False]) if rows[False] else ""
    everything = page.fold("What was looked at", page.table(columns, rows[True]))
    return f"<p><b>{page.text(verdict(findings))}</b></p>{to_do}{everything}"


def write_welcome(root: Path | None = None) -> Path:
    """Make welcome.ipynb in the course folder, with the page as it is now stored in it; returns its path.

    It is shown without being run or trusted. Raises OSError if it cannot be written.
    """
    import nbformat

    from coursekit.course.sources import METADATA

    root = root or course_root()
    now = welcome(root=root, here=root)
    outputs = [nbformat.v4.new_output("execute_result", {"text/html": now.html, "text/plain": repr(now)})]
    outputs[0].execution_count = 1
    cells = [
        nbformat.v4.new_markdown_cell(INTRO.format(datetime.now()), id="welcome"),
        nbformat.v4.new_code_cell(CODE, id="page", execution_count=1, outputs=outputs),
        nbformat.v4.new_code_cell(START, id="start"),
    ]
    path = root / WELCOME
    with atomic_file(path) as part:
        nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=METADATA), part)
    return path

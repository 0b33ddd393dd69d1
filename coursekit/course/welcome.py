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
ALT = (
    "Five drawings. One matrix with arrows to three layers; a square matrix, and a column times a row instead; a "
    "matrix with single cells missing, or with whole rows missing; a matrix in many shades and the same in three; a "
    "stack of six layers with an arrow to a stack of two."
)
CAPTION = "Five ways to make a model smaller, each with its units below."
INTRO = """# Small transformers

Eleven units on making NLP transformers small. Click a unit to open its lesson.

This page is as of {:%Y-%m-%d %H:%M}. To bring it up to date, click the next cell and press Shift+Enter. `coursekit lab`
makes it anew: keep your own notes elsewhere."""
CODE = "from coursekit.course import start, welcome\n\nwelcome()"
START = 'start("00")  # copies the exercise of a unit to my-work/, where it is yours'


@dataclass(frozen=True, repr=False)
class Welcome:
    """The page: `html` below a drawing of the five families; `verdict` is doctor's, in one line."""

    html: str
    verdict: str

    def __repr__(self) -> str:
        return f"{self.verdict} The map and your progress are shown in JupyterLab; `coursekit progress` prints them."

    def _ipython_display_(self) -> None:
        from IPython.display import HTML, display

        from coursekit.viz.measuring import families
        from coursekit.viz.style import show, use_style

        use_style()
        show(families(), alt=ALT, caption=CAPTION)
        display(HTML(self.html))


def welcome(*, root: Path | None = None, here: Path | None = None) -> Welcome:
    """The page as it is now; its links begin in the folder `here`, by default the notebook's."""
    root = root or course_root()
    here = here or Path.cwd()
    every = progress()
    open_units = (unit for unit in every.units if is_open(find_unit(unit.unit), root))
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
    """Where to begin, the units of each family side by side, and what is beside and after them."""
    others = [unit for unit in UNITS if not any(unit.number in numbers for numbers in FAMILIES.values())]
    first, *later = others

    def place(unit: Unit) -> str:
        return f"<p>{unit_entry(unit, root, here, done)}</p>"

    columns = [[place(find_unit(number)) for number in numbers] for numbers in FAMILIES.values()]
    cells = "".join(f"<td {page.LEFT}>{''.join(column)}</td>" for column in columns)
    heads = "".join(f'<th style="text-align: left; width: 20%">{page.text(family)}</th>' for family in FAMILIES)
    families = f"<table><thead><tr>{heads}</tr></thead><tbody><tr>{cells}</tr></tbody></table>"
    before = f"<p><b>Begin here:</b> {unit_entry(first, root, here, done)}</p>"
    return before + families + "<p><b>Beside and after the families:</b></p>" + "".join(place(unit) for unit in later)


def unit_entry(unit: Unit, root: Path, here: Path, done: Progress) -> str:
    """A unit's name, a link to its lesson if it is ready, its minutes, what is done, and its exercise."""
    name = f"{unit.number} · {unit.title}"
    if not is_open(unit, root):
        return f"{page.text(name)}<br><i>in the making</i>"
    lesson = page.link(page.towards(unit.notebook("lesson", root), here), name)
    mine = root / "my-work" / unit.notebook("exercise", root).name
    exercise = page.link(page.towards(mine, here), "my exercise") if mine.is_file() else "exercise not started"
    state = "".join(f"<br>{page.bar(each.right, each.total)}" for each in done.units if each.unit == unit.number)
    return f"{lesson}<br>{unit.minutes} minutes, {exercise}{state}"


def is_open(unit: Unit, root: Path) -> bool:
    """Whether the unit is ready and its lesson has been built."""
    return unit.ready_in(root) and unit.notebook("lesson", root).is_file()


def routes(root: Path, here: Path) -> str:
    """What fits into an hour, into half a day, into a day; and the whole course."""
    from coursekit.course.teaching.lessons import lesson_facts  # with what reads notebooks: a second, only needed here
    from coursekit.course.teaching.plans import ROUTES, time_plan

    ready = {unit.number: unit for unit in UNITS if is_open(unit, root)}
    lessons = {number: lesson_facts(unit, root).minutes for number, unit in ready.items()}
    tasks = {number: unit_tasks(number) for number in ready}
    rows = []
    for route in ROUTES:
        steps = []
        for slot in time_plan(route, lessons, tasks):
            if slot.unit and slot.what.startswith("exercises"):
                steps.append(f"{page.text(slot.what)}, {slot.minutes} minutes")
            elif slot.unit:
                lesson = page.towards(ready[slot.unit].notebook("lesson", root), here)
                steps.append(f"{page.link(lesson, f'lesson {slot.unit}')}, {slot.minutes} minutes")
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
    from coursekit.viz.measuring import families
    from coursekit.viz.style import captioned, use_style

    root = root or course_root()
    now = welcome(root=root, here=root)
    use_style()
    picture, words = captioned(families(), alt=ALT, caption=CAPTION)
    shown = [picture._repr_mimebundle_(), ({"text/markdown": words.data}, {})]
    shown.append(({"text/html": now.html, "text/plain": repr(now)}, {}))
    outputs = [nbformat.v4.new_output("display_data", data, metadata=metadata) for data, metadata in shown]
    cells = [
        nbformat.v4.new_markdown_cell(INTRO.format(datetime.now()), id="welcome"),
        nbformat.v4.new_code_cell(CODE, id="page", execution_count=1, outputs=outputs),
        nbformat.v4.new_code_cell(START, id="start"),
    ]
    path = root / WELCOME
    with atomic_file(path) as part:
        nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=METADATA), part)
    return path

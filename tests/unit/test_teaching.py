"""The lecturer's handbook says what tasks and lessons say."""

import importlib
import os
import sys

import nbformat
import pytest

from coursekit.course.outputs import note_time
from coursekit.course.tasks import Task, task_units, unit_tasks
from coursekit.course.teaching import ROUTES, SYLLABI, time_plan, write_handbook
from coursekit.course.teaching.handbook import measured
from coursekit.course.teaching.lessons import LessonFacts, lesson_facts
from coursekit.course.teaching.mistakes import named_mistakes
from coursekit.course.teaching.plans import choose_tasks
from coursekit.course.units import UNITS, course_root

READY = [unit for unit in UNITS if unit.ready]
OPEN = [unit for unit in UNITS if unit.open_in(course_root())]
IDS = [unit.number for unit in READY]
TASKS = [task for number in task_units() for task in unit_tasks(number)]


@pytest.mark.parametrize("task", TASKS, ids=[task.id for task in TASKS])
def test_every_task_has_mistakes_to_tell_of(task):
    found = named_mistakes(task)
    assert len(found) >= 3 and len(set(found)) == len(found)
    assert all(message == message.strip() and "{" not in message for message in found)


@pytest.mark.parametrize("number", IDS)
def test_they_are_those_that_wrong_answers_get(number, monkeypatch):
    """Of the wrong answers by which a unit's checks are proved, nearly all have their message in the handbook."""
    monkeypatch.syspath_prepend(course_root() / "tests" / "checks")
    wrong = importlib.import_module(f"test_unit_{number}").WRONG
    sys.modules.pop(f"test_unit_{number}")
    known = {task.id: named_mistakes(task) for task in unit_tasks(number)}
    words = [(task, part) for task, parts in wrong.items() for part in parts]
    missing = [(task, part) for task, part in words if not any(part in message for message in known[task])]
    assert len(missing) <= len(words) / 4, missing


def _check(answer, draw):
    raise AssertionError


def task(number, minutes, importance):
    words = ("a", "b", "c")
    return Task(f"01.{number}", "", minutes, 1, importance, 1, words, _check, lambda: None)


def test_tasks_are_chosen_by_importance_as_far_as_they_fit():
    tasks = {"01": (task(1, 10, 3), task(2, 20, 5), task(3, 10, 4)), "02": (task(4, 10, 1),)}
    assert {unit: [t.id for t in found] for unit, found in choose_tasks(tasks, 40).items()} == {
        "01": ["01.2", "01.3"],
        "02": ["01.4"],
    }
    assert choose_tasks(tasks, 5) == {"01": [], "02": []}


@pytest.mark.parametrize("route", ROUTES, ids=[route.title for route in ROUTES])
def test_a_route_fits_into_its_time(route):
    lessons = {unit.number: lesson_facts(unit, course_root()).minutes for unit in OPEN}
    slots = time_plan(route, lessons, {unit: unit_tasks(unit) for unit in lessons})
    assert slots[0].start == 0 and slots[0].unit == "00"
    for one, after in zip(slots, slots[1:], strict=False):
        assert after.start == one.start + one.minutes
    assert slots[-1].start + slots[-1].minutes <= route.minutes
    assert [slot.unit for slot in slots if slot.is_lesson] == [u for u in route.units if u in lessons]


@pytest.mark.parametrize("weeks", SYLLABI)
def test_a_syllabus_has_every_unit_once_and_after_what_it_needs(weeks):
    plan = SYLLABI[weeks]
    assert len(plan) == weeks
    order = [number for week in plan for number in week]
    assert sorted(order) == [unit.number for unit in UNITS]
    for unit in UNITS:
        assert all(order.index(needed) < order.index(unit.number) for needed in unit.prerequisites)


@pytest.mark.parametrize("unit", READY, ids=IDS)
def test_a_lesson_says_its_objective_minutes_and_questions(unit):
    facts = lesson_facts(unit, course_root())
    assert len(facts.objective.split()) > 10 and "\n" not in facts.objective
    assert 20 <= facts.minutes < unit.minutes
    assert len(facts.questions) >= 5
    assert all(question.text.endswith(("?", ".")) and question.answer for question in facts.questions)


def test_the_handbook_holds_all_of_it(tmp_path):
    pages = {path.name: path.read_text(encoding="utf-8") for path in write_handbook(tmp_path / "handbook")}
    assert set(pages) == {"points.md", "syllabus.md", "time-plan.md", *(f"notes-{unit.number}.md" for unit in OPEN)}
    for unit in OPEN:
        notes, tasks = pages[f"notes-{unit.number}.md"], unit_tasks(unit.number)
        assert lesson_facts(unit, course_root()).objective in notes
        assert all(question.text in notes for question in lesson_facts(unit, course_root()).questions)
        assert all(f"- {message}\n" in notes for each in tasks for message in named_mistakes(each))
        assert all(f"| {each.id} | {each.title} | {each.points} |" in pages["points.md"] for each in tasks)
        assert f"| {unit.number} · {unit.title} | " in pages["time-plan.md"]
    total = sum(each.points for unit in OPEN for each in unit_tasks(unit.number))
    assert f"{total} points in all" in pages["points.md"]
    assert all(f"## {weeks} weeks" in pages["syllabus.md"] for weeks in SYLLABI)


@pytest.fixture
def half_built(tmp_path):
    """A course with the sources of units 00 to 02, of which 00 was run and noted, 01 built only, 02 is a draft."""
    for unit in UNITS[:3]:
        for kind in ("lesson", "solution"):
            source = unit.source(kind, tmp_path)
            source.parent.mkdir(parents=True, exist_ok=True)
            source.write_bytes(unit.source(kind, course_root()).read_bytes())
    for unit in UNITS[:2]:
        notebook = nbformat.v4.new_notebook()
        if unit.number == "00":
            note_time(notebook, 125.4)
        nbformat.write(notebook, unit.notebook("lesson", tmp_path))
    return tmp_path


def test_the_handbook_has_only_units_that_are_built(half_built, tmp_path):
    pages = {path.name: path.read_text(encoding="utf-8") for path in write_handbook(tmp_path / "book", root=half_built)}
    assert {name for name in pages if name.startswith("notes")} == {"notes-00.md", "notes-01.md"}
    assert "02.1" not in pages["points.md"] and "(02 · Sharing layers, in the making)" in pages["syllabus.md"]
    assert "left out: 02." in pages["time-plan.md"]


def test_a_plan_has_what_was_measured_and_says_where_nothing_was(half_built, tmp_path):
    write_handbook(tmp_path / "book", root=half_built)
    text = (tmp_path / "book" / "time-plan.md").read_text(encoding="utf-8")
    hour, half = text.split("\n## ")[1:3]
    minutes, cores = lesson_facts(UNITS[0], half_built).minutes, os.cpu_count()
    took = f"2:05 on {cores} cores"
    assert f"| 0:00 | {minutes} min | 00 · Measuring honestly: the lesson, run together | {took} |" in hour
    assert f"|  |  | its lessons together | {took} |" in hour
    assert "01 · Where the parameters are: the lesson, run together | not measured |" in half
    assert "|  |  | its lessons together | not measured |" in half  # a sum of what is known would say too little


def test_seconds_of_several_lessons_add_up():
    facts = [LessonFacts("", 40, (), seconds, cores) for seconds, cores in ((59, 2), (62, 2), (None, None))]
    assert measured(facts[:2]) == "2:01 on 2 cores"
    assert measured(facts) == measured([]) == "not measured"


def test_a_file_in_the_way_is_one_clear_error(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match="is a file; expected a folder"):
        write_handbook(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_lesson_without_objective_or_questions_is_refused(tmp_path):
    unit = UNITS[1]
    path = unit.source("lesson", tmp_path)
    path.parent.mkdir(parents=True)
    path.write_text("# %% [markdown]\n# # 01\n# 45 minutes\n")
    with pytest.raises(ValueError, match="_src/01_parameters.py: the first cell says neither"):
        lesson_facts(unit, tmp_path)
    path.write_text("# %% [markdown]\n# # 01\n# **You will be able to** count.\n#\n# 45 minutes\n")
    with pytest.raises(ValueError, match="expected one section `## Questions`, got 0"):
        lesson_facts(unit, tmp_path)

"""Widgets of a lesson that is run say how fast they answer; of one that is only read, nothing."""

import os

import nbformat

from coursekit.course.answers import Answer, noted_answers, slowest
from coursekit.course.execute import execute_notebook
from coursekit.viz.widgets import NOTES

LESSON = """
from matplotlib import pyplot as plt
from coursekit.viz import explore

def bar(height):
    figure, axis = plt.subplots()
    axis.bar(["a"], [height])
    return figure

explore(bar, alt="One bar.", caption="It grows.", height=(1, 9, 1))
"""


def test_a_lesson_in_its_own_process_notes_its_answers(tmp_path):
    lesson = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(LESSON, id="a")])
    with noted_answers() as answers:
        done = execute_notebook(lesson, name="lesson", folder=tmp_path)
    assert [(each.caption, each.control, each.value) for each in answers] == [
        ("It grows.", "height", "1"),
        ("It grows.", "height", "9"),
    ]
    assert all(0 < each.seconds < 600 for each in answers) and NOTES not in os.environ
    assert any("image/png" in output.get("data", {}) for output in done.cells[0].outputs)  # the twin, as ever


def test_without_widgets_there_are_no_answers(monkeypatch):
    monkeypatch.setenv(NOTES, "mine")
    with noted_answers() as answers:
        assert os.environ[NOTES] != "mine"
    assert answers == [] and os.environ[NOTES] == "mine"


def test_the_slowest_of_each_control():
    first, second, other = (
        Answer("A.", "rank", "1", 0.1),
        Answer("A.", "rank", "9", 0.3),
        Answer("B.", "rank", "1", 0.2),
    )
    assert slowest([first, second, other]) == [second, other]

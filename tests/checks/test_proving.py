"""The proof itself: it accepts a good check and refuses careless ones."""

import proving
import pytest

from coursekit.course import sources
from coursekit.course.expect import expect_call
from coursekit.course.tasks import Task

SOURCE = """\
# %%
import math

# %%
raise RuntimeError("cells that are neither imports nor answers do not run")

# %% task="00.1"
def area(radius):
    ### BEGIN SOLUTION
    return math.pi * radius**2
    ### END SOLUTION

# %% check="00.1"
check("00.1", area)
"""
PI = 3.141592653589793


def check_area(answer, draw):
    mistakes = {
        "this is the circumference": lambda r: 2 * PI * r,
        "the square is missing": lambda r: PI * r,
        "that is the square of the diameter": lambda r: 4 * PI * r**2,
    }
    radius = draw.number(3, 9)
    expect_call(answer, (radius,), PI * radius**2, mistakes=mistakes)


WRONG = {
    "circumference": lambda r: 2 * PI * r,
    "square is missing": lambda r: PI * r,
    "of the diameter": lambda r: PI * (2 * r) ** 2,
}


@pytest.fixture
def area(monkeypatch, tmp_path):
    """Replace the course by one with the single task 00.1; gives a function that changes the task."""
    source = tmp_path / "solutions" / "_src" / "00_measuring.py"
    source.parent.mkdir(parents=True)
    source.write_text(SOURCE)
    monkeypatch.setattr(proving, "course_root", lambda: tmp_path)
    proving.solution_cells.cache_clear()

    def declare(**changes):
        fields = dict(id="00.1", title="t", minutes=1, difficulty=1, importance=1, points=2, hints=("a", "b", "c"))
        fields |= dict(check=check_area, stand_in=lambda: lambda r: PI * r * r, signature="area(radius)")
        for module in (proving, sources):
            monkeypatch.setattr(module, "find_task", lambda task_id: Task(**(fields | changes)))

    declare()
    yield declare
    proving.solution_cells.cache_clear()


def test_a_good_check_is_proved(area):
    proving.prove("00.1", WRONG)


@pytest.mark.parametrize(
    ("changes", "wrong", "words"),
    [
        ({}, dict(list(WRONG.items())[:2]), "at least three wrong answers"),
        ({}, WRONG | {"another mistake": lambda r: r}, "expected 'another mistake'"),
        ({}, WRONG | {"right": lambda r: PI * r * r}, "00.1 right"),
        ({}, WRONG | {"the circum": lambda r: 2 * PI * r}, "also reads as"),
        ({"stand_in": lambda: lambda r: r}, WRONG, "the stand-in, seed 0"),
        ({"check": lambda answer, draw: check_area(lambda r: PI * r, draw)}, WRONG, "the reference, seed 0"),
        ({"check": lambda answer, draw: None}, WRONG, "a stub: 00.1 right"),
    ],
)
def test_a_careless_check_is_not(area, changes, wrong, words):
    area(**changes)
    with pytest.raises(AssertionError, match=words):
        proving.prove("00.1", wrong)

"""Which units in which week, and what fits into a workshop."""

from collections.abc import Mapping
from dataclasses import dataclass

from coursekit.course.tasks import Task

SYLLABI: dict[int, tuple[tuple[str, ...], ...]] = {
    2: (("00", "01", "02", "03", "04", "05"), ("06", "07", "08", "09", "10")),
    6: (("00", "01"), ("02", "03"), ("04", "05"), ("06", "07"), ("08", "09"), ("10",)),
    12: (("00",), ("01",), ("02",), ("03",), ("04",), ("05",), ("06",), ("07",), ("08",), ("09",), ("10",), ()),
}
"""Units of each week, for a course of 2, 6 and 12 weeks. The last of 12 is for the participants' own reports."""

WORK, BREAK = 90, 15  # minutes at most between two breaks, minutes of one


@dataclass(frozen=True)
class Route:
    """What to do with the time one has; `minutes` are all there are, breaks included, lunch not."""

    title: str
    minutes: int
    units: tuple[str, ...]


ROUTES = (
    Route("60 minutes", 60, ("00",)),
    Route("half a day", 240, ("00", "01", "02")),
    Route("a day", 420, ("00", "01", "05", "06", "07")),
)


@dataclass(frozen=True)
class Slot:
    """A piece of a workshop: minutes from its beginning, how long, the unit and what is done; a break has no unit."""

    start: int
    minutes: int
    unit: str
    what: str
    is_lesson: bool = False


def choose_tasks(tasks: Mapping[str, tuple[Task, ...]], minutes: int) -> dict[str, list[Task]]:
    """The most important tasks that fit into the minutes, in their order; each unit gets its turn.

    In every round each unit adds its most important task that is left and still fits.
    """
    left = {unit: sorted(of_unit, key=lambda task: -task.importance) for unit, of_unit in tasks.items()}
    chosen: dict[str, list[Task]] = {unit: [] for unit in tasks}
    while any(left.values()):
        for unit, waiting in left.items():
            fitting = [task for task in waiting if task.minutes <= minutes]
            left[unit] = fitting[1:]
            if fitting:
                chosen[unit].append(fitting[0])
                minutes -= fitting[0].minutes
    return {unit: sorted(of_unit, key=lambda task: int(task.id[3:])) for unit, of_unit in chosen.items()}


def time_plan(route: Route, lessons: Mapping[str, int], tasks: Mapping[str, tuple[Task, ...]]) -> list[Slot]:
    """The slots of a route over the units that are in `lessons` (minutes to read and run) and in `tasks`."""
    units = [unit for unit in route.units if unit in lessons]
    breaks = route.minutes // (WORK + BREAK)
    spare = route.minutes - breaks * BREAK - sum(lessons[unit] for unit in units)
    chosen = choose_tasks({unit: tasks[unit] for unit in units}, spare)
    slots: list[Slot] = []
    clock = rested = 0

    def add(minutes: int, unit: str, what: str, is_lesson: bool = False) -> None:
        nonlocal clock, breaks, rested
        if breaks and clock - rested + minutes > WORK and clock > rested:
            slots.append(Slot(clock, BREAK, "", "break"))
            clock, breaks = clock + BREAK, breaks - 1
            rested = clock
        slots.append(Slot(clock, minutes, unit, what, is_lesson))
        clock += minutes

    for unit in units:
        add(lessons[unit], unit, "the lesson, run together", is_lesson=True)
        if of_unit := chosen[unit]:
            names = ", ".join(task.id for task in of_unit)
            add(sum(task.minutes for task in of_unit), unit, f"exercises {names}")
    return slots

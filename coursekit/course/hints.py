"""Three hints for each task, then the answer."""

from dataclasses import dataclass

from coursekit.course.progress import next_hint
from coursekit.course.tasks import find_task
from coursekit.course.units import course_root, find_unit


@dataclass(frozen=True, repr=False)
class Hint:
    """One step of help: hints 1 to 3 are sentences, 4 is the code of the answer."""

    task: str
    number: int
    text: str

    def __repr__(self) -> str:
        if self.number == 4:
            return f"{self.task} answer\n{self.text}"
        return f"{self.task} hint {self.number} of 3: {self.text}"

    def _repr_markdown_(self) -> str:
        if self.number == 4:
            code = f"```python\n{self.text}\n```"
            return f"<details><summary>{self.task}: the answer, if you want it</summary>\n\n{code}\n\n</details>"
        return f"**{self.task}** hint {self.number} of 3: {self.text}"


def hint(task_id: str) -> Hint:
    """The next hint of a task; after three the answer. Raises ValueError for an unknown task."""
    task = find_task(task_id)
    number = next_hint(task.id)
    return Hint(task.id, number, task.hints[number - 1] if number < 4 else answer_source(task.id))


def answer_source(task_id: str) -> str:
    """Code of the answer cell, or where to look for it if the course's sources are not here."""
    from coursekit.course.sources import SOLUTION, read_source

    unit = find_unit(task_id[:2])
    try:
        cells = read_source(unit, "solution", course_root()).cells
    except (OSError, ValueError):
        cells = []
    for cell in cells:
        marks = cell.metadata.get("nbgrader", {})
        if marks.get("solution") and marks["grade_id"] == task_id.replace(".", "_"):
            return "\n".join(line for line in cell.source.splitlines() if line.strip() not in SOLUTION)
    return f"# it is in solutions/{unit.stem}.ipynb, above the check of {task_id}"

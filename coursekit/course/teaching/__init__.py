"""For lecturers: the handbook, gathered from the tasks and lessons themselves."""

from coursekit.course.teaching.handbook import write_handbook
from coursekit.course.teaching.plans import ROUTES, SYLLABI, time_plan

__all__ = ["ROUTES", "SYLLABI", "time_plan", "write_handbook"]

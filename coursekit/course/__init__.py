"""The machinery of the course: what a notebook says is here, `check("01.1", answer)` and its neighbours."""

from coursekit.course.check import CheckResult, check, stand_in
from coursekit.course.hints import hint
from coursekit.course.progress import progress
from coursekit.course.run import by_profile, profile, start
from coursekit.course.welcome import welcome

__all__ = ["CheckResult", "by_profile", "check", "hint", "profile", "progress", "stand_in", "start", "welcome"]

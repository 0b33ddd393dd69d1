"""Studies: comparisons too long for a lesson, run once with several seeds and kept as small JSON beside it."""

from coursekit.course.studies.frame import STUDIES, Study, load_study, run_study

__all__ = ["STUDIES", "Study", "load_study", "run_study"]

"""Studies: comparisons too long for a lesson, run once with several seeds and kept as small JSON beside it."""

from coursekit.course.studies.frame import (
    STUDIES,
    Study,
    StudyEntry,
    find_study,
    list_studies,
    load_study,
    run_study,
)

__all__ = ["STUDIES", "Study", "StudyEntry", "find_study", "list_studies", "load_study", "run_study"]

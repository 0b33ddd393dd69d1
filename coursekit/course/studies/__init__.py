"""Studies: comparisons too long for a lesson, run once with several seeds and kept as small JSON beside it."""

from coursekit.course.studies.frame import (
    STUDIES,
    Study,
    StudyEntry,
    Table,
    find_study,
    list_studies,
    load_study,
    run_study,
    stored_study,
)

__all__ = [
    "STUDIES",
    "Study",
    "StudyEntry",
    "Table",
    "find_study",
    "list_studies",
    "load_study",
    "run_study",
    "stored_study",
]

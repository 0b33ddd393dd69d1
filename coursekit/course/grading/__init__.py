"""Safe batch grading of submitted exercises: `coursekit grade`.

The learner's functions run in a sandbox, the checks in the grader, and neither anywhere else. Between them go
messages of numbers, texts and tensors, no code. So a submission can fail, hang or lie about what its own functions
return, and nothing more: it sees neither the expected values nor the comparison, the points or another submission.

Modules, from the inside out: `wire` (messages), `names`, `packing` and `unpacking` (values as data), `peer` (calls over
the wire), `load`, `limits` and `worker` (the side that runs submissions), `sandbox`, `submissions`, `judge` and `run`
(the grader).

What remains possible: to call the public library instead of writing the function, and to hand in what somebody else
wrote. With `trusted` there is no sandbox: scores are still judged outside, but the code can read and change files.
"""

from coursekit.course.grading.judge import TaskGrade
from coursekit.course.grading.run import Grade, grade
from coursekit.course.grading.sandbox import Limits

__all__ = ["Grade", "Limits", "TaskGrade", "grade"]

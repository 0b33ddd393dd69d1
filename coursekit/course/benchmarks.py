"""Benchmarks as they are stored with the lessons, for a lesson to show."""

import json

from coursekit.bench.results import BenchResult
from coursekit.course.units import course_root


def load_bench(device: str = "cpu") -> BenchResult:
    """All suites as `coursekit bench --json` measured them on one machine.

    Raises FileNotFoundError, with the command, for a device that has not been measured.
    """
    file = course_root() / "notebooks" / "benchmarks" / f"{device}.json"
    if not file.is_file():
        raise FileNotFoundError(f"no {file}; `coursekit bench --device {device} --json {file}` makes it")
    return BenchResult.from_dict(json.loads(file.read_text(encoding="utf-8")))

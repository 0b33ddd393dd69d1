"""Benchmarks: our code against others' and against its own plain form, each ratio beside the bar it is held to."""

from coursekit.bench.frame import Arm, Case, MismatchError, Missing, Setting, run_case, run_cases
from coursekit.bench.results import ArmResult, Bar, BarResult, BenchResult, CaseResult, judge
from coursekit.bench.suites import SUITES, run_bench
from coursekit.bench.table import arm_rows, bar_rows

__all__ = [
    "SUITES",
    "Arm",
    "ArmResult",
    "Bar",
    "BarResult",
    "BenchResult",
    "Case",
    "CaseResult",
    "MismatchError",
    "Missing",
    "Setting",
    "arm_rows",
    "bar_rows",
    "judge",
    "run_bench",
    "run_case",
    "run_cases",
]

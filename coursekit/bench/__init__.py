"""Benchmarks: our code against others' and against its own plain form, each ratio beside the bar it is held to."""

from coursekit.bench.arithmetic import Memory
from coursekit.bench.frame import Arm, Case, MismatchError, Missing, Setting, run_case, run_cases
from coursekit.bench.plan import Check, Plan, Throughput, check_plan, plan
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
    "Check",
    "MismatchError",
    "Memory",
    "Missing",
    "Plan",
    "Setting",
    "Throughput",
    "arm_rows",
    "bar_rows",
    "check_plan",
    "judge",
    "plan",
    "run_bench",
    "run_case",
    "run_cases",
]

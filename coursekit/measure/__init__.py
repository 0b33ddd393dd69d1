"""Honest measuring: weights counted once, bytes as stored, products as multiplied, times as ratios with a spread."""

from coursekit.measure.bleu import Bleu, bleu, bleu_difference, chrf
from coursekit.measure.flops import count_flops
from coursekit.measure.latency import Latency, compare, format_seconds, latency
from coursekit.measure.machine import cpu_features, cpu_name, machine
from coursekit.measure.memory import peak_memory
from coursekit.measure.params import (
    ParameterCount,
    break_even_embedding_size,
    count_parameters,
    embedding_parameters,
)
from coursekit.measure.published import PUBLISHED, Published
from coursekit.measure.report import Report, ReportRow, report
from coursekit.measure.size import stored_bytes
from coursekit.measure.statistics import (
    Difference,
    accuracy,
    bootstrap_interval,
    mean_difference,
    paired_bootstrap,
    standard_error,
)

__all__ = [
    "PUBLISHED",
    "Bleu",
    "Difference",
    "Latency",
    "ParameterCount",
    "Published",
    "Report",
    "ReportRow",
    "accuracy",
    "bleu",
    "bleu_difference",
    "bootstrap_interval",
    "break_even_embedding_size",
    "chrf",
    "compare",
    "count_flops",
    "count_parameters",
    "cpu_features",
    "cpu_name",
    "embedding_parameters",
    "format_seconds",
    "latency",
    "machine",
    "mean_difference",
    "paired_bootstrap",
    "peak_memory",
    "report",
    "standard_error",
    "stored_bytes",
]

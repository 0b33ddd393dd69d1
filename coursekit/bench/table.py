"""A benchmark as rows of text: its arms case by case, and its bars."""

import numpy as np

from coursekit.bench.results import ArmResult, BenchResult, CaseResult
from coursekit.measure import format_seconds

ARM_COLUMNS = (
    "arm",
    "median",
    "IQR",
    "× as fast",
    "quartiles",
    "× HF",
    "of ideal",
    "error",
    "MB",
    "peak MB",
    "texts/s",
)
BAR_COLUMNS = ("bar", "what", "held to", "measured", "quartiles", "by", "verdict")


def arm_rows(case: CaseResult) -> list[tuple[str, ...]]:
    """A row per arm: seconds, times as fast as the first arm, and as Hugging Face's where that is not the first; the
    share of what FLOPs promise, error, megabytes as stored, megabytes a call held at most, and texts per second.
    """
    rows, theirs = [], _hugging_face(case)
    for arm in case.arms:
        if not arm.seconds:
            rows.append((arm.name, f"not on this machine: {arm.why}", *[""] * (len(ARM_COLUMNS) - 2)))
            continue
        low, high = arm.speed_quartiles
        rows.append(
            (
                arm.name,
                format_seconds(arm.median),
                format_seconds(arm.iqr),
                f"{arm.speed:.2f}",
                f"{low:.2f}–{high:.2f}",
                "" if theirs is None else f"{np.median(np.divide(theirs.seconds, arm.seconds)):.2f}",
                f"{arm.speed / arm.ideal:.0%}" if arm.ideal else "",
                "" if arm.error is None else f"{arm.error:.1%}" if arm.error >= 1e-3 else f"{arm.error:.0e}",
                "" if arm.bytes is None else f"{arm.bytes / 1e6:,.1f}",
                "" if arm.peak is None else f"{arm.peak / 1e6:,.1f}",
                "" if arm.texts is None else f"{arm.texts / arm.median:,.0f}",
            )
        )
    return rows


def _hugging_face(case: CaseResult) -> ArmResult | None:
    """Hugging Face's arm, where it was timed and is not what all arms are compared with anyway."""
    theirs = [number for number, arm in enumerate(case.arms) if arm.name.startswith("Hugging Face")]
    return case.arms[theirs[0]] if theirs and theirs[0] > 0 and case.arms[theirs[0]].seconds else None


def bar_rows(result: BenchResult) -> list[tuple[str, ...]]:
    """A row per bar of every case, by number; a bar of a case that could not run is not on this machine."""
    rows = []
    for case in result.cases:
        for bar in case.bars:
            spread = "" if bar.quartiles is None else f"{bar.quartiles[0]:.2f}–{bar.quartiles[1]:.2f}"
            value = "" if bar.value is None else f"{bar.value:.2f}"
            verdict = bar.verdict + (f": {bar.why}" if bar.why else "")
            rows.append((str(bar.number), bar.what, bar.bar, value, spread, bar.arm or "", verdict))
    return sorted(rows, key=lambda row: row[0])

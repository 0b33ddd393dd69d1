"""The leaderboard as rows of the stored study: for the figures of unit 10 and for the command that prints it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from coursekit.course.studies.frame import Table

FAMILIES = ("teacher", "baseline", "sharing", "low rank", "pruning", "quantization", "distillation", "stacked")


@dataclass(frozen=True)
class Row:
    """One line of the leaderboard, means over seeds. ratios are times of one call over the teacher's; `gap` is None or
    the interval of accuracy minus the teacher's; `peak_bytes` is None where torch does not see the memory.
    """

    name: str
    family: str
    accuracy: float
    spread: float
    parameters: float
    bytes: float
    flops: float
    ratio_1: float
    ratio_32: float
    peak_bytes: float | None
    cpu_seconds: float
    gap: tuple[float, float] | None = None


def family_of(name: str) -> str:
    """The family of an arm of the study."""
    if name == "teacher" or name == "more":
        return "teacher"
    if "+" in name:
        return "stacked"
    families = {
        "sharing": ("shared-2", "sandwich", "shared-all"),
        "low rank": ("low-rank", "word-table"),
        "pruning": ("words", "masked", "wanda", "movement", "2:4", "heads", "neurons", "layers"),
        "quantization": (
            "int8",
            "int8-static",
            "int8-static-smooth",
            "int8-qat",
            "int8-tables",
            "int4-tables",
            "ternary",
        ),
        "distillation": ("distil", "distilbert", "pkd", "theseus", "minilm", "tinybert", "narrow-tinybert"),
    }
    return next((family for family, names in families.items() if name in names), "baseline")


def rows_of(study: Mapping[str, Any], gap: str = "test_accuracy") -> list[Row]:
    """The models of a stored study "leaderboard"; gap: on which split a margin is judged."""
    clock, rows = study["arms"]["clock"], []
    for name, numbers in study["arms"].items():
        if name == "clock":
            continue
        found = study["differences"].get(f"{name} − teacher", {}).get(gap)
        peak = numbers.get("peak_bytes")
        means = {key: numbers[key]["mean"] for key in Row.__dataclass_fields__ if key in numbers}
        rows.append(
            Row(
                name,
                family_of(name),
                numbers["test_accuracy"]["mean"],
                numbers["test_accuracy"]["sd"] or 0.0,
                **{key: means[key] for key in ("parameters", "bytes", "flops", "cpu_seconds")},
                **{key: clock[f"{name} {key}"]["mean"] for key in ("ratio_1", "ratio_32")},
                peak_bytes=None if peak is None else peak["mean"],
                gap=None if found is None else (found["low"], found["high"]),
            )
        )
    return rows


COLUMNS: dict[str, tuple[str, Any, bool]] = {
    "accuracy": ("accuracy", lambda row: f"{row.accuracy:.1%} ± {row.spread:.1%}", True),
    "bytes": ("MB", lambda row: f"{row.bytes / 1e6:.2f}", False),
    "parameters": ("M weights", lambda row: f"{row.parameters / 1e6:.2f}", False),
    "flops": ("MFLOP", lambda row: f"{row.flops / 1e6:.0f}", False),
    "ratio_1": ("time, 1", lambda row: f"{row.ratio_1:.2f}", False),
    "ratio_32": ("time, 32", lambda row: f"{row.ratio_32:.2f}", False),
    "peak_bytes": ("peak MB", lambda row: "–" if row.peak_bytes is None else f"{row.peak_bytes / 1e6:.1f}", False),
    "cpu_seconds": ("CPU s", lambda row: f"{row.cpu_seconds:.0f}", False),
}
"""Field → heading, how it is written, whether large is good."""


def table(study: Mapping[str, Any]) -> Table:
    """What `coursekit study leaderboard` prints: all models, the most accurate first."""
    teacher = {batch: study["arms"]["clock"][f"teacher milliseconds_{batch}"]["mean"] for batch in (1, 32)}
    lines = [
        (
            row.accuracy,
            (
                row.name,
                *(write(row) for _, write, _ in COLUMNS.values()),
                f"{row.ratio_1 * teacher[1]:.2f}",
                f"{row.ratio_32 * teacher[32]:.1f}",
            ),
        )
        for row in rows_of(study)
    ]
    usual = study["baselines"]["majority"]["test"]
    lines.append((usual, ("always the larger class", f"{usual:.1%}", *"–" * (len(COLUMNS) + 1))))
    texts, seeds = study["settings"]["texts"], len({run["seed"] for run in study["runs"]})
    return Table(
        ("model", *(head for head, _, _ in COLUMNS.values()), "ms, 1", "ms, 32"),
        [cells for _, cells in sorted(lines, key=lambda line: -line[0])],
        f"accuracy on test, mean ± standard deviation over {seeds} seeds of {texts:,} labelled texts\n"
        "MFLOP of one text; peak beyond the weights, 32 texts; CPU s of all training, the teacher's included\n"
        f"time of 1 and of 32 texts on one thread as a share of the teacher's, all models side by side; "
        f"ms: that share of its {teacher[1]:.1f} and {teacher[32]:.0f} ms",
    )


def front(rows: Sequence[Row], cost: str = "bytes") -> list[Row]:
    """The rows that no other beats: none is as cheap and as accurate, and better in one. Cheapest first."""

    def beaten(row: Row) -> bool:
        mine = getattr(row, cost), -row.accuracy
        others = ((getattr(other, cost), -other.accuracy) for other in rows)
        return any(a <= mine[0] and b <= mine[1] and (a, b) != mine for a, b in others)

    return sorted((row for row in rows if not beaten(row)), key=lambda row: (getattr(row, cost), row.name))

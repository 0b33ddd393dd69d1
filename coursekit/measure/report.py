"""One model, or several, on one honest table."""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

from torch import nn

from coursekit.errors import unknown_name
from coursekit.measure.flops import Inputs, count_flops, device_of, example_call
from coursekit.measure.hygiene import evaluating, threads_set
from coursekit.measure.latency import Latency, compare, format_seconds
from coursekit.measure.machine import machine
from coursekit.measure.memory import peak_memory
from coursekit.measure.params import count_parameters
from coursekit.measure.size import stored_bytes


@dataclass(frozen=True)
class ReportRow:
    """One model: weights, bytes on disk, operations of one call, bytes of activations at their peak, time."""

    name: str
    parameters: int
    stored_bytes: int
    flops: int
    peak_bytes: int
    latency: Latency
    accuracy: float | None = None

    def cells(self) -> list[str]:
        """The row as text, in the order of `Report`'s columns."""
        time = self.latency
        return [
            self.name,
            f"{self.parameters:,}",
            f"{self.stored_bytes / 1e6:,.2f}",
            f"{self.flops / 1e9:,.3f}",
            f"{self.peak_bytes / 1e6:,.2f}",
            f"{format_seconds(time.median)} (IQR {format_seconds(time.iqr)})",
            f"{time.ratio:.2f} (IQR {time.ratio_iqr:.2f})",
            "–" if self.accuracy is None else f"{self.accuracy:.1%}",
        ]


@dataclass(frozen=True)
class Report:
    """Rows and what they were measured on; the same Markdown table in a notebook and in a terminal."""

    rows: tuple[ReportRow, ...]
    note: str

    def __str__(self) -> str:
        head = ["model", "parameters", "MB stored", "GFLOP", "MB at peak", "latency", "ratio", "accuracy"]
        table = [head, *(row.cells() for row in self.rows)]
        if all(row.accuracy is None for row in self.rows):
            table = [cells[:-1] for cells in table]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        rule = [":" + "-" * (widths[0] - 1), *("-" * (width - 1) + ":" for width in widths[1:])]
        lines = []
        for first, *others in (table[0], rule, *table[1:]):
            cells = [first.ljust(widths[0]), *map(str.rjust, others, widths[1:])]
            lines.append(f"| {' | '.join(cells)} |")
        return "\n".join([*lines, "", self.note])

    def _repr_markdown_(self) -> str:
        return str(self)


def report(
    models: Mapping[str, nn.Module],
    batch: int | None = None,
    length: int | None = None,
    *,
    inputs: Inputs | None = None,
    accuracy: Mapping[str, float] | None = None,
    threads: int | None = None,
    repeats: int = 20,
    warmup: int = 3,
) -> Report:
    """Measure models side by side on the same input, times interleaved and as ratios to the first model.

    Input as for `count_flops`. accuracy: shares in [0, 1] measured elsewhere, by model name. Training flags,
    thread count and random states are left as they were. Raises ValueError for no model or an unknown name.
    """
    for name in accuracy or ():
        if name not in models:
            raise unknown_name("model", name, models)
    calls = {}
    for name, model in models.items():
        args, kwargs = example_call(model, batch, length, inputs)
        if device_of(model).type == "meta":
            raise ValueError(f"model {name!r} has shapes only (device meta), so it cannot be timed")
        calls[name] = partial(model, *args, **kwargs)
    with ExitStack() as stack:
        stack.enter_context(evaluating(*models.values()))
        times = compare(calls, threads=threads, repeats=repeats, warmup=warmup)
        rows = tuple(
            ReportRow(
                name=name,
                parameters=count_parameters(model).total,
                stored_bytes=stored_bytes(model),
                flops=count_flops(model, batch, length, inputs=inputs),
                peak_bytes=peak_memory(calls[name], device=device_of(model)),
                latency=times[name],
                accuracy=(accuracy or {}).get(name),
            )
            for name, model in models.items()
        )
    size = "the inputs given" if inputs is not None else f"batch {batch} × {length} tokens"
    with threads_set(threads):
        return Report(rows, f"{size}, {repeats} rounds; {machine()}")

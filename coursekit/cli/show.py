"""What commands print, and options that several of them have."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Units = Annotated[list[str] | None, typer.Argument(metavar="[UNIT]...", help="As 01 or parameters; all without.")]


def print_json(value: object) -> None:
    """Any value as JSON on stdout; what JSON does not know is printed as its string."""
    print(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def table(columns: tuple[str, ...], rows: list[tuple[object, ...]], right: tuple[str, ...] = ()) -> None:
    """A table on stdout; the columns named in `right` are numbers."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(str, row))
    Console(width=None if sys.stdout.isatty() else 200, markup=False, highlight=False).print(table)


@contextmanager
def notebook_bars() -> Iterator[Any]:
    """Yield what `run`, `build` and `review` report to: a bar per notebook on a terminal, else a line for each."""
    from rich.console import Console
    from rich.progress import Progress

    if not sys.stderr.isatty():
        yield lambda name, done, total: done or print(f"{name}: {total} cells", file=sys.stderr, flush=True)
        return
    with Progress(console=Console(stderr=True)) as bars:
        tasks: dict[str, Any] = {}

        def step(name: str, done: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(name, total=total)
            bars.update(tasks[name], completed=done)

        yield step


@contextmanager
def one_bar(name: str) -> Iterator[Any]:
    """Yield what `grade` reports to: a bar on a terminal, else nothing. It draws only when told, without a thread."""
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, auto_refresh=False, disable=not sys.stderr.isatty()) as bars:
        task = bars.add_task(name, total=None)

        def report(who: str, done: int, total: int) -> None:
            bars.update(task, description=who or name, completed=done, total=total, refresh=True)

        yield report

"""The command line: each command calls one function. What is heavy is imported by the command that needs it."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from coursekit import __version__


class _OneLineErrors(TyperGroup):
    """An error is one line on stderr and exit status 1; Ctrl-C is 130; COURSEKIT_DEBUG=1 shows where."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            typer.echo("interrupted", err=True)
            raise typer.Exit(130) from None
        except Exception as error:
            ours = type(error).__module__.partition(".")[0] in ("click", "typer")  # usage errors and exits
            if ours or _debug() or isinstance(error, BrokenPipeError):
                raise
            text = " ".join(str(error).split())
            if not text or not isinstance(error, ValueError | OSError | RuntimeError):
                text = " ".join(f"unexpected {type(error).__name__}: {text}".split())
                text += " (COURSEKIT_DEBUG=1 shows where)"
            typer.echo(f"error: {text}", err=True)
            raise typer.Exit(1) from None


def _debug() -> bool:
    return os.environ.get("COURSEKIT_DEBUG", "0") not in ("", "0")


app = typer.Typer(
    cls=_OneLineErrors,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Units = Annotated[list[str] | None, typer.Argument(metavar="[UNIT]...", help="As 01 or parameters; all without.")]


def _print_json(value: object) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def _table(columns: tuple[str, ...], rows: list[tuple[object, ...]], right: tuple[str, ...] = ()) -> None:
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
def _bars() -> Iterator[Any]:
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
def _one_bar(name: str) -> Iterator[Any]:
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


def _version(wanted: bool) -> None:
    if wanted:
        print(f"coursekit {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    """A course on making NLP transformers small."""


@app.command()
def doctor(as_json: Json = False) -> None:
    """Say whether this machine is ready, or what to do."""
    from coursekit.course.doctor import examine

    findings = []
    for finding in examine():
        findings.append(finding)
        if not as_json:
            print(finding, flush=True)
    if as_json:
        _print_json([asdict(finding) for finding in findings])
    if any(finding.needed and not finding.ok for finding in findings):
        raise typer.Exit(1)


@app.command()
def fetch(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Assets; all without.")] = None,
    to: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Fill this folder, for offline machines.")] = None,
) -> None:
    """Download models and data, and check their hashes."""
    from coursekit.data import assets, fetch
    from coursekit.errors import unknown_name

    for name in names or ():  # all names are tried before the first download
        if name not in assets():
            raise unknown_name("asset", name, assets())
    for name in names or assets():
        print(f"{name}: {fetch(name, to=to)}")


@app.command()
def lab(
    prepare: Annotated[bool, typer.Option("--prepare", help="Do everything but start JupyterLab.")] = False,
) -> None:
    """Prepare the course and open it in JupyterLab."""
    from coursekit.course.lab import lab

    status = lab(prepare=prepare)
    if prepare:
        print("ready: assets and teacher are here")
    raise typer.Exit(status)


@app.command()
def run(
    units: Units = None,
    profile: Annotated[str, typer.Option(help="quick or full.")] = "quick",
    as_json: Json = False,
) -> None:
    """Run lessons and solutions without a browser."""
    from coursekit.course.progress import separate_progress
    from coursekit.course.run import run

    with separate_progress(), _bars() as bars:  # a solution's right answers are not the learner's
        results = run(units or None, profile=profile, progress=bars)
    if as_json:
        _print_json([asdict(result) for result in results])
    else:
        rows = [(r.unit, r.kind, f"{r.seconds:.0f} s", "ok" if r.ok else r.error) for r in results]
        _table(("unit", "notebook", "time", "result"), rows, right=("time",))
    if not all(result.ok for result in results):
        raise typer.Exit(1)


@app.command()
def start(
    unit: Annotated[str, typer.Argument(help="As 01 or parameters.")],
    fresh: Annotated[bool, typer.Option("--fresh", help="Move the present copy aside and make a new one.")] = False,
) -> None:
    """Copy a unit's exercise to my-work/."""
    from coursekit.course.run import start

    started = start(unit, fresh=fresh)
    if started.backup:
        print(f"{started.backup}: your earlier work")
    print(f"{started.path}: {'there already, kept' if started.kept else 'ready'}")


@app.command()
def check(units: Units = None, as_json: Json = False) -> None:
    """Run your exercises and list what their checks say."""
    from coursekit.course.review import review, started_units

    chosen = units or [unit.number for unit in started_units()]
    if not chosen:
        raise ValueError("no exercise in my-work/; `coursekit start UNIT` puts one there")
    with _bars() as bars:
        reviews = [review(unit, progress=bars) for unit in chosen]
    if as_json:
        _print_json([asdict(each) for each in reviews])
    else:
        for each in reviews:
            for line in (*each.results, *(f"{each.unit} {error}" for error in each.errors)):
                print(line)
    if not all(each.right for each in reviews):
        raise typer.Exit(1)


@app.command()
def progress(as_json: Json = False) -> None:
    """Show what you have done so far."""
    from coursekit.course.progress import COLUMNS, progress

    done = progress()
    if as_json:
        _print_json([asdict(unit) for unit in done.units])
    else:
        _table(COLUMNS, done.rows(), right=("right", "attempted", "tasks", "points", "of", "hints"))


@app.command()
def params(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="As bert-base.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every model the course knows.")] = False,
    as_json: Json = False,
) -> None:
    """Count a model's parameters, beside what was published."""
    from coursekit.course.params import preset_parameters

    if bool(names) == every:
        from coursekit.models import presets

        raise ValueError(
            f"expected names or --all, got {'both' if names else 'neither'}; known: {', '.join(presets())}"
        )
    counted = preset_parameters(names)
    if as_json:
        _print_json([asdict(model) for model in counted])
        return
    for model in counted:
        print(f"{model.name}: {model.total:,} parameters counted here; {model.published} published in {model.source}")
        print(f"what that counts: {model.counts}")
        rows = [(part, f"{count:,}", f"{count / model.total:.1%}") for part, count in model.by_component.items()]
        _table(("component", "parameters", "share"), rows, right=("parameters", "share"))
        print()


@app.command()
def grade(
    submissions: Annotated[Path, typer.Argument(metavar="SUBMISSIONS", help="A folder or notebook per student.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The table; feedback goes beside it.")] = Path("grades.csv"),
    units: Annotated[str | None, typer.Option(help="As 00,01; all that were handed in without.")] = None,
    seconds: Annotated[float, typer.Option(min=1, help="Of computing, for one task.")] = 10.0,
    memory: Annotated[int, typer.Option(min=256, help="MB for one submission.")] = 2048,
    trusted: Annotated[bool, typer.Option("--trusted", help="Run submissions without a sandbox.")] = False,
    as_json: Json = False,
) -> None:
    """Grade a class's exercises, each in a sandbox."""
    from coursekit.course.grading import Limits, grade

    chosen = [name.strip() for name in units.split(",")] if units else None
    limits = Limits(seconds, memory)
    with _one_bar("grading") as report:
        grades = grade(submissions, out, units=chosen, limits=limits, trusted=trusted, progress=report)
    if as_json:
        _print_json([asdict(each) for each in grades])
        return
    rows = [(each.student, each.unit, each.points, each.of, each.problem) for each in grades]
    _table(("student", "unit", "points", "of", ""), rows, right=("points", "of"))
    spent = sum(each.seconds for each in grades)
    print(f"{out}: {len(grades)} submissions, {spent / len(grades):.1f} s each; feedback in {out.with_suffix('')}")


classes = typer.Typer(no_args_is_help=True, help="Prepare a class.")
app.add_typer(classes, name="class")


@classes.command("init")
def class_init(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Made if it is not there.")],
) -> None:
    """Make an nbgrader course from the solutions."""
    from coursekit.course.classroom import init_class

    made = init_class(folder)
    for name in made.assignments:
        print(f"source/{name}: ready")
    print(f"{made.folder}: go there, then `nbgrader generate_assignment NAME --create`")


@app.command()
def bench(
    suite: Annotated[str, typer.Argument(metavar="[SUITE]", help="training, inference, distillation, or all.")] = "all",
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    full: Annotated[bool, typer.Option("--full", help="Every shape, more rounds: an hour, not six minutes.")] = False,
    rounds: Annotated[int | None, typer.Option(min=1, help="Call everything at most so often.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="Of the CPU; the bars are stated for 1.")] = 1,
    to_json: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the result there.")] = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw the ratios there, as PNG.")] = None,
) -> None:
    """Time our code against others', each ratio beside its bar."""
    from coursekit.bench import run_bench
    from coursekit.bench.table import ARM_COLUMNS, BAR_COLUMNS, arm_rows, bar_rows
    from coursekit.files import atomic_file, write_json

    def say(case: str, number: int, total: int) -> None:
        print(f"case {number + 1} of {total}: {case}", file=sys.stderr, flush=True)

    result = run_bench(suite, device=device, full=full, rounds=rounds, threads=threads, progress=say)
    if to_json:
        write_json(to_json, result.to_dict())
    if plot:
        from coursekit.viz.bench import bench as draw
        from coursekit.viz.style import to_png, use_style

        use_style()
        with atomic_file(plot) as part:
            part.write_bytes(to_png(draw(result)))
    for case in result.cases:
        print(f"{case.name} ({case.about})")
        if case.why:
            print(f"not on this machine: {case.why}\n")
            continue
        _table(ARM_COLUMNS, arm_rows(case), right=ARM_COLUMNS[1:])
        print()
    _table(BAR_COLUMNS, bar_rows(result), right=("measured", "quartiles"))
    print(f"\n{result.command}, {result.seconds:.0f} s, {result.date}; {result.machine}")


@app.command()
def study(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="As sharing; lists them without.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="One seed on toy settings, to see that it works.")] = False,
    as_json: Json = False,
) -> None:
    """Run what is left of a long experiment, or list them."""
    from coursekit.course.studies import list_studies, run_study

    if name is None:
        if as_json:
            _print_json([asdict(each) for each in list_studies()])
        else:
            rows = [(e.name, e.title, f"{e.minutes} min", e.stored or "not run") for e in list_studies()]
            _table(("study", "title", "time", "stored"), rows, right=("time",))
        return
    file = run_study(name, quick=quick)
    if as_json:
        print(file.read_text(encoding="utf-8"))
    else:
        print(file)


@app.command()
def build(
    units: Units = None,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; fail if a notebook is not its source's.")
    ] = False,
    execute: Annotated[bool, typer.Option("--execute", help="Run what has outputs of other code.")] = False,
) -> None:
    """Make the notebooks from their sources."""
    from coursekit.course.build import build
    from coursekit.course.progress import separate_progress

    with separate_progress(), _bars() as bars:
        result = build(units or None, check=check, execute=execute, progress=bars)
    for verb in ("written", "executed", "stale"):
        for path in getattr(result, verb):
            print(f"{verb}: {path}")
    for problem in result.problems:
        typer.echo(f"error: {problem}", err=True)
    if result.problems:
        raise typer.Exit(1)


def main() -> None:
    """The `coursekit` command."""
    app()


if __name__ == "__main__":
    main()

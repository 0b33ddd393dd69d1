"""Commands of a learner: the course on this machine, its notebooks, its exercises."""

from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from coursekit.cli.show import Json, Units, notebook_bars, print_json, table


def doctor(as_json: Json = False) -> None:
    """Say whether this machine is ready, or what to do."""
    from coursekit.course.doctor import examine

    findings = []
    for finding in examine():
        findings.append(finding)
        if not as_json:
            print(finding, flush=True)
    if as_json:
        print_json([asdict(finding) for finding in findings])
    if any(finding.needed and not finding.ok for finding in findings):
        raise typer.Exit(1)


def fetch(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Assets; all without.")] = None,
    to: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Fill this folder, for offline machines.")] = None,
) -> None:
    """Download models and data, and check their hashes."""
    from coursekit.data import assets, fetch, find_asset

    for name in names or ():  # an unknown name is refused before the first download
        find_asset(name)
    for name in names or assets():
        print(f"{name}: {fetch(name, to=to)}")


def lab(
    prepare: Annotated[bool, typer.Option("--prepare", help="Do everything but start JupyterLab.")] = False,
) -> None:
    """Prepare the course and open it in JupyterLab."""
    from coursekit.course.lab import lab

    status = lab(prepare=prepare)
    if prepare:
        print("ready: assets and teacher are here")
    raise typer.Exit(status)


def run(
    units: Units = None,
    profile: Annotated[str, typer.Option(help="quick or full.")] = "quick",
    record: Annotated[bool, typer.Option("--record", help="Note the times in the notebooks, for time plans.")] = False,
    widgets: Annotated[bool, typer.Option("--widgets", help="Turn every control, say how fast it answers.")] = False,
    as_json: Json = False,
) -> None:
    """Run lessons and solutions without a browser."""
    from coursekit.course.answers import noted_answers, slowest
    from coursekit.course.progress import separate_progress
    from coursekit.course.run import run

    if widgets and record:
        raise ValueError(
            "expected --record or --widgets, got both: turning controls takes time that is not the lessons'"
        )
    answers = []
    with separate_progress(), notebook_bars() as bars:  # a solution's right answers are not the learner's
        with noted_answers() if widgets else nullcontext(answers) as answers:
            results = run(units or None, profile=profile, record=record, progress=bars)
    if as_json:
        print_json([asdict(each) for each in (slowest(answers) if widgets else results)])
    else:
        rows = [(r.unit, r.kind, f"{r.seconds:.0f} s", "ok" if r.ok else r.error) for r in results]
        table(("unit", "notebook", "time", "result"), rows, right=("time",))
    if widgets and not as_json:
        _print_answers(slowest(answers))
    if not all(result.ok for result in results):
        raise typer.Exit(1)


def _print_answers(answers: list) -> None:
    from coursekit.course.answers import AT_ONCE

    rows = [
        (each.caption[:60], each.control, f"{1e3 * each.seconds:.0f} ms", "slow" if each.seconds > AT_ONCE else "")
        for each in answers
    ]
    table(("figure", "control", "slowest", ""), rows, right=("slowest",))
    late = sum(each.seconds > AT_ONCE for each in answers)
    print(f"{len(answers) - late} of {len(answers)} controls answer within {1e3 * AT_ONCE:.0f} ms")


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


def check(units: Units = None, as_json: Json = False) -> None:
    """Run your exercises and list what their checks say."""
    from coursekit.course.review import review, started_units

    chosen = units or [unit.number for unit in started_units()]
    if not chosen:
        raise ValueError("no exercise in my-work/; `coursekit start UNIT` puts one there")
    with notebook_bars() as bars:
        reviews = [review(unit, progress=bars) for unit in chosen]
    if as_json:
        print_json([asdict(each) for each in reviews])
    else:
        for each in reviews:
            for line in (*each.results, *(f"{each.unit} {error}" for error in each.errors)):
                print(line)
    if not all(each.right for each in reviews):
        raise typer.Exit(1)


def progress(as_json: Json = False) -> None:
    """Show what you have done so far."""
    from coursekit.course.progress import COLUMNS, progress

    done = progress()
    if as_json:
        print_json([asdict(unit) for unit in done.units])
    else:
        table(COLUMNS, done.rows(), right=("right", "attempted", "tasks", "points", "of", "hints"))

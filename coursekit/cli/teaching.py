"""Commands of a teacher: the notebooks of all, a class, its grades."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from coursekit.cli.show import Json, Units, notebook_bars, one_bar, print_json, table


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
    with one_bar("grading") as report:
        grades = grade(submissions, out, units=chosen, limits=limits, trusted=trusted, progress=report)
    if as_json:
        print_json([asdict(each) for each in grades])
        return
    rows = [(each.student, each.unit, each.points, each.of, each.problem) for each in grades]
    table(("student", "unit", "points", "of", ""), rows, right=("points", "of"))
    spent = sum(each.seconds for each in grades)
    print(f"{out}: {len(grades)} submissions, {spent / len(grades):.1f} s each; feedback in {out.with_suffix('')}")


def class_init(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Made if it is not there.")],
) -> None:
    """Make an nbgrader course from the solutions."""
    from coursekit.course.classroom import init_class

    made = init_class(folder)
    for name in made.assignments:
        print(f"source/{name}: ready")
    print(f"{made.folder}: go there, then `nbgrader generate_assignment NAME --create`")


def class_handbook(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Made if it is not there.")],
) -> None:
    """Write points, syllabus, time plan and notes per unit."""
    from coursekit.course.teaching import write_handbook

    for path in write_handbook(folder):
        print(path)


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

    with separate_progress(), notebook_bars() as bars:
        result = build(units or None, check=check, execute=execute, progress=bars)
    for verb in ("written", "executed", "stale"):
        for path in getattr(result, verb):
            print(f"{verb}: {path}")
    for problem in result.problems:
        typer.echo(f"error: {problem}", err=True)
    if result.problems:
        raise typer.Exit(1)

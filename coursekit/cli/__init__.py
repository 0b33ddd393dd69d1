"""The command line: each command calls one function. What is heavy is imported by the command that needs it."""

from typing import Annotated

import typer

from coursekit import __version__
from coursekit.cli.errors import OneLineErrors
from coursekit.cli.learning import check, doctor, fetch, lab, progress, run, start
from coursekit.cli.measuring import bench, params, plan, study
from coursekit.cli.publishing import book, workshop
from coursekit.cli.teaching import build, class_handbook, class_init, grade

__all__ = ["app", "main"]

app = typer.Typer(
    cls=OneLineErrors,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for _command in (
    doctor,
    fetch,
    lab,
    run,
    start,
    check,
    progress,
    params,
    grade,
    bench,
    plan,
    study,
    build,
    book,
    workshop,
):
    app.command()(_command)
classes = typer.Typer(no_args_is_help=True, help="Prepare a class.")
classes.command("init")(class_init)
classes.command("handbook")(class_handbook)
app.add_typer(classes, name="class")


def _version(wanted: bool) -> None:
    if wanted:
        print(f"coursekit {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    """A course on making NLP transformers small."""


def main() -> None:
    """The `coursekit` command."""
    app()

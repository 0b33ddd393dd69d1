"""Failures of a command: one line each."""

import os
from typing import Any

import typer
from typer.core import TyperGroup


class OneLineErrors(TyperGroup):
    """An error is one line on stderr and exit status 1; Ctrl-C is 130; COURSEKIT_DEBUG=1 shows where."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
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

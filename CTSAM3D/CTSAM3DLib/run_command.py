"""A command of ours from its start to its exit code; every command line of the project runs through here."""

from __future__ import annotations

import sys
from collections.abc import Callable

import typer

from CTSAM3DLib.errors import Cancelled, CTSAM3DError


def run_command(command: Callable[[], object]) -> None:
    """Run a command; what its user got wrong is one line on stderr with exit code 2, an interruption ends with 130."""
    try:
        command()
    except Cancelled:
        typer.echo("cancelled; nothing was written", err=True)
        sys.exit(130)
    except CTSAM3DError as error:
        typer.echo(f"error: {' '.join(str(error).split())}", err=True)
        sys.exit(2)

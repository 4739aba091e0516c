"""Run a command line and turn errors into messages and exit codes; shared by all commands of the project."""

from __future__ import annotations

import sys
from collections.abc import Callable

import typer

from CTSAM3DLib.errors import AfterMaskError, Cancelled, CTSAM3DError


def run_command(command: Callable[[], object]) -> None:
    """Run a command. A CTSAM3DError becomes one line on stderr and exit code 2; a cancelled command exits with 130.

    Exit code 3 says that the mask is written, and that something after it failed.
    """
    try:
        command()
    except Cancelled:
        typer.echo("cancelled; nothing was written", err=True)
        sys.exit(130)
    except CTSAM3DError as error:
        typer.echo(f"error: {' '.join(str(error).split())}", err=True)
        sys.exit(3 if isinstance(error, AfterMaskError) else 2)

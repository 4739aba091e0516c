"""Print the table of the comparison systems in Markdown: `python -m training.evaluation.comparisons`."""

from __future__ import annotations

import typer

from training.evaluation.comparisons.systems import SYSTEMS, System

_CLICKS = {"volume": "in the CT", "slice": "in each slice", "none": "none"}


def tables() -> str:
    """Two tables in Markdown: the systems, and their installation and what was run."""
    what = [
        f"| {system.title} | `{name}` | {_CLICKS[system.prompting]}{', refining' if system.iterative else ''} "
        f"| {system.trained_on} |"
        for name, system in SYSTEMS.items()
    ]
    how = [
        f"| {system.title} | {_installation(system)} | {_origin(system)} | {system.run} |"
        for system in SYSTEMS.values()
    ]
    return "\n".join(
        [
            *("| system | `--method` | clicks | its published weights are trained on |", "| --- | --- | --- | --- |"),
            *what,
            "",
            *(
                "| system | environment | licences; where the weights come from | run by us |",
                "| --- | --- | --- | --- |",
            ),
            *how,
        ]
    )


def _installation(system: System) -> str:
    clone = f", and a clone of {system.clone}" if system.clone else ""
    return f"`{system.install}`{clone}"


def _origin(system: System) -> str:
    return f"Code: {system.code}. Weights: {system.weights}."


if __name__ == "__main__":
    typer.echo(tables())

"""The records of the comparison systems for evaluation and documentation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml

from training.evaluation.comparisons.prompting import Prompting


@dataclass(frozen=True)
class System:
    """The record of a system; `systems.yaml` explains the fields."""

    name: str
    """Name on the command line."""
    title: str
    module: str
    prompting: Prompting
    iterative: bool
    trained_on: str
    install: str
    code: str
    weights: str
    run: str
    clone: str | None = None


def _read() -> dict[str, System]:
    table = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
    return {name: System(name=name, **fields) for name, fields in table.items()}


SYSTEMS = _read()
"""The systems by name, in the paper's order, later ones last."""

"""The steps and hours of a run of `training.learn`, from the files in its folder."""

from __future__ import annotations

import io
import itertools
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import torch

from training.learning.plan import Plan


@dataclass(frozen=True)
class History:
    """Optimiser steps in all and by task, and hours by the learning curve; 0 where unknown."""

    steps: int = 0
    steps_of: dict[str, int] = field(default_factory=dict)
    hours: float = 0.0

    @classmethod
    def of(cls, run: Path) -> History:
        """Read `curve.csv` and the checkpoint of a run; steps by task are in the checkpoint alone."""
        steps, steps_of = _state(run)
        curve = run / "curve.csv"
        lines = pd.read_csv(curve) if curve.is_file() else pd.DataFrame(columns=["step"])
        if len(lines):
            steps = max(steps, int(lines["step"].max()))
        logged = lines.drop_duplicates("step")  # what was logged at one step took the same seconds
        return cls(steps, steps_of, float(logged["seconds"].sum()) / 3600 if "seconds" in logged else 0.0)

    def described(self, plan: Plan) -> str:
        """The sentence for the model card."""
        said = []
        for name, task in plan.tasks.items():
            if count := self.steps_of.get(name):
                rounds = f" in {task.rounds} rounds" if task.rounds > 1 else ""
                said.append(f"{name} {count:,} of {task.batch} patches{rounds}")
        by_task = f": {'; '.join(said)}" if said else ""
        hours = f" in {self.hours:.1f} hours" if self.hours else ""
        return f"{self.steps:,} steps{hours} of one loop of tasks (`training/learn.py`){by_task}."


def _state(run: Path) -> tuple[int, dict[str, int]]:
    """Steps in all and by task of the last checkpoint; none without a checkpoint."""
    parts = list(itertools.takewhile(Path.is_file, (run / f"state-{part}.pt" for part in itertools.count())))
    if not parts:
        return 0, {}
    state = torch.load(io.BytesIO(b"".join(part.read_bytes() for part in parts)), weights_only=True, map_location="cpu")
    return int(state["step"]), dict(state["steps_of"])

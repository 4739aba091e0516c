"""How long a run of `training.learn` has learnt, from what it left in its folder."""

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
    """Steps of the optimiser in all and by task, and the hours that the curve tells of; 0 where it tells nothing."""

    steps: int = 0
    steps_of: dict[str, int] = field(default_factory=dict)
    hours: float = 0.0

    @classmethod
    def of(cls, run: Path) -> History:
        """What `curve.csv` and `state-0.pt`, ... of a run say; steps by task stand in the state alone."""
        steps, steps_of = _state(run)
        curve = run / "curve.csv"
        lines = pd.read_csv(curve) if curve.is_file() else pd.DataFrame(columns=["step"])
        if len(lines):
            steps = max(steps, int(lines["step"].max()))
        logged = lines.drop_duplicates("step")  # what was logged at one step took the same seconds
        return cls(steps, steps_of, float(logged["seconds"].sum()) / 3600 if "seconds" in logged else 0.0)

    def described(self, plan: Plan) -> str:
        """What a card says of it, as a sentence."""
        said = []
        for name, task in plan.tasks.items():
            if count := self.steps_of.get(name):
                rounds = f" in {task.rounds} rounds" if task.rounds > 1 else ""
                said.append(f"{name} {count:,} of {task.batch} patches{rounds}")
        by_task = f": {'; '.join(said)}" if said else ""
        hours = f" in {self.hours:.1f} hours" if self.hours else ""
        return f"{self.steps:,} steps{hours} of one loop of tasks (`training/learn.py`){by_task}."


def _state(run: Path) -> tuple[int, dict[str, int]]:
    """Steps in all and by task, of the last checkpoint; none where there is none."""
    parts = list(itertools.takewhile(Path.is_file, (run / f"state-{part}.pt" for part in itertools.count())))
    if not parts:
        return 0, {}
    state = torch.load(io.BytesIO(b"".join(part.read_bytes() for part in parts)), weights_only=True, map_location="cpu")
    return int(state["step"]), dict(state["steps_of"])

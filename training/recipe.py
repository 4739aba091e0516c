"""A training recipe: everything that a run depends on but the data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml


@dataclass(frozen=True)
class Recipe:
    """The fields of a recipe file such as `small.yaml`; a step is one batch of pairs clicked for all its rounds."""

    network: str
    window: tuple[float, float]
    steps: int
    pairs: int
    rounds: int
    learning_rate: float
    warmup_steps: int
    weight_decay: float
    gradient_clip: float
    ema_decay: float
    precision: str
    seed: int
    shares: dict[str, float]
    held_out: tuple[str, ...]
    checkpoint_every: int

    @classmethod
    def read(cls, path: Path) -> Recipe:
        """From YAML; raises TypeError naming a field that is missing or unknown."""
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
        values["window"] = tuple(values["window"])
        values["held_out"] = tuple(values["held_out"])
        return cls(**values)

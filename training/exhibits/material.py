"""The inputs of exhibits: scores, study, costs and pictured cases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from training.exhibits.catalogue import DATASETS
from training.exhibits.pictured import PicturedCase
from training.exhibits.study import Study, System


@dataclass(frozen=True)
class Material:
    """Scores as of `study.scores`, the study, costs as of `costs.read_costs`, and the folder of pictured cases."""

    scores: pd.DataFrame
    study: Study
    costs: pd.DataFrame
    pictures: Path | None = None

    def of(self, dataset: str, clicks: Sequence[int], systems: Sequence[System]) -> pd.DataFrame:
        """The scores of these systems at a data set after these counts of clicks."""
        found = self.scores
        runs = [system.run for system in systems]
        chosen = (found["dataset"] == dataset) & found["n_clicks"].isin(clicks) & found["run"].isin(runs)
        return found[chosen].reset_index(drop=True)

    def pictured(self, exhibit: str) -> list[tuple[Path, PicturedCase]]:
        """The complete cases that were kept for an exhibit, with their folders. Raises CTSAM3DError for spoilt ones."""
        if self.pictures is None:
            return []
        folders = sorted(folder for folder in (self.pictures / exhibit).glob("*") if folder.is_dir())
        found = [(folder, PicturedCase.read(folder)) for folder in folders]
        return [(folder, pictured) for folder, pictured in found if pictured is not None]

    def made_from(self, systems: Sequence[System], datasets: Sequence[str]) -> list[str]:
        """The notes on each data set of these systems, and on each system with a description."""
        runs = [system.run for system in systems]
        measured = self.scores[self.scores["run"].isin(runs)]
        cases = measured.groupby("dataset")["case"].nunique()
        lines = []
        for name in (name for name in datasets if name in cases):
            counted = f"{cases[name]} case{'s' if cases[name] > 1 else ''}"
            lines.append(
                f"{DATASETS.get(name, name)}: {', '.join(filter(None, (counted, self.study.datasets.get(name))))}"
            )
        return [*lines, *(f"{system.name}: {system.made_from}" for system in systems if system.made_from)]

"""A study: its data sets and systems, and the scores in its result files.

A study is described by a YAML file; without one, every run in the results is a system under its own name:

    datasets:
      flare22: {title: FLARE22, made_from: "the 50 labelled cases"}
    systems:
      - {name: CT-SAM3D, run: ctsam3d-0a1b2c3d, made_from: "our training by paper.yaml", own: true}
      - {name: region growing, run: region-growing, made_from: "no training"}
      - {name: "CT-SAM3D, ResT, RFF", run: ctsam3d-4e5f6a7b, made_from: "paper-rff.yaml", exhibits: [table4]}
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from CTSAM3DLib.atomic import atomic_write
from CTSAM3DLib.errors import CTSAM3DError
from training.evaluation import results
from training.evaluation.comparisons.systems import SYSTEMS

METRICS = {"dsc": "dsc", "nsd": "nsd_5"}
"""Metric of an exhibit to column of the results; the paper's tolerance of the NSD is 5, read as mm."""

COMPARISONS = ("table1", "table2", "table3", "supplementary2", "figure3", "figure4", "supplementary-figure4")
"""The exhibits that a system takes part in by default; ablations say their own."""


@dataclass(frozen=True)
class System:
    """A run of a method under the name by which exhibits show it.

    Attributes:
        run: as in the results.
        made_from: where its weights come from and what was seen in training, as a note below each exhibit.
        own: whether it is ours.
        against: the name of the system that it is compared with; by default the first of ours in an exhibit.
        exhibits: those that it takes part in.

    """

    name: str
    run: str
    made_from: str = ""
    own: bool = False
    against: str = ""
    exhibits: tuple[str, ...] = COMPARISONS


@dataclass(frozen=True)
class Study:
    """Systems in the order they are shown, and what each data set is made from, by its name in the results."""

    systems: tuple[System, ...] = ()
    datasets: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Study:
        """Raises CTSAM3DError for a file that is not there or not built as above."""
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
            systems = [{**entry, "exhibits": tuple(entry.get("exhibits", COMPARISONS))} for entry in content["systems"]]
            return cls(tuple(System(**entry) for entry in systems), dict(content.get("datasets") or {}))
        except OSError as error:
            raise CTSAM3DError(f"{path} cannot be read ({error.strerror}); give the study's YAML file.") from error
        except (yaml.YAMLError, KeyError, TypeError, AttributeError, ValueError) as error:
            raise CTSAM3DError(
                f"{path} does not describe a study ({error}); see training/exhibits/study.py."
            ) from error

    @classmethod
    def of_runs(cls, lines: pd.DataFrame) -> Study:
        """Every run as a system, by its method's title where that is a known comparison system; our method is own."""
        runs = lines.drop_duplicates("run")
        once = ~runs["method"].duplicated(keep=False)
        systems = []
        for run, method, alone in zip(runs["run"], runs["method"], once, strict=True):
            known = SYSTEMS.get(method)
            title = (known.title if alone else f"{known.title} ({run})") if known else run
            trained_on = f"trained on {known.trained_on}" if known else ""
            systems.append(System(title, run, trained_on, own=method == "ctsam3d"))
        return cls(tuple(systems))

    def with_runs_of(self, lines: pd.DataFrame) -> Study:
        """With the runs of further results."""
        known = {system.run for system in self.systems}
        more = [system for system in Study.of_runs(lines).systems if system.run not in known]
        return dataclasses.replace(self, systems=(*self.systems, *more))

    def write(self, path: Path) -> None:
        """Write what `read` reads. Raises OutputError."""
        content: dict[str, Any] = {
            "datasets": self.datasets,
            "systems": [{**dataclasses.asdict(system), "exhibits": list(system.exhibits)} for system in self.systems],
        }
        with atomic_write(path) as temporary:
            temporary.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8")

    def shown_in(self, exhibit: str) -> list[System]:
        """The systems of an exhibit, in their order."""
        return [system for system in self.systems if exhibit in system.exhibits]

    def pairs(self, exhibit: str) -> list[tuple[System, System]]:
        """The systems of an exhibit that are compared: one, and what it is compared with."""
        systems = self.shown_in(exhibit)
        by_name = {system.name: system for system in systems}
        first = next((system for system in systems if system.own), None)
        pairs = [(by_name.get(system.against) if system.against else first, system) for system in systems]
        return [(one, other) for one, other in pairs if one is not None and one is not other]


def read_results(paths: Sequence[Path]) -> pd.DataFrame:
    """The rows of several result files. Raises CTSAM3DError for a missing file or a duplicate row."""
    if missing := [str(path) for path in paths if not path.exists()]:
        raise CTSAM3DError(f"There is no file {', '.join(missing)}; measure with training.evaluate first.")
    lines = pd.concat([results.read(path) for path in paths], ignore_index=True)
    known_by = ["run", "dataset", "case", "label", "seed", "n_clicks"]
    if (twice := lines[lines.duplicated(known_by)]).size:
        first = twice.iloc[0]
        raise CTSAM3DError(
            f"{first['label']} of {first['case']} by {first['run']} is in the results twice; give each file once."
        )
    return lines


def scores(lines: pd.DataFrame) -> pd.DataFrame:
    """One row for each structure of each case and count of clicks by each run: means over the seeds, in percent.

    Columns: run, dataset, case, label, group, n_clicks, dsc, nsd.
    """
    known_by = ["run", "dataset", "case", "label", "group", "n_clicks"]
    means = lines.groupby(known_by, sort=False)[list(METRICS.values())].mean() * 100
    return means.rename(columns={column: metric for metric, column in METRICS.items()}).reset_index()

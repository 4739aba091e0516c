"""The steps of a study, on this computer or a cluster; each step skips results that exist already."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from CTSAM3DLib.atomic import atomic_write
from CTSAM3DLib.errors import CTSAM3DError
from training.data.datasets import CaseRecord, read_dataset
from training.evaluate import Plan, chosen, complete
from training.evaluation.methods import MethodChoice
from training.exhibits.catalogue import DEFAULT_CLICKS, FLARE22, FLARE22_ORGANS, TOTALSEG
from training.exhibits.figures import FIGURE5, SUPPLEMENTARY_FIGURE3
from training.exhibits.pictured import PicturedCase
from training.paper.ablations import ABLATIONS, train_tiny
from training.paper.entrants import Entrant, Need, Network, needs
from training.paper.masks import keep_case
from training.parallel import parallel_map

MAX_PICTURED = 2
"""Cases in supplementary Figure 3."""

Records = Mapping[str, Sequence[CaseRecord]]
"""Records of cases by the exhibits' name of their data set."""
Runs = Mapping[MethodChoice, str]
"""Methods and the names of their runs in the results."""


@dataclass(frozen=True)
class Workplace:
    """The folder of a study, and the processes that work on it."""

    output: Path
    jobs: int
    scheduler: str | None

    def say(self, text: str) -> None:
        """Report progress to the user."""
        Console(stderr=True).print(text)

    @property
    def results(self) -> Path:
        """The CSV of the evaluation."""
        return self.output / "results.csv"

    @property
    def pictures(self) -> Path:
        """The folder of pictured cases, one folder for each exhibit in it."""
        return self.output / "pictures"


def begin(output: Path, settings: Mapping[str, Any]) -> None:
    """Create the folder of a study, or resume one with the same settings.

    Raises CTSAM3DError for other settings, by which results of different data would be mixed; OutputError.
    """
    output.mkdir(parents=True, exist_ok=True)
    file = output / "settings.json"
    if not file.exists():
        with atomic_write(file) as temporary:
            temporary.write_text(json.dumps(settings, indent=1), encoding="utf-8")
        return
    begun = json.loads(file.read_text(encoding="utf-8"))
    changed = sorted(name for name in {*begun, *settings} if begun.get(name) != settings.get(name))
    if changed:
        raise CTSAM3DError(
            f"{output} was begun with other {', '.join(changed)} (settings.json); choose another folder."
        )


def cases_to_measure(folder: Path) -> list[CaseRecord]:
    """The test cases of a data set; all where it has no splits. Raises VolumeError as `read_dataset` does."""
    records = read_dataset(folder)
    return [record for record in records if record.split == "test"] or records


def tiny_networks(at: Workplace, names: Sequence[str], steps: int, data: Path) -> dict[str, Network]:
    """Train these ablations at a tiny size. Raises CTSAM3DError where one cannot be trained."""
    networks = {}
    at.say(f"Training {len(names)} tiny networks; see log.txt in {at.output / 'runs'}.")
    tasks = [(ABLATIONS[name], steps, data, at.output / "runs" / name) for name in names]
    for (ablation, *_), weights in parallel_map(train_tiny, tasks, at.jobs, at.scheduler):
        if isinstance(weights, CTSAM3DError):
            raise weights
        trained = f"a tiny network ({steps=}) trained on synthetic torsos, {ablation.title}; a click acts in one patch"
        networks[ablation.name] = Network(trained, weights, "patch")  # growth by masks of little sense takes minutes
    return networks


def measure(
    at: Workplace,
    taking_part: Sequence[Entrant],
    records: Records,
    labels: Sequence[str] = (),
    seeds: int = 1,
    fewest_voxels: int = 100,
) -> dict[MethodChoice, str]:
    """Add the results that the exhibits need of the available data sets.

    Where there are `labels`, no other structure is measured. A data set at which nothing can be measured is told, and
    the others go on. Raises OutputError.
    """
    choices: dict[Need, list[MethodChoice]] = defaultdict(list)
    for entrant in taking_part:
        for need in needs(entrant.exhibits):
            if need.dataset in records and entrant.choice not in choices[need]:
                choices[need].append(entrant.choice)
    runs: dict[MethodChoice, str] = {}
    for need, wanted in choices.items():
        used = used_labels(need.labels, labels, records[need.dataset])
        plan = Plan(need.dataset, need.counts, used, seeds, fewest_voxels)
        at.say(f"Measuring {len(wanted)} methods on {need.dataset} at {need.counts} clicks.")
        try:
            runs |= complete(at.results, wanted, chosen(records[need.dataset], plan), plan, at.jobs, at.scheduler).runs
        except CTSAM3DError as error:
            at.say(f"{need.dataset}: {error}")
    return runs


def used_labels(needed: Sequence[str], labels: Sequence[str], records: Sequence[CaseRecord]) -> tuple[str, ...]:
    """The structures of a data set that are needed (all when empty) and chosen (all when empty)."""
    there = sorted({name for record in records for name in record.names})
    return tuple(name for name in needed or there if name in there and (not labels or name in labels))


def keep_pictures(
    at: Workplace, taking_part: Sequence[Entrant], runs: Runs, records: Records, labels: Sequence[str] = ()
) -> None:
    """Store the masks of the cases of Figure 5 and supplementary Figure 3; failures are reported.

    Raises OutputError.
    """
    tasks = []
    for exhibit, dataset, needed, most in (
        (FIGURE5, FLARE22, FLARE22_ORGANS, 1),
        (SUPPLEMENTARY_FIGURE3, TOTALSEG, (), MAX_PICTURED),
    ):
        shown = [entrant for entrant in taking_part if exhibit in entrant.exhibits and entrant.choice in runs]
        names, ran = tuple(one.name for one in shown), tuple(runs[one.choice] for one in shown)
        for record in records.get(dataset, ())[:most] if shown else ():
            used = used_labels(needed, labels, [record])
            pictured = PicturedCase(dataset, record.case, DEFAULT_CLICKS, names, ran)
            folder = at.pictures / exhibit / record.case
            tasks.append((folder, pictured, record, used, [one.choice for one in shown]))
    at.say(f"Keeping the masks of {len(tasks)} cases for the pictures.")
    for (_, pictured, *_), result in parallel_map(keep_case, tasks, at.jobs, at.scheduler):
        if isinstance(result, CTSAM3DError):
            at.say(f"{pictured.case} is not pictured: {result}")

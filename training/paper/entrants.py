"""The systems under evaluation: their exhibits, and the measurements that these need."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from CTSAM3DLib.segmentation.session import Reach
from training.evaluation.methods import BASELINES, MethodChoice
from training.exhibits.catalogue import CLICKS, DEFAULT_CLICKS, FLARE22, FLARE22_ORGANS, TABLES, TOTALSEG
from training.exhibits.figures import FIGURE5, SUPPLEMENTARY_FIGURE3

GROUPS = ("figure3", "supplementary-figure4")
INTERACTIVE = ("table1", "table2", "table3", "figure4", *GROUPS, FIGURE5)
OURS = (*INTERACTIVE, "supplementary2", SUPPLEMENTARY_FIGURE3)
REACHES: dict[Reach, str] = {"structure": "growth", "neighbours": "26 neighbours", "patch": "one patch"}


@dataclass(frozen=True)
class Network:
    """Weights, the bundled model where there is no file, how they were trained, and how far their clicks act."""

    made_from: str
    weights: Path | None = None
    reach: Reach = "structure"

    def choice(self, reach: Reach | None = None) -> MethodChoice:
        """The network as a method of the evaluation."""
        return MethodChoice("ctsam3d", weights=str(self.weights) if self.weights else None, reach=reach or self.reach)


@dataclass(frozen=True)
class Entrant:
    """A method under the name by which exhibits show it; see `training.exhibits.study.System`."""

    name: str
    choice: MethodChoice
    made_from: str
    exhibits: tuple[str, ...]
    own: bool = True
    against: str = ""


@dataclass(frozen=True)
class Need:
    """The measurements on a data set: these structures (all when empty) after these numbers of clicks."""

    dataset: str
    labels: tuple[str, ...]
    counts: tuple[int, ...]


def needs(exhibits: Iterable[str]) -> list[Need]:
    """The measurements that exhibits need, one entry for each data set."""
    wanted = set(exhibits)
    asked: list[tuple[str, tuple[str, ...], tuple[int, ...]]]
    asked = [(q.dataset, q.labels, (q.clicks,)) for table in TABLES if table.name in wanted for q in table.queries]
    if "figure4" in wanted:
        asked.append((FLARE22, FLARE22_ORGANS, CLICKS))
    if wanted & set(GROUPS):
        asked.append((TOTALSEG, (), (DEFAULT_CLICKS,)))
    found = []
    for dataset in dict.fromkeys(name for name, _, _ in asked):
        here = [(labels, counts) for name, labels, counts in asked if name == dataset]
        all_labels = any(not labels for labels, _ in here)
        labels = () if all_labels else tuple(dict.fromkeys(label for labels, _ in here for label in labels))
        found.append(Need(dataset, labels, tuple(sorted({count for _, counts in here for count in counts}))))
    return found


def entrants(main: Network, ablations: Mapping[str, Network], baselines: Iterable[str]) -> list[Entrant]:
    """All systems, in the order of the exhibits.

    Args:
        main: the network that the exhibits are about.
        ablations: networks by the names of `training.paper.ablations`; those that are missing do not take part, but
            `main` stands in for "full".
        baselines: the methods without weights that take part, of `training.evaluation.methods.BASELINES`.

    """
    found = [Entrant("CT-SAM3D", main.choice(), main.made_from, OURS)]
    for name in (name for name in BASELINES if name in baselines):
        found.append(Entrant(name.replace("-", " "), MethodChoice(name), "no training", INTERACTIVE, own=False))
    return [*found, *_without_tissues(ablations), *_encoders(main, ablations), *_cross_patch(main, ablations)]


def _without_tissues(ablations: Mapping[str, Network]) -> list[Entrant]:
    """Figure 3's CT-SAM3D*, compared with the same network trained with the tissues."""
    if "104-labels" not in ablations:
        return []
    without, against, found = ablations["104-labels"], "", []
    if "full" in ablations:
        against = "trained like CT-SAM3D*, with tissues"
        found.append(Entrant(against, ablations["full"].choice(), ablations["full"].made_from, GROUPS))
    return [*found, Entrant("CT-SAM3D*", without.choice(), without.made_from, GROUPS, against=against)]


def _encoders(main: Network, ablations: Mapping[str, Network]) -> list[Entrant]:
    """Table 4's rows, once there is something to compare."""
    rows = {"full": "ResT, PSAP", "rff": "ResT, RFF", "unet": "UNet, PSAP"}
    networks = {"full": main, **ablations}
    if not {"rff", "unet"} & ablations.keys():
        return []
    return [
        Entrant(f"CT-SAM3D, {title}", networks[name].choice(), networks[name].made_from, ("table4",))
        for name, title in rows.items()
        if name in networks
    ]


def _cross_patch(main: Network, ablations: Mapping[str, Network]) -> list[Entrant]:
    """Table 5's rows: as the paper compares them, and the main network by each reach of a click."""
    full, found = ablations.get("full", main), []
    if "no-cross-patch" in ablations:
        without = ablations["no-cross-patch"]
        rows = {"with": (full, full.choice("neighbours")), "without": (without, without.choice("patch"))}
        found = [
            Entrant(f"CT-SAM3D, {word} CPP", choice, network.made_from, ("table5",), against="CT-SAM3D, with CPP")
            for word, (network, choice) in rows.items()
        ]
    first = f"CT-SAM3D, {REACHES['structure']}"
    return found + [
        Entrant(f"CT-SAM3D, {title}", main.choice(reach), main.made_from, ("table5",), against=first)
        for reach, title in REACHES.items()
    ]

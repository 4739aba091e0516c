"""Show training samples: `python -m training.sample_sheet --plan whole-body.yaml --data DATA.npz --output PNG`.

The sheet shows patches as the loop reads them, each in the slice of its first click: truth outlined, previous mask
shaded, positive clicks green, negative ones red. The table counts regions, sources and kinds over many drawn samples.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
import typer
from matplotlib.axes import Axes
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from training.data.prepared import Prepared
from training.learning.click_rounds import Prompted
from training.learning.plan import Plan
from training.learning.resident import Resident, Structure
from training.learning.samples import Drawing, read
from training.vocabulary import group_of_kind

COLUMNS = 8
SHOWN_HU = (-250, 450)
PEAK = 0.5
"""Value of a click map above which a click is drawn."""


def shares(drawing: Drawing, resident: Resident, draws: int, seed: int) -> dict[str, Counter[str]]:
    """Frequencies of regions, sources and groups of classes among samples."""
    rng = np.random.default_rng(seed)
    found = [drawing.structure(rng) for _ in range(draws)]
    cases = [resident.cases[structure.case] for structure in found]
    return {
        "region": Counter(case.region for case in cases),
        "source": Counter(case.source for case in cases),
        "group": Counter(_group(structure) for structure in found),
        "kind": Counter(" or ".join(sorted(structure.kinds)[:3]) or "no name" for structure in found),
    }


def sheet(resident: Resident, plan: Plan, count: int, seed: int, pieces: float) -> plt.Figure:
    """Patches with their first prompts."""
    rng = np.random.default_rng(seed)
    generator = torch.Generator().manual_seed(seed)
    drawing = Drawing(resident, plan.regions)
    drawn = [drawing.structure(rng, of_pieces=rng.random() < pieces) for _ in range(count)]
    placements = [drawing.placement(each, rng, plan.stray, plan.poses, plan.looks) for each in drawn]
    patches = read(resident, placements, generator)
    prompted = Prompted(patches.truth[:, None], patches.hu[:, None], plan.spacing, plan.prompting, generator)
    maps = prompted.maps.tensor()
    rows = -(-count // COLUMNS)
    figure, axes = plt.subplots(rows, COLUMNS, figsize=(2 * COLUMNS, 2.15 * rows))
    for index, axis in enumerate(np.ravel(axes)):
        axis.axis("off")
        if index < count:
            name = _name(resident, drawn[index])
            _show(axis, patches.hu[index].numpy(), patches.truth[index].numpy(), maps[index].numpy(), name)
    figure.subplots_adjust(0, 0, 1, 0.97, 0.02, 0.12)
    return figure


def _show(axis: Axes, hu: NDArray, truth: NDArray, maps: NDArray, name: str) -> None:
    previous, positive, negative = maps
    prompts = positive + negative
    where = prompts if prompts.max() > PEAK else truth
    plane = int(where.sum(axis=(1, 2)).argmax())
    axis.imshow(hu[plane], cmap="gray", vmin=SHOWN_HU[0], vmax=SHOWN_HU[1])
    if previous[plane].any():
        axis.imshow(np.ma.masked_less(previous[plane], 0.1), cmap="autumn", alpha=0.3, vmin=0, vmax=1)
    if truth[plane].any():
        axis.contour(truth[plane], [0.5], colors="yellow", linewidths=0.8)
    for click_map, colour in ((positive, "lime"), (negative, "red")):
        if click_map[plane].max() > PEAK:
            axis.contour(click_map[plane], [PEAK], colors=colour, linewidths=1.2)
    axis.set_title(name, fontsize=6, pad=2)


def _name(resident: Resident, structure: Structure) -> str:
    case = resident.cases[structure.case]
    name = "supervoxel" if structure.of_pieces else case.names.get(structure.value, "shape")
    return f"{case.name[:22]}\n{name}"


def _group(structure: Structure) -> str:
    return group_of_kind(sorted(structure.kinds)[0]) if structure.kinds else "no name"


def main(
    plan: Annotated[Path, typer.Option(help="A recipe of the loop.")],
    data: Annotated[Path, typer.Option(help="What training.prepare wrote.")],
    output: Annotated[Path, typer.Option(help="The PNG to write.")],
    count: Annotated[int, typer.Option(help="Patches on the sheet.")] = 48,
    draws: Annotated[int, typer.Option(help="Samples that are counted.")] = 2000,
    pieces: Annotated[float, typer.Option(help="Share of supervoxels on the sheet.")] = 0.1,
    seed: Annotated[int, typer.Option()] = 0,
) -> None:
    """Draw a sheet of samples, and count what is drawn how often."""
    chosen = Plan.read(plan)
    prepared = Prepared.read(data)
    resident = Resident.of(prepared.without_any_of(chosen.held_out), torch.device("cpu"))
    sheet(resident, chosen, count, seed, pieces).savefig(output, dpi=110)
    for what, counted in shares(Drawing(resident, chosen.regions), resident, draws, seed).items():
        table = Table(what, "share")
        for name, number in counted.most_common(25):
            table.add_row(name, f"{number / draws:.3f}")
        Console().print(table)


if __name__ == "__main__":
    typer.run(main)

"""The figures: their data and titles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure

from training.exhibits import charts, pictures
from training.exhibits.catalogue import CLICKS, DATASETS, DEFAULT_CLICKS, FLARE22, FLARE22_ORGANS, TOTALSEG
from training.exhibits.material import Material
from training.exhibits.pictured import load
from training.exhibits.study import System

FIGURE5, SUPPLEMENTARY_FIGURE3 = "figure5", "supplementary-figure3"
"""Exhibits that show pictures of cases."""


@dataclass(frozen=True)
class Drawn:
    """A figure, or None where nothing was measured for it, and what has to be said of it."""

    name: str
    title: str
    figure: Figure | None = None
    systems: Sequence[System] = ()
    datasets: Sequence[str] = ()
    note: str = ""
    comparisons: pd.DataFrame | None = None


def main_figures(material: Material) -> list[Drawn]:
    """Figures 3 to 5."""
    return [_groups(material), _rising_clicks(material), _side_by_side(material)]


def supplementary_figures(material: Material) -> list[Drawn]:
    """Supplementary Figures 3 to 5."""
    return [_agreement(material), _structures(material, 4, "dsc"), _structures(material, 5, "nsd")]


def _groups(material: Material) -> Drawn:
    name = "figure3"
    title = f"Figure 3: groups of structures of {DATASETS[TOTALSEG]}, after {DEFAULT_CLICKS} clicks"
    systems = material.study.shown_in(name)
    found = material.of(TOTALSEG, [DEFAULT_CLICKS], systems)
    if found.empty:
        return Drawn(name, title)
    note = (
        "A box is of the cases' means over a category's structures. Above a system stands the p of its comparison, "
        "corrected by Holm over all; with whom, and by how much: [figure3-comparisons.csv](figure3-comparisons.csv)."
    )
    compared = charts.group_comparisons(found, material.study.pairs(name))
    return Drawn(name, title, charts.groups(found, systems, compared), systems, [TOTALSEG], note, compared)


def _rising_clicks(material: Material) -> Drawn:
    name, title = "figure4", "Figure 4: rising counts of clicks on FLARE22"
    systems = material.study.shown_in(name)
    found = material.of(FLARE22, CLICKS, systems)
    if found.empty:
        return Drawn(name, title)
    figure = charts.rising_clicks(found, systems, FLARE22_ORGANS)
    note = "Bands: bootstrap intervals over cases. Hollow diamonds: the means of the paper's Table 1, published."
    return Drawn(name, title, figure, systems, [FLARE22], note)


def _side_by_side(material: Material) -> Drawn:
    title = "Figure 5: a case by several systems"
    for folder, pictured in material.pictured(FIGURE5)[:1]:
        figure = pictures.side_by_side(pictured, load(folder, pictured))
        systems = [system for system in material.study.shown_in("figure4") if system.name in pictured.systems]
        note = f"{pictured.case} after {pictured.clicks} clicks at each structure; DSC is the mean of what is shown."
        return Drawn(FIGURE5, title, figure, systems, [pictured.dataset], note)
    return Drawn(FIGURE5, title)


def _agreement(material: Material) -> Drawn:
    title = "Supplementary Figure 3: all structures of some cases"
    cases = [(pictured, load(folder, pictured)) for folder, pictured in material.pictured(SUPPLEMENTARY_FIGURE3)]
    if not cases:
        return Drawn(SUPPLEMENTARY_FIGURE3, title)
    first = cases[0][0]
    systems = [system for system in material.study.systems if system.name == first.systems[0]][:1]
    note = f"After {first.clicks} clicks at each structure; where masks overlap, the smaller one is shown."
    return Drawn(SUPPLEMENTARY_FIGURE3, title, pictures.agreement(cases), systems, [first.dataset], note)


def _structures(material: Material, number: int, metric: str) -> Drawn:
    name = f"supplementary-figure{number}"
    title = f"Supplementary Figure {number}: {metric.upper()} of each structure, after {DEFAULT_CLICKS} clicks"
    systems = material.study.shown_in("supplementary-figure4")
    found = material.of(TOTALSEG, [DEFAULT_CLICKS], systems)
    if found.empty:
        return Drawn(name, title)
    return Drawn(name, title, charts.structures(found, systems, metric), systems, [TOTALSEG])

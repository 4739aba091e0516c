"""Figures 3 and 4 and supplementary Figures 4 and 5: charts of scores."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from training import anatomy
from training.exhibits.queries import macro_mean, pair, published
from training.exhibits.statistics import Paired, holm, in_short, interval, paired
from training.exhibits.study import METRICS, System
from training.exhibits.style import PUBLISHED, WIDTH, colors
from training.exhibits.tables import SIGNS

BOX: dict[str, Any] = {
    "patch_artist": True,
    "medianprops": {"color": "black", "linewidth": 1.2},
    "flierprops": {"marker": ".", "markersize": 3, "markeredgecolor": "#808080"},
    "boxprops": {"linewidth": 0.7},
    "whiskerprops": {"linewidth": 0.7},
    "capprops": {"linewidth": 0.7},
}
FEW_CASES = 12
ROW_INCHES = 0.21
"""Of a structure in supplementary Figures 4 and 5."""


CATEGORIES = tuple(dict.fromkeys(anatomy.category_of(name) for names in anatomy.GROUPS.values() for name in names))
"""The nine groups of the paper's Figure 3, and each curated tissue by itself."""


def _by_category(scores: pd.DataFrame) -> pd.DataFrame:
    """With a column `category`, without the structures that are in none."""
    found = scores.assign(category=scores["label"].map(anatomy.category_of))
    return found[found["category"] != ""]


def group_comparisons(
    scores: pd.DataFrame, pairs: Sequence[tuple[System, System]], metric: str = "dsc"
) -> pd.DataFrame:
    """Compare pairs of systems in each category, a case's mean over its structures being one number.

    `scores` are those of one data set and one count of clicks. p-values are corrected over all categories and pairs.
    """
    rows = []
    categorised = _by_category(scores)
    for category, (one, other) in product(CATEGORIES, pairs):
        of_group = categorised[categorised["category"] == category]
        cases = pair(of_group[of_group["run"] == one.run], of_group[of_group["run"] == other.run], metric)
        if len(cases):
            found = paired((cases["one"] - cases["other"]).to_numpy())
            rows.append({"category": category, "system": one.name, "other": other.name, **vars(found)})
    table = pd.DataFrame(rows, columns=["category", "system", "other", *Paired.__annotations__])
    return table.assign(p_holm=holm(table["p"].to_numpy(float)))


def groups(scores: pd.DataFrame, systems: Sequence[System], compared: pd.DataFrame) -> Figure:
    """Figure 3: Dice of each category, box plots over cases, with the corrected p-values of `group_comparisons`.

    `scores` are those of one data set and one count of clicks.
    """
    categorised = _by_category(scores)
    by_case = categorised.groupby(["run", "category", "case"])["dsc"].mean()
    there = [category for category in CATEGORIES if category in set(categorised["category"])]
    p_values = compared.set_index(["category", "other"])["p_holm"]
    figure = Figure(figsize=(WIDTH, 4.2), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(systems)
    for number, system in enumerate(systems):
        shift = (number - (len(systems) - 1) / 2) * width
        values = [list(by_case.get((system.run, name), [])) for name in there]
        _boxes(axes, values, np.arange(len(there)) + shift, width, colors(systems)[system.name])
        for place, name in enumerate(there):
            if (name, system.name) in p_values:
                text = in_short(p_values[name, system.name])
                axes.text(place + shift, 102, text, rotation=90, ha="center", va="bottom", fontsize=6)
    axes.set(ylabel="DSC (%)", ylim=(0, 122), yticks=range(0, 101, 20), xlim=(-0.6, len(there) - 0.4))
    axes.set_xticks(range(len(there)), [re.sub("[ _]", "\n", name) for name in there], fontsize=7.5)
    axes.grid(visible=False, axis="x")
    figure.legend(handles=_keys(systems), loc="outside upper center", ncols=min(len(systems), 5))
    return figure


def rising_clicks(scores: pd.DataFrame, systems: Sequence[System], labels: Sequence[str]) -> Figure:
    """Figure 4: mean Dice and NSD over organs against clicks, with the paper's own figures at 5 clicks marked as such.

    Bands are 95 % bootstrap intervals of the mean over cases. `scores` are those of one data set.
    """
    figure = Figure(figsize=(WIDTH, 3.9), layout="constrained")
    for axes, metric in zip(figure.subplots(1, len(METRICS)), METRICS, strict=True):
        for system in systems:
            rows = scores[(scores["run"] == system.run) & scores["label"].isin(labels)]
            if len(rows):
                _curve(axes, rows, metric, colors(systems)[system.name], system.name)
        _published_means(axes, metric)
        axes.set(xlabel="clicks", ylabel=f"m{SIGNS[metric]} (%)", ylim=(0, 100))
        axes.set_xticks(sorted(scores["n_clicks"].unique()))
    handles, names = axes.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=min(len(names), 4))
    return figure


def _curve(axes: Axes, rows: pd.DataFrame, metric: str, color: str, name: str) -> None:
    counts = sorted(rows["n_clicks"].unique())
    of_count = {count: rows[rows["n_clicks"] == count] for count in counts}
    means = [macro_mean(of_count[count], metric) for count in counts]
    spans = [interval(of_count[count].groupby("case")[metric].mean().to_numpy(), np.mean) for count in counts]
    axes.plot(counts, means, "o-", color=color, label=name, markersize=4)
    low, high = np.transpose(spans)
    axes.fill_between(counts, low, high, color=color, alpha=0.15, linewidth=0)


def _published_means(axes: Axes, metric: str) -> None:
    """The mean column of the paper's Table 1, each diamond with the name of its system."""
    figures = published("table1")
    means = figures[(figures["column"] == "mean") & (figures["metric"] == metric)]
    axes.plot([5] * len(means), means["value"], label="† published by the paper, on its data", **PUBLISHED)


def structures(scores: pd.DataFrame, systems: Sequence[System], metric: str) -> Figure:
    """Supplementary Figures 4 and 5: a metric of every structure, box plots over cases, by group.

    `scores` are those of one data set and one count of clicks.
    """
    there = set(scores["label"])
    labels = [name for members in anatomy.GROUPS.values() for name in members if name in there]
    figure = Figure(figsize=(WIDTH, 1.2 + ROW_INCHES * len(labels)), layout="constrained")
    axes = figure.subplots()
    height = 0.8 / len(systems)
    values = {key: list(of_key) for key, of_key in scores.groupby(["run", "label"])[metric]}
    for number, system in enumerate(systems):
        places = np.arange(len(labels)) + (number - (len(systems) - 1) / 2) * height
        found = [values.get((system.run, label), []) for label in labels]
        _boxes(axes, found, places, height, colors(systems)[system.name], horizontal=True)
    axes.set_yticks(range(len(labels)), [label.replace("_", " ") for label in labels], fontsize=7)
    axes.set(xlabel=f"{SIGNS[metric]} (%)", xlim=(-1, 101), ylim=(len(labels) - 0.5, -0.5))
    axes.grid(visible=False, axis="y")
    _mark_groups(axes, labels)
    figure.legend(handles=_keys(systems), loc="outside upper center", ncols=min(len(systems), 5))
    return figure


def _mark_groups(axes: Axes, labels: Sequence[str]) -> None:
    """Lines between the groups, and their names at the right."""
    ends = [place for place, label in enumerate(labels) if place + 1 == len(labels) or _differs(labels, place)]
    start = 0
    for end in ends:
        axes.axhline(end + 0.5, color="#b5b5b5", linewidth=0.7)
        name = anatomy.group_of(labels[start])
        axes.text(102, (start + end) / 2, name, fontsize=7, va="center", ha="left")
        start = end + 1


def _differs(labels: Sequence[str], place: int) -> bool:
    return anatomy.group_of(labels[place]) != anatomy.group_of(labels[place + 1])


def _boxes(
    axes: Axes,
    values: Sequence[Sequence[float]],
    places: NDArray[np.floating[Any]],
    width: float,
    color: str,
    horizontal: bool = False,
) -> None:
    """A box of a system at each place, and where there are few cases a dot for each."""
    settings = {**BOX, "orientation": "horizontal" if horizontal else "vertical"}
    drawn = axes.boxplot(list(values), positions=places, widths=0.85 * width, **settings)
    for box in drawn["boxes"]:
        box.set_facecolor(color)
    for place, found in zip(places, values, strict=True):
        if len(found) <= FEW_CASES:
            at = [place] * len(found)
            x, y = (found, at) if horizontal else (at, found)
            axes.plot(x, y, "o", color=color, markersize=4, markeredgecolor="black", markeredgewidth=0.5, zorder=5)


def _keys(systems: Sequence[System]) -> list[Patch]:
    return [Patch(facecolor=colors(systems)[system.name], label=system.name) for system in systems]

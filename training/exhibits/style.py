"""The style of all charts and pictures, and how they are saved."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from CTSAM3DLib.atomic import atomic_write
from training.exhibits.study import System

WIDTH = 9.0
"""Inches of a page."""
DPI = 150
INK, PALE = "#262626", "#b5b5b5"
OWN_COLORS = ("#d55e00", "#e69f00", "#8c4a00")
OTHER_COLORS = ("#0072b2", "#009e73", "#56b4e9", "#cc79a7", "#5d5d9e", "#7a7a3a")
"""Ours are warm, the others cool; after Okabe and Ito, so that they differ for the colour-blind too."""
PUBLISHED: dict[str, Any] = {
    **{"linestyle": "none", "marker": "D", "markersize": 5, "color": PALE},
    **{"markerfacecolor": "none", "markeredgecolor": "#808080"},
}
"""Published figures are hollow grey diamonds, whatever their system."""
SETTINGS: Any = {
    "font.size": 9,
    "font.family": "DejaVu Sans",
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.7,
    "axes.titlesize": "medium",
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "legend.frameon": False,
    "text.color": INK,
    "pdf.fonttype": 42,
}


@contextmanager
def house_style() -> Iterator[None]:
    """The settings under which a figure is drawn and saved."""
    with mpl.rc_context(SETTINGS):
        yield


def colors(systems: Sequence[System]) -> dict[str, str]:
    """A colour for each system by its name, the same whichever others are shown in the order given."""
    found = {}
    for own, palette in ((True, OWN_COLORS), (False, OTHER_COLORS)):
        for number, system in enumerate(system for system in systems if system.own == own):
            found[system.name] = palette[number % len(palette)]
    return found


def save(figure: Figure, path: Path) -> None:
    """Write a PNG, and a PDF of the same name, the same bytes for the same figure. Raises OutputError."""
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=DPI)
    with atomic_write(path.with_suffix(".pdf")) as temporary:
        figure.savefig(temporary, metadata={"CreationDate": None})

"""Synthetic stand-ins for the paper's data sets, each in the layout of its own, the first one curated to TotalSeg++."""

from __future__ import annotations

import math
import os
import shutil
from pathlib import Path

from training.curate import curate
from training.data.synthetic_datasets import LAYOUTS, write_layout
from training.exhibits.catalogue import BTCV, COLON, FLARE22, PANCREAS, TOTALSEG

RAW = "totalsegmentator-v1"
"""The layout from which TotalSeg++ is curated."""


def synthetic_datasets(
    folder: Path, cases: int, spacing: float, jobs: int = 1, scheduler: str | None = None
) -> dict[str, Path]:
    """The folders of all data sets by their names in the exhibits, written if absent.

    The spacing is that of the voxels, mm.
    There are `cases` test cases in each, but half as many of TotalSeg++, whose structures are many. A third of its
    cases are test cases, every other case with a tumour, and all of FLARE22 and BTCV. Raises OutputError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = {name: _layout(folder, name, cases, spacing) for name in (FLARE22, BTCV)}
    written |= {name: _layout(folder, name, 2 * cases, spacing) for name in (PANCREAS, COLON)}
    raw = _layout(folder, RAW, 3 * math.ceil(cases / 2), spacing)
    curated = folder / "TotalSegPlusPlus"
    curate(raw, curated, str(raw.with_name(f"{raw.name}-tissues")), jobs=jobs, scheduler=scheduler)
    return {TOTALSEG: curated, **written}


def _layout(folder: Path, name: str, cases: int, spacing: float) -> Path:
    """Write a layout to a temporary folder and rename it, so that an existing folder is complete."""
    final = folder / LAYOUTS[name].folder
    if final.exists():
        return final
    aside = folder / "being-written" / name
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    write_layout(name, aside, cases, spacing=spacing)
    for part in sorted(aside.iterdir(), key=lambda part: part.name == final.name):  # the data set itself comes last
        shutil.rmtree(folder / part.name, ignore_errors=True)
        os.replace(part, folder / part.name)
    shutil.rmtree(aside)
    return final

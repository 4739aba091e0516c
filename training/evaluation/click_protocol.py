"""The click protocol: how a method is clicked in a structure and scored, as in the paper, with its gaps filled.

- **First click**: uniform over the voxels of the structure. It depends on the case, the label and the seed alone, so
  every method gets the same one.
- **Next click**: the deepest point of the method's own error. False negatives and false positives are measured apart
  by the Euclidean distance, in mm on the CT's own grid, to the nearest voxel that is not in their set; what lies
  beyond the CT is not. The greatest distance in either set wins and gives the sign. There is no connectivity: it is
  the deepest point of all error, not that of the largest component. Ties go to the false negatives, then to the first
  voxel in the order z, y, x.
- **No error left**: no click is made, and the scores are carried forward.
- **All clicks up to the largest N** are made; scores are taken at the N asked for.
- **Systems that work slice by slice** get N clicks in each axial slice of the structure, automatic ones none
  (`training.evaluation.comparisons.prompting`).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from CTSAM3DLib.clicks.simulation import Clickable, first_click, simulate
from training.evaluation.comparisons.prompting import Prompted, answer_once, simulate_by_slice
from training.evaluation.methods import Answer
from training.evaluation.metrics import nsd
from training.evaluation.results import NSD_COLUMNS, Row


def click_through(
    opened: Clickable[Answer], truth: NDArray[np.bool_], counts: Sequence[int], rng: np.random.Generator
) -> Iterator[Row]:
    """Scores after each of the rising numbers of clicks `counts`; `rng` draws the first click."""
    answers = answers_to(opened, truth, counts[-1], rng)
    latest = next(answers)
    clicked = True
    for count in range(1, counts[-1] + 1):
        if count in counts:
            no_click = {} if clicked else {"seconds": "", "click_ijk": "", "click_sign": ""}
            yield {"n_clicks": count, **_figures(opened, truth, *latest), **no_click}
        following = next(answers, None)
        clicked, latest = following is not None, following or latest


def answers_to(
    opened: Clickable[Answer], truth: NDArray[np.bool_], clicks: int, rng: np.random.Generator
) -> Iterator[tuple[Answer, float, float]]:
    """The method's results for the clicks of its kind."""
    if isinstance(opened, Prompted) and opened.prompting == "none":
        return answer_once(opened, truth)
    if isinstance(opened, Prompted) and opened.prompting == "slice":
        return simulate_by_slice(opened, truth, rng, clicks)
    return simulate(opened, truth, first_click(truth, rng), clicks)


def _figures(opened: Clickable[Answer], truth: NDArray[np.bool_], answer: Answer, score: float, seconds: float) -> Row:
    geometry, last = opened.geometry, answer.clicks[-1] if answer.clicks else None
    distances = nsd(truth, np.asarray(answer.mask.array, bool), geometry.spacing[::-1])
    return {
        "dsc": round(score, 5),
        **{column: round(value, 5) for column, value in zip(NSD_COLUMNS, distances, strict=True)},
        "seconds": round(seconds, 4),
        "n_patches": "" if answer.patches is None else len(answer.patches),
        "quality": "" if answer.quality is None else round(answer.quality, 4),
        "click_ijk": last and " ".join(str(int(index)) for index in np.rint(geometry.to_ijk(last.position))),
        "click_sign": last and ("+" if last.positive else "-"),
    }


def click_rng(seed: int, case: str, label: str) -> np.random.Generator:
    """The random generator of the first click in a structure, the same for all methods."""
    return np.random.default_rng([seed, zlib.crc32(f"{case}/{label}".encode())])

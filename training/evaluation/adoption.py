"""The rule by which new weights replace the bundled ones, applied to rows of results with regions."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import pandas as pd

from training.evaluation.body_regions import REGIONS, means

JUDGED_AT = 5
"""Clicks."""
NO_REGION_WORSE_BY = 0.01
"""Dice."""
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Verdict:
    """Dice of new and old weights at five clicks by region, and the reasons against the new weights.

    Attributes:
        new, old: region to mean Dice over the structures that both were measured at.
        reasons: sentences; none where the new weights are to be taken.

    """

    new: dict[str, float]
    old: dict[str, float]
    reasons: tuple[str, ...]

    @property
    def adopted(self) -> bool:
        """Whether there is no reason against the new weights."""
        return not self.reasons

    def sentence(self) -> str:
        """The decision with its reasons, as text."""
        if not self.adopted:
            return f"Not adopted: {' '.join(self.reasons)}"
        return (
            f"Adopted: the mean over {', '.join(self.new)} at {JUDGED_AT} clicks is {_mean(self.new):.3f} instead of "
            f"{_mean(self.old):.3f}, and no region is worse by more than {NO_REGION_WORSE_BY}."
        )


def judge(lines: pd.DataFrame, new: str, old: str, without: Collection[str] = ()) -> Verdict:
    """Compare two runs by their rows, which have a `region`, on structures measured in both runs.

    A region that was not measured speaks against the new weights unless it is among `without`.
    """
    at = lines[(lines["n_clicks"] == JUDGED_AT) & lines["run"].isin([new, old])]
    structure = ["dataset", "case", "label", "seed"]
    both = [at[at["run"] == run].set_index(structure).index for run in (new, old)]
    common = at[at.set_index(structure).index.isin(both[0].intersection(both[1]))]
    scores: dict[str, dict[str, float]] = {new: {}, old: {}}
    for row in means(common, "region").to_dict("records") if len(common) else ():
        if row["region"] in REGIONS:
            scores[row["run"]][row["region"]] = row[f"Dice @{JUDGED_AT}"]
    found = list(scores[new])
    reasons = [
        f"{region} was not measured, since no held-out patient shows it."
        for region in REGIONS
        if region not in found and region not in without
    ]
    if lonely := len(both[0].symmetric_difference(both[1])):
        reasons.append(f"{lonely} structures were measured with one of the two models only.")
    for region in found:
        ours, theirs = scores[new][region], scores[old][region]
        if theirs - ours > NO_REGION_WORSE_BY + _ROUNDING:
            reasons.append(f"{region} is worse by {theirs - ours:.3f} ({ours:.3f} instead of {theirs:.3f}).")
    if found and _mean(scores[new]) <= _mean(scores[old]) + _ROUNDING:
        ours, theirs = _mean(scores[new]), _mean(scores[old])
        reasons.append(f"The mean over {', '.join(found)} is not higher ({ours:.3f}, {theirs:.3f} before).")
    return Verdict(scores[new], scores[old], tuple(reasons))


def _mean(scores: dict[str, float]) -> float:
    return sum(scores.values()) / len(scores)

"""Paired comparisons of two systems on the same structures.

Structures of one case are not independent, so a case is the unit: each gives one number, its mean over structures.
Two systems are compared by the cases' differences: their median with a bootstrap interval over cases (percentiles of
10,000 resamples), and the Wilcoxon signed-rank test, whose p-values are corrected by Holm (1979) over all comparisons
of one exhibit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

RESAMPLES = 10_000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Paired:
    """How one system does against another, case by case; NaN where there are too few cases to say."""

    cases: int
    difference: float
    """Median over cases of the paired differences."""
    low: float
    high: float
    """Ends of the 95 % interval of the difference."""
    p: float
    """p-value of the two-sided Wilcoxon signed-rank test, uncorrected."""


def paired(differences: Sequence[float] | NDArray[np.float64]) -> Paired:
    """Compare by the differences of the cases, one number a case. With one case there is neither interval nor p."""
    values = np.asarray(differences, float)
    if values.size == 0:
        return Paired(0, np.nan, np.nan, np.nan, np.nan)
    low, high = interval(values)
    return Paired(values.size, float(np.median(values)), low, high, _wilcoxon(values))


def interval(
    values: NDArray[np.float64], statistic: Callable[..., NDArray[np.float64]] = np.median
) -> tuple[float, float]:
    """The 95 % bootstrap interval of a statistic, always the same for the same values; NaN for fewer than two."""
    if values.size < 2:
        return np.nan, np.nan
    found = stats.bootstrap(
        (values,),
        statistic,
        n_resamples=RESAMPLES,
        confidence_level=CONFIDENCE,
        method="percentile",
        random_state=np.random.default_rng(0),
    ).confidence_interval
    return float(found.low), float(found.high)


def _wilcoxon(differences: NDArray[np.float64]) -> float:
    """NaN for a single case; 1 where no case differs, for which the test is not defined."""
    if differences.size < 2:
        return np.nan
    return float(stats.wilcoxon(differences).pvalue) if differences.any() else 1.0


def holm(p_values: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    """Holm's step-down correction, in the order given; NaN stays NaN and does not count as a comparison."""
    corrected = np.array(p_values, float)
    known = np.flatnonzero(~np.isnan(corrected))
    ascending = known[np.argsort(corrected[known], kind="stable")]
    factors = np.arange(len(ascending), 0, -1)
    corrected[ascending] = np.minimum(np.maximum.accumulate(corrected[ascending] * factors), 1)
    return corrected


def in_short(p: float) -> str:
    """A corrected p-value as a chart shows it; "" for none."""
    if np.isnan(p):
        return ""
    return "p<0.001" if p < 0.001 else f"p={p:.2g}"

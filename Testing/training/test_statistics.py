"""The statistics of paired comparisons: known values, limits, and what too few cases give."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.exhibits.statistics import holm, in_short, interval, paired

P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=12)


def test_holm_by_hand():
    # Sorted: 0.005 x 4, 0.01 x 3, 0.03 x 2, and 0.04 x 1, which may not be below the one before.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == pytest.approx([1, 1])


def test_a_comparison_without_p_does_not_count():
    assert holm([0.01, np.nan, 0.03]) == pytest.approx([0.02, np.nan, 0.03], nan_ok=True)
    assert holm([]).size == 0


@given(P_VALUES)
def test_holm_lies_between_no_correction_and_bonferroni_and_keeps_the_order(p_values):
    corrected = holm(p_values)
    assert (corrected >= np.array(p_values) - 1e-12).all()
    assert (corrected <= np.minimum(1, len(p_values) * np.array(p_values)) + 1e-12).all()
    assert (np.diff(corrected[np.argsort(p_values, kind="stable")]) >= 0).all()


def test_six_cases_that_all_gain_are_as_sure_as_six_coins():
    found = paired([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    assert found.cases == 6
    assert found.difference == 3.5
    assert found.p == pytest.approx(2 / 2**6)
    assert 1 <= found.low < 3.5 < found.high <= 6


def test_gain_and_loss_change_signs_together():
    gain, loss = paired([1.0, 2.0, 4.0, -0.5]), paired([-1.0, -2.0, -4.0, 0.5])
    assert loss.difference == -gain.difference
    assert loss.p == gain.p


def test_what_too_few_cases_give():
    assert np.isnan([paired([]).difference, paired([]).p]).all()
    one = paired([2.0])
    assert (one.cases, one.difference) == (1, 2.0)
    assert np.isnan([one.low, one.high, one.p]).all()
    assert paired([0.0, 0.0, 0.0]).p == 1


def test_the_interval_is_that_of_the_median_over_cases_and_always_the_same():
    values = np.random.default_rng(1).normal(10, 2, 60)
    low, high = interval(values)
    assert (low, high) == interval(values)
    # The median of 60 normal values has a standard error of about 1.25 x 2 / sqrt(60) = 0.32.
    assert 0.6 < high - low < 2.0
    assert low < np.median(values) < high


def test_p_is_told_in_short():
    assert [in_short(p) for p in (0.0004, 0.031, 0.5, np.nan)] == ["p<0.001", "p=0.031", "p=0.5", ""]

"""The measure of numeric tests: relative to the scale, and never blind."""

import math

import numpy as np
import pytest
import torch

from Testing.relative import off


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_an_error_counts_by_the_scale_of_what_is_expected(scale):
    expected = scale * torch.tensor([1.0, -4.0, 0.0])
    assert off(expected + scale * torch.tensor([0.0, 0.0, 0.04]), expected) == pytest.approx(0.01, rel=1e-5)
    assert off(expected, expected.numpy()) == 0
    assert off(expected + 0.3, expected, scale=3) == pytest.approx(0.1, abs=0.05 * scale / 1e6 + 1e-6)


@pytest.mark.parametrize(("given", "expected"), [([0.1], [0.0]), ([math.nan], [1.0]), ([1.0], [math.nan])])
def test_nothing_is_like_zero_or_no_number_but_itself(given, expected):
    assert off(given, expected) == math.inf


def test_other_shapes_are_not_compared():
    with pytest.raises(AssertionError, match=r"the shape is \(1,\), not \(2,\)"):
        off(np.zeros(1), np.zeros(2))

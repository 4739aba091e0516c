"""Dice and NSD, the latter against MONAI's own implementation of the same definition."""

import numpy as np
import pytest
import torch
from monai.metrics import compute_surface_dice

from CTSAM3DLib.clicks.simulation import dice
from CTSAM3DLib.imaging.geometry import filled_box
from training.evaluation.metrics import TOLERANCES_MM, nsd


def blob(seed, shape=(24, 28, 32)):
    """A lumpy random structure well inside the array."""
    rng = np.random.default_rng(seed)
    grid = np.indices(shape).astype(float)
    mask = np.zeros(shape, bool)
    for _ in range(3):
        centre, radii = rng.uniform(0.35, 0.65, 3) * shape, rng.uniform(3, 7, 3)
        terms = ((axis - middle) / radius for axis, middle, radius in zip(grid, centre, radii, strict=True))
        mask |= sum(term**2 for term in terms) <= 1
    return mask


def monai_nsd(truth, mask, spacing, tolerance):
    tensors = [torch.from_numpy(array)[None, None] for array in (mask, truth)]
    settings = {"include_background": True, "spacing": spacing, "use_subvoxels": True}
    return compute_surface_dice(*tensors, [tolerance], **settings).item()


def test_dice_of_known_overlaps():
    truth, mask = np.zeros((2, 4, 4, 4), bool)
    truth[0, 0, :4] = True
    mask[0, 0, 2:4] = mask[1, 0, :2] = True
    assert dice(truth, mask) == pytest.approx(2 * 2 / (4 + 4))
    assert dice(truth, truth) == 1
    assert dice(truth, np.zeros_like(truth)) == 0
    assert dice(np.zeros_like(truth), np.zeros_like(truth)) == 1


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("spacing", [(1.5, 1.5, 1.5), (5.0, 0.81, 0.93)])  # no distance of exactly 3 mm
@pytest.mark.parametrize("seed", range(3))
def test_nsd_is_that_of_monai_at_every_tolerance(seed, spacing):
    truth, mask = blob(seed), blob(seed + 100)
    expected = [monai_nsd(truth, mask, spacing, tolerance) for tolerance in TOLERANCES_MM]
    assert nsd(truth, mask, spacing) == pytest.approx(expected, abs=1e-4)
    assert expected == sorted(expected)
    assert expected[0] < expected[-1]


def test_nsd_is_in_millimetres_along_the_right_axis():
    truth = np.zeros((20, 20, 20), bool)
    truth[5:15, 5:15, 5:15] = True
    shifted = np.roll(truth, 2, axis=0)
    near, far = (1.0, 1.0, 1.0), (3.0, 1.0, 1.0)
    assert nsd(truth, shifted, near, [2]) == [1]
    assert nsd(truth, shifted, far, [5])[0] < 1
    assert nsd(truth, shifted, far, [6]) == [1]
    assert nsd(truth, np.roll(truth, 2, axis=2), far, [2]) == [1]


def test_nsd_of_empty_masks():
    truth, empty = blob(0), np.zeros((24, 28, 32), bool)
    assert nsd(empty, empty, (1, 1, 1)) == [1] * 4
    assert nsd(truth, empty, (1, 1, 1)) == nsd(empty, truth, (1, 1, 1)) == [0] * 4


def test_nsd_does_not_depend_on_where_the_array_ends():
    truth, mask = blob(1), blob(101)
    box = filled_box(truth | mask)
    assert nsd(truth[box], mask[box], (2, 1, 1)) == nsd(np.pad(truth, 9), np.pad(mask, 9), (2, 1, 1))


def test_nsd_refuses_masks_of_other_shapes():
    with pytest.raises(ValueError, match="same shape"):
        nsd(np.ones((2, 2, 2), bool), np.ones((2, 2, 3), bool), (1, 1, 1))

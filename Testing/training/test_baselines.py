"""The methods without weights: what they find, that negative clicks count, and that they know where they are."""

import numpy as np
import pytest

from CTSAM3DLib.clicks.click import Click
from CTSAM3DLib.clicks.simulation import dice
from CTSAM3DLib.errors import ClickError, CTSAM3DError, VolumeError
from CTSAM3DLib.imaging.geometry import Geometry
from CTSAM3DLib.imaging.volume import Volume
from training.evaluation.baselines.region import INSIDE, OUTSIDE, around
from training.evaluation.methods import BASELINES, MethodChoice

SHAPE = (30, 70, 80)
TURNED = (0, 1, 0, -1, 0, 0, 0, 0, 1)
"""The CT's axes are not those of the patient, so that a mix-up of axes or signs shows."""


def geometry(direction=TURNED):
    return Geometry(SHAPE, (100.0, -40.0, 20.0), (1.6, 1.8, 3.0), direction)


def ball(centre, radius_mm):
    spacing = geometry().spacing[::-1]
    offsets = [(a - c) * mm for a, c, mm in zip(np.indices(SHAPE), centre, spacing, strict=True)]
    return sum(offset**2 for offset in offsets) <= radius_mm**2


BRIGHT = ball((15, 35, 30), 17)
NEIGHBOUR = ball((15, 35, 48), 17)
"""Joins the first, and is of the same density."""


def ct(*, neighbour):
    rng = np.random.default_rng(0)
    hu = np.where(BRIGHT | (NEIGHBOUR & neighbour), 140, 0) + rng.normal(0, 8, SHAPE)
    return Volume(np.rint(hu - 40).astype(np.int16), geometry())


def click(z, y, x, positive=True):
    return Click(tuple(geometry().to_lps((x, y, z))), positive)


@pytest.fixture(params=BASELINES)
def baseline(request):
    if request.param == "grow-cut":
        pytest.importorskip("slicer", reason="slicer-core is not installed")
    return MethodChoice(request.param).load()


def segment(baseline, volume, *clicks):
    mask = baseline.open(volume).segment(clicks).mask
    assert mask.geometry == volume.geometry
    assert set(np.unique(mask.array)) <= {0, 1}
    return mask.array.astype(bool)


def test_clicks_in_a_bright_ball_find_it(baseline):
    voxels = [(15, 35, 30), (15, 35, 25), (15, 35, 35), (15, 31, 30), (15, 39, 30), (12, 35, 30), (18, 35, 30)]
    clicks = [click(*voxel) for voxel in voxels]
    assert dice(BRIGHT, segment(baseline, ct(neighbour=False), *clicks)) > 0.75


def test_one_positive_click_alone_gives_something_but_not_everything(baseline):
    mask = segment(baseline, ct(neighbour=False), click(15, 35, 30))
    assert mask[15, 35, 30]
    assert 100 < mask.sum() < 0.5 * mask.size
    assert mask[BRIGHT].mean() > 5 * mask[~BRIGHT].mean()


def test_a_negative_click_takes_the_touching_neighbour_away(baseline):
    volume = ct(neighbour=True)
    inside = [click(15, 35, x) for x in (30, 37)]
    leaked = segment(baseline, volume, *inside)
    held = segment(baseline, volume, *inside, click(15, 35, 50, positive=False))
    only_neighbour = NEIGHBOUR & ~BRIGHT
    assert not held[15, 35, 50]
    assert held[only_neighbour].sum() < 0.9 * leaked[only_neighbour].sum()
    assert dice(BRIGHT, held) > dice(BRIGHT, leaked)


def test_the_same_clicks_give_the_same_mask(baseline):
    volume = ct(neighbour=True)
    clicks = [click(15, 35, 30), click(15, 35, 50, positive=False)]
    assert np.array_equal(segment(baseline, volume, *clicks), segment(baseline, volume, *clicks))


def test_a_click_at_the_corner_of_the_ct_is_answered(baseline):
    assert segment(baseline, ct(neighbour=False), click(0, 0, 0), click(29, 69, 79, positive=False))[0, 0, 0]


def test_a_negative_click_on_a_positive_one_is_answered(baseline):
    segment(baseline, ct(neighbour=False), click(15, 35, 30), click(15, 35, 30, positive=False))


def test_clicks_and_cts_that_cannot_be_used_are_refused(baseline):
    with pytest.raises(ClickError, match="All clicks are negative"):
        segment(baseline, ct(neighbour=False), click(15, 35, 30, positive=False))
    with pytest.raises(VolumeError, match="nearly constant"):
        baseline.open(Volume(np.zeros(SHAPE, np.int16), geometry()))


def test_an_unknown_method_is_named():
    with pytest.raises(CTSAM3DError, match="'guess' is not a method; choose one of: ctsam3d, region-growing"):
        MethodChoice("guess").load()


def test_the_box_reaches_the_margin_beyond_the_positive_clicks_only():
    region = around(ct(neighbour=False), [click(15, 35, 30), click(15, 35, 79, positive=False)], 20, 2, 10**6)
    corners = region.geometry.corners()
    centre = np.array(click(15, 35, 30).position)
    assert np.all(corners.min(axis=0) <= centre - 17)
    assert np.all(corners.max(axis=0) >= centre + 17)
    assert np.all(np.ptp(corners, axis=0) < 2 * 20 + 2 * 3)
    assert not region.ends_with_ct.any()
    assert region.spacing == pytest.approx((3, 2, 2))


def test_a_box_of_too_many_voxels_gets_larger_ones():
    region = around(ct(neighbour=False), [click(15, 35, 30)], 60, 1, 20_000)
    assert region.hu.size <= 20_000
    assert region.hu.size > 10_000


def test_seeds_are_balls_with_the_nearer_click_winning_and_a_rim_where_the_ct_goes_on():
    clicks = [click(15, 35, 4), click(15, 35, 7, positive=False)]
    region = around(ct(neighbour=False), clicks, 20, 1, 10**6)
    seeds = region.seeds(clicks, 6.0)
    first, second = (region.voxel(one) for one in clicks)
    assert seeds[first] == INSIDE
    assert seeds[second] == OUTSIDE
    middle = (first[0], first[1], first[2] + 1)
    assert seeds[middle] == INSIDE
    for face in (seeds[0], seeds[-1], seeds[:, 0], seeds[:, -1], seeds[:, :, -1]):
        assert np.all(face == OUTSIDE)
    assert region.ends_with_ct.tolist() == [[False, False], [False, False], [True, False]]
    assert not np.all(seeds[1:-1, 1:-1, 0] == OUTSIDE)


def test_a_box_that_is_the_whole_ct_has_a_rim():
    region = around(ct(neighbour=False), [click(15, 35, 30)], 500, 3, 10**6)
    assert region.ends_with_ct.all()
    assert np.all(region.seeds([click(15, 35, 30)], 5.0)[:, :, 0] == OUTSIDE)

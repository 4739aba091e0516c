"""Click maps: a Gaussian where the click is, cut where the patch or the cube ends."""

import numpy as np
import pytest

from CTSAM3DLib.segmentation.prompt_maps import RADIUS, SIGMA, click_maps


def positive_map(*points, size=64):
    return click_maps(np.array(points, float), [1] * len(points), size)[0]


def test_the_peak_lies_at_the_click():
    positive, negative = click_maps([(10, 20, 40), (50, 30, 15)], [1, 0])
    for click_map, zyx in ((positive, (40, 20, 10)), (negative, (15, 30, 50))):
        assert click_map.shape == (64, 64, 64)
        assert click_map.dtype == np.float32
        assert np.unravel_index(click_map.argmax(), click_map.shape) == zyx
        assert click_map[zyx] == 1
        assert np.count_nonzero(click_map == 1) == 1


def test_values_are_gaussian_over_the_cube():
    click_map = positive_map((32, 32, 32))
    for z, y, x in ((0, 0, 1), (1, 2, 0), (-3, 0, 4), (0, 8, 0), (8, 8, 0), (8, 8, 8), (-8, 8, -8)):
        expected = np.exp(-(z**2 + y**2 + x**2) / (2 * SIGMA**2))
        assert click_map[32 + z, 32 + y, 32 + x] == pytest.approx(expected, rel=1e-6)
    outside = click_map.copy()
    outside[32 - RADIUS : 33 + RADIUS, 32 - RADIUS : 33 + RADIUS, 32 - RADIUS : 33 + RADIUS] = 0
    assert not outside.any()
    assert click_map[32, 32, 32 + RADIUS] > 0


def test_positions_are_truncated():
    expected = positive_map((10, 20, 30))
    assert np.array_equal(positive_map((10.99, 20.5, 30.01)), expected)
    assert not np.array_equal(positive_map((11, 20, 30)), expected)
    assert np.array_equal(positive_map((-0.9, -0.1, 5)), positive_map((0, 0, 5)))


def test_a_later_click_overwrites_the_cube_of_an_earlier_one():
    first, second = (30, 32, 32), (33, 32, 32)
    both, swapped = positive_map(first, second), positive_map(second, first)
    alone = positive_map(second)
    cube = np.s_[24:41, 24:41, 25:42]
    assert np.array_equal(both[cube], alone[cube])
    assert both[32, 32, 24] == positive_map(first)[32, 32, 24]
    assert both[32, 32, 30] == pytest.approx(np.exp(-9 / (2 * SIGMA**2)))
    assert swapped[32, 32, 30] == 1
    assert np.array_equal(both[:, :, ::-1], swapped)  # 30 and 33 are each other's mirror in 0..63


def test_positive_and_negative_do_not_touch_each_other():
    positive, negative = click_maps([(30, 32, 32), (31, 32, 32)], [1, 0])
    assert np.array_equal(positive, positive_map((30, 32, 32)))
    assert np.array_equal(negative, positive_map((31, 32, 32)))


def test_label_minus_one_is_no_click():
    with_padding = click_maps([(5, 5, 5), (30, 32, 32), (-1, -1, -1)], [-1, 1, -1])
    assert np.array_equal(with_padding, click_maps([(30, 32, 32)], [1]))


def test_no_click_gives_zeros():
    for maps in (click_maps([], []), click_maps(np.zeros((0, 3)), np.zeros(0, int)), click_maps([(1, 2, 3)], [-1])):
        assert [click_map.max() for click_map in maps] == [0, 0]


@pytest.mark.parametrize("corner", [(0, 0, 0), (63, 63, 63), (0, 63, 32), (62, 1, 0)])
def test_a_click_at_the_border_is_cut(corner):
    whole = positive_map(np.add(corner, 16), size=96)
    assert np.array_equal(positive_map(corner), whole[16:80, 16:80, 16:80])


def test_a_click_just_outside_leaves_the_part_within_scaled_to_one():
    click_map = positive_map((-3, 32, 32))
    assert click_map.max() == 1
    assert click_map[32, 32, 0] == 1
    assert click_map[32, 32, 1] == pytest.approx(np.exp((9 - 16) / (2 * SIGMA**2)), rel=1e-5)
    assert not click_map[:, :, RADIUS - 2 :].any()


@pytest.mark.parametrize("far", [-RADIUS - 1, 64 + RADIUS, -500, 500])
@pytest.mark.parametrize("axis", range(3))
def test_a_click_far_outside_leaves_nothing(far, axis):
    point = np.full(3, 32)
    point[axis] = far
    assert not positive_map(point).any()


def test_a_map_is_scaled_by_its_least_value_too():
    click_map = positive_map((3, 3, 3), size=8)
    assert (click_map.min(), click_map.max()) == (0, 1)
    lowest = np.exp(-3 * 16 / (2 * SIGMA**2))
    assert click_map[3, 3, 5] == pytest.approx((np.exp(-4 / (2 * SIGMA**2)) - lowest) / (1 - lowest), rel=1e-5)


def test_every_click_has_a_label():
    with pytest.raises(ValueError, match="zip"):
        click_maps([(1, 2, 3), (4, 5, 6)], [1])

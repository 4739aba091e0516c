"""The accumulated probability map: what is written is read, nothing changes in place, and the mask has its box."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from CTSAM3DLib.imaging.constants import PATCH
from CTSAM3DLib.segmentation.canvas import MASK, Canvas

STARTS = st.tuples(*[st.integers(-100, 200)] * 3)


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 256, (PATCH,) * 3, dtype=np.uint8)


@settings(max_examples=20, deadline=None)
@given(starts=st.lists(STARTS, min_size=1, max_size=4))
def test_what_was_written_is_read_and_later_patches_lie_on_top(starts):
    low = np.min(starts, axis=0)
    expected = np.zeros(np.max(starts, axis=0) - low + PATCH, np.uint8)
    canvas = Canvas()
    for seed, start in enumerate(starts):
        canvas = canvas.write(start, noise(seed))
        expected[tuple(slice(s, s + PATCH) for s in np.array(start) - low)] = noise(seed)
    for start in starts:
        box = tuple(slice(s, s + PATCH) for s in np.array(start) - low)
        assert np.array_equal(canvas.read(start), expected[box])


def test_nothing_is_known_where_nothing_was_written():
    assert not Canvas().write((0, 0, 0), noise(0)).read((64, 0, 0)).any()


def test_writing_leaves_the_canvas_before_as_it_was():
    before = Canvas().write((5, 6, 7), noise(0))
    after = before.write((30, 6, 7), noise(1))
    assert np.array_equal(before.read((5, 6, 7)), noise(0))
    assert not np.array_equal(after.read((5, 6, 7)), noise(0))


def test_tiles_that_are_not_written_to_are_shared():
    before = Canvas().write((0, 0, 0), noise(0)).write((192, 0, 0), noise(1))
    after = before.write((0, 0, 0), noise(2))
    assert after.tiles[3, 0, 0] is before.tiles[3, 0, 0]
    assert after.tiles[0, 0, 0] is not before.tiles[0, 0, 0]


def test_tiles_cannot_be_changed_in_place():
    canvas = Canvas().write((0, 0, 0), noise(0))
    with pytest.raises(ValueError, match="read-only"):
        canvas.tiles[0, 0, 0][0, 0, 0] = 1
    with pytest.raises(TypeError):
        canvas.tiles[0, 0, 0] = noise(1)


def test_the_dense_mask_is_the_box_around_it_with_a_voxel_more():
    patch = np.ones((PATCH,) * 3, np.uint8)
    patch[10:20, 30:33, 40] = MASK
    values, start = Canvas().write((-30, 50, 100), patch).dense()
    assert start == (-30 + 9, 50 + 29, 100 + 39)
    assert values.shape == (12, 5, 3)
    assert (values >= MASK).sum() == 10 * 3


@pytest.mark.parametrize("value", [0, 1, MASK - 1])
def test_without_a_mask_the_dense_box_is_empty(value):
    values, _ = Canvas().write((0, 0, 0), np.full((PATCH,) * 3, value, np.uint8)).dense()
    assert values.size == 0


def test_a_dense_mask_makes_the_canvas_that_it_came_from():
    patch = np.ones((PATCH,) * 3, np.uint8)
    patch[3:60, 5:50, 20:64] = 200
    canvas = Canvas().write((-7, 90, 33), patch)
    values, start = canvas.dense()
    again, start_again = Canvas.of_dense(values, start).dense()
    assert start_again == start
    assert np.array_equal(again, values)

"""What crosses the network comes out as it went in; what is wrong with it is refused in `Testing/server`."""

from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from CTSAM3DLib.remote.protocol import (
    ArrayLimit,
    ProtocolError,
    SegmentResponse,
    pack,
    pack_tiles,
    unpack,
    unpack_tiles,
)
from CTSAM3DLib.segmentation.canvas import Canvas
from CTSAM3DLib.segmentation.growth import Patch
from CTSAM3DLib.segmentation.patch_grid import ModelGrid

GRID = ModelGrid((0, 0, 0), (70, 64, 130))
SHAPES = st.tuples(*[st.integers(0, 9)] * 3)


@given(st.sampled_from(["uint8", "int16", "int32"]).flatmap(lambda dtype: arrays(dtype, SHAPES)))
def test_arrays_come_back_bit_for_bit(array):
    fields, (back,) = unpack(pack({"a": [1, "b"]}, [array]), [ArrayLimit(array.dtype.name, (9, 9, 9))])
    assert fields == {"a": [1, "b"]}
    assert (back.dtype, back.shape) == (array.dtype, array.shape)
    assert np.array_equal(back, array)


@settings(max_examples=300)
@given(st.data())
def test_a_damaged_message_is_refused_or_read_but_never_anything_else(data):
    message = bytearray(pack({"tiles": [[0, 0, 0]]}, [np.arange(64**3, dtype=np.int16).reshape(64, 64, 64)]))
    for _ in range(data.draw(st.integers(1, 4))):
        message[data.draw(st.integers(0, min(len(message) - 1, 400)))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(message)))
    with suppress(ProtocolError):
        tiles = unpack_tiles(bytes(message[: cut or None]), GRID)
        assert all(tile.shape == (64, 64, 64) for tile in tiles.values())


def test_tiles_are_trimmed_to_the_grid():
    tile = np.random.default_rng(0).integers(-1000, 1000, (64, 64, 64), np.int16)
    tiles = unpack_tiles(pack_tiles({(0, 0, 0): tile, (1, 0, 2): tile}, GRID), GRID)
    assert np.array_equal(tiles[0, 0, 0], tile)
    assert np.array_equal(tiles[1, 0, 2], tile[:6, :, :2])


@pytest.mark.parametrize("start", [(0, 0, 0), (-13, 5, 60), (64, -64, 128)])
def test_an_answer_comes_back_and_its_canvas_gives_the_same_mask(start):
    values = np.random.default_rng(1).integers(0, 256, (64, 64, 64), np.uint8)
    canvas = Canvas().write(start, values).write((start[0] + 48, start[1], start[2]), values)
    dense, first = canvas.dense()
    answer = SegmentResponse(True, 0.1 + 0.2, (Patch(start, 0), Patch((1, 2, 3), 4)), dense, first, ((0, 0, 1),))
    grid = ModelGrid((0, 0, 0), (200, 200, 200))
    back = SegmentResponse.unpack(answer.pack(), grid)
    assert (back.final, back.quality, back.patches, back.needed) == (True, 0.1 + 0.2, answer.patches, ((0, 0, 1),))
    again, again_first = back.canvas.dense()
    assert again_first == first
    assert np.array_equal(again, dense)


def test_an_answer_of_nothing_yet():
    dense, first = Canvas().dense()
    back = SegmentResponse.unpack(SegmentResponse(False, 0.0, (), dense, first, ()).pack(), GRID)
    assert not back.canvas.tiles
    assert back.patches == back.needed == ()

"""The model grid: a known place in millimetres stays there, to the grid and back, whatever the CT's geometry."""

import itertools
import random
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from CTSAM3DLib.imaging.constants import AIR_HU, PAPER_SPACING, PATCH
from CTSAM3DLib.imaging.volume import Geometry, Volume
from CTSAM3DLib.segmentation import bring_back as bring_back_module
from CTSAM3DLib.segmentation.bring_back import bring_back
from CTSAM3DLib.segmentation.patch_grid import ModelGrid, TileSampler
from Testing.support.data import DATA, needs_data

IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
EXTENT_MM = 66.0


@st.composite
def geometries(draw) -> Geometry:
    """Oblique, anisotropic, flipped and sheared grids of about `EXTENT_MM` a side, anywhere in space."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))  # of either handedness
    if draw(st.booleans()):
        rotation = np.eye(3)[rng.permutation(3)] * rng.choice((-1, 1), 3)
    shear = np.eye(3)
    shear[0, 2], shear[1, 2], shear[0, 1] = draw(st.tuples(*[st.floats(-0.3, 0.3)] * 3))
    axes = rotation @ shear
    spacing = np.array(draw(st.tuples(*[st.floats(0.6, 5.0)] * 3)))
    sizes = np.ceil(EXTENT_MM / spacing).astype(int) + 1
    matrix = np.eye(4)
    matrix[:3, :3] = axes / np.linalg.norm(axes, axis=0) * spacing
    matrix[:3, 3] = rng.uniform(-1500, 1500, 3)
    return Geometry.from_matrix(tuple(int(n) for n in sizes[::-1]), matrix)


def centres(geometry: Geometry) -> np.ndarray:
    """LPS mm of every voxel centre, (z, y, x, 3)."""
    k, j, i = np.indices(geometry.shape)
    return geometry.to_lps(np.stack([i, j, k], axis=-1))


def ball_ct(geometry: Geometry, centre: np.ndarray, radius: float) -> Volume:
    """A ball of 1000 HU at its surface's half height, in air of -1000, with a flank of 12 mm."""
    distance = np.linalg.norm(centres(geometry) - centre, axis=-1)
    return Volume(np.clip((radius - distance) * 1000 / 6, -1000, 1000).astype(np.int16), geometry)


def centroid(weights: np.ndarray, positions: np.ndarray) -> np.ndarray:
    return np.tensordot(weights, positions, axes=3) / weights.sum()


def patches(sampler: TileSampler) -> np.ndarray:
    """The whole model grid out of patches whose starts are no multiples of a tile, and what lies around it."""
    starts = [range(-7, size, PATCH) for size in sampler.grid.shape]
    whole = np.zeros([len(axis) * PATCH for axis in starts], np.int16)
    for start in itertools.product(*starts):
        whole[tuple(slice(n + 7, n + 7 + PATCH) for n in start)] = sampler.patch(start)
    return whole


def probability_ball(grid: ModelGrid, centre: np.ndarray, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """(uint8 probability in a box just around a ball, start z, y, x): 0.5 at the radius, 3 mm from 0 to 1."""
    start = np.floor(grid.to_voxels([centre - radius - 3])[0]).astype(int)[::-1]
    size = int(np.ceil(2 * (radius + 3) / PAPER_SPACING)) + 2
    box = Geometry((size,) * 3, tuple(grid.to_lps([start[::-1]])[0]), (PAPER_SPACING,) * 3, IDENTITY)
    distance = np.linalg.norm(centres(box) - centre, axis=-1)
    return np.rint(255 * np.clip(0.5 + (radius - distance) / 3, 0, 1)).astype(np.uint8), start


class TestModelGrid:
    @given(geometries())
    def test_covers_every_voxel_centre_with_no_voxel_to_spare(self, geometry):
        grid = ModelGrid.covering(geometry)
        voxels = grid.to_voxels(geometry.corners())
        np.testing.assert_allclose(voxels.min(axis=0), 0, atol=1e-6)
        spare = np.subtract(grid.shape[::-1], 1) - voxels.max(axis=0)
        assert np.all((spare > -1e-5) & (spare < 1))
        np.testing.assert_allclose(grid.to_lps(voxels), geometry.corners())

    def test_rounding_adds_no_voxel(self):
        grid = ModelGrid.covering(Geometry((11, 21, 61), (739.9, 0.2, 0.3), (5, 0.6, 1.5), IDENTITY))
        assert grid.shape == (11, 9, 201)  # 739.9 + 60 * 5 - 739.9 is a little more than 300
        assert grid.origin == (739.9, 0.2, 0.3)


class TestSampling:
    @settings(max_examples=25, deadline=None)
    @given(geometries(), st.floats(12, 20), st.tuples(*[st.floats(-3, 3)] * 3))
    def test_a_ball_is_found_where_it_is(self, geometry, radius, offset):
        centre = geometry.to_lps(np.subtract(geometry.shape[::-1], 1) / 2) + offset
        sampler = TileSampler(ball_ct(geometry, centre, radius))
        bright = patches(sampler) > 0
        assume(bright.any())
        z, y, x = np.nonzero(bright)
        found = sampler.grid.to_lps(np.stack([x, y, z], axis=1) - 7).mean(axis=0)
        assert np.all(np.abs(found - centre) < max(PAPER_SPACING, *geometry.spacing) / 2)
        volume = bright.sum() * PAPER_SPACING**3
        assert volume == pytest.approx(4 / 3 * np.pi * radius**3, rel=0.03 + 0.02 * max(geometry.spacing))

    @settings(max_examples=25, deadline=None)
    @given(geometries())
    def test_linear_values_are_exact(self, geometry):
        middle = geometry.corners().mean(axis=0)
        slope = np.array([3.0, -4.0, 5.0])
        ct = Volume(((centres(geometry) - middle) @ slope).astype(np.float32), geometry)
        sampler = TileSampler(ct)
        found = patches(sampler)[7:, 7:, 7:][tuple(slice(n) for n in sampler.grid.shape)]
        positions = centres(sampler.grid.geometry)
        ijk = geometry.to_ijk(positions)
        last = np.subtract(geometry.shape[::-1], 1)
        inside = np.all((ijk > 1e-6) & (ijk < last - 1e-6), axis=-1)
        outside = np.any((ijk < -0.501) | (ijk > last + 0.501), axis=-1)
        assert inside.any()
        np.testing.assert_allclose(found[inside], ((positions - middle) @ slope)[inside], atol=0.52)
        assert np.all(found[outside] == AIR_HU)

    def ct(self, shape=(70, 150, 90), dtype=np.int16) -> Volume:
        voxels = np.random.default_rng(3).integers(-3000, 3000, shape).astype(dtype)
        return Volume(voxels, Geometry(shape, (5, -7, 11), (1.1, 1.4, 1.9), (0.8, -0.6, 0, 0.6, 0.8, 0, 0, 0, 1)))

    def test_tiles_do_not_depend_on_order_cache_or_threads(self):
        ct = self.ct()
        first = TileSampler(ct)
        indices = [i for i in itertools.product(range(4), repeat=3) if first.grid.has_tile(i)]
        assert len(indices) > 8
        tiles = {index: first.tile(index) for index in indices}
        shuffled = indices * 2
        random.Random(0).shuffle(shuffled)
        forgetful = TileSampler(ct, capacity_bytes=2 * PATCH**3 * 2)
        with ThreadPoolExecutor(4) as pool:
            for index, tile in zip(shuffled, pool.map(forgetful.tile, shuffled), strict=True):
                np.testing.assert_array_equal(tile, tiles[index])

    def test_the_cache_is_bounded_and_keeps_what_was_used_last(self):
        sampler = TileSampler(self.ct(), capacity_bytes=2 * PATCH**3 * 2)
        a = sampler.tile((0, 0, 0))
        b = sampler.tile((0, 0, 1))
        assert sampler.tile((0, 0, 0)) is a
        sampler.tile((0, 1, 0))
        assert sampler.tile((0, 0, 0)) is a
        assert sampler.tile((0, 0, 1)) is not b
        assert not a.flags.writeable

    def test_a_patch_is_cut_out_of_tiles(self):
        sampler = TileSampler(self.ct())
        tiles = np.concatenate(
            [np.concatenate([sampler.tile((0, y, x)) for x in (0, 1)], axis=2) for y in (0, 1)], axis=1
        )
        np.testing.assert_array_equal(sampler.patch((0, 0, 0)), sampler.tile((0, 0, 0)))
        np.testing.assert_array_equal(sampler.patch((0, 13, 64)), tiles[:, 13:77, 64:])
        beyond = sampler.patch((-20, -1, -63))
        np.testing.assert_array_equal(beyond[20:, 1:, 63:], tiles[:44, :63, :1])
        assert np.all(beyond[:20] == AIR_HU)
        assert np.all(beyond[:, :, :63] == AIR_HU)

    @pytest.mark.parametrize("start", [(-64, 0, 0), (0, 0, 10_000), (-1000, -1000, -1000)])
    def test_far_from_the_volume_is_air(self, start):
        assert np.all(TileSampler(self.ct()).patch(start) == AIR_HU)

    def test_values_are_rounded_hu_and_padding_is_air(self):
        shape = (4, 4, 4)
        voxels = np.full(shape, 100, np.int16)
        voxels[:, :, 0] = -3024
        voxels[:, :, 3] = 103
        sampler = TileSampler(Volume(voxels, Geometry(shape, (0, 0, 0), (3, 3, 3), IDENTITY)))
        assert sampler.patch((0, 0, 0))[0, 0, :7].tolist() == [AIR_HU, (AIR_HU + 100) // 2, 100, 100, 100, 102, 103]

    @pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32])
    def test_voxel_types_give_the_same_tiles(self, dtype):
        np.testing.assert_array_equal(
            TileSampler(self.ct(dtype=dtype)).tile((0, 1, 0)), TileSampler(self.ct()).tile((0, 1, 0))
        )

    def test_a_volume_smaller_than_a_patch(self):
        ct = Volume(np.full((2, 3, 2), 50, np.int16), Geometry((2, 3, 2), (0, 0, 0), (5, 5, 5), IDENTITY))
        sampler = TileSampler(ct)
        assert sampler.grid.shape == (5, 8, 5)
        patch = sampler.patch((-10, -10, -10))
        assert np.count_nonzero(patch == 50) == 5 * 8 * 5
        assert np.all(patch[10:15, 10:18, 10:15] == 50)

    @needs_data("ct/vertebra-pir.nii.gz", "ct/abdomen-crlm-1004.nii.gz")
    @pytest.mark.parametrize("case", ["vertebra-pir", "abdomen-crlm-1004"])
    def test_real_ct_is_found_again_at_its_own_voxels(self, case):
        path = DATA / "ct" / f"{case}.nii.gz"
        ct = Volume.read(path)
        sampler = TileSampler(ct)
        index = (0, 0, 0) if case == "vertebra-pir" else (1, 2, 2)
        tile = sampler.tile(index)
        voxels = np.argwhere(np.ones(tile.shape, bool))[::997, ::-1]
        ijk = ct.geometry.to_ijk(sampler.grid.to_lps(voxels + PATCH * np.array(index[::-1])))
        inside = np.all((ijk >= 0) & (ijk <= np.subtract(ct.array.shape[::-1], 1.001)), axis=1)
        assert inside.sum() > 100
        i, j, k = np.floor(ijk[inside]).astype(int).T
        low = np.min([ct.array[k + c, j + b, i + a] for a, b, c in itertools.product((0, 1), repeat=3)], axis=0)
        high = np.max([ct.array[k + c, j + b, i + a] for a, b, c in itertools.product((0, 1), repeat=3)], axis=0)
        x, y, z = voxels[inside].T
        assert np.all((tile[z, y, x] >= np.maximum(low, AIR_HU)) & (tile[z, y, x] <= np.maximum(high, AIR_HU)))
        assert len(np.unique(tile)) > 100


class TestBringBack:
    @settings(max_examples=25, deadline=None)
    @given(geometries(), st.floats(12, 20), st.tuples(*[st.floats(-8, 8)] * 3))
    def test_a_ball_comes_back_voxel_by_voxel(self, geometry, radius, offset):
        centre = geometry.to_lps(np.subtract(geometry.shape[::-1], 1) / 2) + offset
        grid = ModelGrid.covering(geometry)
        probability, start = probability_ball(grid, centre, radius)
        crop, box = bring_back(probability, start, grid, geometry)
        mask = np.zeros(geometry.shape, np.uint8)
        mask[box] = crop
        distance = np.linalg.norm(centres(geometry) - centre, axis=-1)
        wrong = mask != (distance <= radius)
        assert np.all(np.abs(distance - radius)[wrong] < 0.15)
        assert mask.max() == 1

    @settings(max_examples=20, deadline=None)
    @given(geometries(), st.floats(12, 18))
    def test_there_and_back(self, geometry, radius):
        centre = geometry.to_lps(np.subtract(geometry.shape[::-1], 1) / 2)
        ct = ball_ct(geometry, centre, radius)
        sampler = TileSampler(ct)
        whole = patches(sampler)[7:, 7:, 7:].astype(float)
        probability = np.rint((np.clip(whole, -1000, 1000) + 1000) * 255 / 2000).astype(np.uint8)
        crop, box = bring_back(probability, (0, 0, 0), sampler.grid, geometry)
        mask = np.zeros(geometry.shape, bool)
        mask[box] = crop > 0
        expected = ct.array > 0
        assert np.all(np.abs(centroid(mask, centres(geometry)) - centre) < max(geometry.spacing) / 2)
        assert 2 * (mask & expected).sum() / (mask.sum() + expected.sum()) > 0.94

    def test_a_mask_ends_half_a_model_voxel_beyond_its_last_voxel(self):
        geometry = Geometry((100, 100, 100), (0, 0, 0), (0.5, 0.5, 0.5), IDENTITY)
        grid = ModelGrid.covering(geometry)
        crop, box = bring_back(np.full((4, 5, 6), 255, np.uint8), (10, 11, 12), grid, geometry)
        mask = np.zeros(geometry.shape, np.uint8)
        mask[box] = crop
        z, y, x = (np.flatnonzero(mask.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1)))
        # model voxels 10..13 span 15 - 0.75 .. 19.5 + 0.75 mm; at 0.5 mm the outermost centres within are 14.5 and 20
        assert (z[0], z[-1]) == (29, 40)
        assert (y[0], y[-1]) == (32, 46)
        assert (x[0], x[-1]) == (35, 52)

    def test_only_the_box_it_can_reach_is_returned(self):
        geometry = Geometry((300, 512, 512), (0, 0, 0), (1, 0.7, 0.7), IDENTITY)
        grid = ModelGrid.covering(geometry)
        crop, box = bring_back(np.full((20, 20, 20), 255, np.uint8), (60, 100, 80), grid, geometry)
        assert crop.shape == tuple(axis.stop - axis.start for axis in box)
        assert crop.size < 60**3
        assert crop.any()

    @pytest.mark.parametrize("start", [(-500, 0, 0), (0, 0, 5000)])
    def test_outside_the_volume_it_is_empty(self, start):
        geometry = Geometry((30, 30, 30), (0, 0, 0), (1, 1, 1), IDENTITY)
        crop, box = bring_back(np.full((9, 9, 9), 255, np.uint8), start, ModelGrid.covering(geometry), geometry)
        assert crop.size == 0
        assert np.zeros(geometry.shape)[box].size == 0

    def test_beyond_the_edge_it_is_cut(self):
        geometry = Geometry((30, 30, 30), (0, 0, 0), (1, 1, 1), IDENTITY)
        crop, box = bring_back(np.full((90, 9, 9), 255, np.uint8), (-20, 3, -4), ModelGrid.covering(geometry), geometry)
        assert box[0] == slice(0, 30)
        assert crop[:, 5, 3].all()


@pytest.mark.parametrize("axes", list(itertools.permutations(range(3))))
def test_masks_come_back_along_parallel_axes_as_itk_interpolates_them(axes, monkeypatch):
    signs = np.where(np.arange(3) == axes[0], -1.0, 1.0)
    direction = np.eye(3)[:, list(axes)] * signs
    geometry = Geometry((40, 50, 60), (12.3, -45.6, 78.9), (0.7, 0.9, 2.3), tuple(direction.ravel()))
    grid = ModelGrid.covering(geometry)
    probability = np.random.default_rng(7).integers(0, 256, (12, 14, 16)).astype(np.uint8)
    probability[[0, -1]] = probability[:, [0, -1]] = probability[:, :, [0, -1]] = 0
    start = tuple(size // 2 - 8 for size in grid.shape)
    quick, box = bring_back(probability, start, grid, geometry)
    monkeypatch.setattr(bring_back_module, "_PARALLEL", -1.0)  # no axes are
    assert np.array_equal(bring_back(probability, start, grid, geometry)[0], quick)
    assert bring_back(probability, start, grid, geometry)[1] == box
    assert 0.1 < quick.mean() < 0.9

"""Phantoms look like CT, are repeatable, and their labels sit where anatomy says."""

import numpy as np
import pytest

from CTSAM3DLib.phantom.shapes import Canvas, slice_matrix, smooth_noise
from training.phantoms.phantoms import anatomy_like, torso


@pytest.fixture(scope="module")
def small_torso():
    return torso(seed=3, spacing=(3.0, 3.0, 4.0))


def middle(phantom, name):
    """Return the centre of mass of a structure, LPS mm (x, y, z)."""
    label = next(label for label, known in phantom.names.items() if known == name)
    voxels = np.argwhere(phantom.labels == label)
    assert len(voxels) > 0, name
    geometry = phantom.ct.geometry
    return voxels.mean(axis=0)[::-1] * geometry.spacing + geometry.origin


def values(phantom, name):
    label = next(label for label, known in phantom.names.items() if known == name)
    return phantom.ct.array[phantom.labels == label]


def test_scenes_are_ct_with_several_structures():
    rng = np.random.default_rng(0)
    for _ in range(5):
        ct, labels = anatomy_like(rng, (48, 56, 64))
        assert ct.shape == labels.shape == (48, 56, 64)
        assert (ct.dtype, labels.dtype) == (np.int16, np.uint8)
        assert ct.min() >= -1024
        assert ct.max() <= 3071
        assert np.count_nonzero(np.bincount(labels.ravel())[1:] > 30) >= 3


def test_scenes_follow_their_generator():
    first, again, other = (anatomy_like(np.random.default_rng(seed), (40, 40, 40)) for seed in (1, 1, 2))
    assert np.array_equal(first[0], again[0])
    assert np.array_equal(first[1], again[1])
    assert not np.array_equal(first[1], other[1])


def test_labels_of_scenes_follow_the_image():
    rng = np.random.default_rng(4)
    apart = []
    for _ in range(4):
        ct, labels = anatomy_like(rng, (64, 64, 64))
        for label in np.unique(labels[labels > 0]):
            inside = labels == label
            if inside.sum() > 500:
                apart.append(abs(np.median(ct[inside]) - np.median(ct[~inside])))
    assert np.median(apart) > 15


def test_undisturbed_shapes_have_their_analytic_volume():
    canvas = Canvas((60, 60, 60), np.random.default_rng(0))
    assert canvas.ellipsoid((30, 30, 30), (10, 15, 20)).sum() == pytest.approx(4 / 3 * np.pi * 3000, rel=0.02)
    tube = canvas.tube(np.array([[10.0, 30, 30], [50, 30, 30]]), 6.0)
    assert tube.sum() == pytest.approx(np.pi * 36 * 40 + 4 / 3 * np.pi * 216, rel=0.05)
    assert canvas.sheet((0, 0, 1), 30.5, 4).sum() == 4 * 60 * 60


def test_turned_ellipsoid_keeps_its_volume():
    canvas = Canvas((60, 60, 60), np.random.default_rng(0))
    turn = np.linalg.qr(np.random.default_rng(1).standard_normal((3, 3)))[0]
    assert canvas.ellipsoid((30, 30, 30), (8, 14, 22), turn).sum() == pytest.approx(4 / 3 * np.pi * 2464, rel=0.02)


def test_smooth_noise_is_standardised_and_smooth():
    noise = smooth_noise(np.random.default_rng(0), (64, 64, 64), 6.0)
    assert abs(noise.mean()) < 0.3
    assert 0.6 < noise.std() < 1.8
    assert np.abs(np.diff(noise, axis=0)).max() < 2.0


def test_thick_slices_keep_a_constant_and_blur_an_edge():
    matrix = slice_matrix(12, 3)
    assert np.allclose(matrix @ np.full(12, 7.0), 7.0)
    assert len(np.unique(np.round(matrix @ (np.arange(12) >= 6).astype(float), 4))) > 2


def test_torso_is_a_ct_in_lps(small_torso):
    geometry = small_torso.ct.geometry
    assert small_torso.ct.array.shape == small_torso.labels.shape == tuple(geometry.shape)
    assert small_torso.ct.array.dtype == np.int16
    assert tuple(geometry.direction) == (1, 0, 0, 0, 1, 0, 0, 0, 1)
    assert np.allclose(np.array(geometry.shape[::-1]) * geometry.spacing, (360, 320, 300), atol=4)


def test_every_name_of_the_torso_has_its_own_visible_label(small_torso):
    present = set(np.unique(small_torso.labels)) - {0}
    assert present == set(small_torso.names)
    assert len(set(small_torso.names.values())) == len(small_torso.names)


def test_organs_lie_where_they_belong(small_torso):
    where = {name: middle(small_torso, name) for name in small_torso.names.values()}
    left, back, up = 0, 1, 2
    assert where["liver"][left] < 0 < where["spleen"][left]
    assert where["kidney_right"][left] < 0 < where["kidney_left"][left]
    assert where["heart"][up] > where["liver"][up] > where["kidney_left"][up]
    assert where["aorta"][back] < where["vertebrae_L1"][back] < where["spinal_cord"][back]
    assert where["stomach_air"][back] < where["stomach_content"][back]
    assert where["vertebrae_L4"][up] < where["vertebrae_T12"][up] < where["vertebrae_T6"][up]


def test_tissues_have_their_values(small_torso):
    assert np.median(values(small_torso, "liver")) == pytest.approx(108, abs=8)
    assert np.median(values(small_torso, "lung_left")) < -750
    assert np.median(values(small_torso, "subcutaneous_fat")) == pytest.approx(-105, abs=8)
    kidney = values(small_torso, "kidney_left")
    assert np.percentile(kidney, 80) - np.percentile(kidney, 5) > 40
    assert 8 < values(small_torso, "spleen").std() < 30


def test_torso_is_repeatable_and_seeded():
    first, again, other = (torso(seed, (6.0, 6.0, 8.0)) for seed in (0, 0, 1))
    assert np.array_equal(first.ct.array, again.ct.array)
    assert np.array_equal(first.labels, again.labels)
    assert not np.array_equal(first.labels, other.labels)


def test_torso_takes_a_shape():
    assert torso(0, (6.0, 6.0, 8.0), (20, 40, 50)).ct.array.shape == (20, 40, 50)

"""The simulated user clicks where the rule of the paper says."""

import numpy as np
import pytest

from CTSAM3DLib.clicks.simulation import first_click, next_click


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def ball(shape, centre, radius):
    grid = np.indices(shape).astype(float)
    return sum((axis - middle) ** 2 for axis, middle in zip(grid, centre, strict=True)) <= radius**2


def brute_force_depth(mask):
    """Distance of each voxel of `mask` to the nearest voxel outside it, the rim of the array being outside."""
    padded = np.pad(mask, 1)
    outside = np.argwhere(~padded)
    depth = np.zeros(mask.shape)
    for voxel in np.argwhere(mask):
        depth[tuple(voxel)] = np.sqrt(((outside - voxel - 1) ** 2).sum(axis=1).min())
    return depth


def test_first_click_is_uniform_over_the_foreground(rng):
    truth = np.zeros((4, 4, 4), bool)
    truth[1, 1, 1:3] = True
    drawn = [first_click(truth, rng) for _ in range(200)]
    assert set(drawn) == {(1, 1, 1), (1, 1, 2)}
    assert 60 < drawn.count((1, 1, 1)) < 140


def test_first_click_refuses_an_empty_truth(rng):
    with pytest.raises(ValueError, match="empty"):
        first_click(np.zeros((2, 2, 2), bool), rng)


def test_missed_structure_is_clicked_in_its_middle(rng):
    truth = ball((24, 24, 24), (9, 12, 14), 6)
    assert next_click(truth, np.zeros_like(truth), rng) == ((9, 12, 14), True)


def test_deeper_error_wins_and_gives_the_sign(rng):
    small, large = ball((32, 32, 32), (8, 8, 8), 3), ball((32, 32, 32), (22, 22, 22), 7)
    assert next_click(small, large, rng) == ((22, 22, 22), False)
    assert next_click(large, small, rng) == ((22, 22, 22), True)


def test_many_shallow_errors_lose_against_one_deep_error(rng):
    truth, prediction = np.zeros((20, 20, 20), bool), np.zeros((20, 20, 20), bool)
    truth[0] = True
    prediction[8:13, 8:13, 8:13] = True
    assert next_click(truth, prediction, rng) == ((10, 10, 10), False)


def test_equal_errors_are_clicked_positive(rng):
    truth, prediction = np.zeros((8, 8, 8), bool), np.zeros((8, 8, 8), bool)
    prediction[1, 1, 1] = truth[5, 5, 5] = True
    assert next_click(truth, prediction, rng) == ((5, 5, 5), True)


def test_outside_of_the_array_counts_as_background(rng):
    truth = np.ones((9, 9, 9), bool)
    assert next_click(truth, np.zeros_like(truth), rng) == ((4, 4, 4), True)


def test_no_error_no_click(rng):
    truth = ball((8, 8, 8), (4, 4, 4), 2)
    assert next_click(truth, truth.copy(), rng) is None


@pytest.mark.parametrize("seed", range(6))
def test_click_is_at_the_largest_brute_force_depth(seed):
    rng = np.random.default_rng(seed)
    truth, prediction = rng.random((2, 9, 8, 7)) < 0.8
    voxel, positive = next_click(truth, prediction, rng)
    missed, excess = brute_force_depth(truth & ~prediction), brute_force_depth(prediction & ~truth)
    depth = missed if positive else excess
    assert depth[voxel] == pytest.approx(max(missed.max(), excess.max()))
    assert voxel == tuple(np.argwhere(np.isclose(depth, depth.max()))[0])


def test_jitter_draws_among_the_deep_voxels_only(rng):
    truth = ball((24, 24, 24), (11, 11, 11), 8)
    depth = brute_force_depth(truth)
    drawn = {next_click(truth, np.zeros_like(truth), rng, jitter=0.5)[0] for _ in range(80)}
    assert len(drawn) > 20
    assert min(depth[voxel] for voxel in drawn) > 0.5 * depth.max()


def test_spacing_changes_which_error_is_deeper(rng):
    truth, prediction = np.zeros((30, 30, 30), bool), np.zeros((30, 30, 30), bool)
    truth[2:5, 2:20, 2:20] = True
    prediction[10:17, 24:29, 24:29] = True
    assert next_click(truth, prediction, rng)[1] is False
    assert next_click(truth, prediction, rng, spacing=(5.0, 1.0, 1.0))[1] is True


def test_shapes_must_agree(rng):
    with pytest.raises(ValueError, match="same shape"):
        next_click(np.ones((2, 2, 2), bool), np.ones((2, 2, 3), bool), rng)

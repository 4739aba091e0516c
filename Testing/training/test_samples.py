"""Samples: both patches hold the structure, overlap as their offset says, and image and truth move together."""

from collections import Counter

import numpy as np
import pytest

from CTSAM3DLib.imaging.constants import AIR_HU
from training.data.real_volumes import BRIGHTEST, Foreground, RealVolume
from training.data.samples import PATCH, Cropping, PhantomSamples, Pose, RealSamples, Sample, augment, mixed
from training.data.supervoxels import body_mask, pseudo_labels

CROPPED = Cropping(deviation=28, varied=False)


def volume_of(ct, case="coded", **maps):
    return RealVolume(case, ct, maps, {name: Foreground.of(array) for name, array in maps.items()})


def coded_volume(shape=(100, 90, 80), case="coded"):
    """A volume whose every voxel has its own value modulo 4000, so that overlaps can be compared."""
    ct = (np.arange(np.prod(shape)) % 4000 - 1000).astype(np.int16).reshape(shape)
    labels = np.zeros(shape, np.uint8)
    labels[40:60, 30:50, 30:55] = 3
    labels[0:10, 0:10, 0:10] = 7
    labels[-1, -1, -1] = 9
    pieces = np.zeros(shape, np.uint16)
    pieces[20:50, 20:50, 20:50] = 300
    return volume_of(ct, case, labels=labels, supervoxels_merged=pieces)


def ramp(shape=(150, 140, 130)):
    """A CT that linear interpolation reproduces: 2z + 3y - 4x."""
    z, y, x = np.indices(shape)
    return (2 * z + 3 * y - 4 * x).astype(np.int16)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def overlap(sample):
    """Return what U and V show of the voxels that both hold: images, then truths."""
    u = tuple(slice(max(step, 0), PATCH + min(step, 0)) for step in sample.offset)
    v = tuple(slice(max(-step, 0), PATCH + min(-step, 0)) for step in sample.offset)
    return sample.image_u[u], sample.image_v[v], sample.truth_u[u], sample.truth_v[v]


def test_patches_hold_the_structure_and_agree_where_they_overlap(rng):
    samples = RealSamples([coded_volume()], CROPPED)
    offsets = []
    for _ in range(30):
        sample = samples.draw(rng)
        assert sample.image_u.shape == sample.truth_v.shape == (PATCH,) * 3
        assert (sample.image_u.dtype, sample.truth_u.dtype) == (np.int16, bool)
        assert sample.truth_u.sum() >= 30
        assert sample.truth_v.any()
        image_u, image_v, truth_u, truth_v = overlap(sample)
        assert np.array_equal(image_u, image_v)
        assert np.array_equal(truth_u, truth_v)
        assert truth_u.any()
        offsets += sample.offset
    assert 40 < max(map(abs, offsets)) <= 2 * CROPPED.deviation


def test_varied_patches_agree_where_they_overlap(rng):
    labels = np.zeros((150, 140, 130), np.uint8)
    labels[50:100, 45:95, 40:90] = 3
    samples = RealSamples([volume_of(ramp(), labels=labels)])
    for _ in range(8):
        sample = samples.draw(rng)
        image_u, image_v, truth_u, truth_v = overlap(sample)
        assert (truth_u != truth_v).mean() < 1e-4
        # Positions are rounded, by which HU may differ by one, and voxels at the very end of the CT lie in or out.
        assert (np.abs(image_u.astype(int) - image_v) > 1).mean() < 1e-3
        assert truth_u.any()


def test_image_and_truth_move_together(rng):
    labels = coded_volume().labels["labels"]
    labels[labels != 3] = 0
    samples = RealSamples([volume_of(np.where(labels == 3, 500, -500).astype(np.int16), labels=labels)])
    for _ in range(8):
        sample = augment(samples.draw(rng), rng)
        for image, truth in ((sample.image_u, sample.truth_u), (sample.image_v, sample.truth_v)):
            if truth.sum() > 1000:
                assert 2 * (truth & (image > 0)).sum() > 0.9 * (truth.sum() + (image > 0).sum())


def positions(pose, start):
    """(3, 64, 64, 64): where each voxel of a patch lies in the CT."""
    grid = np.indices((PATCH,) * 3).reshape(3, -1) + start[:, None]
    return (pose.anchor[:, None] + pose.matrix @ grid).reshape(3, PATCH, PATCH, PATCH)


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize(
    "matrix",
    [
        np.eye(3),
        np.diag([1, 1, -1]),
        np.eye(3)[[0, 2, 1]],
        np.array([[0, 0, 1], [0, -1, 0], [1, 0, 0]]),
        np.diag([2, 1, -2]),
    ],
    ids=["crop", "mirror", "swap", "turn", "scale"],
)
def test_a_pose_reads_the_voxels_it_names(matrix, order):
    ct = coded_volume((60, 70, 80)).ct
    pose = Pose(np.array([20, 40, 50]), np.asarray(matrix, float))
    start = np.array([-30, -20, -45])
    z, y, x = positions(pose, start).astype(int)
    inside = (z >= 0) & (z < 60) & (y >= 0) & (y < 70) & (x >= 0) & (x < 80)
    expected = np.full((PATCH,) * 3, AIR_HU, np.int16)
    expected[inside] = ct[z[inside], y[inside], x[inside]]
    assert 0.1 < inside.mean() < 1
    assert np.array_equal(pose.read(ct, start, AIR_HU, order), expected)


def test_a_random_pose_interpolates_and_keeps_its_anchor(rng):
    ct = ramp()
    last = np.array(ct.shape)[:, None, None, None] - 2
    start = np.array([-40, -10, -32])
    for _ in range(6):
        pose = Pose.random(np.array([70, 60, 65]), rng)
        read, where = pose.read(ct, start, AIR_HU, 1), positions(pose, start)
        inside = np.all((where > 1) & (where < last), axis=0)
        assert inside.mean() > 0.3
        expected = 2 * where[0] + 3 * where[1] - 4 * where[2]
        assert np.abs(read - expected)[inside].max() < 0.51
        assert read[40, 10, 32] == ct[70, 60, 65]


def test_random_poses_mirror_swap_turn_and_scale_moderately(rng):
    matrices = np.array([Pose.random(np.zeros(3), rng).matrix for _ in range(400)])
    sizes = np.linalg.svd(matrices)[1]
    assert 0.5 < sizes.min() < 0.85
    assert 1.15 < sizes.max() < 2
    assert np.mean(np.linalg.det(matrices) > 0) == pytest.approx(0.5, abs=0.1)
    strongest = np.abs(matrices).argmax(axis=2)
    assert np.mean(np.all(strongest == np.arange(3), axis=1)) == pytest.approx(0.8 + 0.2 / 6, abs=0.07)
    whole = np.all(np.isin(matrices, (-1, 0, 1)), axis=(1, 2))
    assert whole.mean() == pytest.approx(0.3, abs=0.08)


def test_a_patch_beyond_the_ct_is_air():
    assert np.all(Pose(np.zeros(3), np.eye(3)).read(ramp((20, 20, 20)), np.full(3, 30), AIR_HU, 1) == AIR_HU)


def test_outside_of_the_volume_is_air_without_structure(rng):
    samples = RealSamples([coded_volume((20, 20, 20))], CROPPED)
    sample = samples.draw(rng)
    assert np.count_nonzero(sample.image_u != AIR_HU) <= 20**3
    assert sample.truth_u.sum() <= 1000


def test_structures_of_a_few_voxels_are_never_drawn(rng):
    samples = RealSamples([coded_volume()], CROPPED)
    assert min(samples.draw(rng).truth_u.sum() for _ in range(30)) >= 30


def test_a_case_of_many_structures_gets_more_than_its_share(rng):
    many, few = coded_volume(case="many"), coded_volume(case="few")
    many.labels["labels"][70:74] = np.arange(10, 30, dtype=np.uint8).repeat(4)
    many.foreground["labels"] = Foreground.of(many.labels["labels"])
    many.ct[:] = 3500
    samples = RealSamples([many, few], CROPPED)
    of_many = sum(bool((samples.draw(rng).image_u == 3500).any()) for _ in range(40))
    assert of_many > 33


def test_recolouring_changes_labelled_voxels_only_and_alike_in_both_patches(rng):
    labels = np.zeros((90, 90, 90), np.uint8)
    labels[30:60, 30:60, 30:60] = 3
    volume = volume_of(np.full(labels.shape, 100, np.int16), labels=labels, supervoxels_merged=labels.astype(np.uint16))
    samples = RealSamples([volume])
    changes = []
    for _ in range(25):
        sample = samples.draw(rng)
        inside = np.concatenate([sample.image_u[sample.truth_u], sample.image_v[sample.truth_v]])
        outside = np.concatenate([sample.image_u[~sample.truth_u], sample.image_v[~sample.truth_v]])
        assert set(np.unique(outside)) <= {100, AIR_HU}
        assert len(np.unique(inside)) == 1
        changes.append(int(inside[0]) - 100)
    assert 4 <= np.count_nonzero(changes) <= 18
    assert max(map(abs, changes)) < 100
    for unchanged in (samples.draw(rng, "supervoxels"), RealSamples([volume], CROPPED).draw(rng)):
        assert set(np.unique(unchanged.image_u)) <= {100, AIR_HU}


def test_mixture_follows_its_shares(rng):
    class Named:
        def draw(self, rng, source):
            return "phantom" if source == 5 else source

    shares = {"real-labels": 2.0, "supervoxels": 1.0, "phantom": 1.0}
    drawn = Counter(mixed(rng, 5, Named(), Named(), shares) for _ in range(400))
    assert drawn["real-labels"] == pytest.approx(200, abs=45)
    assert drawn["supervoxels"] == pytest.approx(100, abs=40)
    assert drawn["phantom"] == pytest.approx(100, abs=40)


def test_a_mixture_needs_the_cts_it_asks_for(rng):
    with pytest.raises(
        ValueError, match=r"A share of supervoxels needs CTs; give their folder, or set the share to 0\."
    ):
        mixed(rng, 0, None, PhantomSamples(), {"supervoxels": 1.0})


def test_a_source_without_labels_is_refused(rng):
    with pytest.raises(ValueError, match="supervoxels"):
        RealSamples([volume_of(coded_volume().ct)]).draw(rng, "supervoxels")


def test_the_phantoms_of_a_step_do_not_depend_on_what_was_drawn_before():
    def stream():
        return PhantomSamples(3.0, CROPPED, scenes=2, steps_per_scene=2, edge=64)

    def drawn(phantoms, step):
        return [phantoms.draw(np.random.default_rng([step, nth]), step) for nth in range(2)]

    used, fresh = stream(), stream()
    there = {step: drawn(used, step) for step in (0, 1, 6)}
    for step in (6, 0):
        for one, other in zip(there[step], drawn(fresh, step), strict=True):
            assert np.array_equal(one.image_u, other.image_u)
            assert np.array_equal(one.truth_v, other.truth_v)
            assert one.offset == other.offset
            assert one.source == "phantom"
    assert not np.array_equal(there[0][0].image_u, there[6][0].image_u)


def test_augmentation_gives_both_patches_another_look_and_nothing_else(rng):
    samples = RealSamples([coded_volume()], CROPPED)
    for _ in range(12):
        before = samples.draw(rng)
        after = augment(before, rng)
        assert np.array_equal(after.truth_u, before.truth_u)
        assert np.array_equal(after.truth_v, before.truth_v)
        assert after.offset == before.offset
        assert after.image_u.dtype == np.int16
        image_u, image_v, _, _ = overlap(after)
        assert not np.array_equal(image_u, overlap(before)[0])
        assert image_u.mean() == pytest.approx(image_v.mean(), abs=30)


def test_noise_blur_and_thick_slices_stay_within_hounsfield_bounds(rng):
    flat = np.zeros((24, 24, 24), bool)
    grain = rng.normal(0, 400, flat.shape)
    bright, dark = ((level + grain).clip(AIR_HU, BRIGHTEST).astype(np.int16) for level in (2800, -800))
    sample = Sample(bright, dark, flat, flat, (0, 0, 0), "phantom")
    smooth_axes = Counter()
    for _ in range(150):
        seen = augment(sample, rng)
        for image in (seen.image_u, seen.image_v):
            assert image.min() >= AIR_HU
            assert image.max() <= BRIGHTEST
        smooth_axes[sum(neighbours_alike(seen.image_u, axis) > 0.25 for axis in range(3))] += 1
    assert smooth_axes[1] == pytest.approx(150 * 0.10 * 0.85, abs=9)
    assert smooth_axes[3] == pytest.approx(150 * 0.15, abs=11)
    assert smooth_axes[0] > 90


def neighbours_alike(image, axis):
    """The correlation of touching voxels."""
    moved = np.moveaxis(image.astype(float), axis, 0)
    return np.corrcoef(moved[1:].ravel(), moved[:-1].ravel())[0, 1]


def test_foreground_draws_only_voxels_of_its_label(rng):
    label_map = rng.integers(0, 4, (12, 12, 12)).astype(np.uint8)
    foreground = Foreground.of(label_map, limit=50)
    assert foreground.labels.tolist() == [1, 2, 3]
    assert foreground.counts.tolist() == np.bincount(label_map.ravel())[1:].tolist()
    for row, label in enumerate(foreground.labels):
        assert {label_map.flat[foreground.draw(row, rng)] for _ in range(20)} == {label}


def test_pseudo_labels_find_what_intensity_separates():
    rng = np.random.default_rng(0)
    ct = np.full((40, 60, 60), -1000, np.int16)
    ct[:, 5:55, 5:55] = 40
    ct[5:35, 10:30, 10:30] = 90
    ct[10:30, 35:45, 35:45] = 700
    ct[10:30, 15:25, 40:50] = -900
    ct = (ct + rng.normal(0, 5, ct.shape)).astype(np.int16)
    assert body_mask(ct)[20, 20, 45]
    assert not body_mask(ct)[20, 2, 2]
    maps = pseudo_labels(ct, 1.5)
    bone, air = maps["intensity"][20, 40, 40], maps["intensity"][20, 20, 45]
    assert bone > 0
    assert air > 0
    assert bone != air
    assert maps["intensity"][20, 50, 10] == 0
    organ = maps["supervoxels_merged"][8:32, 13:27, 13:27]
    label = np.bincount(organ.ravel()).argmax()
    assert label > 0
    assert (organ == label).mean() > 0.8
    assert maps["supervoxels_merged"][20, 50, 20] != label
    assert len(np.unique(maps["supervoxels_fine"])) > len(np.unique(maps["supervoxels_merged"]))

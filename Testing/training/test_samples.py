"""Samples: both patches hold the structure, overlap as their offset says, and survive augmentation together."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from CTSAM3DLib.errors import VolumeError
from training.real_volumes import Foreground, RealVolume, prepare
from training.samples import PATCH, PhantomSamples, RealSamples, augment, mixed
from training.supervoxels import body_mask, pseudo_labels

SHARED = Path(__file__).resolve().parents[2] / "../shared/data"


def coded_volume(shape=(100, 90, 80), case="coded"):
    """A volume whose every voxel has its own value modulo 4000, so that overlaps can be compared."""
    ct = (np.arange(np.prod(shape)) % 4000 - 1000).astype(np.int16).reshape(shape)
    labels = np.zeros(shape, np.uint8)
    labels[40:60, 30:50, 30:55] = 3
    labels[0:10, 0:10, 0:10] = 7
    labels[-1, -1, -1] = 9
    pieces = np.zeros(shape, np.uint16)
    pieces[20:50, 20:50, 20:50] = 300
    maps = {"labels": labels, "supervoxels_merged": pieces}
    return RealVolume(case, ct, maps, {name: Foreground.of(array) for name, array in maps.items()})


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def overlap(sample):
    """Return what U and V show of the voxels that both hold: images, then truths."""
    u = tuple(slice(max(step, 0), PATCH + min(step, 0)) for step in sample.offset)
    v = tuple(slice(max(-step, 0), PATCH + min(-step, 0)) for step in sample.offset)
    return sample.image_u[u], sample.image_v[v], sample.truth_u[u], sample.truth_v[v]


def test_patches_hold_the_structure_and_agree_where_they_overlap(rng):
    samples = RealSamples([coded_volume()])
    for _ in range(30):
        sample = samples.draw(rng)
        assert sample.image_u.shape == sample.truth_v.shape == (PATCH,) * 3
        assert (sample.image_u.dtype, sample.truth_u.dtype) == (np.int16, bool)
        assert sample.truth_u.sum() >= 30
        assert sample.truth_v.any()
        assert all(abs(step) <= 56 for step in sample.offset)
        image_u, image_v, truth_u, truth_v = overlap(sample)
        assert np.array_equal(image_u, image_v)
        assert np.array_equal(truth_u, truth_v)
        assert truth_u.any()


def test_outside_of_the_volume_is_air_without_structure(rng):
    samples = RealSamples([coded_volume((20, 20, 20))])
    sample = samples.draw(rng)
    assert np.count_nonzero(sample.image_u != -1024) <= 20**3
    assert sample.truth_u.sum() <= 1000


def test_structures_of_a_few_voxels_are_never_drawn(rng):
    samples = RealSamples([coded_volume()])
    assert min(samples.draw(rng).truth_u.sum() for _ in range(60)) >= 30


def test_a_case_of_many_structures_gets_more_than_its_share(rng):
    many, few = coded_volume(case="many"), coded_volume(case="few")
    many.labels["labels"][70:74] = np.arange(10, 30, dtype=np.uint8).repeat(4)
    many.foreground["labels"] = Foreground.of(many.labels["labels"])
    many.ct[:] = 3500
    samples = RealSamples([many, few])
    of_many = sum(bool((samples.draw(rng).image_u == 3500).any()) for _ in range(40))
    assert of_many > 33


def test_mixture_follows_its_shares(rng):
    real, phantom = RealSamples([coded_volume()]), PhantomSamples(scenes=1, edge=64, draws_per_scene=1000)
    shares = {"real-labels": 2.0, "supervoxels": 1.0, "phantom": 1.0}
    drawn = Counter(mixed(rng, real, phantom, shares).source for _ in range(200))
    assert drawn["real-labels"] == pytest.approx(100, abs=25)
    assert drawn["supervoxels"] == pytest.approx(50, abs=22)
    assert drawn["phantom"] == pytest.approx(50, abs=22)


def test_a_source_without_labels_is_refused(rng):
    volume = coded_volume()
    unlabelled = RealVolume("bare", volume.ct, {}, {})
    with pytest.raises(ValueError, match="supervoxels"):
        RealSamples([unlabelled]).draw(rng, "supervoxels")


def test_augmented_patches_still_agree_where_they_overlap(rng):
    samples = RealSamples([coded_volume()])
    turned = 0
    for _ in range(30):
        before = samples.draw(rng)
        after = augment(before, rng)
        _, _, truth_u, truth_v = overlap(after)
        assert np.array_equal(truth_u, truth_v)
        assert after.truth_u.sum() == before.truth_u.sum()
        assert sorted(map(abs, after.offset)) == sorted(map(abs, before.offset))
        assert after.image_u.dtype == np.int16
        assert after.image_u.min() >= -1024
        turned += after.offset != before.offset
    assert turned > 15


def test_augmentation_moves_image_and_truth_together(rng):
    volume = coded_volume()
    volume.ct[:] = np.where(volume.labels["labels"] == 3, 500, -500)
    samples = RealSamples([volume])
    for _ in range(15):
        sample = augment(samples.draw(rng), rng)
        if sample.truth_u.sum() > 2000:
            assert sample.image_u[sample.truth_u].mean() > sample.image_u[~sample.truth_u].mean() + 500


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


def write_case(folder, direction=(1, 0, 0, 0, 1, 0, 0, 0, 1)):
    ct = np.full((20, 24, 28), -1000, np.int16)
    ct[2:18, 3:21, 4:24] = 40
    labels = np.zeros_like(ct, np.uint8)
    labels[5:15, 6:16, 14:22] = 5
    for name, array in (("ct", ct), ("label", labels)):
        image = sitk.GetImageFromArray(array)
        image.SetSpacing((3.0, 3.0, 3.0))
        image.SetDirection(direction)
        sitk.WriteImage(image, str(folder / f"{name}.nii.gz"))
    (folder / "dataset.json").write_text(json.dumps([{"case": "one", "ct": "ct.nii.gz", "label": "label.nii.gz"}]))


def test_preparing_turns_to_lps_at_the_model_spacing(tmp_path):
    write_case(tmp_path)
    straight = prepare(tmp_path, tmp_path / "cache")[0]
    write_case(tmp_path, direction=(-1, 0, 0, 0, -1, 0, 0, 0, 1))
    flipped = prepare(tmp_path, tmp_path / "cache")[0]
    assert straight.ct.dtype == np.int16
    volume_ml = (straight.labels["labels"] == 5).sum() * 1.5**3 / 1000
    assert volume_ml == pytest.approx(10 * 10 * 8 * 27 / 1000, rel=0.05)
    assert np.argwhere(straight.labels["labels"]).mean(axis=0)[2] > straight.ct.shape[2] / 2
    assert np.argwhere(flipped.labels["labels"]).mean(axis=0)[2] < flipped.ct.shape[2] / 2


def test_preparing_again_reads_the_cache_until_the_source_changes(tmp_path):
    write_case(tmp_path)
    prepare(tmp_path, tmp_path / "cache")
    folders = sorted((tmp_path / "cache").iterdir())
    stamp = (folders[0] / "ct.npy").stat().st_mtime_ns
    prepare(tmp_path, tmp_path / "cache", ["one"])
    assert sorted((tmp_path / "cache").iterdir()) == folders
    assert (folders[0] / "ct.npy").stat().st_mtime_ns == stamp
    write_case(tmp_path, direction=(-1, 0, 0, 0, -1, 0, 0, 0, 1))
    prepare(tmp_path, tmp_path / "cache")
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_unknown_cases_and_folders_are_named(tmp_path):
    with pytest.raises(VolumeError, match=r"dataset\.json"):
        prepare(tmp_path, tmp_path / "cache")
    write_case(tmp_path)
    with pytest.raises(VolumeError, match="no case two"):
        prepare(tmp_path, tmp_path / "cache", ["two"])


@pytest.mark.skipif(not SHARED.exists(), reason="needs the real CTs of ../shared/data")
def test_a_real_case_of_another_orientation_is_prepared(tmp_path, rng):
    volume = prepare(SHARED, tmp_path, ["vertebra-pir"])[0]
    assert set(volume.labels) == {"labels", "supervoxels_fine", "supervoxels_merged", "intensity"}
    bone = volume.ct[volume.labels["labels"] > 0]
    assert np.median(bone) > np.median(volume.ct[volume.labels["labels"] == 0]) + 50
    assert RealSamples([volume]).draw(rng).truth_u.any()

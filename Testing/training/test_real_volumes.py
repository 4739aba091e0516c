"""Prepared volumes lie where their sources do, at the spacing asked for, and are made once."""

import os
import shutil
from dataclasses import fields, replace
from types import SimpleNamespace

import numpy as np
import pytest

from CTSAM3DLib.errors import OutputError, VolumeError
from CTSAM3DLib.imaging.volume import Geometry, Volume
from Testing.support.data import DATA, needs_data
from training.data import real_volumes
from training.data.datasets import read_dataset
from training.data.real_volumes import content_hash, prepare
from training.data.stream import data_hash, training_records
from training.data.synthetic_datasets import write_msd, write_nnunet, write_own, write_totalsegmentator
from training.phantoms.phantoms import TorsoPhantom

NAMES = {3: "kidney_left", 5: "liver"}
PLAIN = (1, 0, 0, 0, 1, 0, 0, 0, 1)


def phantom(spacing=3.0, direction=PLAIN, offset=0, hu=40):
    """A body of 48 x 54 x 60 mm (z, y, x) with a liver and a kidney; the same at every spacing."""
    geometry = Geometry(tuple(round(n * 3 / spacing) for n in (20, 24, 28)), (7, -9, 30), (spacing,) * 3, direction)

    def box(*ends):
        return tuple(slice(round(a * 3 / spacing), round(b * 3 / spacing)) for a, b in ends)

    ct = np.full(geometry.shape, -1000, np.int16)
    ct[box((2, 18), (3, 21), (4, 24))] = hu
    labels = np.zeros(geometry.shape, np.uint8)
    labels[box((5, 15), (6, 16), (14, 22))] = 5
    labels[box((5, 9), (6, 10), (6, 10))] = 3
    ct[labels == 5] += 60 + offset
    return TorsoPhantom(Volume(ct, geometry), labels, NAMES)


def records_of(folder, write=write_own, **phantoms):
    folder.mkdir(exist_ok=True)
    write(folder, phantoms or {"one": phantom()})
    return read_dataset(folder)


@pytest.fixture
def slow_parts(monkeypatch):
    """How many cases were prepared from their files."""
    calls = []
    prepare_case = real_volumes._prepare_case
    monkeypatch.setattr(
        real_volumes, "_prepare_case", lambda record, *rest: calls.append(record.case) or prepare_case(record, *rest)
    )
    return calls


@pytest.mark.parametrize("spacing", [1.5, 3.0, 4.5])
def test_a_structure_keeps_its_volume_and_its_value(tmp_path, spacing):
    (prepared,) = prepare(records_of(tmp_path / "data"), tmp_path / "cache", spacing, pseudo=False)
    liver = prepared.labels["labels"] == 5
    assert prepared.ct.dtype == np.int16
    assert liver.sum() * spacing**3 == pytest.approx(10 * 10 * 8 * 27, rel=0.15)
    assert np.median(prepared.ct[liver]) == pytest.approx(100, abs=0 if spacing <= 3 else 10)
    assert np.ptp(np.argwhere(liver), axis=0) * spacing == pytest.approx([30, 30, 24], abs=2 * spacing)


def test_axes_are_turned_to_lps(tmp_path):
    flipped = phantom(direction=(-1, 0, 0, 0, -1, 0, 0, 0, 1))
    straight, turned = prepare(records_of(tmp_path / "data", a=phantom(), b=flipped), tmp_path / "cache", pseudo=False)
    assert np.array_equal(straight.ct, turned.ct[:, ::-1, ::-1])
    assert np.array_equal(straight.labels["labels"], turned.labels["labels"][:, ::-1, ::-1])
    assert np.argwhere(straight.labels["labels"] == 5).mean(axis=0)[2] > straight.ct.shape[2] / 2


def test_sheared_headers_are_straightened(tmp_path):
    """A gantry tilt moves each slice; the box that is sheared in its file is straight in the patient."""
    tilt = 0.25
    plain = phantom()
    ct, labels = (np.full_like(array, array.min()) for array in (plain.ct.array, plain.labels))
    for z in range(20):
        shift = -round(tilt * z)
        ct[z], labels[z] = np.roll(plain.ct.array[z], shift, axis=0), np.roll(plain.labels[z], shift, axis=0)
    length = np.hypot(1, tilt)
    matrix = np.array(plain.ct.geometry.ijk_to_lps)
    matrix[1, 2] = tilt * matrix[2, 2]
    sheared = TorsoPhantom(Volume(ct, Geometry.from_matrix(ct.shape, matrix)), labels, NAMES)
    assert sheared.ct.geometry.spacing[2] == pytest.approx(3 * length)
    a, b = prepare(records_of(tmp_path / "data", a=plain, b=sheared), tmp_path / "cache", 3.0, pseudo=False)
    first, last = (np.argwhere(v.labels["labels"][z] == 5).mean(axis=0)[0] for v, z in ((b, 6), (b, 13)))
    assert first == pytest.approx(last, abs=0.6)
    assert (b.labels["labels"] == 5).sum() == pytest.approx((a.labels["labels"] == 5).sum(), rel=0.05)


def test_coarser_voxels_do_not_alias(tmp_path):
    """Slices that alternate between two values are their mean at a third of the resolution, not either value."""
    fine = phantom(spacing=1.0)
    ct = fine.ct.array.copy()
    ct[::2][ct[::2] > 0] += 200
    stripes = TorsoPhantom(Volume(ct, fine.ct.geometry), fine.labels, NAMES)
    (prepared,) = prepare(records_of(tmp_path / "data", one=stripes), tmp_path / "cache", 3.0, pseudo=False)
    liver = prepared.ct[6:11, 8:12, 16:20]
    assert np.abs(liver - 200.0).max() < 40


@pytest.mark.parametrize("write", [write_totalsegmentator, write_nnunet, write_msd])
def test_every_layout_is_prepared_alike(tmp_path, write):
    own, other = (
        prepare(records_of(tmp_path / way.__name__, way, one=phantom()), tmp_path / "cache", 3.0)[0]
        for way in (write_own, write)
    )
    assert np.array_equal(own.ct, other.ct)
    assert own.labels.keys() == other.labels.keys() >= {"labels", "supervoxels_merged", "intensity"}
    for name, label_map in own.labels.items():
        assert np.array_equal(label_map, other.labels[name])
        for field in fields(own.foreground[name]):
            assert np.array_equal(
                getattr(own.foreground[name], field.name), getattr(other.foreground[name], field.name)
            )


def test_a_second_time_nothing_is_computed_or_read(tmp_path, slow_parts, monkeypatch):
    records = records_of(tmp_path / "data", a=phantom(), b=phantom(hu=30))
    first = prepare(records, tmp_path / "cache", 3.0, pseudo=False)
    monkeypatch.setattr(type(records[0]), "content_hash", lambda record: pytest.fail("the files are read again"))
    second = prepare(read_dataset(tmp_path / "data"), tmp_path / "cache", 3.0, pseudo=False)
    assert slow_parts == ["a", "b"]
    assert all(np.array_equal(a.ct, b.ct) for a, b in zip(first, second, strict=True))
    assert isinstance(second[0].ct, np.memmap)


def test_what_changes_the_result_is_prepared_anew(tmp_path, slow_parts):
    cache = tmp_path / "cache"
    records = records_of(tmp_path / "data")
    prepare(records, cache, 3.0, pseudo=False)
    prepare(records, cache, 4.5, pseudo=False)
    prepare(records, cache, 3.0, pseudo=True)
    assert len(slow_parts) == 3
    assert 5 in prepare(records, cache, 3.0, pseudo=False)[0].foreground["labels"].labels
    changed = records_of(tmp_path / "data", one=phantom(offset=10))
    assert prepare(changed, cache, 3.0, pseudo=False)[0].ct.max() == 110
    assert len(slow_parts) == 4


def test_touching_a_file_reads_it_again_but_prepares_nothing(tmp_path, slow_parts):
    (record,) = records_of(tmp_path / "data")
    prepare([record], tmp_path / "cache", 3.0, pseudo=False)
    before = content_hash(record, tmp_path / "cache")
    os.utime(record.ct)
    assert content_hash(record, tmp_path / "cache") == before == record.content_hash()
    prepare([record], tmp_path / "cache", 3.0, pseudo=False)
    assert slow_parts == ["one"]


def test_labels_without_a_name_are_never_drawn(tmp_path, slow_parts):
    (record,) = records_of(tmp_path / "data")
    every = prepare([record], tmp_path / "cache", 3.0, pseudo=False)[0].foreground["labels"]
    only = prepare([replace(record, labels={3: "kidney_left"})], tmp_path / "cache", 3.0, pseudo=False)[0]
    assert every.labels.tolist() == [3, 5]
    foreground = only.foreground["labels"]
    assert foreground.labels.tolist() == [3]
    rng = np.random.default_rng(0)
    assert {int(only.labels["labels"].flat[foreground.draw(0, rng)]) for _ in range(20)} == {3}
    assert slow_parts == ["one"]


def test_a_case_whose_labels_are_all_absent_can_still_give_supervoxels(tmp_path):
    empty = replace(phantom(), labels=np.zeros_like(phantom().labels))
    (prepared,) = prepare(records_of(tmp_path / "data", one=empty), tmp_path / "cache", 3.0)
    assert len(prepared.foreground["labels"].labels) == 0
    assert len(prepared.foreground["supervoxels_merged"].labels) > 0


def test_several_processes_prepare_the_same(tmp_path):
    records = records_of(tmp_path / "data", a=phantom(), b=phantom(hu=30))
    alone = prepare(records, tmp_path / "alone", 3.0, pseudo=False)
    together = prepare(records, tmp_path / "together", 3.0, pseudo=False, jobs=2)
    for one, other in zip(alone, together, strict=True):
        assert one.case == other.case
        assert np.array_equal(one.ct, other.ct)


def test_broken_cases_are_named_after_the_others_are_ready(tmp_path, slow_parts):
    records = records_of(tmp_path / "data", a=phantom(), b=phantom(hu=30), c=phantom(hu=20))
    whole = records[0].ct.read_bytes()
    records[0].ct.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(VolumeError, match=r"1 of 3 cases cannot be used: .*a\.nii\.gz is damaged"):
        prepare(records, tmp_path / "cache", 3.0, pseudo=False)
    prepare(records[1:], tmp_path / "cache", 3.0, pseudo=False)
    assert slow_parts == ["a", "b", "c"]


def test_what_is_no_ct_is_refused(tmp_path):
    bright = phantom()
    no_ct = TorsoPhantom(Volume(bright.ct.array + np.int16(2000), bright.ct.geometry), bright.labels, NAMES)
    with pytest.raises(VolumeError, match=r"one\.nii\.gz cannot be learned from: .*Hounsfield"):
        prepare(records_of(tmp_path / "data", one=no_ct), tmp_path / "cache", 3.0, pseudo=False)


def test_a_full_disk_is_said_and_leaves_nothing_half_done(tmp_path, monkeypatch):
    records = records_of(tmp_path / "data")
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(OutputError, match="free some space"):
        prepare(records, tmp_path / "cache", 3.0, pseudo=False)
    monkeypatch.undo()

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(OutputError, match="disk is full"):
        prepare(records, tmp_path / "cache", 3.0, pseudo=False)
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["hashes"]


def test_a_recipe_trains_on_train_and_val_without_its_held_out_cases(tmp_path):
    cases = {f"s{n}": phantom() for n in range(6)}
    write_totalsegmentator(tmp_path, cases)
    recipe = SimpleNamespace(held_out=("s3",), label_limit=None)
    assert [record.case for record in training_records(recipe, tmp_path)] == ["s0", "s1", "s4"]
    (tmp_path / "meta.csv").unlink()
    assert [record.case for record in training_records(recipe, tmp_path)] == ["s0", "s1", "s2", "s4", "s5"]


def test_a_recipe_learns_the_labels_up_to_its_limit(tmp_path):
    names = {1: "Left Kidney", 2: "urinary_bladder", 3: "skeletal_muscle", 4: "sternum", 5: "liver"}
    write_own(tmp_path, {"one": replace(phantom(), names=names)})
    kept = {
        limit: training_records(SimpleNamespace(held_out=(), label_limit=limit), tmp_path) for limit in (None, 104, 107)
    }
    assert kept[None][0].labels == names | {1: "kidney_left"}
    assert set(kept[104][0].labels) == {1, 2, 5}
    assert set(kept[107][0].labels) == {1, 2, 3, 5}
    cache = tmp_path / "cache"
    assert data_hash(kept[104], cache) == data_hash(kept[104], cache) != data_hash(kept[107], cache)


@needs_data()
def test_a_real_case_of_another_orientation_is_prepared(tmp_path):
    record = next(record for record in read_dataset(DATA) if record.case == "vertebra-pir")
    (volume,) = prepare([record], tmp_path)
    assert set(volume.labels) == {"labels", "supervoxels_merged", "intensity"}
    bone = volume.ct[volume.labels["labels"] > 0]
    assert np.median(bone) > np.median(volume.ct[volume.labels["labels"] == 0]) + 50


@needs_data()
def test_tissues_are_a_second_map_of_a_real_case(tmp_path):
    record = next(record for record in read_dataset(DATA) if record.case == "torso-slab-3mm")
    (volume,) = prepare([record], tmp_path, 3.0, pseudo=False)
    assert volume.foreground["tissue"].labels.tolist() == [1, 2, 3]
    assert np.median(volume.ct[volume.labels["tissue"] == 1]) == pytest.approx(-100, abs=20)
    assert np.median(volume.ct[volume.labels["tissue"] == 3]) == pytest.approx(45, abs=25)

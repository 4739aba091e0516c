"""Every layout gives the same records; what is wrong with a data set is said in one sentence."""

import json
import logging
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from monai.data import load_decathlon_datalist

from CTSAM3DLib.errors import CTSAM3DError, VolumeError
from CTSAM3DLib.imaging.volume import Geometry, Volume
from Testing.support.data import DATA, needs_data
from training.anatomy import V1, V2
from training.data.datasets import read_dataset
from training.data.datasets.abdomen import BTCV, FLARE22
from training.data.datasets.decathlon import published_splits
from training.data.synthetic_datasets import (
    LAYOUTS,
    main,
    write_datalist,
    write_layout,
    write_msd,
    write_nnunet,
    write_own,
    write_totalsegmentator,
)
from training.phantoms.phantoms import TorsoPhantom

GEOMETRY = Geometry((12, 14, 16), (5, -3, 20), (2, 2, 3), (1, 0, 0, 0, 1, 0, 0, 0, 1))
NAMES = {1: "spleen", 2: "kidney_right", 5: "liver"}


def volume(array):
    return Volume(array, GEOMETRY)


def phantom(seed=0):
    rng = np.random.default_rng(seed)
    labels = np.zeros(GEOMETRY.shape, np.uint8)
    for place, value in enumerate(NAMES):
        labels[2 + 3 * place : 4 + 3 * place, 4:10, 5:12] = value
    ct = np.full(GEOMETRY.shape, -1000, np.int16)
    ct[1:11, 2:12, 2:14] = 40
    return TorsoPhantom(volume((ct + rng.integers(-9, 9, ct.shape) + 20 * labels).astype(np.int16)), labels, NAMES)


@pytest.fixture
def cases():
    return {f"s{seed:04d}": phantom(seed) for seed in (1, 2, 3)}


@pytest.fixture
def totalsegmentator(tmp_path):
    """A case of TotalSegmentator of which the masks can be chosen, as boxes of slices in z."""

    def write(case="s0001", **masks):
        folder = tmp_path / case
        (folder / "segmentations").mkdir(parents=True)
        phantom().ct.write(folder / "ct.nii.gz")
        for name, slices in masks.items():
            mask = np.zeros(GEOMETRY.shape, np.uint8)
            mask[slices] = 1
            volume(mask).write(folder / "segmentations" / f"{name}.nii.gz")
        return tmp_path

    return write


@pytest.mark.parametrize("write", [write_own, write_totalsegmentator, write_nnunet, write_msd, write_datalist])
def test_every_described_layout_gives_the_same_labels(tmp_path, cases, write):
    write(tmp_path, cases)
    records = read_dataset(tmp_path)
    assert [record.case for record in records] == list(cases)
    for record, written in zip(records, cases.values(), strict=True):
        assert record.labels == NAMES
        label_map = record.label_map()
        assert label_map.array.dtype == np.uint8
        assert np.array_equal(label_map.array, written.labels)
        assert label_map.geometry == Volume.read(record.ct).geometry
        assert np.array_equal(Volume.read(record.ct).array, written.ct.array)


def test_torsos_for_trying_out_commands(tmp_path):
    main(tmp_path, cases=2, spacing=8.0, layout=["nnunet"])
    first, second = read_dataset(tmp_path / "Dataset501_Torso")
    assert "liver" in first.labels.values()
    assert (first.label_map().array != second.label_map().array).any()


def test_splits_of_meta_csv(tmp_path, cases):
    write_totalsegmentator(tmp_path, cases)
    assert [record.split for record in read_dataset(tmp_path)] == ["train", "val", "test"]
    (tmp_path / "meta.csv").unlink()
    assert {record.split for record in read_dataset(tmp_path)} == {""}


def test_overlaps_go_to_the_higher_index_of_the_release(totalsegmentator):
    """The aorta is before the pancreas in v1 (7, 10) and after it in v2 (52, 7)."""
    overlapping = {"aorta": slice(2, 6), "pancreas": slice(4, 8)}
    v1 = read_dataset(totalsegmentator("first/s0001", **overlapping, face=slice(9, 10)) / "first")[0]
    assert v1.labels == {7: "aorta", 10: "pancreas", 93: "face"}
    assert v1.label_map().array[:, 5, 5].tolist() == [0, 0, 7, 7, 10, 10, 10, 10, 0, 93, 0, 0]
    v2 = read_dataset(totalsegmentator("second/s0001", **overlapping, skull=slice(9, 10)) / "second")[0]
    assert v2.labels == {7: "pancreas", 52: "aorta", 91: "skull"}
    assert v2.label_map().array[:, 5, 5].tolist() == [0, 0, 52, 52, 52, 52, 7, 7, 0, 91, 0, 0]


def test_missing_classes_are_absent_and_unknown_ones_told(totalsegmentator, caplog):
    folder = totalsegmentator("s0001", liver=slice(2, 4), spleen=slice(5, 6), my_own=slice(7, 8))
    totalsegmentator("s0002", liver=slice(2, 4))
    (folder / "s0003").mkdir()
    phantom().ct.write(folder / "s0003" / "ct.nii.gz")
    first, second, third = read_dataset(folder)
    assert [set(record.labels.values()) for record in (first, second, third)] == [{"liver", "spleen"}, {"liver"}, set()]
    assert "my_own" in caplog.text
    with pytest.raises(VolumeError, match="s0003 has no labels"):
        third.label_map()


def test_the_broken_case_of_the_first_release_is_left_out_with_its_reason(totalsegmentator, caplog):
    folder = totalsegmentator("s0864", face=slice(2, 4))
    totalsegmentator("s0865", face=slice(2, 4))
    with caplog.at_level(logging.WARNING):
        assert [record.case for record in read_dataset(folder)] == ["s0865"]
    assert [record.defect != "" for record in read_dataset(folder, with_defects=True)] == [True, False]
    assert "s0864" in caplog.text
    assert "gzip" in caplog.text


def test_the_same_case_of_the_second_release_is_kept(totalsegmentator):
    assert [record.case for record in read_dataset(totalsegmentator("s0864", skull=slice(2, 4)))] == ["s0864"]


def test_broken_files_are_named(totalsegmentator):
    folder = totalsegmentator("s0001", liver=slice(2, 4))
    mask = folder / "s0001" / "segmentations" / "liver.nii.gz"
    mask.write_bytes(mask.read_bytes()[:-40])
    with pytest.raises(VolumeError, match=r"liver\.nii\.gz is damaged"):
        read_dataset(folder)[0].label_map()


def test_labels_on_another_grid_are_refused(tmp_path, cases):
    write_msd(tmp_path, cases)
    record = read_dataset(tmp_path)[0]
    moved = Geometry(GEOMETRY.shape, (5, -3, 21), GEOMETRY.spacing, GEOMETRY.direction)
    Volume(cases["s0001"].labels, moved).write(record.label_file)
    with pytest.raises(VolumeError, match="another grid than its CT"):
        record.label_map()


def test_labels_that_are_no_whole_numbers_are_refused(tmp_path, cases):
    write_msd(tmp_path, cases)
    record = read_dataset(tmp_path)[0]
    volume(cases["s0001"].labels.astype(np.float32)).write(record.label_file)
    assert record.label_map().array.dtype == np.uint8
    for wrong in (cases["s0001"].labels * 0.5, cases["s0001"].labels - 1.0):
        volume(wrong.astype(np.float32)).write(record.label_file)
        with pytest.raises(VolumeError, match="whole numbers"):
            record.label_map()


def test_values_above_255_take_16_bits(tmp_path, cases):
    write_own(tmp_path, cases)
    record = read_dataset(tmp_path)[0]
    volume(cases["s0001"].labels.astype(np.int16) * 100).write(record.label_file)
    assert record.label_map().array.dtype == np.uint16
    assert record.label_map().array.max() == 500


def test_nnunet_splits_channels_and_cases_without_labels(tmp_path, cases):
    write_nnunet(tmp_path, cases)
    (tmp_path / "splits_final.json").write_text(json.dumps([{"train": ["s0001"], "val": ["s0002"]}]))
    (tmp_path / "imagesTs").mkdir()
    for channel in (0, 1):
        phantom().ct.write(tmp_path / "imagesTs" / f"s0009_{channel:04d}.nii.gz")
    records = {record.case: record for record in read_dataset(tmp_path)}
    assert {case: record.split for case, record in records.items()} == {
        "s0001": "train",
        "s0002": "val",
        "s0003": "train",
        "s0009": "test",
    }
    assert records["s0009"].labels == {}
    description = json.loads((tmp_path / "dataset.json").read_text())
    description |= {"channel_names": {"0": "PET", "1": "CT"}}
    (tmp_path / "dataset.json").write_text(json.dumps(description))
    assert [record.ct.name for record in read_dataset(tmp_path)] == ["s0009_0001.nii.gz"]


def test_nnunet_regions_are_refused_and_ignored_voxels_have_no_name(tmp_path, cases):
    write_nnunet(tmp_path, cases)
    description = json.loads((tmp_path / "dataset.json").read_text())
    description["labels"] = {"background": 0, "Right Kidney": 2, "ignore": 5}
    (tmp_path / "dataset.json").write_text(json.dumps(description))
    assert read_dataset(tmp_path)[0].labels == {2: "kidney_right"}
    description["labels"] = {"background": 0, "whole": [1, 2]}
    (tmp_path / "dataset.json").write_text(json.dumps(description))
    with pytest.raises(VolumeError, match="regions"):
        read_dataset(tmp_path)


def test_msd_test_cases_have_no_labels(tmp_path, cases):
    write_msd(tmp_path, cases)
    description = json.loads((tmp_path / "dataset.json").read_text())
    description["test"] = ["./imagesTs/pancreas_9.nii.gz"]
    (tmp_path / "dataset.json").write_text(json.dumps(description))
    last = read_dataset(tmp_path)[-1]
    assert (last.case, last.split, last.labels) == ("pancreas_9", "test", {})
    assert last.ct == tmp_path / "imagesTs" / "pancreas_9.nii.gz"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("not json", "cannot be read as JSON"),
        ('{"something": 1}', "no known layout"),
        ('[{"case": "one"}]', "lacks the entry 'ct'"),
        ('[{"case": "one", "ct": "a.nii", "label": "b.nii"}]', "does not name the labels of one"),
        ('[{"case": "one", "ct": "a.nii", "labels": ["liver"]}]', "not built as any known layout"),
        ('{"training": [{"image": "a.nii"}], "labels": {"1": "liver"}}', "lacks the entry 'label'"),
    ],
)
def test_wrong_descriptions_get_one_sentence(tmp_path, content, sentence):
    (tmp_path / "dataset.json").write_text(content)
    with pytest.raises(VolumeError, match=sentence):
        read_dataset(tmp_path)


def test_an_empty_folder_names_the_layouts(tmp_path):
    with pytest.raises(VolumeError, match="none does not exist; check its name"):
        read_dataset(tmp_path / "none")
    with pytest.raises(VolumeError, match=r"TotalSegmentator .*, nnU-Net v2 raw .* MSD .* BTCV"):
        read_dataset(tmp_path)


def test_content_hash_follows_contents_only(tmp_path, cases):
    write_own(tmp_path / "a", cases)
    write_own(tmp_path / "b", cases)
    first, other = read_dataset(tmp_path / "a")[0], read_dataset(tmp_path / "a")[1]
    again = read_dataset(tmp_path / "b")[0]
    assert first.content_hash() == again.content_hash() != other.content_hash()
    again.label_file.write_bytes(other.ct.read_bytes())
    assert first.content_hash() != again.content_hash()
    again.label_file.unlink()
    with pytest.raises(VolumeError, match="cannot be read"):
        again.content_hash()


@pytest.fixture(scope="module")
def layouts(tmp_path_factory):
    """Each layout with three small torsos, by its name."""
    folder = tmp_path_factory.mktemp("layouts")
    return {name: write_layout(name, folder, cases=3, spacing=10.0) for name in LAYOUTS}


@pytest.mark.parametrize(
    ("layout", "splits", "labels"),
    [
        ("own", None, None),
        ("totalsegmentator-v1", "train val test", V1),
        ("totalsegmentator-v2", "train val test", V2),
        ("flare22", "test test test", FLARE22),
        ("btcv", "test test test", BTCV),
        ("msd-pancreas", "test train test", {1: "pancreas", 2: "cancer"}),
        ("msd-colon", "test train test", {1: "colon cancer primaries"}),
        ("nnunet", "train train train", None),
        ("monai", "train val test", V2),
    ],
)
def test_synthetic_data_sets(layouts, layout, splits, labels):
    records = read_dataset(layouts[layout])
    assert [record.split for record in records] == (splits.split() if splits else [""] * 3)
    for record in records:
        found = set(np.unique(record.label_map().array)) - {0}
        assert found
        assert found <= set(record.labels)
        if labels is not None:
            assert record.labels.items() <= labels.items()


def test_synthetic_data_sets_share_no_patient(layouts):
    hashes = {Volume.read(record.ct).content_hash for folder in layouts.values() for record in read_dataset(folder)}
    assert len(hashes) == 3 * len(layouts)


def test_organs_of_flare22_and_btcv_lie_where_they_should(layouts):
    """The right kidney is value 2 in both, and on the patient's right (smaller x in LPS) of the left one."""
    for name, left in (("flare22", 13), ("btcv", 3)):
        label_map = read_dataset(layouts[name])[0].label_map()
        x = {value: np.argwhere(label_map.array == value)[:, 2].mean() for value in (2, left)}
        assert x[2] < x[left]


def test_tumours_can_be_seen(layouts):
    for name, value in (("msd-pancreas", 2), ("msd-colon", 1)):
        for record in read_dataset(layouts[name]):
            inside = Volume.read(record.ct).array[record.label_map().array == value]
            assert len(inside) >= 3
            assert 20 < np.median(inside) < 70


def test_published_splits_have_the_sizes_of_fold_0():
    found = Counter((case.split("_")[0], split) for case, split in published_splits().items())
    sizes = {("pancreas", "val"): 28, ("pancreas", "test"): 57, ("colon", "val"): 11, ("colon", "test"): 26}
    assert found == sizes


def test_folds_of_a_datalist_come_before_the_published_split(tmp_path, cases):
    write_datalist(tmp_path, {"pancreas_006": cases["s0001"], "pancreas_001": cases["s0002"]})
    assert [record.split for record in read_dataset(tmp_path)] == ["train", "val"]


def test_a_datalist_is_found_by_its_own_name(tmp_path, cases):
    write_datalist(tmp_path, cases)
    (tmp_path / "datalist.json").rename(tmp_path / "first.json")
    assert len(read_dataset(tmp_path)) == 3
    (tmp_path / "second.json").write_text((tmp_path / "first.json").read_text())
    with pytest.raises(VolumeError, match=r"several datalists: first\.json, second\.json"):
        read_dataset(tmp_path)
    assert len(read_dataset(tmp_path / "second.json")) == 3


def test_monai_reads_the_same_cases_out_of_a_datalist(tmp_path, cases):
    write_datalist(tmp_path, cases)
    records = {record.ct: record for record in read_dataset(tmp_path)}
    for part in ("training", "testing"):
        for entry in load_decathlon_datalist(str(tmp_path / "datalist.json"), True, part, str(tmp_path)):
            assert records.pop(Path(entry["image"])).label_file == Path(entry["label"])
    assert not records


def test_a_datalist_has_to_name_its_labels(tmp_path, cases):
    write_datalist(tmp_path, cases)
    content = json.loads((tmp_path / "datalist.json").read_text())
    del content["label_dict"]
    (tmp_path / "datalist.json").write_text(json.dumps(content))
    with pytest.raises(VolumeError, match="names no labels"):
        read_dataset(tmp_path)


def test_btcv_is_found_from_any_of_its_folders(layouts):
    folder = layouts["btcv"]
    for place in (folder, folder / "RawData" / "Training"):
        assert [record.case for record in read_dataset(place)] == ["img0001", "img0002", "img0003"]


def test_an_unknown_layout_gets_one_sentence(tmp_path):
    with pytest.raises(CTSAM3DError, match="no layout amos; choose among own"):
        main(tmp_path, layout=["amos"])


@needs_data()
def test_the_shared_data():
    records = {record.case: record for record in read_dataset(DATA)}
    assert {record.patient for record in records.values()} >= {"openkbp-4", "crlm-1004", "totalsegmentator-tests"}
    assert records["torso-3mm"].patient == records["torso-slab-3mm"].patient
    assert records["openkbp-4"].labels[5] == "esophagus"
    assert records["openkbp-4"].region == "head-neck"
    assert records["abdomen-crlm-1004"].labels == {}
    assert records["torso-3mm"].labels.items() <= V2.items()
    slab = records["torso-slab-3mm"]
    maps = slab.label_maps(Volume.read(slab.ct))
    assert {name: maps["tissue"].array.max() for name in maps if name == "tissue"} == {"tissue": 3}
    assert set(slab.tissues.values()) == {"subcutaneous_fat", "visceral_fat", "skeletal_muscle"}
    assert {slab.labels[value] for value in np.unique(maps["labels"].array)[1:]} == set(slab.labels.values())

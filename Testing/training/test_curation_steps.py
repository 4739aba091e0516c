"""The steps of the curation, each by itself: on phantoms whose result is known, and on a real CT."""

import itertools
import pickle
import sys
import types

import numpy as np
import pytest

from CTSAM3DLib.clicks.simulation import dice
from CTSAM3DLib.errors import CTSAM3DError
from CTSAM3DLib.imaging.volume import Geometry, Volume
from CTSAM3DLib.phantom.torso import TorsoPhantom, torso
from Testing.support.data import DATA, needs_data
from training.anatomy import EXTENDED, TOTALSEG_PLUS_PLUS, V2, category_of
from training.curation.body import body_of, in_body
from training.curation.defects import Defect
from training.curation.ingest import ingest
from training.curation.merge import MUSCLE, SUBCUTANEOUS_FAT, VISCERAL_FAT, clean_up, doubtful, is_tissue, merge
from training.curation.orient import to_rai
from training.curation.tissues import provider_for
from training.data.datasets import read_dataset
from training.data.synthetic_datasets import write_own
from training.phantoms.synthetic_anatomy import labelled_as, tissues

IDENTITY = (1, 0, 0, 0, 1, 0, 0, 0, 1)
SPACING = (2.0, 2.0, 2.0)


def volume(array, spacing=(2, 2, 2), direction=IDENTITY):
    return Volume(array, Geometry(array.shape, (5, -3, 20), spacing, direction))


def test_values_of_curated_maps():
    """TotalSeg++ keeps its 107 values, and the 20 classes that only v2 has follow."""
    assert [EXTENDED[value] for value in range(1, 108)] == list(TOTALSEG_PLUS_PLUS.values())
    assert len(EXTENDED) == 127
    assert {EXTENDED[value] for value in range(108, 128)} == set(V2.values()) - set(TOTALSEG_PLUS_PLUS.values())


def test_twelve_categories():
    assert len({category_of(name) for name in TOTALSEG_PLUS_PLUS.values()}) == 12
    assert category_of("visceral_fat") == "visceral_fat"
    assert category_of("rib_left_3") == "Ribs"


# Orientation


def asymmetric():
    """No two of the 48 orientations of this look alike: a marker near one corner, and every axis of its own length."""
    array = np.zeros((5, 7, 9), np.int16)
    array[0, 1, 1], array[0, 1, 2], array[0, 3, 1], array[2, 1, 1] = 100, 200, 300, 400
    return volume(array, (1.0, 2.0, 3.0))


ORIENTATIONS = [
    (order, flips) for order in itertools.permutations(range(3)) for flips in itertools.product((False, True), repeat=3)
]


@pytest.mark.parametrize(("order", "flips"), ORIENTATIONS)
def test_every_orientation_is_turned_to_the_same_voxels(order, flips):
    """`order` says which axis of the patient (x, y, z) each voxel axis i, j, k runs along."""
    upright = asymmetric()
    stored = upright.array.transpose(2, 1, 0).transpose(order)  # i, j, k
    axes = np.eye(3)[:, order] * np.where(flips, -1, 1)
    stored = np.flip(stored, [axis for axis, flipped in enumerate(flips) if flipped])
    spacing = np.array(upright.geometry.spacing)[list(order)]
    shape = stored.shape[::-1]
    first = [size - 1 if flipped else 0 for size, flipped in zip(stored.shape, flips, strict=True)]
    start = np.zeros(3)
    start[list(order)] = first
    origin = upright.geometry.to_lps([start])[0]
    turned = to_rai(
        Volume(np.ascontiguousarray(stored.transpose(2, 1, 0)), Geometry(shape, origin, spacing, axes.ravel()))
    )
    assert turned.geometry.direction == IDENTITY
    assert turned.geometry.is_close(upright.geometry)
    assert np.array_equal(turned.array, upright.array)


def test_rai_of_itk_is_identity_in_lps():
    """A marker on the patient's left, at the back and at the head has the largest x, y and z."""
    ras = np.zeros((4, 5, 6), np.int16)  # axes run to the right, to the front and to the head
    ras[3, 0, 0] = 1
    turned = to_rai(volume(ras, direction=(-1, 0, 0, 0, -1, 0, 0, 0, 1)))
    assert np.argwhere(turned.array).tolist() == [[3, 4, 5]]


def test_an_oblique_volume_is_resampled_around_the_same_places():
    turn = np.deg2rad(20)
    direction = (np.cos(turn), -np.sin(turn), 0, np.sin(turn), np.cos(turn), 0, 0, 0, 1)
    array = np.full((10, 20, 30), 40, np.int16)
    array[4:7, 8:12, 14:18] = 1000
    source = volume(array, (1, 1, 1), direction)
    turned = to_rai(source)
    assert turned.geometry.direction == IDENTITY
    assert turned.array.dtype == np.int16
    assert np.allclose(turned.geometry.origin, source.geometry.corners().min(axis=0), atol=1e-3)
    middle = source.geometry.to_lps(np.argwhere(array == 1000)[:, ::-1]).mean(axis=0)
    found = turned.geometry.to_lps(np.argwhere(turned.array > 500)[:, ::-1]).mean(axis=0)
    assert np.linalg.norm(found - middle) < 0.3
    assert turned.array.min() == -1024
    labels = to_rai(volume((array == 1000).astype(np.uint8) * 7, (1, 1, 1), direction), labels=True)
    assert set(np.unique(labels.array)) == {0, 7}
    assert labels.geometry == turned.geometry


# Body


def body_with_table():
    hu = np.full((6, 40, 60), -1000, np.int16)
    hu[:, 8:28, 15:45] = 40
    hu[:, 14:20, 20:30] = -850  # lung
    hu[:, 29:31, 5:55] = 100  # table, which touches the body in one line of voxels
    hu[:, 28, 30] = 100
    hu[:, 12:22, 4:11] = 40  # an arm beside the trunk
    hu[:, :, :2] = -1024
    return hu


def test_the_body_has_its_air_and_neither_table_nor_arm():
    hu = body_with_table()
    body = body_of(hu, np.zeros_like(hu, np.uint8), SPACING)
    assert body[3, 17, 25]
    assert body[3, 10, 20]
    assert not body[3, 30].any()
    assert not body[3, 15, 7]


def test_what_is_labelled_is_of_the_patient():
    hu = body_with_table()
    labels = np.zeros(hu.shape, np.uint8)
    labels[:, 14:20, 6:9] = 82
    assert body_of(hu, labels, SPACING)[3, 15, 7]


def test_what_the_scanner_left_out_does_not_count():
    hu = body_with_table()
    hu[2, 20, 37] = -1024
    body = body_of(hu, np.zeros_like(hu, np.uint8), SPACING)
    counted = in_body(hu, body)
    assert body[2, 20, 37]
    assert not counted[2, 20, 37]
    assert body.sum() - counted.sum() == 1


def test_a_volume_of_air_has_no_body():
    air = np.full((4, 5, 6), -1000, np.int16)
    assert not body_of(air, np.zeros_like(air, np.uint8), SPACING).any()


# Merge and clean-up


def scene():
    """From left to right: own label 5, a gap of one voxel, fat; all of it body."""
    hu = np.full((8, 20, 20), -100, np.int16)
    labels = np.zeros(hu.shape, np.uint8)
    labels[:, :, :8] = 5
    hu[:, :, :8] = 60
    types = np.zeros(hu.shape, np.uint8)
    types[:, :, 9:] = 2
    return hu, labels, types, np.ones(hu.shape, bool)


def test_own_labels_win_and_nothing_is_labelled_outside_the_body():
    _, labels, types, body = scene()
    types[:] = 3
    body[:, :3] = False
    merged = merge(labels, types, body)
    assert np.array_equal(merged[labels > 0], labels[labels > 0])
    assert (merged[(labels == 0) & body] == MUSCLE).all()
    assert (merged[(labels == 0) & ~body] == 0).all()


def test_types_become_values_of_totalseg_plus_plus():
    types = np.array([[[0, 1, 2, 3]]], np.uint8)
    merged = merge(np.zeros_like(types), types, np.ones(types.shape, bool))
    assert merged.ravel().tolist() == [0, SUBCUTANEOUS_FAT, VISCERAL_FAT, MUSCLE]
    assert [TOTALSEG_PLUS_PLUS[value] for value in (107, 106, 105)] == [
        "subcutaneous_fat",
        "visceral_fat",
        "skeletal_muscle",
    ]


def test_gaps_between_tissue_and_own_labels_are_filled_where_hu_allow():
    hu, labels, types, body = scene()
    hu[4, :, 8] = 200  # no fat
    cleaned = clean_up(hu, merge(labels, types, body), body, SPACING)
    assert (cleaned[3, :, 8] == VISCERAL_FAT).all()
    assert (cleaned[4, :, 8] == 0).all()
    assert np.array_equal(np.where(is_tissue(cleaned), 0, cleaned), labels)


def test_what_is_no_gap_stays_free():
    """Unlabelled fat further than 3 mm from any own label is not a gap but something that the tissues left out."""
    hu, labels, types, body = scene()
    types[:, :10, 14:] = 0
    cleaned = clean_up(hu, merge(labels, types, body), body, SPACING)
    assert (cleaned[:, :9, 15:] == 0).all()


def test_islands_go_and_large_pieces_stay():
    hu, labels, types, body = scene()
    types[:] = 0
    types[2, 5, 15] = 1  # 0.008 ml
    types[2:6, 12:18, 12:18] = 1
    cleaned = clean_up(hu, merge(labels, types, body), body, SPACING)
    assert cleaned[2, 5, 15] == 0
    assert (cleaned[2:6, 12:18, 12:18] == SUBCUTANEOUS_FAT).all()


def test_doubt_is_tissue_beside_own_labels_with_other_hu():
    hu, labels, types, body = scene()
    types[:, :, 8:] = 2
    hu[3, 4, 8] = 50  # touches label 5
    hu[3, 4, 12] = 50  # does not
    assert np.argwhere(doubtful(hu, merge(labels, types, body))).tolist() == [[3, 4, 8]]


# Ingest


@pytest.fixture
def totalsegmentator(tmp_path):
    """A case of TotalSegmentator of which the masks can be chosen, as slices of z."""

    def write(**masks):
        folder = tmp_path / "s0001"
        (folder / "segmentations").mkdir(parents=True, exist_ok=True)
        hu = np.full((12, 14, 16), -1000, np.int16)
        hu[1:11, 2:12, 2:14] = 40
        volume(hu).write(folder / "ct.nii.gz")
        for name, slices in masks.items():
            mask = np.zeros(hu.shape, np.uint8)
            mask[slices, 4:10, 4:10] = 1
            volume(mask).write(folder / "segmentations" / f"{name}.nii.gz")
        return read_dataset(tmp_path, with_defects=True)[0]

    return write


def test_labels_are_mapped_by_name_and_overlaps_noted(totalsegmentator):
    record = totalsegmentator(pancreas=slice(2, 6), aorta=slice(5, 8), skull=slice(8, 9))  # v2: 7, 52, 91
    read = ingest(record)
    names = [EXTENDED.get(value, "") for value in read.labels.array[:, 5, 5]]
    assert names == [*["", ""], *["pancreas"] * 3, *["aorta"] * 3, "skull", "", "", ""]
    assert read.notes == ("36 voxels lie in two masks: aorta has 36 of pancreas.",)
    assert read.ct.array.dtype == np.int16


def test_labels_that_nobody_knows_are_left_out_and_told(tmp_path):
    labels = np.zeros((6, 6, 6), np.uint8)
    labels[1:3], labels[3:4], labels[4:5] = 1, 2, 3
    hu = np.where(labels > 0, 40, -1000).astype(np.int16)
    write_own(tmp_path, {"one": TorsoPhantom(volume(hu), labels, {1: "liver", 2: "brainstem", 3: "visceral_fat"})})
    read = ingest(read_dataset(tmp_path)[0])
    assert set(np.unique(read.labels.array)) == {0, 5}
    assert read.notes == ("Labels that TotalSeg++ does not know are left out: brainstem.",)


def test_wrong_cases_name_the_file_to_blame(totalsegmentator):
    record = totalsegmentator(liver=slice(2, 6), spleen=slice(7, 9))
    mask = record.mask_files[5]
    whole = mask.read_bytes()
    mask.write_bytes(whole[:-30])
    with pytest.raises(Defect, match="is damaged") as caught:
        ingest(record)
    assert caught.value.file == str(mask)
    Volume(Volume.read(record.ct).array, Geometry((12, 14, 16), (5, -3, 23), (2, 2, 2), IDENTITY)).write(mask)
    with pytest.raises(Defect, match="another grid than its CT") as caught:
        ingest(record)
    assert caught.value.file == str(mask)
    mask.write_bytes(whole)
    record.ct.write_bytes(record.ct.read_bytes()[:-30])
    with pytest.raises(Defect, match="is damaged") as caught:
        ingest(record)
    assert caught.value.file == str(record.ct)


def test_no_masks_empty_masks_and_known_defects(totalsegmentator):
    with pytest.raises(Defect, match="s0001 has no masks"):
        ingest(totalsegmentator())
    record = totalsegmentator(liver=slice(0, 0))
    with pytest.raises(Defect, match="All masks of s0001 are empty"):
        ingest(record)
    record.ct.parent.rename(record.ct.parents[1] / "s0864")
    (record.ct.parents[1] / "s0864/segmentations/liver.nii.gz").rename(
        record.ct.parents[1] / "s0864/segmentations/face.nii.gz"
    )
    with pytest.raises(Defect, match="known not to be usable: its CT fails the gzip check"):
        ingest(read_dataset(record.ct.parents[1], with_defects=True)[0])


def test_sheared_axes_are_refused(totalsegmentator):
    record = totalsegmentator(liver=slice(2, 6))
    ct = Volume.read(record.ct)
    tilted = np.array([[1, 0, 0], [0, 1, 0.2], [0, 0, 1]]) / [1, 1, np.hypot(1, 0.2)]
    Volume(ct.array, Geometry(ct.array.shape, (5, -3, 20), (2, 2, 2), tilted.ravel())).write(record.ct)
    with pytest.raises(Defect, match="not at right angles"):
        ingest(record)


def test_defects_cross_processes():
    defect = pickle.loads(pickle.dumps(Defect("It is broken.", "a.nii.gz")))
    assert (str(defect), defect.reason, defect.file) == ("It is broken.", "It is broken.", "a.nii.gz")


# Sources of tissues


@pytest.fixture(scope="module")
def patient():
    phantom = torso(3, (5.0, 5.0, 5.0))
    return phantom.ct, Volume(labelled_as(phantom, EXTENDED).labels, phantom.ct.geometry), tissues(phantom)


def test_rules_find_the_tissues_of_a_synthetic_torso(patient):
    ct, labels, truth = patient
    found = provider_for("rules").tissues("one", ct, labels).array
    scores = [dice(truth == value, found == value) for value in (1, 2, 3)]
    assert np.all(np.array(scores) > (0.95, 0.95, 0.85)), scores


def test_rules_need_no_labels_for_subcutaneous_fat(patient):
    ct, labels, truth = patient
    empty = Volume(np.zeros_like(labels.array), labels.geometry)
    assert dice(truth == 1, provider_for("rules").tissues("one", ct, empty).array == 1) > 0.8


def test_masks_of_any_orientation_are_taken(tmp_path, patient):
    ct, labels, truth = patient
    turned = Volume(
        truth[:, ::-1, ::-1].copy(),
        Geometry(ct.geometry.shape, ct.geometry.corners()[6], ct.geometry.spacing, (-1, 0, 0, 0, -1, 0, 0, 0, 1)),
    )
    turned.write(tmp_path / "one.nii.gz")
    provider = provider_for(str(tmp_path))
    assert np.array_equal(provider.tissues("one", ct, labels).array, truth)
    assert provider.file_for("one") == tmp_path / "one.nii.gz"


def test_masks_that_are_missing_elsewhere_or_of_something_else(tmp_path, patient):
    ct, labels, truth = patient
    provider = provider_for(str(tmp_path))
    with pytest.raises(Defect, match="no mask of tissues for two; put two-tissue"):
        provider.file_for("two")
    moved = Geometry(ct.geometry.shape, (0, 0, 0), ct.geometry.spacing, IDENTITY)
    Volume(truth, moved).write(tmp_path / "one.nii.gz")
    with pytest.raises(Defect, match="another grid than its CT"):
        provider.tissues("one", ct, labels)
    labels.write(tmp_path / "one.nii.gz")
    with pytest.raises(Defect, match="give tissue types, which are 1, 2 and 3"):
        provider.tissues("one", ct, labels)


def test_an_unknown_source_gets_one_sentence():
    with pytest.raises(CTSAM3DError, match="There are no tissues at somewhere; choose rules"):
        provider_for("somewhere")


def test_totalsegmentator_has_to_be_installed(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(CTSAM3DError, match="TotalSegmentator is not installed; pip install"):
        provider_for("totalsegmentator")


@pytest.fixture
def totalsegmentator_package(monkeypatch):
    """A stand-in for the package: its one function, called as its documentation says."""

    def install(function):
        package, api = types.ModuleType("totalsegmentator"), types.ModuleType("totalsegmentator.python_api")
        api.totalsegmentator = function
        monkeypatch.setitem(sys.modules, "totalsegmentator", package)
        monkeypatch.setitem(sys.modules, "totalsegmentator.python_api", api)
        monkeypatch.setattr("importlib.util.find_spec", lambda name: package)
        monkeypatch.setattr("importlib.metadata.version", lambda name: "2.18.0")
        return provider_for("totalsegmentator", "aca_ABCDEFGHIJKLMN")

    return install


def test_totalsegmentator_is_called_by_its_python_interface(totalsegmentator_package, patient):
    ct, labels, truth = patient
    calls = []

    def totalsegmentator(source, target, **options):
        calls.append(options)
        assert np.array_equal(Volume.read(source).array, ct.array)
        Volume(truth, ct.geometry).write(target)

    provider = totalsegmentator_package(totalsegmentator)
    assert np.array_equal(provider.tissues("one", ct, labels).array, truth)
    assert calls == [{"ml": True, "task": "tissue_types", "quiet": True, "license_number": "aca_ABCDEFGHIJKLMN"}]
    assert provider.made_by == "TotalSegmentator 2.18.0, tissue_types"
    assert "aca_" not in repr(provider)


@pytest.mark.parametrize(
    ("printed", "sentence"),
    [
        (
            "ERROR: Invalid license number (aca_ABCDEFGHIJKLMN).",
            "refuses its licence key; set TOTALSEGMENTATOR_LICENSE",
        ),
        (
            "In contrast to the other tasks ... It requires a license.",
            "has no licence key; set TOTALSEGMENTATOR_LICENSE",
        ),
        ("An Exception occurred: no such host\nERROR: Invalid license number.", "cannot ask its server"),
    ],
)
def test_a_refused_licence_key_gets_one_sentence(totalsegmentator_package, patient, capsys, printed, sentence):
    """What version 2.18.0 prints before it ends the process: for a wrong key, for none, and without its server."""

    def totalsegmentator(source, target, **options):
        print(printed)
        sys.exit(1)

    with pytest.raises(Defect, match=f"TotalSegmentator {sentence}.*, or choose --tissues rules") as caught:
        totalsegmentator_package(totalsegmentator).tissues("one", *patient[:2])
    assert "aca_" not in str(caught.value)
    assert capsys.readouterr().out == ""


def test_a_network_that_fails_ends_one_case_only(totalsegmentator_package, patient):
    def totalsegmentator(source, target, **options):
        raise RuntimeError("CUDA out of memory")

    with pytest.raises(Defect, match="failed at one: RuntimeError: CUDA out of memory"):
        totalsegmentator_package(totalsegmentator).tissues("one", *patient[:2])


# A real CT


@pytest.fixture(scope="module")
def slab():
    record = next(record for record in read_dataset(DATA) if record.case == "torso-slab-3mm")
    source = ingest(record)
    return record, to_rai(source.ct), to_rai(source.labels, labels=True)


@needs_data()
def test_the_annotated_ratio_of_a_real_ct(slab):
    """45.9 % and 83.4 % were measured on this CT with another body region before any of this was written."""
    record, ct, own = slab
    hu, spacing = ct.array, ct.geometry.spacing[::-1]
    body = body_of(hu, own.array, spacing)
    counted = in_body(hu, body)
    types = provider_for(str(DATA / "label")).tissues(record.case, ct, own).array
    merged = merge(own.array, types, body)
    assert (own.array[counted] > 0).mean() == pytest.approx(0.459, abs=0.01)
    assert (merged[counted] > 0).mean() == pytest.approx(0.834, abs=0.01)
    cleaned = clean_up(hu, merged, body, spacing)
    assert (merged[counted] > 0).mean() < (cleaned[counted] > 0).mean() < 0.87
    assert np.array_equal(np.where(is_tissue(cleaned), 0, cleaned), own.array)


@needs_data()
def test_the_rules_agree_with_the_tissues_of_a_network(slab):
    record, ct, own = slab
    theirs = provider_for(str(DATA / "label")).tissues(record.case, ct, own).array
    ours = provider_for("rules").tissues(record.case, ct, own).array
    scores = [dice(theirs == value, ours == value) for value in (1, 2, 3)]
    assert np.all(np.array(scores) > (0.93, 0.86, 0.87)), scores

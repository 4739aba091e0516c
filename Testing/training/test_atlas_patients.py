"""Patients made from atlases, the HU they are painted with, and the painting."""

import functools
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch

from CTSAM3DLib.errors import VolumeError
from Testing.support.data import DATA, needs_data
from training.data.atlas_patients import atlas_cases, atlas_of
from training.data.kind_hu import kind_hu
from training.data.label_canvas import LabelCanvas, axial_hulls, filled
from training.data.prepared import Prepared, PreparedCase
from training.learning.painting import Paint, Palette
from training.vocabulary import KINDS, atlas_table, kinds_of

ATLASES = DATA / "atlases"
SMALL = ("spl-abdominal", "spl-head-neck", "spl-knee")
needs_atlases = needs_data("atlases")


@functools.cache
def small_atlases() -> dict[str, PreparedCase]:
    """The three smaller atlases on a grid of 4 mm: seconds rather than minutes."""
    with tempfile.TemporaryDirectory() as folder:
        for name in SMALL:
            (Path(folder) / name).symlink_to(ATLASES / name)
        return {atlas_of(case): case for case in atlas_cases(Path(folder), 4.0)}


def heights(case: PreparedCase, name: str, axis: int) -> float:
    value = next(value for value, known in case.names.items() if known == name)
    return float(np.nonzero(case.labels == value)[axis].mean())


@needs_atlases
def test_atlases_lie_along_left_posterior_and_superior():
    abdomen, head, knee = (small_atlases()[name] for name in SMALL)
    assert heights(abdomen, "liver", 2) < heights(abdomen, "spleen", 2)
    assert heights(abdomen, "rectus_abdominis_muscle", 1) < heights(abdomen, "sacrum", 1)
    assert heights(abdomen, "sacrum", 0) < heights(abdomen, "liver", 0)
    assert heights(head, "parotid_gland_right", 2) < heights(head, "parotid_gland_left", 2)
    assert heights(head, "sternum", 0) < heights(head, "brain", 0)
    assert heights(knee, "patella", 1) < heights(knee, "femur", 1)
    assert heights(knee, "tibia", 0) < heights(knee, "femur", 0)


@needs_atlases
def test_the_abdomen_has_the_size_of_an_adult():
    abdomen = small_atlases()["spl-abdominal"]
    value = next(value for value, name in abdomen.names.items() if name == "kidney_right")
    length = np.ptp(np.nonzero(abdomen.labels == value)[0]) * 4.0
    assert 80 < length < 130


@needs_atlases
@pytest.mark.parametrize("atlas", SMALL)
def test_no_voxel_inside_a_patient_is_empty(atlas):
    labels = small_atlases()[atlas].labels
    assert not ((labels == 0) & filled(labels > 0, axes=(0,))).any()


@needs_atlases
@pytest.mark.parametrize("atlas", SMALL)
def test_fillers_teach_nothing_and_structures_do(atlas):
    case = small_atlases()[atlas]
    table = atlas_table(atlas_of(case), case.names)
    for value, name in case.names.items():
        assert bool(table.weight[value]) == bool(kinds_of(name)), name
    fillers = [value for value, name in case.names.items() if name.startswith("filler_")]
    assert fillers
    assert not table.weight[fillers].any()


@needs_atlases
def test_the_brain_has_the_volume_of_a_brain():
    head = small_atlases()["spl-head-neck"]
    value = next(value for value, name in head.names.items() if name == "brain")
    assert 1.0 < (head.labels == value).sum() * 4.0**3 / 1e6 < 2.0


@needs_atlases
def test_atlases_are_packed_with_the_data_set(tmp_path):
    cases = tuple(small_atlases().values())
    Prepared(4.0, (-1000, 800), cases, {"liver": (60.0, 8.0, 10.0)}).write(tmp_path / "data.npz")
    read = Prepared.read(tmp_path / "data.npz")
    assert read.kind_hu == {"liver": (60.0, 8.0, 10.0)}
    assert [case.source for case in read.cases] == ["atlas"] * 3
    for before, after in zip(cases, read.cases, strict=True):
        assert after.hu is None
        np.testing.assert_array_equal(before.labels, after.labels)


def test_a_folder_without_atlases_is_refused(tmp_path):
    with pytest.raises(VolumeError, match="holds no NAME/label"):
        list(atlas_cases(tmp_path, 3.0))


def test_what_is_painted_never_covers_what_is_there():
    labels = np.zeros((4, 4, 4), np.uint8)
    labels[1] = 7
    canvas = LabelCanvas(labels, {7: "liver"}, 3.0)
    canvas.paint("filler_fat", np.ones(labels.shape, bool))
    assert (canvas.labels[1] == 7).all()
    assert canvas.names == {7: "liver", 8: "filler_fat"}
    assert (canvas.labels[[0, 2, 3]] == 8).all()


def test_a_distance_is_in_millimetres():
    labels = np.zeros((1, 1, 5), np.uint8)
    labels[0, 0, 0] = 1
    canvas = LabelCanvas(labels, {1: "liver"}, 3.0)
    np.testing.assert_allclose(canvas.distance_to(canvas.mask("liver"))[0, 0], [0, 3, 6, 9, 12])
    assert canvas.distance_to(canvas.mask("spleen")).min() > 1e5


def test_the_hull_of_a_slice_holds_what_lies_between():
    mask = np.zeros((2, 9, 9), bool)
    mask[0, 1, 1] = mask[0, 1, 7] = mask[0, 7, 4] = mask[0, 7, 5] = True
    hull = axial_hulls(mask)
    assert hull[0, 3, 4]
    assert not hull[1].any()


def ct_of(levels: dict[str, float], patient: str = "one") -> PreparedCase:
    """A CT of slabs of 8 voxels, each with a rim of another HU."""
    labels = np.zeros((8 * len(levels), 12, 12), np.uint8)
    hu = np.full(labels.shape, -1000, np.int16)
    for number, level in enumerate(levels.values()):
        slab = slice(8 * number, 8 * number + 8)
        labels[slab, 1:11, 1:11] = number + 1
        hu[slab, 1:11, 1:11] = -300
        hu[slab.start + 1 : slab.stop - 1, 2:10, 2:10] = level
    return PreparedCase(patient, patient, "abdomen", "ct", dict(enumerate(levels, 1)), labels, hu)


def test_hu_of_kinds_are_those_of_the_inside_of_structures():
    found = kind_hu([ct_of({"liver": 100, "kidney_left": 180})])
    assert found["liver"].mean == 100
    assert found["kidney"].mean == 180
    assert set(found) == set(KINDS[1:])


def test_hu_differ_between_patients_by_what_was_measured():
    found = kind_hu([ct_of({"liver": level}, f"patient {level}") for level in (60, 100, 140)])
    assert found["liver"].mean == 100
    assert found["liver"].between == pytest.approx(np.std([60, 100, 140]))


def test_a_name_of_several_kinds_measures_none_of_them():
    assumed = kind_hu([])
    assert kind_hu([ct_of({"colon_and_ileum": 400})]) == assumed


def test_a_kind_that_no_ct_has_is_like_its_group():
    found = kind_hu([ct_of({"gluteus_maximus_left": 72})])
    assert found["soleus"].mean == 72
    assert found["subcutaneous_fat"].mean == pytest.approx(-100, abs=15)


NAMES = {
    1: "subcutaneous_fat",
    2: "liver",
    3: "vertebrae_L1",
    4: "filler_lung",
    5: "aorta",
    6: "vertebrae_L2",
    7: "label_1",
}


def patient() -> torch.Tensor:
    """Air, fat with an organ, two vertebrae that touch, lung, an artery: uint8 (64, 64, 64)."""
    labels = torch.zeros((64, 64, 64), dtype=torch.uint8)
    labels[:, 6:58, 6:58] = 1
    labels[8:56, 10:30, 10:30] = 2
    labels[8:30, 34:54, 34:54] = 3
    labels[30:56, 34:54, 34:54] = 6
    labels[8:56, 10:30, 34:54] = 4
    labels[8:56, 34:54, 12:24] = 5
    labels[8:56, 34:54, 26:32] = 7
    return labels


def painted(seed: int = 0) -> torch.Tensor:
    paint = Paint.random(np.random.default_rng(seed), Palette.of(NAMES, kind_hu([])))
    return paint.of(patient(), torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("seed", range(6))
def test_painted_tissue_has_the_hu_of_its_kind(seed):
    hu = painted(seed)
    assert hu.dtype == torch.float32
    assert hu.shape == (64, 64, 64)
    assert hu[:, :4].median() == pytest.approx(-1000, abs=5)
    assert -150 < hu[:6, 30:34, 8:56].median() < -60
    assert 20 < hu[14:50, 14:26, 14:26].median() < 150
    assert hu[14:50, 14:26, 38:50].median() < -700
    assert 20 < hu[14:50, 38:50, 15:21].median() < 500


def test_a_vertebra_is_brighter_at_its_rim_and_where_it_touches_another():
    hu = torch.stack([painted(seed) for seed in range(6)]).mean(dim=0)
    marrow = hu[14:24, 40:48, 40:48].mean()
    assert hu[14:24, 34, 40:48].mean() > marrow + 40
    assert hu[29:31, 40:48, 40:48].mean() > marrow + 60


def test_no_cortex_where_the_volume_ends():
    labels = torch.zeros((64, 64, 64), dtype=torch.uint8)
    labels[:40] = 3
    hu = torch.stack(
        [
            Paint.random(np.random.default_rng(seed), Palette.of(NAMES, kind_hu([]))).of(
                labels, torch.Generator().manual_seed(seed)
            )
            for seed in range(4)
        ]
    ).mean(dim=0)
    assert hu[38].mean() == pytest.approx(hu[20:30].mean().item(), abs=25)
    assert hu[0].mean() == pytest.approx(hu[20:30].mean().item(), abs=25)


def test_patients_differ_and_a_seed_is_a_patient():
    assert torch.equal(painted(1), painted(1))
    means = [painted(seed)[14:50, 14:26, 14:26].mean().item() for seed in range(8)]
    assert np.std(means) > 3


def test_borders_are_no_sharper_than_those_of_a_ct():
    hu = torch.stack([painted(seed) for seed in range(8)]).mean(dim=0)
    across = hu[20:44, 14:26].mean(dim=(0, 1))[6:14]
    inside = -1000 < across[0] < -120  # air has leaked into the outermost fat
    assert inside


def test_no_value_leaves_the_device():
    # The meta device holds no values: reading one of them raises.
    paint = Paint.random(np.random.default_rng(0), Palette.of(NAMES, kind_hu([])))
    labels = torch.zeros((64, 64, 64), dtype=torch.uint8, device="meta")
    assert paint.of(labels, torch.Generator(device="cpu")).shape == (64, 64, 64)

"""Samples made on the device: read rightly, changed in look without a trace, drawn in their shares."""

import dataclasses
from collections import Counter

import numpy as np
import pytest
import torch

from Testing.training.learning_fixtures import NAMES, PLAIN_LOOK, PLAIN_POSE, prepared
from Testing.training.waiting import NothingWaits
from training.learning.looks import AIR_HU, Look, LookRange, blurred, changed, in_thick_slices, smoothed
from training.learning.poses import PATCH, Pose, PoseRange, voxelwise
from training.learning.resident import Resident
from training.learning.samples import Drawing, Placement, read, scaled

CPU = torch.device("cpu")
SHARES = {"abdomen": 0.7, "chest": 0.3}


@pytest.fixture(scope="module")
def resident():
    return Resident.of(prepared(), CPU)


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


def cropped(array, first, outside):
    """The 64³ voxels of an array from `first` on."""
    padded = np.pad(array, PATCH, constant_values=outside)
    return padded[tuple(slice(f + PATCH, f + 2 * PATCH) for f in first)]


def placed(resident, index, anchor, start, look=PLAIN_LOOK, seed=0):
    rng = np.random.default_rng(seed)
    drawn = Look.random(rng, look, resident.contrast[resident.structures[index].case], PATCH)
    pose = Pose.plain(np.array(anchor, float))
    return Placement(resident.structures[index], pose, np.array(start), pose.points(np.array(start)), drawn, None)


@pytest.mark.parametrize(
    ("index", "anchor", "start"), [(0, (30, 30, 40), (-32, -32, -32)), (7, (9, 60, 3), (-9, -50, 2))]
)
def test_a_plain_patch_is_a_crop_and_what_lies_beyond_is_air(resident, generator, index, anchor, start):
    placement = placed(resident, index, anchor, start)
    case = resident.cases[placement.structure.case]
    patches = read(resident, [placement, placement], generator)
    first = np.array(anchor) + start
    np.testing.assert_allclose(patches.hu[1], cropped(case.hu, first, int(AIR_HU)), atol=0.1)
    np.testing.assert_array_equal(patches.labels[0], cropped(case.labels, first, 0))
    np.testing.assert_array_equal(patches.truth[0], cropped(case.labels, first, 0) == placement.structure.value)


def test_a_supervoxel_is_read_from_its_own_map(resident, generator):
    piece = next(each for each in resident.pieces_structures if each.value == 300)
    placement = dataclasses.replace(placed(resident, 0, (50, 40, 40), (-20, -20, -20)), structure=piece)
    patches = read(resident, [placement], generator)
    np.testing.assert_array_equal(patches.truth[0], cropped(resident.cases[0].pieces, (30, 20, 20), 0) == 300)


def test_poses_are_computed_for_every_voxel():
    pose = Pose.random(np.array([30.0, 20, 10]), np.random.default_rng(3), PoseRange(bend=0))
    where = voxelwise(torch.from_numpy(pose.points(np.array([-3, 5, 8])))[None])[0].permute(1, 2, 3, 0).numpy()
    grid = np.stack(np.indices((PATCH,) * 3), axis=-1) + np.array([-3, 5, 8])
    np.testing.assert_allclose(where, pose.anchor + grid @ pose.matrix.T, atol=1e-3)


def test_nothing_folds_over_when_it_bends():
    for seed in range(20):
        pose = Pose.random(np.zeros(3), np.random.default_rng(seed), PoseRange())
        where = voxelwise(torch.from_numpy(pose.points(np.zeros(3, int)))[None])[0].double()
        steps = torch.stack([where.diff(dim=axis)[:, :63, :63, :63] for axis in (1, 2, 3)], dim=-1)
        determinants = torch.linalg.det(steps.permute(1, 2, 3, 0, 4)) * np.sign(np.linalg.det(pose.matrix))
        assert determinants.min() > 0.1


def test_two_patches_of_one_pose_overlap_exactly(resident, generator):
    drawing = Drawing(resident, SHARES)
    rng = np.random.default_rng(0)
    first = drawing.placement(resident.structures[0], rng, 4, PoseRange(), PLAIN_LOOK)
    shift = np.array([8, -12, 20])  # whole steps of the coarse grid, between which poses are interpolated
    here, there = read(resident, [first, first.moved(shift)], generator).hu
    np.testing.assert_allclose(here[8:, :52, 20:], there[:56, 12:, :44], atol=0.05)


class TestLooks:
    def blank(self, **changes):
        fields = {field.name: None for field in dataclasses.fields(Look)}
        return Look(**{**fields, "gain": 1.0, "shift": 0.0, "noise": 0.0, "grain": 0.0, "blur": 0.0, **changes})

    def applied(self, hu, labels=None, pieces=None, **changes):
        nothing = torch.zeros(hu.shape, dtype=torch.uint8)
        labels, pieces = nothing if labels is None else labels, nothing if pieces is None else pieces
        return changed(hu.clone(), labels, pieces, [self.blank(**changes)] * len(hu), torch.Generator().manual_seed(0))

    def test_no_look_changes_nothing(self):
        hu = torch.randn(2, 16, 16, 16) * 100
        same, kept = self.applied(hu)
        assert torch.equal(same, hu)
        assert kept.all()

    def test_a_recoloured_structure_has_no_sharper_edge_than_one_of_its_neighbours(self):
        labels = torch.zeros(1, 32, 32, 32, dtype=torch.uint8)
        labels[..., 8:16] = 1
        pieces = torch.zeros(1, 32, 32, 32, dtype=torch.int16)
        pieces[..., 16:24] = 5
        tables = np.zeros((2, 256), np.float32)
        tables[0, 1], tables[1, 5] = 40, 40
        hu, _ = self.applied(torch.zeros(1, 32, 32, 32), labels, pieces, of_labels=tables[0], of_pieces=tables[1])
        steps = hu.diff(dim=3).abs()[0, 16, 16]
        assert hu[0, 16, 16, 12] == pytest.approx(40)
        assert hu[0, 16, 16, 20] == pytest.approx(40)
        assert steps[7] == pytest.approx(float(steps[23]))  # the structure's outer edge and the supervoxel's
        assert steps.max() <= 20

    def test_air_stays_air_when_structures_are_recoloured(self):
        labels = torch.ones(1, 16, 16, 16, dtype=torch.uint8)
        hu = torch.full((1, 16, 16, 16), AIR_HU)
        table = np.full(256, 50, np.float32)
        assert torch.equal(self.applied(hu, labels, of_labels=table, of_pieces=table)[0], hu)

    @pytest.mark.parametrize("grain", [0.0, 0.7])
    def test_noise_has_its_deviation(self, grain):
        hu, _ = self.applied(torch.zeros(1, 64, 64, 64), noise=20.0, grain=grain)
        assert hu.std() == pytest.approx(20, rel=0.1)

    def test_the_field_of_view_ends_in_air_without_labels(self):
        hu, kept = self.applied(torch.zeros(1, 16, 16, 16), cut=(2, 5, 16))
        assert (hu[..., :5] == AIR_HU).all()
        assert (hu[..., 5:] == 0).all()
        assert torch.equal(kept, hu == 0)

    def test_a_table_and_an_arm_lie_in_the_air_alone(self):
        hu = torch.full((1, 64, 64, 64), AIR_HU)
        hu[:, :, 16:40] = 30
        furnished, _ = self.applied(hu, table=48, arm=(8, 30, 7.0))
        assert torch.equal(furnished[:, :, 16:40], hu[:, :, 16:40])
        assert furnished[0, 30, 48, 10] == 150
        assert furnished[0, 30, 8, 30] == 700

    def test_thick_slices_are_means(self):
        hu = torch.arange(7.0).view(1, 7, 1, 1).expand(1, 7, 7, 7)
        assert in_thick_slices(hu, 1, 3)[0, :, 0, 0].tolist() == [1, 1, 1, 4, 4, 4, 6]

    def test_smoothing_keeps_what_is_even_and_the_mean(self):
        hu = torch.rand(1, 12, 12, 12)
        assert smoothed(hu).std() < 0.5 * hu.std()
        assert smoothed(torch.ones(1, 5, 5, 5)).sub(1).abs().max() < 1e-6
        assert blurred(hu, torch.tensor([0.05])).sub(hu).abs().max() < 1e-6


def test_structures_are_drawn_in_their_shares(resident):
    drawing = Drawing(resident, SHARES)
    rng = np.random.default_rng(0)
    drawn = Counter((each.case, each.value) for each in (drawing.structure(rng) for _ in range(4000)))
    cases = Counter(case for case, _ in drawn.elements())
    assert cases[0] / 4000 == pytest.approx(0.7, abs=0.03)
    assert set(drawn) == {(case, value) for case in (0, 1) for value in NAMES}
    assert min(drawn[0, value] for value in NAMES) > 0.3 * max(drawn[0, value] for value in NAMES)
    assert all(drawing.structure(rng, of_pieces=True).of_pieces for _ in range(20))


@pytest.mark.parametrize("shares", [{"abdomen": 1.0}, {**SHARES, "knee": 0.1}])
def test_shares_that_do_not_fit_the_regions_are_refused(resident, shares):
    with pytest.raises(ValueError, match="regions"):
        Drawing(resident, shares)


def test_the_network_sees_the_window():
    image = scaled(torch.tensor([-2000.0, -1000, -100, 800, 3000]).view(5, 1, 1, 1), (-1000.0, 800.0))
    assert image.flatten().tolist() == [0, 0, 0.5, 1, 1]


def test_the_same_draws_are_the_same_patches_and_nothing_waits(resident):
    drawing = Drawing(resident, SHARES)
    looks = LookRange(recoloured=1, noisy=1, blurred=1, thick=0.5, cut=0.5, furnished=1)

    def patches():
        rng = np.random.default_rng(5)
        drawn = [drawing.placement(drawing.structure(rng), rng, 20, PoseRange(), looks) for _ in range(3)]
        with NothingWaits(sending=True):
            return read(resident, drawn, torch.Generator().manual_seed(1))

    for one, other in zip(dataclasses.astuple(patches()), dataclasses.astuple(patches()), strict=True):
        assert torch.equal(one, other)


def test_plain_poses_leave_the_anchor_where_it_is():
    pose = Pose.random(np.array([5.0, 6, 7]), np.random.default_rng(0), PLAIN_POSE)
    assert pose.points(np.zeros(3, int))[:, 0, 0, 0].tolist() == [5, 6, 7]

"""The loop: what label maps teach, the tasks, checkpoints, and a run that goes on."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from CTSAM3DLib.checkpoints.checkpoint import ModelInfo, load, save
from CTSAM3DLib.model import CTSAM3D
from CTSAM3DLib.model.pixel_shuffle import pixel_unshuffle
from CTSAM3DLib.model.small.embedding import VoxelEmbedding
from Testing.training.learning_fixtures import prepared, thin_plan
from Testing.training.waiting import NothingWaits
from training.config import RecipeError
from training.learning import learner as learning
from training.learning.distributed import World
from training.learning.label_maps import Prototypes, label_losses
from training.learning.learner import Learner, LearningError
from training.learning.losses import heat_map
from training.learning.plan import FOLDER, Plan
from training.learning.poses import Pose
from training.learning.resident import Resident
from training.learning.samples import Patches
from training.learning.tasks import heat_maps
from training.learning.warm_start import fitted
from training.vocabulary import KINDS

CPU = torch.device("cpu")
INFO = ModelInfo("ctsam3d-small", (-1000.0, 800.0), 3.0)


@pytest.fixture(scope="module")
def resident():
    return Resident.of(prepared(), CPU)


def begun(run, resident, **changes):
    run.mkdir(exist_ok=True)
    return Learner(thin_plan(**changes), resident, run, INFO, World(0, 1, CPU))


class TestLabelLosses:
    """A patch in the middle of the first patient, and networks that know everything or nothing of it."""

    def patches(self, resident):
        labels = torch.from_numpy(resident.cases[0].labels[:64, :60, :64].copy())
        labels = torch.nn.functional.pad(labels, (0, 0, 0, 4))[None]
        return Patches(torch.zeros(labels.shape), labels, torch.zeros(1, dtype=torch.int64), labels == 1)

    def losses(self, resident, known, prototypes=None):
        prototypes = Prototypes(len(KINDS)) if prototypes is None else prototypes
        with torch.no_grad():
            prototypes.directions.copy_(torch.eye(len(KINDS)))
            return label_losses(known, prototypes, self.patches(resident), resident, torch.Generator().manual_seed(0))

    def known(self, resident, kinds=None, places=None):
        labels = self.patches(resident).labels
        coarse = labels[:, ::2, ::2, ::2].long()
        if kinds is None:
            kinds = resident.kind[0][coarse].clamp(min=0)
        vectors = torch.nn.functional.one_hot(kinds, len(KINDS)).float().movedim(-1, 1)
        if places is None:
            places = coarse[:, None].expand(-1, 3, -1, -1, -1).float() * 30
        same = []
        for axis in (1, 2, 3):
            alike = labels.narrow(axis, 0, 63) == labels.narrow(axis, 1, 63)
            same.append(torch.nn.functional.pad(alike, [0, 0] * (3 - axis) + [0, 1]))
        together = pixel_unshuffle(torch.stack(same, dim=1).float() * 40 - 20)
        return VoxelEmbedding(vectors, places, together)

    def test_who_knows_all_loses_little(self, resident):
        losses = self.losses(resident, self.known(resident))
        # Blocks begin and end on even voxels, so that eight voxels are alike.
        assert losses.kinds < 0.05
        assert losses.places < 0.05
        assert losses.borders < 0.01

    def test_a_kind_that_a_case_does_not_label_may_be_anywhere_unlabelled(self, resident):
        """The first patient's notes say nothing, so nothing is complete there: its unlabelled voxels teach nothing."""
        coarse = self.patches(resident).labels[:, ::2, ::2, ::2].long()
        kinds = resident.kind[0][coarse].clamp(min=0)
        elsewhere = torch.where(coarse == 0, KINDS.index("spleen"), kinds)
        assert self.losses(resident, self.known(resident, elsewhere)).kinds < 0.05
        wrong = torch.where(coarse == 1, KINDS.index("spleen"), kinds)
        assert self.losses(resident, self.known(resident, wrong)).kinds > 1

    def test_places_have_to_tell_structures_apart_and_be_one_within(self, resident):
        everywhere = torch.zeros(1, 3, 32, 32, 32)
        assert self.losses(resident, self.known(resident, places=everywhere)).places > 3
        along = torch.linspace(0, 300, 32)
        scattered = torch.stack(torch.meshgrid(along, along, along, indexing="ij"))[None]
        assert self.losses(resident, self.known(resident, places=scattered)).places > 1

    def test_borders_where_there_are_none_cost(self, resident):
        known = self.known(resident)
        assert self.losses(resident, known._replace(affinities=-known.affinities)).borders > 10

    def test_a_network_without_places_learns_kinds_alone(self, resident):
        losses = self.losses(resident, self.known(resident)._replace(places=None, affinities=None))
        assert losses.places == losses.borders == 0


def test_heat_maps_are_those_of_the_host():
    rng = np.random.default_rng(0)
    truth = np.zeros((3, 64, 64, 64), bool)
    truth[0, 10:30, 5:9, 40:60] = truth[1, 3, 4, 5] = True
    truth[0] |= rng.random((64, 64, 64)) < 0.0005
    found = heat_maps(torch.from_numpy(truth)[:, None])[:, 0]
    for mask, ours in zip(truth, found, strict=True):
        np.testing.assert_allclose(ours, heat_map(mask), atol=1e-5)


@pytest.mark.parametrize("task", ["label_maps", "clicks", "cross_patch"])
def test_a_step_of_a_task_changes_its_own_part_and_waits_for_nothing(tmp_path, resident, task):
    shares = {name: dataclasses.replace(each, share=float(name == task)) for name, each in thin_plan().tasks.items()}
    run = begun(tmp_path, resident, tasks=shares)
    before = {name: tensor.clone() for name, tensor in run.network.state_dict().items()}
    with NothingWaits(sending=True):
        assert all(figures for _, figures in run._losses())
    run.learn(steps=2)
    after = run.network.state_dict()
    changed = {name.split(".")[0] for name, tensor in after.items() if not torch.equal(tensor, before[name])}
    expected = {"label_maps": {"semantics"}, "clicks": {"encoder", "decoder"}, "cross_patch": {"cross_patch"}}
    assert changed == expected[task]


def test_all_tasks_learn_in_their_shares(tmp_path, resident):
    run = begun(tmp_path, resident)
    run.learn(steps=6, log_every=2)
    assert run.step == 6
    rows = (tmp_path / "curve.csv").read_text().splitlines()
    assert {row.split(",")[0] for row in rows[1:]} == {"2", "4", "6"}
    drawn = [run._task_of(step) for step in range(1000)]
    assert drawn.count("label_maps") / 1000 == pytest.approx(0.5, abs=0.05)
    assert load(tmp_path / "model.safetensors").info.name == "ctsam3d-small"


def test_a_run_goes_on_nearly_as_if_it_had_not_stopped(tmp_path, resident):
    whole = begun(tmp_path / "whole", resident)
    whole.learn(steps=6)
    begun(tmp_path / "parts", resident).learn(steps=3)
    parts = begun(tmp_path / "parts", resident)
    assert parts.resume()
    parts.learn(steps=6)
    assert parts._steps_of == whole._steps_of
    for (name, one), other in zip(whole.network.state_dict().items(), parts.network.state_dict().values(), strict=True):
        scale = max(float(one.abs().max()), 1e-3) if one.is_floating_point() else 1.0
        assert float((one - other).abs().max()) <= 0.02 * scale, name  # momenta were kept in bfloat16


def test_state_comes_in_parts_that_are_small_enough(tmp_path, resident, monkeypatch):
    monkeypatch.setattr(learning, "PART_BYTES", 10_000)
    run = begun(tmp_path, resident)
    run.save()
    parts = sorted(tmp_path.glob("state-*.pt"))
    assert len(parts) > 1
    assert max(part.stat().st_size for part in parts) <= 10_000
    assert begun(tmp_path, resident).resume()


def test_processes_that_cannot_share_a_batch_are_refused(tmp_path, resident):
    with pytest.raises(LearningError, match="3 processes cannot share"):
        Learner(thin_plan(), resident, tmp_path, INFO, World(0, 3, CPU))


def test_without_a_state_nothing_is_resumed(tmp_path, resident):
    assert not begun(tmp_path, resident).resume()


def test_a_loss_that_is_no_number_ends_the_run(tmp_path, resident, monkeypatch):
    run = begun(tmp_path, resident)
    run.save()
    with torch.no_grad():
        for parameter in run.network.parameters():
            parameter.fill_(math.nan)
    with pytest.raises(LearningError, match="no number"):
        run.learn(steps=2, log_every=1)
    assert all(
        torch.isfinite(tensor).all() for tensor in load(tmp_path / "model.safetensors").network.state_dict().values()
    )


def test_rates_warm_up_and_fall_with_the_time_of_a_run(tmp_path, resident):
    run = begun(tmp_path, resident, anneal=True, warmup_steps=10)
    assert run._rate("clicks", 0.0) == pytest.approx(1e-3)
    run._steps_of["clicks"] = 20
    assert run._rate("clicks", 0.5) == pytest.approx(5e-3)
    assert begun(tmp_path, resident)._rate("clicks", 0.9) == begun(tmp_path, resident)._rate("clicks", 0.0)


def test_a_wider_network_begins_by_answering_as_the_narrower_one(tmp_path):
    plan = thin_plan()
    narrow = dataclasses.replace(
        plan, network_changes={**plan.network_changes, "semantic_places": False}
    ).build_network()
    save(tmp_path / "narrow.safetensors", narrow, INFO)
    wide = plan.build_network().eval()
    fresh = fitted(wide, tmp_path / "narrow.safetensors")
    assert {name.split(".")[1] for name in fresh} == {"to_places", "to_together"}
    given = load(tmp_path / "narrow.safetensors").network
    image, prompts = torch.rand(1, 1, 64, 64, 64), torch.zeros(1, 3, 64, 64, 64)
    prompts[0, 1, 30, 30, 30] = 1
    with torch.no_grad():
        expected, _ = given.decode(given.encode(image), prompts)
        found, _ = wide.decode(wide.encode(image), prompts)
    # Kinship of one click is the same, whether it is that of the mean or of the nearest click.
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


class TestPlans:
    @pytest.mark.parametrize("name", ["whole-body.yaml", "whole-body-gpu.yaml"])
    def test_ours_can_be_followed(self, name):
        plan = Plan.read(name)
        assert isinstance(plan.build_network(), CTSAM3D)
        assert min(share for region, share in plan.regions.items() if region != "spine") >= 0.1

    @pytest.mark.parametrize(
        ("line", "reason"),
        [
            ("tasks: {knitting: {share: 1, batch: 1, rate: 1}}", "knitting"),
            ("tasks: {clicks: {share: 0, batch: 1, rate: 1}}", "No task"),
            ("colour: red", "colour"),
            ("poses: {spin: 3}", "spin"),
        ],
    )
    def test_what_cannot_be_followed_is_refused(self, tmp_path, line, reason):
        (tmp_path / "whole-body.yaml").write_text((FOLDER / "whole-body.yaml").read_text())
        (tmp_path / "own.yaml").write_text(f"base: whole-body.yaml\n{line}\n")
        with pytest.raises(RecipeError, match=reason):
            Plan.read(tmp_path / "own.yaml")


def test_a_pose_that_is_drawn_again_is_the_same():
    one, other = (Pose.random(np.zeros(3), np.random.default_rng(4), thin_plan().poses) for _ in range(2))
    assert np.array_equal(one.points(np.ones(3, int)), other.points(np.ones(3, int)))

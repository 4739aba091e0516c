"""Algorithm 1: what is lost, what is clicked, what learns."""

import dataclasses

import numpy as np
import pytest
import torch
from monai.losses import DiceLoss

from Testing.relative import off
from training.data.samples import Sample
from training.learning.algorithm1 import Batch, click_round, overlap
from training.learning.distributed import World
from training.learning.losses import dice_of, heat_map, segmentation_loss
from training.train import Trainer


def ball(centre: tuple[int, int, int], radius: float = 10) -> np.ndarray:
    offsets = np.indices((64, 64, 64)) - np.array(centre)[:, None, None, None]
    return np.square(offsets).sum(0) < radius**2


@pytest.fixture
def sample() -> Sample:
    """A bright ball in U; V lies 20 voxels further along x."""
    truth_u, truth_v = ball((30, 30, 40)), ball((30, 30, 20))
    image_u, image_v = (np.where(truth, 300, 0).astype(np.int16) for truth in (truth_u, truth_v))
    return Sample(image_u, image_v, truth_u, truth_v, (0, 0, 20), "phantom")


@pytest.fixture
def rng():
    return np.random.default_rng(1)


def test_overlap_names_the_same_voxels_in_both_patches(sample):
    into, out_of = overlap(sample.offset, 64)
    assert np.array_equal(sample.truth_v[into], sample.truth_u[out_of])
    assert sample.truth_v[into].sum() > 1000


@pytest.mark.parametrize("offset", [(0, 0, 0), (5, -7, 31), (-56, 56, 1)])
def test_overlap_of_any_offset_has_equal_shapes(offset):
    whole = np.arange(130**3).reshape(130, 130, 130)
    u = whole[33:97, 33:97, 33:97]
    start = [33 + o for o in offset]
    padded = np.pad(whole, 64)
    v = padded[tuple(slice(s + 64, s + 128) for s in start)]
    into, out_of = overlap(offset, 64)
    assert np.array_equal(v[into], u[out_of])


def test_the_dice_part_of_the_loss_is_monais(sample):
    truth = torch.from_numpy(np.stack([sample.truth_u, sample.truth_v])[:, None].astype(np.float32))
    logits = torch.randn(truth.shape, generator=torch.Generator().manual_seed(0))
    dice = DiceLoss(sigmoid=True, smooth_nr=1.0, smooth_dr=1.0)(logits, truth)
    cross_entropy = torch.nn.BCEWithLogitsLoss(reduction="none")(logits, truth).flatten(1).mean(1)
    focal = (0.8 * (1 - torch.exp(-cross_entropy)) ** 2 * cross_entropy).mean()
    assert off(segmentation_loss(logits, truth), 0.2 * focal + 0.8 * dice) < 1e-4


def test_an_empty_patch_answered_empty_costs_nothing():
    empty = torch.zeros(2, 1, 64, 64, 64)
    assert segmentation_loss(empty - 30, empty) < 1e-4
    assert dice_of(empty, empty).tolist() == [1.0, 1.0]


def test_a_heat_map_peaks_in_the_foreground_and_an_empty_patch_has_none():
    ring = ball((30, 30, 30), 14) & ~ball((30, 30, 30), 9)
    peak = np.unravel_index(heat_map(ring).argmax(), ring.shape)
    assert ring[peak]
    assert heat_map(ring)[peak] == 1
    assert not heat_map(np.zeros((64, 64, 64), bool)).any()


def test_the_window_of_the_recipe_scales_the_images(sample, recipe, rng):
    sample.image_u[0, 0, :3] = (-2000, 150, 3000)
    batch = Batch([sample], recipe(window=(-100, 400)), rng)
    assert batch.image[0, 0, 0, 0, :3].tolist() == [0.0, 0.5, 1.0]
    assert batch.image[1, 0][torch.from_numpy(sample.truth_v)].unique().tolist() == pytest.approx([0.8])


def test_the_first_round_has_one_positive_click_in_each_patch_and_no_mask(sample, recipe, rng):
    empty = dataclasses.replace(sample, truth_v=np.zeros_like(sample.truth_v))
    batch = Batch([sample, empty], recipe(continuation_share=0.0, edit_share=0.0), rng)
    prompts = batch.prompts()
    assert prompts.shape == (4, 3, 64, 64, 64)
    assert not prompts[:, 0].any()
    assert not prompts[:, 2].any()
    assert [clicks.labels for clicks in batch.clicks] == [[1], [1], [1], []]
    for truth, clicks, positive in zip(batch.truth[:3], batch.clicks, prompts[:, 1], strict=False):
        ((x, y, z),) = clicks.points_xyz
        assert truth[z, y, x]
        assert positive[z, y, x] == positive.max() == 1
    assert not prompts[3].any()


def test_an_answer_is_fed_back_softly_and_clicked_where_it_is_wrong(sample, recipe, rng):
    batch = Batch([sample], recipe(continuation_share=0.0, edit_share=0.0), rng)
    missed, excess = ball((30, 30, 44), 5), ball((12, 12, 12), 8)
    answered = torch.full((2, 1, 64, 64, 64), 0.1)
    answered[0, 0][torch.from_numpy(sample.truth_u & ~missed)] = 0.7
    answered[1, 0][torch.from_numpy(sample.truth_v | excess)] = 0.8
    batch.update(answered)
    assert torch.equal(batch.prompts()[:, :1], answered)
    assert [clicks.labels for clicks in batch.clicks] == [[1, 1], [1, 0]]
    for region, clicks in zip((missed, excess), batch.clicks, strict=True):
        x, y, z = clicks.points_xyz[-1]
        assert region[z, y, x]
    negative = batch.prompts()[1, 2]
    x, y, z = batch.clicks[1].points_xyz[-1]
    assert negative[z, y, x] == 1


def test_a_right_answer_is_not_clicked(sample, recipe, rng):
    batch = Batch([sample], recipe(continuation_share=0.0, edit_share=0.0), rng)
    batch.update(batch.truth_tensor)
    assert [len(clicks.labels) for clicks in batch.clicks] == [1, 1]


def test_continued_patches_start_from_the_mask_of_their_neighbour(sample, recipe, rng):
    batch = Batch([sample] * 8, recipe(continuation_share=1.0, edit_share=0.0), rng)
    into, _ = overlap(sample.offset, 64)
    known = np.zeros_like(sample.truth_v)
    known[into] = sample.truth_v[into]
    assert known.sum() > 1000
    assert not batch.previous[:8].any()
    for previous in batch.previous[8:, 0].numpy():
        assert np.array_equal(previous > 0, known)
        assert 0.7 <= previous.max() <= 1
    clicked = [len(clicks.labels) for clicks in batch.clicks[8:]]
    assert {0, 1} == set(clicked)
    assert [len(clicks.labels) for clicks in batch.clicks[:8]] == [1] * 8


def test_a_continued_patch_of_which_nothing_is_known_is_clicked(sample, recipe, rng):
    aside = dataclasses.replace(sample, truth_u=np.zeros_like(sample.truth_u))
    batch = Batch([aside] * 6, recipe(continuation_share=1.0, edit_share=0.0), rng)
    assert not batch.previous.any()
    assert [clicks.labels for clicks in batch.clicks[6:]] == [[1]] * 6


def test_edited_patches_start_from_a_wrong_mask_clicked_where_it_is_wrong(sample, recipe, rng):
    batch = Batch([sample] * 6, recipe(continuation_share=0.0, edit_share=1.0), rng)
    signs = set()
    for truth, previous, clicks in zip(batch.truth, batch.previous[:, 0].numpy(), batch.clicks, strict=True):
        wrong = previous > 0.5
        assert 0.7 <= previous.max() <= 1
        assert (wrong & truth).any()
        assert not np.array_equal(wrong, truth)
        ((x, y, z),) = clicks.points_xyz
        assert truth[z, y, x] == bool(clicks.labels[0]) != wrong[z, y, x]
        signs.add(clicks.labels[0])
    assert signs == {0, 1}


def test_a_round_changes_nothing_of_the_batch(sample, recipe, rng):
    torch.manual_seed(0)
    batch = Batch([sample], recipe(), rng)
    before = batch.prompts()
    result = click_round(recipe().build_network(), batch, recipe())
    assert torch.equal(batch.prompts(), before)
    assert result.probability.shape == batch.truth_tensor.shape
    assert not result.probability.requires_grad
    assert result.dice == pytest.approx(float(dice_of(result.probability, batch.truth_tensor).mean()))


@pytest.mark.parametrize("cross_patch", [True, False])
def test_gradients_reach_every_parameter_that_learns(sample, recipe, rng, cross_patch):
    torch.manual_seed(0)
    recipe = recipe(cross_patch=cross_patch)
    model = recipe.build_network()
    result = click_round(model, Batch([sample], recipe, rng), recipe)
    result.loss.backward()
    learns = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.isfinite().all()}
    named = {name for name, _ in model.named_parameters()}
    idle = set() if cross_patch else {name for name in named if name.startswith("cross_patch.")}
    assert named - learns == idle
    assert len(idle) > 10 or cross_patch
    assert (result.heat_map_error > 0) == cross_patch


def test_the_cross_patch_network_learns_where_the_structure_goes_on(sample, recipe, rng):
    """What it is told in a patch is the heat map of the other one."""
    recipe = recipe(cross_patch=True)
    batch = Batch([sample], recipe, rng)
    model = recipe.build_network()
    expected = torch.stack([torch.from_numpy(heat_map(truth))[None] for truth in (sample.truth_v, sample.truth_u)])
    seen = []

    def all_knowing(image, mask, neighbour):
        seen.append((image, neighbour))
        return expected

    model.predict_prompts = all_knowing
    assert click_round(model, batch, recipe).heat_map_error == 0
    ((image, neighbour),) = seen
    assert torch.equal(image[0], neighbour[1])
    assert torch.equal(image[1], neighbour[0])


def test_one_patch_can_be_learnt_by_heart(sample, recipe, tmp_path):
    """The small network as it is, in about a hundred rounds."""
    starts = {"continuation_share": 0.0, "edit_share": 0.0}
    constant = {"warmup_steps": 0, "schedule": "tenth", "steps": 30}
    recipe = recipe(network_changes={}, rounds=5, **constant, **starts)
    trainer = Trainer(recipe, tmp_path, World(0, 1, torch.device("cpu")))
    dice = []
    while trainer.step < recipe.steps and max(dice, default=0) < 0.98:
        batch = Batch([sample], recipe, np.random.default_rng(0))
        dice.append([figures[1] for figures in trainer.learn([batch])][-1])
        trainer.step += 1
    assert dice[0] < 0.9
    assert dice[-1] > 0.98


def test_a_frozen_encoder_is_asked_once_and_keeps_its_weights(recipe, sample, rng, tmp_path):
    recipe = recipe(frozen=("encoder",), rounds=3)
    trainer = Trainer(recipe, tmp_path, World(0, 1, torch.device("cpu")))
    model, asked = trainer.model, []
    for part in (model.encoder, model.semantics):
        part.register_forward_hook(lambda part, *_: asked.append(part))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    trainer.train(lambda rng, step: sample, minutes=10)
    assert asked == [model.encoder, model.semantics] * recipe.steps
    changed = {name.partition(".")[0] for name, tensor in model.state_dict().items() if not tensor.equal(before[name])}
    assert changed == {"decoder"}

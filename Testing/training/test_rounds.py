"""Algorithm 1: what is lost, what is clicked, what learns."""

import numpy as np
import pytest
import torch
from monai.losses import DiceLoss

from CTSAM3DLib.model import build
from training.losses import dice_of, heat_map, segmentation_loss
from training.recipe import Recipe
from training.rounds import Batch, overlap, play
from training.samples import Sample
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
    assert torch.allclose(segmentation_loss(logits, truth), 0.2 * focal + 0.8 * dice, atol=1e-5)


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


def test_rounds_click_into_the_error_and_feed_the_mask_back(sample):
    torch.manual_seed(0)
    model = build("ctsam3d-small")
    batch = Batch([sample], (-500, 700), np.random.default_rng(1))
    rounds = list(play(model, batch, 3, torch.float32))
    assert [len(rounds), len(batch.clicks[0].labels)] == [3, 4]
    assert float(batch.previous.max()) > 0
    for (x, y, z), label in zip(batch.clicks[0].points_xyz[:1], batch.clicks[0].labels[:1], strict=True):
        assert label == 1
        assert sample.truth_u[z, y, x]


def test_gradients_reach_every_parameter_that_is_used(sample):
    torch.manual_seed(0)
    model = build("ctsam3d-small")
    batch = Batch([sample], (-500, 700), np.random.default_rng(1))
    next(play(model, batch, 1, torch.float32)).loss.backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert without == []


def recipe(**changes) -> Recipe:
    values = {
        "network": "ctsam3d-small",
        "window": (-500, 700),
        "steps": 3,
        "pairs": 1,
        "rounds": 2,
        "learning_rate": 1e-3,
        "warmup_steps": 1,
        "weight_decay": 0.01,
        "gradient_clip": 1.0,
        "ema_decay": 0.9,
        "precision": "float32",
        "seed": 0,
        "shares": {"phantom": 1.0},
        "held_out": (),
        "checkpoint_every": 1,
    }
    return Recipe(**(values | changes))


def test_a_resumed_run_ends_with_the_weights_of_an_unbroken_one(sample, tmp_path):
    (tmp_path / "broken").mkdir()
    (tmp_path / "whole").mkdir()
    whole = Trainer(recipe(), tmp_path / "whole")
    whole.train(lambda rng: sample)

    drawn = []

    def interrupted(rng):
        if len(drawn) == 2:
            raise KeyboardInterrupt
        drawn.append(sample)
        return sample

    with pytest.raises(KeyboardInterrupt):
        Trainer(recipe(), tmp_path / "broken").train(interrupted)
    second = Trainer(recipe(), tmp_path / "broken")
    second.resume()
    assert second.step == 2
    second.train(lambda rng: sample)
    for name, weights in whole.model.state_dict().items():
        assert torch.equal(weights, second.model.state_dict()[name]), name

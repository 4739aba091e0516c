"""Prompts simulated on the device equal those of the host, and nothing in their making waits for the device."""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager

import edt
import numpy as np
import pytest
import torch

from CTSAM3DLib.clicks.simulation import next_click
from CTSAM3DLib.segmentation.prompt_maps import click_maps
from Testing.training.waiting import NothingWaits
from training.learning import draws, starting_masks, strokes
from training.learning.clicks import MANNERS, Clicks, error_region, first_clicks, next_clicks
from training.learning.distance import FAR, MAX_AXIS, MAX_REACH, squared_depth, squared_distance
from training.learning.morphology import highest_near, resized_by
from training.learning.prompt_maps import PromptMaps

N = 64


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


def ball(centre, radius, n=N):
    grid = np.indices((n, n, n)).astype(float)
    return sum((axis - middle) ** 2 for axis, middle in zip(grid, centre, strict=True)) <= radius**2


def blobs(seed, n=N, count=4):
    rng = np.random.default_rng(seed)
    return np.any([ball(rng.integers(0, n, 3), rng.integers(1, n // 4), n) for _ in range(count)], axis=0)


def lollipop():
    """A thick ball with a thin rod, whose voxels have depth 1."""
    truth = ball((16, 16, 9), 7, 32)
    truth[16, 16, 9:30] = True
    return truth


def batch(*masks):
    return torch.from_numpy(np.stack(masks))[:, None]


def repeated(mask, count):
    return batch(mask).expand(count, -1, -1, -1, -1)


def at(volume, position):
    z, y, x = position.unbind(1)
    return volume[torch.arange(len(position)), 0, z, y, x]


# Distances


@pytest.mark.parametrize("kept", [0.0, 0.5, 0.9, 0.99, 0.999, 0.9999, 1.0])
def test_depth_is_that_of_edt(kept):
    masks = np.random.default_rng(3).random((3, N, N, N)) < kept
    expected = np.stack([edt.edt(mask, black_border=True) for mask in masks]) ** 2
    assert np.array_equal(squared_depth(torch.from_numpy(masks)).numpy(), np.rint(expected))


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 3, 4), (5, 64, 9), (33, 17, 64), (3, 2, 255)])
def test_depth_in_arrays_of_any_shape(shape):
    rng = np.random.default_rng(0)
    for kept in (0.8, 0.99, 1.0):
        mask = rng.random(shape) < kept
        expected = edt.edt(mask, black_border=True) ** 2
        assert np.array_equal(squared_depth(torch.from_numpy(mask)).numpy(), np.rint(expected))


def test_depth_of_blobs():
    masks = np.stack([blobs(seed) for seed in range(4)])
    expected = np.stack([edt.edt(mask, black_border=True) for mask in masks]) ** 2
    assert np.array_equal(squared_depth(torch.from_numpy(masks)).numpy(), np.rint(expected))


def test_too_long_an_axis_is_refused():
    with pytest.raises(ValueError, match="too long"):
        squared_depth(torch.zeros(1, 1, MAX_AXIS + 1, dtype=torch.bool))
    with pytest.raises(ValueError, match="too long"):
        squared_distance(torch.zeros(1, 1, 1, dtype=torch.bool), MAX_REACH + 1)


@pytest.mark.parametrize("reach", [0, 1, 3, 8, 30])
def test_distance_to_points_within_their_cubes(reach):
    n = 20
    points = np.random.default_rng(reach).random((2, n, n, n)) < 0.003
    found = squared_distance(torch.from_numpy(points), reach).numpy()
    grid = np.stack(np.indices((n, n, n)), axis=-1)
    for mask, distances in zip(points, found, strict=True):
        expected = np.full((n, n, n), FAR)
        for point in np.argwhere(mask):
            apart = np.abs(grid - point)
            held = apart.max(axis=-1) <= reach
            expected = np.where(held, np.minimum(expected, (apart**2).sum(axis=-1)), expected)
        assert np.array_equal(np.minimum(distances, FAR), expected)


# Clicks


@pytest.mark.parametrize("seed", range(12))
def test_next_clicks_are_those_of_the_host(seed):
    rng = np.random.default_rng(seed)
    noise = rng.random((2, 4, 24, 24, 24)) < rng.choice([0.3, 0.7, 0.95])
    shaped = np.stack([[blobs(100 * seed + 10 * k + i, 24) for i in range(4)] for k in range(2)])
    truths, predictions = np.concatenate([noise, shaped], axis=1)
    found = next_clicks(batch(*truths), batch(*predictions))
    assert found.there.all()
    for i, (truth, prediction) in enumerate(zip(truths, predictions, strict=True)):
        assert (tuple(found.position[i].tolist()), bool(found.sign[i])) == next_click(truth, prediction, rng)


def test_next_clicks_in_patches_of_the_network():
    truths, predictions = [blobs(seed) for seed in range(6)], [blobs(seed) for seed in range(50, 56)]
    predictions[0], predictions[1], truths[2] = truths[0], np.zeros_like(truths[1]), np.zeros_like(truths[2])
    truths[3], predictions[3] = np.ones_like(truths[3]), np.zeros_like(truths[3])
    found = next_clicks(batch(*truths), batch(*predictions))
    assert found.there.tolist() == [False, True, True, True, True, True]
    for i in range(1, 6):
        expected = next_click(truths[i], predictions[i], np.random.default_rng(0))
        assert (tuple(found.position[i].tolist()), bool(found.sign[i])) == expected


@pytest.mark.parametrize("jitter", [0.1, 0.3, 0.5, 1.0])
def test_jitter_draws_from_the_voxels_that_the_host_draws_from(jitter, generator):
    truth, prediction = blobs(1, 24), blobs(2, 24)
    missed, excess = truth & ~prediction, prediction & ~truth
    depths = [edt.edt(mask, black_border=True) for mask in (missed, excess)]
    depth = max(depths, key=np.max)
    allowed = depth > (1.0 - jitter) * depth.max()
    count = 1000
    found = next_clicks(repeated(truth, count), repeated(prediction, count), jitter, generator)
    drawn, times = np.unique(found.position.numpy(), axis=0, return_counts=True)
    assert allowed[tuple(drawn.T)].all()
    assert len(drawn) > min(allowed.sum(), 500) * 0.8
    if allowed.sum() < 100:
        expected = count / allowed.sum()
        assert len(drawn) == allowed.sum()
        assert np.abs(times - expected).max() < 5 * np.sqrt(expected)


def test_jitter_can_differ_between_patches(generator):
    truth = repeated(ball((12, 12, 12), 8, 24), 400)
    jitter = torch.linspace(-1, 1, 400).sign().clamp(min=0) * 0.5
    found = next_clicks(truth, torch.zeros_like(truth), jitter, generator).position
    assert (found[:200] == 12).all()
    assert len(found[200:].unique(dim=0)) > 100


def test_next_clicks_refuse_different_shapes():
    with pytest.raises(ValueError, match="same shape"):
        next_clicks(torch.zeros(1, 1, 4, 4, 4, dtype=torch.bool), torch.zeros(1, 1, 4, 4, 5, dtype=torch.bool))


def test_error_region_is_that_of_the_sign():
    truth, prediction = blobs(1), blobs(2)
    found = error_region(repeated(truth, 2), repeated(prediction, 2), torch.tensor([True, False]))
    assert np.array_equal(found[:, 0].numpy(), np.stack([truth & ~prediction, prediction & ~truth]))


def test_first_clicks_are_uniform_over_the_foreground(generator):
    truth = np.zeros((8, 8, 8), bool)
    truth[1, 1, 1:3] = truth[7, 7, 7] = truth[0, 0, 0] = True
    first, second = first_clicks(repeated(truth, 4000), {"uniform": 2.0}, generator)
    drawn, times = first.position.unique(dim=0, return_counts=True)
    assert drawn.tolist() == np.argwhere(truth).tolist()
    assert (times - 1000).abs().max() < 150
    assert first.there.all()
    assert first.sign.all()
    assert not second.there.any()


@pytest.mark.parametrize("manner", MANNERS)
def test_first_clicks_are_as_people_make_them(manner, generator):
    truth = lollipop()
    count = 300
    first, second = first_clicks(repeated(truth, count), {manner: 1.0}, generator)
    depth = edt.edt(truth, black_border=True)
    position = tuple(first.position.numpy().T)
    assert first.there.all()
    if manner != "off":
        assert truth[position].all()
    if manner == "middle":
        assert (depth[position] == depth.max()).all()
    if manner == "border":
        assert (depth[position] <= 2).all()
        assert len(np.unique(depth[position])) > 1
    if manner == "thin":
        assert (position[2] > 15).all()
    if manner == "off":
        assert 0.05 < 1 - truth[position].mean() < 0.4
        assert (edt.edt(~truth)[position] < 2).all()
    if manner == "twice":
        apart = (second.position - first.position).abs().amax(dim=1)
        assert second.there.all()
        assert truth[tuple(second.position.numpy().T)].all()
        assert (apart >= 1).all()
        assert (apart <= 2).all()


def test_manners_come_by_their_shares(generator):
    truth = repeated(lollipop(), 400)
    first, second = first_clicks(truth, {"middle": 1.0, "thin": 1.0, "twice": 2.0}, generator)
    depth = at(squared_depth(truth), first.position)
    assert 160 < second.there.sum() < 240
    assert 70 < (depth[~second.there] == squared_depth(truth[0]).max()).sum() < 130
    drawn = draws.kinds({"b": 3.0, "d": 1.0}, "abcde", 8000, generator, torch.device("cpu"))
    assert drawn.unique().tolist() == [1, 3]
    assert abs((drawn == 1).sum() - 6000) < 200


def test_without_a_thin_part_clicks_are_anywhere(generator):
    first, _ = first_clicks(repeated(ball((12, 12, 12), 8, 24), 200), {"thin": 1.0}, generator)
    assert first.there.all()
    assert len(first.position.unique(dim=0)) > 150


@pytest.mark.parametrize("shares", [{"centre": 1.0}, {}, {"uniform": -1.0, "thin": 2.0}, {"uniform": 0.0}])
def test_shares_that_make_no_sense_are_refused(shares):
    with pytest.raises(ValueError, match=r"known|Shares"):
        first_clicks(torch.ones(1, 1, 4, 4, 4, dtype=torch.bool), shares)


# Maps


def test_maps_are_those_of_the_library(generator):
    count, rounds = 4, 9
    maps = PromptMaps.starting_from(torch.rand(count, 1, N, N, N))
    placed = [([], []) for _ in range(count)]
    for _ in range(rounds):
        clicks = Clicks(
            torch.randint(0, N, (count, 3), generator=generator) // 2,  # near one another, so that cubes overlap
            torch.rand(count, generator=generator) < 0.5,
            torch.rand(count, generator=generator) < 0.8,
        )
        maps.add(clicks)
        for i, (points, labels) in enumerate(placed):
            points.append(clicks.position[i].flip(0).tolist())
            labels.append(int(clicks.sign[i]) if clicks.there[i] else -1)
    found = maps.tensor()
    assert torch.equal(found[:, :1], maps.previous)
    for i, (points, labels) in enumerate(placed):
        np.testing.assert_allclose(found[i, 1:].numpy(), np.stack(click_maps(points, labels)), rtol=0, atol=1e-6)


def test_no_clicks_leave_empty_maps():
    maps = PromptMaps.starting_from(torch.zeros(1, 1, N, N, N))
    maps.add(Clicks(torch.zeros(1, 3, dtype=torch.int64), torch.ones(1, dtype=torch.bool), torch.zeros(1) > 0))
    assert not maps.tensor().any()


def test_a_scribble_is_the_union_of_the_gaussians_of_its_voxels(generator):
    truth = batch(blobs(1), blobs(2), np.zeros((N, N, N), bool))
    drawn = strokes.scribbles(truth, torch.tensor([True, False, True]), generator)
    maps = PromptMaps.starting_from(torch.zeros(3, 1, N, N, N))
    maps.add_scribbles(drawn)
    found = maps.tensor()
    for i, channel in enumerate((1, 2)):
        singles = [click_maps([voxel.flip(0).tolist()], [1])[0] for voxel in drawn.path[i].unique(dim=0)]
        np.testing.assert_allclose(found[i, channel].numpy(), np.max(singles, axis=0), rtol=0, atol=1e-6)
        assert not found[i, 3 - channel].any()
    assert not found[2].any()


# Strokes


@pytest.mark.parametrize("spacing", [1.5, 3.0])
def test_scribbles_lie_inside_and_have_their_length(spacing, generator):
    truth = batch(*[blobs(seed, count=6) for seed in range(9)])
    drawn = strokes.scribbles(truth, torch.ones(9, dtype=torch.bool), generator, spacing=spacing)
    assert drawn.there.all()
    assert not (drawn.points((N, N, N)) & ~truth).any()
    steps = drawn.path.diff(dim=1).float().norm(dim=2)
    assert (steps <= 3**0.5 + 1e-6).all()
    length = steps.sum(dim=1) * spacing
    assert (length >= 20).all()
    assert (length < 60 + 2 * spacing).all()
    assert len({round(float(mm)) for mm in length}) > 4


def test_scribbles_follow_a_thin_structure(generator):
    rod = np.zeros((N, N, N), bool)
    rod[20, 10:60, 20] = True
    drawn = strokes.scribbles(repeated(rod, 50), torch.ones(50, dtype=torch.bool), generator, lengths=(30.0, 30.0))
    assert (drawn.path[:, :, 1].amax(dim=1) - drawn.path[:, :, 1].amin(dim=1)).float().mean() > 6


def test_scribbles_start_where_they_are_told(generator):
    truth = repeated(ball((30, 30, 30), 9), 4)
    start = torch.full((4, 3), 30)
    drawn = strokes.scribbles(truth, torch.ones(4, dtype=torch.bool), generator, start=start)
    assert torch.equal(drawn.path[:, 0], start)


def test_a_single_voxel_is_a_scribble_of_one_voxel(generator):
    truth = np.zeros((N, N, N), bool)
    truth[0, 0, 63] = True
    drawn = strokes.scribbles(batch(truth), torch.ones(1, dtype=torch.bool), generator)
    assert np.array_equal(drawn.points((N, N, N))[0, 0].numpy(), truth)


def test_scribbles_refuse_lengths_that_make_no_sense():
    with pytest.raises(ValueError, match="must rise"):
        strokes.scribbles(torch.ones(1, 1, 4, 4, 4) > 0, torch.ones(1) > 0, lengths=(9.0, 3.0))


def test_boxes_hold_the_structure(generator):
    truth = repeated(blobs(1) & ball((32, 32, 32), 25), 100)
    boxes = strokes.boxes(truth, generator, flat_share=0.0)
    assert not (truth & ~boxes).any()
    for interior in boxes[:, 0]:
        hit, box = np.argwhere(truth[0, 0].numpy()), np.argwhere(interior.numpy())
        assert len(box) == np.prod(np.ptp(box, axis=0) + 1)
        assert ((hit.min(axis=0) - box.min(axis=0)) <= 3).all()
        assert ((box.max(axis=0) - hit.max(axis=0)) <= 3).all()


@pytest.mark.parametrize("drawn", [lambda t, g: strokes.boxes(t, g, flat_share=1.0), strokes.lassos])
def test_flat_strokes_hold_the_outline_on_one_slice(drawn, generator):
    truth = repeated(blobs(1, count=2) & ball((32, 32, 32), 25), 60)
    axes = set()
    for mask, interior in zip(truth[:, 0].numpy(), drawn(truth, generator)[:, 0].numpy(), strict=True):
        held = np.argwhere(interior)
        thin = np.flatnonzero(np.ptp(held, axis=0) == 0)
        assert len(thin) == 1
        axes.add(int(thin[0]))
        outline = np.take(mask, held[0, thin[0]], axis=thin[0])
        inside = np.take(interior, held[0, thin[0]], axis=thin[0])
        assert outline.any()
        assert not (outline & ~inside).any()
        wide = edt.edt(~outline)[inside & ~outline]
        assert wide.size == 0 or drawn is not strokes.lassos or wide.max() <= 5
    assert axes == {0, 1, 2}


def test_lassos_have_no_holes(generator):
    truth = repeated(ball((32, 32, 32), 14) & ~ball((32, 32, 32), 10), 40)
    middle = truth[:, :, 32, 32, 32]
    assert not middle.any()
    held = strokes.lassos(truth, generator)[:, 0]
    for interior in held.numpy():
        thin = int(np.flatnonzero(np.ptp(np.argwhere(interior), axis=0) == 0)[0])
        flat = interior.any(axis=thin)
        assert np.array_equal(flat, flat | _holes(flat))


def _holes(flat):
    from scipy.ndimage import binary_fill_holes

    return binary_fill_holes(flat)


def test_what_boxes_hold_is_unsure():
    interior = batch(ball((32, 32, 32), 9))
    mask = strokes.unsure(interior)
    assert mask.dtype == torch.float32
    assert torch.equal(mask == 0.5, interior)
    assert not (mask > 0.5).any()


# Masks to correct


@pytest.mark.parametrize("manner", starting_masks.MANNERS)
def test_starting_masks(manner, generator):
    from CTSAM3DLib.clicks.simulation import dice

    truth = batch(*[blobs(seed) & ball((32, 32, 32), 24) for seed in range(12)])
    hu = truth * 70.0 + torch.randn(truth.shape, generator=generator) * 15
    answer = torch.rand(truth.shape, generator=generator)
    masks = starting_masks.starting_masks(truth, hu, {manner: 1.0}, generator, answer)
    highest = masks.flatten(1).amax(dim=1)
    if manner == "none":
        assert not masks.any()
        return
    assert ((highest >= 0.7) & (highest <= 1.0)).all()
    assert len(highest.unique()) == len(highest)
    if manner == "answer":
        assert torch.equal(masks > 0.5, answer > 0.5)
        return
    kept = masks > 0.5
    assert torch.equal(kept, masks > 0)
    scores = [dice(t, m) for t, m in zip(truth[:, 0].numpy(), kept[:, 0].numpy(), strict=True)]
    assert 0.2 < np.mean(scores) < 0.98
    if manner == "cut":
        assert not (kept & ~truth).any()
    if manner == "joined":
        assert not (truth & ~kept).any()
        assert all(edt.edt(~t)[m].max() <= 5 for t, m in zip(truth[:, 0].numpy(), kept[:, 0].numpy(), strict=True))


def test_starting_masks_come_by_their_shares(generator):
    truth = repeated(ball((12, 12, 12), 3, 24), 400)
    masks = starting_masks.starting_masks(truth, torch.zeros(truth.shape), {"none": 3.0, "joined": 1.0}, generator)
    assert 70 < masks.flatten(1).any(dim=1).sum() < 130


def test_an_answer_that_is_missing_is_refused():
    truth = torch.ones(1, 1, 4, 4, 4, dtype=torch.bool)
    with pytest.raises(ValueError, match="no answer"):
        starting_masks.starting_masks(truth, truth, {"answer": 1.0})


def test_resizing_is_that_of_scipy():
    from scipy.ndimage import binary_dilation, binary_erosion

    masks = [blobs(seed) for seed in range(5)]
    found = resized_by(batch(*masks), torch.tensor([-2, -1, 0, 1, 3]), 3)[:, 0].numpy()
    expected = [
        binary_erosion(masks[0], iterations=2, border_value=1),
        binary_erosion(masks[1], border_value=1),
        masks[2],
        binary_dilation(masks[3]),
        binary_dilation(masks[4], iterations=3),
    ]
    assert np.array_equal(found, np.stack(expected))
    speck = batch(ball((9, 9, 9), 1))
    assert torch.equal(resized_by(speck, torch.tensor([-3]), 3), speck)


def test_highest_near_is_that_of_scipy():
    from scipy.ndimage import maximum_filter

    values = np.random.default_rng(0).integers(0, 999, (2, 9, 8, 7)).astype(np.int16)
    expected = [maximum_filter(part, 5, mode="nearest") for part in values]
    assert np.array_equal(highest_near(torch.from_numpy(values), 2).numpy(), np.stack(expected))


def test_moved_structures_are_shifted_without_wrapping(generator):
    truth = repeated(ball((2, 32, 61), 3), 100)
    masks = starting_masks.moved(truth, generator)
    assert not masks[:, :, 20:].any()
    assert not masks[..., :40].any()


# What holds of all of them


def prompts_of_all_kinds(truth, prediction, hu, generator):
    """Every public function once, each returning what the next takes."""
    shares = dict.fromkeys(MANNERS, 1.0)
    maps = PromptMaps.starting_from(
        starting_masks.starting_masks(truth, hu, dict.fromkeys(starting_masks.MANNERS, 1.0), generator, hu.sigmoid())
    )
    clicks = [*first_clicks(truth, shares, generator), next_clicks(truth, prediction, 0.5, generator)]
    clicks.append(next_clicks(truth, prediction, torch.zeros_like(clicks[0].sign, dtype=torch.float32), generator))
    for each in clicks:
        maps.add(each)
    region = error_region(truth, prediction, clicks[-1].sign)
    drawn = strokes.scribbles(region, clicks[-1].sign, generator, start=clicks[-1].position)
    maps.add_scribbles(drawn)
    maps.add_scribbles(strokes.scribbles(truth, clicks[-1].sign, generator))
    boxes, lassos = strokes.boxes(truth, generator), strokes.lassos(truth, generator)
    maps.previous = torch.maximum(maps.previous, strokes.unsure(boxes | lassos))
    return clicks, drawn, boxes, lassos, maps.tensor()


def test_patches_without_the_structure_get_no_prompt(generator):
    truth = batch(np.zeros((N, N, N), bool), blobs(0))
    hu = torch.full(truth.shape, -9.0)
    clicks, drawn, boxes, lassos, _ = prompts_of_all_kinds(truth, torch.zeros_like(truth), hu, generator)
    for each in clicks:
        assert not each.there[0]
    assert clicks[0].there[1]
    assert clicks[2].there[1]
    assert drawn.there[1]
    assert not drawn.there[0]
    assert not boxes[0].any()
    assert not lassos[0].any()
    assert boxes[1].any()
    assert lassos[1].any()
    made = [name for name in starting_masks.MANNERS if name not in ("none", "answer")]
    masks = starting_masks.starting_masks(truth, hu, dict.fromkeys(made, 1.0), generator)
    assert not masks[0].any()
    assert masks[1].any()


def test_the_same_generator_draws_the_same_prompts():
    truth, prediction = batch(blobs(0), blobs(1)), batch(blobs(2), blobs(3))
    hu = torch.zeros(truth.shape)
    first, again = (prompts_of_all_kinds(truth, prediction, hu, torch.Generator().manual_seed(5))[-1] for _ in range(2))
    assert torch.equal(first, again)


@pytest.mark.parametrize(
    "waits",
    [
        lambda x: x.sum().item(),
        lambda x: float(x.max()),
        lambda x: bool((x > 0).any()),
        lambda x: x.nonzero(),
        lambda x: x[x > 0],
        lambda x: x.masked_select(x > 0),
        lambda x: x.index_put_((x > 0,), torch.zeros_like(x)),
        lambda x: torch.equal(x, x),
        lambda x: x.unique(),
        lambda x: x + torch.tensor([1.0]),
        lambda x: torch.where(x > 0, x, 0.0),
        lambda x: x.to("meta"),
        lambda x: torch.repeat_interleave(x, torch.ones_like(x, dtype=torch.int64)),
    ],
)
def test_what_waits_is_seen(waits):
    x = torch.ones(5)
    with NothingWaits(), pytest.raises(AssertionError, match=r"waits|copie"):
        waits(x)


def test_nothing_waits_for_the_device(generator):
    truth, prediction = batch(blobs(0), np.zeros((N, N, N), bool)), batch(blobs(2), blobs(3))
    hu = torch.zeros(truth.shape)
    with NothingWaits():
        prompts_of_all_kinds(truth, prediction, hu, generator)


def test_nothing_needs_values_or_tensors_of_the_host():
    """On PyTorch's device of tensors without values, whatever needs a value or a tensor of the host is refused."""
    truth = torch.empty(2, 1, N, N, N, dtype=torch.bool, device="meta")
    *_, made = prompts_of_all_kinds(truth, truth.clone(), torch.empty(truth.shape, device="meta"), None)
    assert made.device.type == "meta"
    assert made.shape == (2, 3, N, N, N)
    with pytest.raises(RuntimeError, match="device"):
        _ = truth & torch.ones(2, 1, N, N, N, dtype=torch.bool)


@contextmanager
def refusing_to_wait():
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_nothing_waits_and_the_clicks_are_the_same():
    truth, prediction = batch(blobs(0), np.zeros((N, N, N), bool)), batch(blobs(2), blobs(3))
    on_gpu = [truth.cuda(), prediction.cuda(), torch.zeros(truth.shape).cuda()]
    generator = torch.Generator("cuda").manual_seed(0)
    prompts_of_all_kinds(*on_gpu, generator)  # what PyTorch sets up at the first use of an operation may wait
    with refusing_to_wait():
        prompts_of_all_kinds(*on_gpu, generator)
        found = next_clicks(*on_gpu[:2])
    for here, there in zip(next_clicks(truth, prediction), found, strict=True):
        assert torch.equal(here, there.cpu())


def test_a_machine_with_pytorch_alone_will_do():
    names = "clicks, distance, draws, morphology, prompt_maps, starting_masks, strokes"
    more = "scipy edt SimpleITK monai skimage cc3d pandas yaml CTSAM3DLib.model"
    code = f"import sys; from training.learning import {names}; print(*(set('{more}'.split()) & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == []

"""What workers do around foreign networks: the way of a click into a network and of its answer back onto the CT.

The networks are stand-ins that answer a ball around each positive point they are given, so that a turned axis, a wrong
order or a shifted grid shows. MONAI's own networks run by the real protocol.
"""

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

from CTSAM3DLib.imaging.volume import Geometry, Volume
from training.evaluation.comparisons.comparison import Comparison, SystemSettings
from training.evaluation.comparisons.process import ComparisonError
from training.evaluation.comparisons.systems import SYSTEMS
from training.evaluation.comparisons.workers import (
    automatic,
    clones,
    grids,
    segvol,
    slices,
    sliding,
    three_dsam_adapter,
    vista3d,
    weights,
)
from training.evaluation.comparisons.workers.serve import Refusal, Settings

SHAPE = (24, 40, 44)
SPACING = (3.0, 2.0, 2.5)
VOXEL = (6, 30, 12)
FRESH = Settings("fresh")


def hu():
    array = np.full(SHAPE, -1000, np.float32)
    array[2:22, 3:37, 4:40] = 40 + np.arange(36)
    return array


def ball(shape, points, radius):
    """Logits: 1 within the radius of a point, else -1."""
    axes = np.ogrid[tuple(slice(n) for n in shape)]
    inside = np.zeros(shape, bool)
    for point in np.reshape(points, (-1, 3)):
        inside |= sum((axis - n) ** 2 for axis, n in zip(axes, point, strict=True)) <= radius**2
    return torch.from_numpy(np.where(inside, 1.0, -1.0)).float()


def check_ball(mask, voxel, radius_mm):
    """A mask is a ball around a voxel, to within a voxel and a half."""
    inside = np.argwhere(mask)
    assert len(inside) > 20
    assert np.all(np.abs(inside.mean(0) - voxel) * SPACING < 3.0)
    assert np.all(np.abs(np.ptp(inside, axis=0) * SPACING - 2 * radius_mm) < 7)


class Vista(torch.nn.Module):
    def forward(self, image, point_coords, point_labels, patch_coords, transpose, **_):
        start = [part.start for part in patch_coords[0][2:]]
        points = point_coords[0][point_labels[0] == 1].numpy() - start
        return ball(image.shape[2:], points, 8)[None, None]


def test_vista3d_finds_the_click_again(monkeypatch):
    monkeypatch.setattr(vista3d, "vista3d132", lambda in_channels: Vista())
    system = vista3d.Vista3d(FRESH)
    system.set_volume(hu(), SPACING)
    assert not system.mask(None).any()
    system.click(VOXEL, True)
    check_ball(system.mask(None), VOXEL, 12)
    system.reset()
    system.click(VOXEL, False)
    assert not system.mask(None).any()


class Med3d(torch.nn.Module):
    """A ball on a grid of a quarter, and what it was asked with."""

    asked: list

    def __init__(self):
        super().__init__()
        self.asked = []

    def image_encoder(self, patch):
        return patch

    def prompt_encoder(self, points, boxes, masks):
        self.asked.append((points[0][0].numpy(), points[1][0].tolist(), float(masks.abs().max())))
        return points, None

    def mask_decoder(self, sparse_prompt_embeddings, **_):
        coordinates, signs = sparse_prompt_embeddings
        points = (coordinates[0][signs[0] == 1].numpy() + 0.5) / 4 - 0.5
        return ball((32, 32, 32), points, 3)[None, None], None


Med3d.prompt_encoder.get_dense_pe = lambda: None


@pytest.fixture
def sam_med3d(monkeypatch):
    """The worker with a stand-in for its package, which is not installed here."""
    package = ModuleType("medim")
    package.create_model = lambda name, pretrained: Med3d()
    monkeypatch.setitem(sys.modules, "medim", package)
    from training.evaluation.comparisons.workers import sam_med3d

    return sam_med3d.SamMed3d(FRESH)


def test_sam_med3d_goes_on_in_a_crop_and_opens_another_beyond_it(sam_med3d):
    sam_med3d.set_volume(hu(), SPACING)
    sam_med3d.click(VOXEL, True)
    check_ball(sam_med3d.mask(None), VOXEL, 18)
    sam_med3d.click((8, 28, 14), False)
    asked = sam_med3d._network.asked
    assert np.array_equal(asked[0][0], [[64, 64, 64]])  # the crop lies around the first click
    assert asked[1][1] == [1, 0]
    assert (asked[0][2], asked[1][2]) == (0, 1)  # the mask before goes in
    long = np.zeros((10, 10, 200), np.float32)
    sam_med3d.set_volume(long, SPACING)
    for x in (5, 190):
        sam_med3d.click((5, 5, x), True)
    assert len(sam_med3d._crops) == 2
    found = np.argwhere(sam_med3d.mask(None))[:, 2]
    assert found.min() < 8
    assert found.max() > 186


class OfSegVol(torch.nn.Module):
    def __init__(self, parts):
        super().__init__()
        self.boxes = []

    def forward(self, image, points, box):
        assert image.dtype == torch.float32
        self.boxes.append(box)
        radius = 3 if box is None else 2  # zoomed in, it answers another one
        places = np.zeros((0, 3)) if points is None else points[0][0][points[1][0] == 1].numpy()
        return ball(segvol.PATCH, places, radius)[None, None]


def test_segvol_zooms_in_on_what_it_found(monkeypatch):
    monkeypatch.setattr(segvol, "_Network", OfSegVol)
    registry = SimpleNamespace(sam_model_registry={"vit": lambda args: None})
    monkeypatch.setattr(segvol, "module_of", lambda settings, name: registry)
    system = segvol.SegVol(FRESH)
    system.set_volume(hu(), SPACING)
    system.click(VOXEL, True)
    inside = np.argwhere(system.mask(None))
    assert np.allclose(inside.mean(0), VOXEL, atol=0.01)
    assert np.array_equal(np.ptp(inside, axis=0), (4, 4, 4))
    first, second = system._network.boxes
    assert first is None
    assert second.shape == (1, 1, 6)


def test_3dsam_adapter_looks_around_its_positive_points(monkeypatch):
    held = {}

    def encoder(image):
        assert image.shape == (512, 3, 512, 512)
        return torch.zeros(1), [torch.zeros(1)] * 3

    def prompts(feature, points, size):
        held["points"] = points
        return feature

    def decoder(features, classes, scale):
        d, w, h = held["points"][0].T.numpy()  # its order
        inside = ball((three_dsam_adapter.SIDE,) * 3, np.stack([d, h, w], 1), 12)
        return torch.stack([-inside, inside])[None].permute(0, 1, 3, 4, 2) * 9

    encoder.to = prompts.to = decoder.to = lambda device: SimpleNamespace(eval=lambda: None)
    built = (encoder, [prompts] * 4, decoder)
    monkeypatch.setattr(three_dsam_adapter.ThreeDSamAdapter, "_built", lambda self: built)
    real = three_dsam_adapter.interpolate  # the real one would make 1.6 GB for the stand-in

    def cheap(image, size=None, scale_factor=None, **rest):
        if scale_factor == 4:
            return torch.zeros(1).expand(1, 3, 512, 512, 512)
        return real(image, size, scale_factor, **rest)

    monkeypatch.setattr(three_dsam_adapter, "interpolate", cheap)
    system = three_dsam_adapter.ThreeDSamAdapter(FRESH)
    system.set_volume(hu(), SPACING)
    system.click(VOXEL, True)
    system.click((2, 2, 2), False)
    check_ball(system.mask(None), VOXEL, 12)
    with pytest.raises(Refusal, match="no network for liver; choose data among: kits, lits, pancreas, colon"):
        three_dsam_adapter.ThreeDSamAdapter(Settings("fresh", options={"data": "liver"}))


def test_turning_to_ras_and_back_is_nothing():
    image = torch.from_numpy(hu())[None, None]
    turned = grids.to_ras(image)
    assert turned.shape[2:] == SHAPE[::-1]
    assert torch.equal(grids.from_ras(turned), image)
    assert turned[0, 0, -1, -1, 5] == image[0, 0, 5, 0, 0]  # the first voxel of a slice is the last to right and front


def test_resampling_keeps_the_box():
    image = grids.resampled(hu(), SPACING, (1.5, 1.5, 1.5))
    assert image.shape[2:] == (48, 53, 73)
    back = grids.brought_back(image, SHAPE)[0, 0].numpy()
    assert np.abs(back - hu())[4:20, 6:34, 8:36].max() < 2


def test_windows_are_eight_bits():
    level, width = slices.window_of("40,400")
    assert slices.windowed(np.array([-2000, -160, 40, 240, 3000]), level, width).tolist() == [0, 0, 128, 255, 255]
    for wrong in ("40", "a,b", "40,0"):
        with pytest.raises(Refusal, match="is not a window"):
            slices.window_of(wrong)


class Squares(slices.SliceWise):
    """Answers a square around the last point, smaller with each click; counts what it is asked."""

    def embed(self, image):
        assert image.dtype == np.uint8
        self.progress(0)
        return image.shape

    def segment(self, embedding, points, positive, previous):
        x, y = points[-1].astype(int)
        mask = np.zeros(embedding, bool)
        size = (previous or 6) - 1
        mask[y - size : y + size + 1, x - size : x + size + 1] = positive[-1]
        return mask, size


def test_slices_are_segmented_apart_and_only_when_clicked_again(monkeypatch):
    system = Squares(Settings())
    system.set_volume(hu(), SPACING)
    system.click((4, 20, 10), True)
    system.click((9, 12, 30), True)
    first = system.mask(None).copy()
    assert np.flatnonzero(first.any((1, 2))).tolist() == [4, 9]
    assert np.argwhere(first[4]).mean(0).tolist() == [20, 10]  # y, x
    embedded = []
    monkeypatch.setattr(system, "embed", embedded.append)
    system.click((9, 12, 30), True)
    second = system.mask(None)
    assert embedded == []
    assert np.array_equal(second[4], first[4])
    assert second[9].sum() == 9**2 < first[9].sum() == 11**2
    system.reset()
    assert not system.mask(None).any()


def test_weights_are_told_apart_and_checked(tmp_path):
    network = torch.nn.Linear(2, 3)
    path = tmp_path / "weights.pth"
    torch.save({"model": {f"module.{name}": value for name, value in network.state_dict().items()}}, path)
    other = torch.nn.Linear(2, 3)
    weights.load_into(other, path, trusted=False, key="model", prefix="module.")
    assert torch.equal(other.weight, network.weight)
    with pytest.raises(Refusal, match=r"weights.pth does not fit this network \(.*\); give another file"):
        weights.load_into(torch.nn.Linear(2, 4), path, trusted=False, key="model", prefix="module.")
    torch.save({"model": network.state_dict(), "epoch": SimpleNamespace(number=3)}, tmp_path / "more.pth")
    with pytest.raises(Refusal, match=r"more\.pth holds more than tensors, .* add --option trust=yes"):
        weights.load_into(other, tmp_path / "more.pth", trusted=False, key="model")
    weights.load_into(other, tmp_path / "more.pth", trusted=True, key="model")
    assert len(weights.identity(path)) == 8
    assert weights.identity(path) != weights.identity(tmp_path)  # a folder's names count as well
    assert weights.identity(None) == "fresh"
    with pytest.raises(Refusal, match="it needs a file; give it by --weights, or --weights fresh"):
        weights.chosen(Settings(), "a file")
    with pytest.raises(Refusal, match=r"none\.pth does not exist; give a file by --weights"):
        weights.chosen(Settings("none.pth"), "a file")


def test_a_clone_is_asked_for_and_checked(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(Refusal, match="it is no package; clone its repository"):
        clones.module_of(Settings(), "anything")
    with pytest.raises(Refusal, match="is not a folder"):
        clones.module_of(Settings(clone=str(tmp_path / "none")), "anything")
    (tmp_path / "of_a_clone.py").write_text("import no_such_package_at_all")
    with pytest.raises(Refusal, match=r"cannot be used .*no_such_package_at_all.*install what it needs"):
        clones.module_of(Settings(clone=str(tmp_path)), "of_a_clone")


def test_an_automatic_system_refuses_clicks():
    class Nothing(automatic.Automatic):
        def label_map(self, hu, spacing):
            raise AssertionError

    with pytest.raises(Refusal, match="it takes no clicks"):
        Nothing(Settings()).click(VOXEL, True)
    with pytest.raises(Refusal, match="it takes no clicks"):
        Nothing(Settings()).mask(None)


def small_ct():
    geometry = Geometry(SHAPE, (0.0, 0.0, 0.0), SPACING[::-1], (1, 0, 0, 0, 1, 0, 0, 0, 1))
    return Volume(hu().astype(np.int16), geometry)


@pytest.mark.parametrize(
    ("method", "options"),
    [("unetr", {"patch": "32,32,32"}), ("swin-unetr", {"patch": "64,64,64", "features": "12"})],
)
def test_monais_networks_answer_by_the_real_protocol(method, options, tmp_path):
    options = {"classes": "liver,spleen", "spacing": "6,6,6", **options}
    comparison = Comparison(SYSTEMS[method], "fresh", SystemSettings(options=tuple(options.items())))
    try:
        opened = comparison.open(small_ct())
        masks = [opened.structure(name).segment([]).mask.array for name in ("liver", "spleen")]
        assert opened.structure("pancreas") is None
        assert not np.any(masks[0] & masks[1])
        assert masks[0].sum() + masks[1].sum() > 0
        assert comparison.run.startswith(f"{method}-fresh-")
    finally:
        comparison.close()
    wrong = tmp_path / "wrong.pth"
    torch.save({"state_dict": {"a": torch.zeros(1)}}, wrong)
    with pytest.raises(ComparisonError, match=r"refuses: .*wrong.pth does not fit this network"):
        Comparison(SYSTEMS[method], str(wrong), SystemSettings(options=tuple(options.items())))


def test_weights_of_a_plan_are_not_run_without_it(tmp_path):
    class Planned(sliding.SlidingNetwork):
        OF_TRAINING = ("spacing", "sd")

        def build(self, labels):
            return torch.nn.Conv3d(1, labels, 1)

    path = tmp_path / "weights.pth"
    torch.save(torch.nn.Conv3d(1, 14, 1).state_dict(), path)
    with pytest.raises(Refusal, match="its weights go with the sd of their training; give them by --option"):
        Planned(Settings(str(path), options={"spacing": "3,3,3"}))
    assert Planned(Settings(str(path), options={"spacing": "3,3,3", "sd": "80"})).weights != "fresh"
    assert Planned(FRESH).weights == "fresh"

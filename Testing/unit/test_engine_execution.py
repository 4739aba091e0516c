"""Plain and fast execution: which is chosen, that they agree on real patches, and that answers are kept to the bit."""

import logging
import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch

from CTSAM3DLib.checkpoints.checkpoint import ModelInfo, TrainedModel
from CTSAM3DLib.checkpoints.load_model import load_model
from CTSAM3DLib.execution import engine as engine_module
from CTSAM3DLib.execution.cpu.fast_network import FastOnCpu
from CTSAM3DLib.execution.cuda_graphs import FastOnCuda
from CTSAM3DLib.execution.engine import Engine
from CTSAM3DLib.imaging.volume import Volume
from CTSAM3DLib.model import build
from CTSAM3DLib.segmentation.patch_grid import TileSampler
from CTSAM3DLib.segmentation.prompt_maps import click_maps
from Testing.support.data import DATA, needs_data

pytestmark = pytest.mark.model

CT = DATA / "ct" / "torso-3mm.nii.gz"


def paper_model() -> TrainedModel:
    """The paper's network, untrained but with masks that have borders: its logits are spread out."""
    torch.manual_seed(0)
    network = build("ctsam3d").eval()
    with torch.no_grad():
        network.decoder.mask_head.weight.mul_(10)
    return TrainedModel(network, ModelInfo("ctsam3d", (-200.0, 300.0)), "0" * 64)


@pytest.fixture(scope="module", params=["ctsam3d", "ctsam3d-small"])
def model(request) -> TrainedModel:
    return paper_model() if request.param == "ctsam3d" else load_model()


def engine_for(model: TrainedModel, plain: bool):
    engine = Engine(model, "cpu", plain=plain)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def fast(model):
    yield from engine_for(model, plain=False)


@pytest.fixture(scope="module")
def plain(model):
    yield from engine_for(model, plain=True)


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b))


@needs_data("ct/torso-3mm.nii.gz")
def test_masks_of_a_real_ct(model, fast, plain):
    """A first click, and clicks on top of the soft mask that came before: at least 0.999 of a mask is the same."""
    source = TileSampler(Volume.read(CT), model.info.spacing)
    middle = tuple(size // 2 - 32 for size in source.grid.shape)
    patch = source.patch(middle)
    features = {engine: engine.encode(patch) for engine in (fast, plain)}
    previous = np.zeros((64, 64, 64), np.float32)
    clicks: list[tuple[int, int, int]] = []
    for click in ((32, 32, 32), (20, 40, 30), (45, 25, 36)):
        clicks.append(click)
        prompts = np.stack([previous, *click_maps(clicks, [1] * len(clicks))])
        (given, quality), (expected, expected_quality) = (
            engine.decode([features[engine]], [prompts])[0] for engine in (fast, plain)
        )
        assert 0.001 < np.mean(expected > 127) < 0.999
        assert dice(given > 127, expected > 127) >= 0.999
        assert np.abs(given.astype(int) - expected).max() <= 2
        assert quality == pytest.approx(expected_quality, abs=1e-3)
        previous = np.maximum(expected, 1).astype(np.float32) / 255


def test_execution_is_said(fast, plain):
    assert (fast.execution, plain.execution) == ("cpu float32 fast", "cpu float32 plain")
    assert fast.precision == plain.precision == "float32"


def test_the_environment_can_ask_for_plain_execution(monkeypatch):
    monkeypatch.setenv("CTSAM3D_PLAIN", "1")
    engine = Engine(load_model(), "cpu")
    engine.close()
    assert engine.execution == "cpu float32 plain"


def test_what_disagrees_at_the_start_is_not_used(monkeypatch, caplog):
    class Wrong(FastOnCpu):
        def decode(self, levels, prompts):
            probability, quality = super().decode(levels, prompts)
            return 1 - probability, quality

    monkeypatch.setattr(engine_module, "fast_on_cpu", Wrong)
    with caplog.at_level(logging.WARNING):
        engine = Engine(load_model(), "cpu")
    engine.close()
    assert engine.execution == "cpu float32 plain"
    assert "using plain execution" in caplog.text


class Prefetching(FastOnCpu):
    """Notes what it makes ahead, and goes on with it until it has to stop."""

    supports_prefetch = True
    known: list[np.ndarray]
    began: threading.Event

    def prefetch(self, prompts, stop):
        self.known.append(prompts[0].numpy())
        self.began.set()
        while not stop():
            time.sleep(0.001)


@pytest.fixture
def prefetching(monkeypatch):
    monkeypatch.setattr(Prefetching, "known", [], raising=False)
    monkeypatch.setattr(Prefetching, "began", threading.Event(), raising=False)
    monkeypatch.setattr(engine_module, "fast_on_cpu", Prefetching)
    engine = Engine(load_model(), "cpu")
    yield engine
    engine.close()


@pytest.mark.usefixtures("prefetching")
def test_at_the_start_a_first_click_is_expected():
    assert Prefetching.began.wait(30)
    assert Prefetching.known[0].shape == (3, 64, 64, 64)
    assert not Prefetching.known[0].any()


def test_what_is_expected_is_made_ahead_until_something_is_asked(prefetching):
    prompts = np.random.default_rng(0).random((3, 64, 64, 64), np.float32)
    prefetching.encode(np.zeros((64, 64, 64), np.int16))
    Prefetching.began.clear()
    prefetching.prefetch(lambda: prompts)
    assert Prefetching.began.wait(30)
    assert np.array_equal(Prefetching.known[-1], prompts)
    prefetching.encode(np.zeros((64, 64, 64), np.int16))  # would wait for ever, did it not stop


def test_what_is_expected_waits_for_a_pause(prefetching, monkeypatch):
    patch, prompts = np.zeros((64, 64, 64), np.int16), np.zeros((3, 64, 64, 64), np.float32)
    features = prefetching.encode(patch)
    Prefetching.known.clear()
    monkeypatch.setattr(engine_module, "PREFETCH_DELAY_S", 3600)
    prefetching.prefetch(lambda: prompts)
    prefetching.decode([features], [prompts])
    prefetching.prefetch(lambda: prompts)
    prefetching.prefetch(lambda: prompts)
    prefetching.close()
    assert not Prefetching.known


def test_graphs_are_recorded_once_for_each_shape():
    """The bookkeeping of CUDA's graphs, with a recording that computes; the graphs themselves need a card."""
    network = load_model().network
    recorded = []

    def record(work, inputs):
        recorded.append([tuple(tensor.shape) for tensor in inputs])
        return work

    graphs = FastOnCuda(network, record)
    image = torch.rand(1, 1, 64, 64, 64)
    with torch.inference_mode():
        levels = graphs.encode(image)
        prompts = torch.rand(1, 3, 64, 64, 64)
        probability, quality = graphs.decode(levels, prompts)
        graphs.decode(graphs.encode(image), prompts)
        assert len(recorded) == 2
        graphs.decode([torch.cat([level, level]) for level in levels], torch.cat([prompts, prompts]))
        assert len(recorded) == 3
        expected, expected_quality = network.decode(network.encode(image), prompts)
    assert torch.equal(probability, expected)
    assert torch.equal(quality, expected_quality)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="this computer has no CUDA device")
def test_recorded_graphs_give_the_masks_of_plain_execution(model, plain):
    on_gpu = Engine(model, "cuda")
    assert on_gpu.execution.endswith("fast")
    rng = np.random.default_rng(0)
    patch = rng.normal(0, 200, (64, 64, 64)).astype(np.int16)
    prompts = [rng.random((3, 64, 64, 64), np.float32) for _ in range(3)]
    answers = on_gpu.decode([on_gpu.encode(patch)] * 3, prompts)
    expected = plain.decode([plain.encode(patch)] * 3, prompts)
    for (given, _), (mask, _) in zip(answers, expected, strict=True):
        assert np.mean((given > 127) != (mask > 127)) < 0.01
    on_gpu.close()


@pytest.mark.parametrize(("set_before", "expected"), [(None, "passive"), ("active", "active")])
def test_waiting_threads_sleep_unless_the_user_says_otherwise(set_before, expected):
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    if set_before:
        environment["OMP_WAIT_POLICY"] = set_before
    code = "import CTSAM3DLib, os; print(os.environ['OMP_WAIT_POLICY'])"
    printed = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert printed.stdout.strip() == expected

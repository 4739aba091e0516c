"""The engine when memory is short: smaller batches, the same answers, and a clear refusal at last."""

from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import torch

from CTSAM3DLib.checkpoints.checkpoint import ModelInfo, TrainedModel
from CTSAM3DLib.errors import MemoryForecastError
from CTSAM3DLib.execution.engine import Engine, memory_forecast
from CTSAM3DLib.model import build
from CTSAM3DLib.model.configs import SMALL


def predict_prompts(engine, patch, mask, neighbours):
    """Heat maps in neighbours of one patch."""
    return engine.predict_prompts([patch] * len(neighbours), [mask] * len(neighbours), neighbours)


def trained(network: torch.nn.Module) -> TrainedModel:
    return TrainedModel(network.eval(), ModelInfo(network.config.name, (-500.0, 700.0)), "0" * 64)


@pytest.fixture(scope="module")
def patches() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(-500, 700, (64, 64, 64)).astype(np.int16) for _ in range(3)]


@pytest.fixture(scope="module")
def prompts() -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [rng.random((3, 64, 64, 64), np.float32) for _ in range(3)]


class FaultyNetwork(torch.nn.Module):
    """Answers with its inputs, but fails for batches of more than `most`; it notes the batches."""

    config = SMALL

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error
        self.most = 100
        self.batches: list[int] = []

    def encode(self, image):
        self._fail_if_large(image)
        return [image]

    def decode(self, levels, prompts):
        self._fail_if_large(prompts)
        return prompts[:, :1], levels[0].mean(dim=(1, 2, 3, 4))

    def predict_prompts(self, image, mask, neighbour):
        self._fail_if_large(image)
        return neighbour

    def _fail_if_large(self, images):
        self.batches.append(len(images))
        if len(images) > self.most:
            raise self.error


@pytest.fixture
def faulty(request):
    """An engine for batches of up to 4, and its network, which fails with the error that the test is given."""
    network = FaultyNetwork(request.param)
    engine = Engine(trained(network), "cpu")
    engine._batch = 4
    network.batches.clear()
    yield engine, network
    engine.close()


out_of_memory = pytest.mark.parametrize(
    "faulty",
    [
        pytest.param(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), id="cuda"),
        pytest.param(RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."), id="cpu"),
        pytest.param(MemoryError(), id="python"),
    ],
    indirect=True,
)
DEFECT = RuntimeError("mat1 and mat2 shapes cannot be multiplied")


@out_of_memory
def test_batches_halve_when_memory_runs_out(faulty, patches, prompts):
    engine, network = faulty
    features = [engine.encode(patch) for patch in patches]
    network.batches.clear()
    network.most = 1
    answers = engine.decode(features, prompts)
    assert network.batches == [3, 2, 1, 1, 1]
    for (mask, _), prompt in zip(answers, prompts, strict=True):
        assert np.array_equal(mask, np.rint(prompt[0] * 255))
    network.batches.clear()
    heat_maps = predict_prompts(engine, patches[0], answers[0][0], patches[1:])
    assert network.batches == [1, 1], "the smaller batch is kept"
    assert not np.array_equal(*heat_maps)


@out_of_memory
def test_no_memory_for_one_patch(faulty, patches, prompts):
    engine, network = faulty
    features = engine.encode(patches[0])
    network.most = 0
    for work in (
        lambda: engine.encode(patches[0]),
        lambda: engine.decode([features], prompts[:1]),
        lambda: predict_prompts(engine, patches[0], np.zeros((64, 64, 64), np.uint8), patches[1:]),
    ):
        with pytest.raises(MemoryForecastError, match="not enough memory to segment one patch; close other programs"):
            work()
    network.most = 1
    assert len(engine.encode(patches[0])) == 1, "the engine goes on once there is memory again"


@pytest.mark.parametrize("faulty", [DEFECT], indirect=True)
def test_other_errors_pass_unchanged(faulty, patches, prompts):
    engine, network = faulty
    features = [engine.encode(patch) for patch in patches]
    network.batches.clear()
    network.most = 1
    with pytest.raises(RuntimeError) as raised:
        engine.decode(features, prompts)
    assert raised.value is DEFECT
    assert network.batches == [3]
    assert engine._batch == 4


def test_a_model_too_large_is_refused_before_it_is_loaded(monkeypatch):
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=100 * 2**20))
    with torch.device("meta"):
        network = build("ctsam3d")
    with pytest.raises(MemoryForecastError) as raised:
        Engine(trained(network), "cpu")
    message = str(raised.value)
    assert message.startswith("The model ctsam3d needs about ")
    assert message.endswith("on cpu, and 0.1 GiB are free; close other programs or choose a smaller model.")
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=64 * 2**30))
    Engine(trained(build("ctsam3d-small")), "cpu").close()


def test_memory_forecast_grows_with_model_and_batch():
    with torch.device("meta"):
        small, large = trained(build("ctsam3d-small")), trained(build("ctsam3d"))
    assert memory_forecast(small, 1) < memory_forecast(small, 2) < memory_forecast(large, 2)
    weights = 4 * sum(parameter.numel() for parameter in large.network.parameters())
    assert weights < memory_forecast(large, 1) < 4 * 2**30

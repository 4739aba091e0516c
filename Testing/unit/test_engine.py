"""The engine: the same answer whatever the batch, the thread and the device."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from CTSAM3DLib.checkpoints.checkpoint import ModelInfo, TrainedModel
from CTSAM3DLib.errors import ModelError
from CTSAM3DLib.execution.engine import Engine
from CTSAM3DLib.model import build
from Testing.relative import off

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="this computer has no CUDA device")


def predict_prompts(engine, patch, mask, neighbours):
    """Heat maps in neighbours of one patch."""
    return engine.predict_prompts([patch] * len(neighbours), [mask] * len(neighbours), neighbours)


def trained(network: torch.nn.Module) -> TrainedModel:
    return TrainedModel(network.eval(), ModelInfo(network.config.name, (-500.0, 700.0)), "0" * 64)


def small_model() -> TrainedModel:
    """Untrained, but with convolutions large enough to make masks that vary."""
    torch.manual_seed(0)
    network = build("ctsam3d-small")
    with torch.no_grad():
        for parameter in network.decoder.parameters():
            if parameter.ndim > 1:
                parameter.mul_(2)
    return trained(network)


@pytest.fixture(scope="module")
def engine():
    engine = Engine(small_model(), "cpu")
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def patches() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.normal(0, 300, (64, 64, 64)).astype(np.int16) for _ in range(3)]


@pytest.fixture(scope="module")
def prompts() -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [rng.random((3, 64, 64, 64), np.float32) for _ in range(3)]


def test_masks_vary(engine, patches, prompts):
    """Else the comparisons below would mean little."""
    mask, quality = engine.decode([engine.encode(patches[0])], prompts[:1])[0]
    assert mask.shape == (64, 64, 64)
    assert mask.dtype == np.uint8
    assert 0.1 < np.mean(mask >= 128) < 0.9
    assert mask.std() > 5
    assert 0 <= quality <= 1


def test_encoding_twice_is_bit_identical(engine, patches):
    once, again = engine.encode(patches[0]), engine.encode(patches[0])
    assert [tuple(level.shape[2:]) for level in once] == [(n, n, n) for n in (64, 32, 32, 16, 8, 4, 2)]
    assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))
    assert not torch.equal(once[0], engine.encode(patches[1])[0])


def test_one_patch_alone_and_among_others(engine, patches, prompts):
    features = [engine.encode(patch) for patch in patches]
    together = engine.decode(features, prompts)
    for index, (mask, quality) in enumerate(together):
        ((alone, quality_alone),) = engine.decode([features[index]], [prompts[index]])
        assert np.array_equal(mask, alone)
        assert quality == quality_alone
    assert not np.array_equal(together[0][0], together[1][0])
    heat_maps = predict_prompts(engine, patches[0], together[0][0], patches[1:])
    assert np.array_equal(
        heat_maps[1],
        predict_prompts(engine, patches[0], together[0][0], patches[2:])[0],
    )
    assert heat_maps[0].shape == (64, 64, 64)
    assert not np.array_equal(*heat_maps)


def test_a_larger_batch_agrees(engine, patches, prompts):
    features = [engine.encode(patch) for patch in patches]
    single = engine.decode(features, prompts)
    mask = single[0][0]
    heat_maps = predict_prompts(engine, patches[0], mask, patches[1:])
    engine._batch = 2
    try:
        batched = engine.decode(features, prompts)
        batched_heat_maps = predict_prompts(engine, patches[0], mask, patches[1:])
    finally:
        engine._batch = 1
    assert len(batched) == 3
    for (a, quality_a), (b, quality_b) in zip(single, batched, strict=True):
        assert np.abs(a.astype(int) - b).max() <= 4
        assert quality_a == pytest.approx(quality_b, abs=1e-2)
    assert np.abs(np.subtract(heat_maps, batched_heat_maps)).max() < 0.1 * np.std(heat_maps)


def test_two_threads_get_their_own_answers(engine, patches, prompts):
    def answer(index):
        return engine.decode([engine.encode(patches[index])], [prompts[index]])[0]

    expected = [answer(index) for index in (0, 1)]
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(answer, (0, 1, 0, 1)))
    for index, (mask, quality) in enumerate(answers):
        assert np.array_equal(mask, expected[index % 2][0])
        assert quality == expected[index % 2][1]


def test_the_window_is_that_of_the_model(engine, patches):
    """What lies beyond the window looks like its end, and HU inside it do not matter by their offset."""
    low, high = engine.model.info.window
    clipped = np.clip(patches[0], low, high).astype(np.int16)
    assert not np.array_equal(clipped, patches[0])
    assert torch.equal(engine.encode(clipped)[0], engine.encode(patches[0])[0])
    bone = TrainedModel(engine.model.network, ModelInfo("bone", (low + 100, high + 100)), "0" * 64)
    with_bone_window = Engine(bone, "cpu")
    shifted = with_bone_window.encode(patches[0] + np.int16(100))
    with_bone_window.close()
    assert off(shifted[0], engine.encode(patches[0])[0]) < 1e-4


def test_nothing_asked_nothing_answered(engine, patches):
    assert engine.decode([], []) == []
    assert engine.predict_prompts([], [], []) == []


def test_features_of_lower_precision_can_still_be_decoded(engine, patches, prompts):
    """After a GPU's memory ran out, the CPU goes on in float32 with the bfloat16 features made there."""
    features = engine.encode(patches[0])
    lower = [level.to(torch.bfloat16) for level in features]
    ((mask, _),) = engine.decode([lower], prompts[:1])
    ((expected, _),) = engine.decode([features], prompts[:1])
    assert np.mean((mask >= 128) != (expected >= 128)) < 0.02


@pytest.mark.parametrize(
    ("device", "sentence"),
    [
        ("toaster", "'toaster' is not a device; use cpu, cuda or cuda:1."),
        ("", "'' is not a device; use cpu, cuda or cuda:1."),
        ("mps", "CT-SAM3D runs on cpu or cuda, not on 'mps'."),
        ("cuda:99", f"There is no CUDA device 'cuda:99' here ({torch.cuda.device_count()} found); use --device cpu."),
    ],
)
def test_unknown_devices(device, sentence):
    with pytest.raises(ModelError) as raised:
        Engine(small_model(), device)
    assert str(raised.value) == sentence


def test_the_best_device_is_found():
    engine = Engine(small_model())
    assert engine.device.startswith("cuda" if torch.cuda.is_available() else "cpu")
    assert engine.precision in ("float32", "bfloat16")
    engine.close()


@pytest.mark.gpu
@needs_cuda
def test_cuda_gives_the_masks_of_the_cpu(engine, patches, prompts):
    on_gpu = Engine(small_model(), "cuda")
    expected = engine.decode([engine.encode(patch) for patch in patches], prompts)
    answers = on_gpu.decode([on_gpu.encode(patch) for patch in patches], prompts)
    for (mask, quality), (mask_cpu, quality_cpu) in zip(answers, expected, strict=True):
        assert np.mean((mask >= 128) != (mask_cpu >= 128)) < 0.01
        assert quality == pytest.approx(quality_cpu, abs=0.05)
    (heat_map,) = predict_prompts(on_gpu, patches[0], expected[0][0], patches[1:2])
    (heat_map_cpu,) = predict_prompts(engine, patches[0], expected[0][0], patches[1:2])
    assert np.corrcoef(heat_map.ravel(), heat_map_cpu.ravel())[0, 1] > 0.99
    on_gpu.close()


@pytest.mark.gpu
@needs_cuda
def test_the_cpu_goes_on_when_the_gpu_is_full(engine, patches, prompts):
    crowded = Engine(small_model(), "cuda")
    features = [crowded.encode(patch) for patch in patches]
    decode = crowded._network.decode

    def full_gpu(levels, prompts):
        if levels[0].is_cuda:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return decode(levels, prompts)

    crowded._network.decode = full_gpu
    answers = crowded.decode(features, prompts)
    assert (crowded.device, crowded.precision) == ("cpu", "float32")
    expected = engine.decode([engine.encode(patch) for patch in patches], prompts)
    for (mask, _), (mask_cpu, _) in zip(answers, expected, strict=True):
        assert np.mean((mask >= 128) != (mask_cpu >= 128)) < 0.01
    crowded.close()

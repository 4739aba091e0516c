"""Checks and timings on a GPU, without SimpleITK and without a CT: the input is a synthetic patch.

Masks of the GPU are compared with those of the CPU; encoding, clicks and the 27 patches of the paper's neighbourhood
are timed, and their memory is measured.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from CTSAM3DLib.checkpoints.checkpoint import TrainedModel
from CTSAM3DLib.checkpoints.model_info import ModelInfo
from CTSAM3DLib.execution.engine import Engine
from CTSAM3DLib.model import build
from CTSAM3DLib.segmentation.prompt_maps import click_maps

CLICKS = ([(32, 32, 32)], [(32, 32, 32), (20, 30, 40)])
"""Voxels (x, y, z) of a first click, and of a first and a later click; the later click is negative."""
REPEATS = 10
NEIGHBOURHOOD = 27


def made_up_patch(seed: int = 0) -> NDArray[np.int16]:
    """A blob of soft tissue in fat, with noise: int16 HU (64, 64, 64)."""
    rng = np.random.default_rng(seed)
    along = np.arange(64) - 31.5
    distance = np.sqrt(along[:, None, None] ** 2 + (1.3 * along[:, None]) ** 2 + along**2)
    return (np.where(distance < 14, 60, -90) + rng.normal(0, 15, (64, 64, 64))).astype(np.int16)


def prompts(clicks: list[tuple[int, int, int]], previous: NDArray[np.uint8] | None = None) -> NDArray[np.float32]:
    """Previous mask, positive and negative clicks: (3, 64, 64, 64). The first click is positive, the others are not."""
    maps = click_maps(clicks, [1] + [0] * (len(clicks) - 1))
    return np.stack([np.zeros((64, 64, 64), np.float32) if previous is None else previous / np.float32(255), *maps])


def masks_agree(model: TrainedModel, device: str) -> dict[str, Any]:
    """The share of voxels that differ between the masks of the device and of plain execution on the CPU."""
    answers = []
    for engine in (Engine(model, "cpu", plain=True), Engine(model, device)):
        features = engine.encode(made_up_patch())
        answers.append([engine.decode([features], [prompts(clicks)])[0][0] for clicks in CLICKS])
        execution = engine.execution
        engine.close()
    plain, other = (np.stack(each) > 127 for each in answers)
    return {"execution": execution, "mask_voxels": int(plain.sum()), "differing_share": float(np.mean(plain != other))}


def timed(model: TrainedModel, device: str, seconds: float = math.inf) -> dict[str, float]:
    """Milliseconds of an encoding, a first and a later click and 27 patches, and MiB of the GPU's memory.

    The 27 patches are left out where they would take longer than the `seconds` that there are.
    """
    ends = time.monotonic() + seconds
    on_gpu = torch.device(device).type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    engine = Engine(model, device)
    patch = made_up_patch()
    features = engine.encode(patch)
    mask, _ = engine.decode([features], [prompts(CLICKS[0])])[0]
    later = prompts(CLICKS[1], mask)
    found = {
        "encode_ms": _milliseconds(lambda: engine.encode(patch)),
        "first_click_ms": _milliseconds(lambda: engine.decode([features], [prompts(CLICKS[0])])),
        "later_click_ms": _milliseconds(lambda: engine.decode([features], [later])),
    }
    of_one = (found["encode_ms"] + found["later_click_ms"]) / 1000
    if time.monotonic() + 3 * NEIGHBOURHOOD * of_one < ends:
        found["neighbourhood_ms"] = _milliseconds(
            lambda: [engine.decode([engine.encode(patch)], [later]) for _ in range(NEIGHBOURHOOD)], repeats=2
        )
    engine.close()
    if on_gpu:
        found["memory_mib"] = torch.cuda.max_memory_allocated() / 2**20
    return found


def paper_network() -> TrainedModel:
    """The paper's network with random weights; its times are those of a trained network."""
    torch.manual_seed(0)
    return TrainedModel(build("ctsam3d").eval(), ModelInfo("ctsam3d", (-1000.0, 1000.0)), "made up")


def _milliseconds(work: Callable[[], Any], repeats: int = REPEATS) -> float:
    """The median of several times; answers are arrays of the host, so nothing is still under way after one."""
    work()
    times = []
    for _ in range(repeats):
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return 1000 * float(np.median(times))

"""The cost of our networks for each patch: `python -m training.evaluation.efficiency --output costs.csv`.

These are the figures of supplementary Tables 1 and 4.

Parameters and multiply-adds are counted; seconds and memory are measured in a process of their own, with untrained
weights, for one patch of 64³ that is encoded and clicked once. Memory is that of the weights and of the work: on a GPU
the peak that PyTorch allocated, on a CPU how far the process grew.
"""

from __future__ import annotations

import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import psutil
import torch
import typer
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count

from CTSAM3DLib.atomic import atomic_write, check_output
from CTSAM3DLib.model import CTSAM3D, build
from CTSAM3DLib.run_command import run_command

NETWORKS = {"ctsam3d": "CT-SAM3D", "ctsam3d-small": "CT-SAM3D, small (bundled)"}
COLUMNS = ("system", "exhibit", "column", "clicks", "metric", "value", "source")
"""Those of `training/published.csv`."""
PATCH = "patch of 64×64×64"  # noqa: RUF001
REPEATS = 5
_PATCH = (64, 64, 64)


def measure(name: str, device: str) -> list[dict[str, Any]]:
    """The rows of one network; call in a fresh process, since its memory is compared to that before."""
    on = torch.device(device)
    before = psutil.Process().memory_info().rss
    network = build(name).to(on).eval()
    image, prompts = torch.rand(1, 1, *_PATCH, device=on), torch.rand(1, 3, *_PATCH, device=on)
    with torch.inference_mode():
        seconds = [_seconds(network, image, prompts) for _ in range(1 + REPEATS)][1:]
        peak = torch.cuda.max_memory_allocated(on) if on.type == "cuda" else _highest_memory() - before
        segmenting, proposing = multiply_adds(network, image, prompts)
    cross_patch = parameters(network.cross_patch)
    all_parameters = parameters(network)
    figures = [
        ("supplementary1", "segmentation network", "params_millions", (all_parameters - cross_patch) / 1e6),
        ("supplementary1", "segmentation network", "gflops", segmenting / 1e9),
        ("supplementary1", "cross-patch network", "params_millions", cross_patch / 1e6),
        ("supplementary1", "cross-patch network", "gflops", proposing / 1e9),
        ("supplementary4", PATCH, "params_millions", all_parameters / 1e6),
        ("supplementary4", PATCH, "gflops", (segmenting + proposing) / 1e9),
        ("supplementary4", PATCH, "latency_seconds", statistics.median(seconds)),
        ("supplementary4", PATCH, "memory_mb", peak / 1e6),
    ]
    where = torch.cuda.get_device_name(on) if on.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    common = {"system": NETWORKS[name], "clicks": "", "source": f"measured on {where}"}
    return [
        {**common, "exhibit": exhibit, "column": column, "metric": metric, "value": round(value, 4)}
        for exhibit, column, metric, value in figures
    ]


def _seconds(network: CTSAM3D, image: torch.Tensor, prompts: torch.Tensor) -> float:
    begun = time.perf_counter()
    network.decode(network.encode(image), prompts)
    if image.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begun


def multiply_adds(network: CTSAM3D, image: torch.Tensor, prompts: torch.Tensor) -> tuple[float, float]:
    """Multiply-adds of segmenting a patch with one click, and of the cross-patch network for one neighbour.

    `image` is (1, 1, 64, 64, 64), `prompts` (1, 3, 64, 64, 64).
    """
    # The decoder calls oneDNN itself, of which PyTorch's counter does not know.
    known = {torch.ops.aten.mkldnn_convolution: _convolution_operations}
    with FlopCounterMode(display=False, custom_mapping=known) as counter:
        network.decode(network.encode(image), prompts)
        segmenting = counter.get_total_flops()
        network.predict_prompts(image, prompts[:, :1], image)
    return segmenting / 2, (counter.get_total_flops() - segmenting) / 2


def _convolution_operations(
    x_shape: list[int], weight_shape: list[int], *_: object, out_shape: list[int], **__: object
) -> int:
    return conv_flop_count(x_shape, weight_shape, out_shape)


def parameters(module: torch.nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


def _highest_memory() -> int:
    """Peak memory of this process in bytes; the system reports KiB, macOS bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def measure_all(output: Path, networks: Sequence[str] = tuple(NETWORKS), device: str = "cpu") -> None:
    """Write the rows of these networks. Raises OutputError."""
    spawn = multiprocessing.get_context("spawn")
    lines: list[dict[str, Any]] = []
    for name in networks:
        with spawn.Pool(1) as pool:
            lines += pool.apply(measure, (name, device))
    with atomic_write(output) as temporary:
        pd.DataFrame(lines, columns=list(COLUMNS)).to_csv(temporary, index=False)


def main(
    output: Annotated[Path, typer.Option(help="The CSV to write.")],
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
) -> None:
    """Measure the networks."""
    check_output(output, (".csv",))
    measure_all(output, device=device)


if __name__ == "__main__":
    run_command(lambda: typer.run(main))

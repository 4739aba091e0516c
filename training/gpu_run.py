"""Checks, training and timings on a GPU within minutes, in one command: `python -m training.gpu_run --minutes 9 ...`.

It checks that the GPU's masks are the processor's, trains from the newest weights by the clock, then times answers. It
needs PyTorch, NumPy, safetensors, PyYAML and typer, and files that `training.prepare` and a run have left: nothing is
downloaded or prepared. Everything is written as it comes, so a kill loses a minute at most; the same command goes on.

OUTPUT gets checks.json, benchmarks.json, curve.csv, model.safetensors and the state in parts of less than 16 MiB.
"""

from __future__ import annotations

import json
import platform
import shutil
import time
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from CTSAM3DLib.checkpoints.checkpoint import load
from CTSAM3DLib.checkpoints.load_model import load_model
from training.learn import open_run
from training.learning import gpu_checks
from training.learning.distributed import World

BENCHMARK_S = 45.0
"""Seconds reserved for the benchmarks."""
MARGIN_S = 15.0
SAVE_S = 60.0
STATE = ("curve.csv", "model.safetensors", "state-*.pt")


def main(
    minutes: Annotated[float, typer.Option(help="How long all of it may take.")],
    data: Annotated[Path, typer.Option(help="What training.prepare wrote.")],
    output: Annotated[Path, typer.Option(help="The folder that is brought back.")],
    plan: Annotated[Path, typer.Option(help="A recipe of the loop.")] = Path("whole-body-gpu.yaml"),
    begin: Annotated[Path | None, typer.Option(help="A folder with the state of a run, or a file of weights.")] = None,
    device: Annotated[str, typer.Option(help="cuda, or cpu to rehearse.")] = "cuda",
    benchmark: Annotated[bool, typer.Option(help="Whether to time answers at the end.")] = True,
) -> None:
    """Check, train and time on a GPU, in so many minutes."""
    ends = time.monotonic() + 60 * minutes
    output.mkdir(parents=True, exist_ok=True)
    if begin is not None and begin.is_dir():
        for pattern in STATE:
            for file in begin.glob(pattern):
                if not (output / file.name).exists():
                    shutil.copy(file, output / file.name)
    weights = begin if begin is not None and begin.is_file() else None

    checks: dict[str, Any] = {"machine": _machine(device)}
    _write(output / "checks.json", checks | {"bundled": gpu_checks.masks_agree(load_model(), device)})
    learner = open_run(plan, data, output, World(0, 1, torch.device(device)), weights)
    kept = MARGIN_S + (min(BENCHMARK_S, 12 * minutes) if benchmark else 0.0)
    first = learner.step
    started = time.monotonic()
    learner.learn(minutes=max(ends - kept - started, 1.0) / 60, log_every=20, save_s=SAVE_S)
    seconds = time.monotonic() - started
    steps = learner.step - first
    training = {"steps": steps, "seconds": seconds, "steps_a_second": steps / seconds}
    figures: dict[str, Any] = {"machine": _machine(device), "training": training}
    _write(output / "benchmarks.json", figures)
    if benchmark:
        trained, paper = load(output / "model.safetensors"), gpu_checks.paper_network()
        for name, model in (("ctsam3d-small", trained), ("ctsam3d", paper)):
            figures[name] = gpu_checks.timed(model, device, (ends - time.monotonic()) / 2)
            _write(output / "benchmarks.json", figures)
    typer.echo(json.dumps(figures, indent=1))


def _machine(device: str) -> dict[str, Any]:
    chip = torch.cuda.get_device_name() if torch.device(device).type == "cuda" else platform.processor()
    return {"device": device, "chip": chip, "threads": torch.get_num_threads(), "torch": torch.__version__}


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)

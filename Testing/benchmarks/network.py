"""What each answer of the network costs, beside the plain execution of the same weights in the same run.

    python -m Testing.benchmarks.network [--model ctsam3d | ctsam3d-small] [--weights FILE] [--json]

Prompts are those of a session on a real CT: a first click, a later click with the soft previous mask, and neighbours
that growth prompts. How fast an answer is depends on where prompts vary, and on what is known from before; so each
question comes after the one that precedes it in a session, either at once or after a pause, in which an engine makes
ready for the click that it expects. The paper's network has no published weights: `Testing.benchmarks.trained_like`
makes some that give masks, though unsure ones, which vary nearly everywhere. So it is also asked with the previous
masks of the bundled model, which was trained longer and is surer of itself.
"""

import json
import os
import platform
import resource
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from typing import Annotated

import edt
import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import nn

from CTSAM3DLib.checkpoints.checkpoint import TrainedModel, load
from CTSAM3DLib.checkpoints.load_model import load_model
from CTSAM3DLib.checkpoints.model_info import ModelInfo
from CTSAM3DLib.clicks.click import Click
from CTSAM3DLib.execution.engine import Engine
from CTSAM3DLib.imaging.volume import Volume
from CTSAM3DLib.model import build
from CTSAM3DLib.segmentation.growth import STRIDE
from CTSAM3DLib.segmentation.result import Result
from CTSAM3DLib.segmentation.session import Segmenter, Session
from Testing.support.data import DATA

LIVER = 5
OFFSETS_MM = ((0.0, 0.0, 0.0), (8.0, 4.0, 0.0), (-8.0, 0.0, 6.0))
"""Where the clicks lie from the voxel deepest in the liver."""
FROM_ENDS_MM = 48.0
"""How far that voxel is from the first and the last slice, so that patches are centred on it."""
PAUSE_S = 1.0
"""From one click to the next, for a user who looks at the mask."""
STRUCTURE_PATCHES = 27
"""The clicked patch and its 26 neighbours, all of which the paper decodes."""
MIB = 2**20


@dataclass
class Row:
    """One kind of answer; seconds are the least of all repetitions, which other work disturbs least."""

    step: str
    plain_s: float
    engine_s: float
    plain_cpu_s: float
    """Processor seconds, which other work disturbs less."""
    engine_cpu_s: float
    multiplications: float
    """Of the plain execution, in thousand millions."""
    dice: float | None = None
    most_different: float | None = None
    """Largest difference of a probability, in 255 steps."""


def main(
    model: Annotated[str, typer.Option(help="ctsam3d or ctsam3d-small.")] = "ctsam3d",
    weights: Annotated[str | None, typer.Option(help="A model file.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1.")] = "cpu",
    repeats: Annotated[int, typer.Option(min=1, help="How often each step is timed.")] = 5,
    structure: Annotated[bool, typer.Option(help="Also grow the liver from one click.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Time every question to the network, plainly and as the engine answers it."""
    trained = model_of(model, weights)
    memory = {kind: _peak_of_child(model, weights, device, kind == "plain") for kind in ("engine", "plain")}
    plain, engine = Engine(model_of(model, weights), device, plain=True), Engine(trained, device)
    volume, clicks = liver()
    asked = questions(engine, volume, clicks)
    peak = matrix_peak()
    rows = [_row(name, question, plain, engine, repeats) for name, question in asked.items()]
    report = {
        "network": trained.info.name,
        "weights": weights or ("bundled" if model == "ctsam3d-small" else "untrained"),
        "execution": engine.execution,
        "threads": torch.get_num_threads(),
        "matrix_peak_gmac_per_s": peak,
        "rows": [asdict(row) for row in rows],
        "structure": _structure(engine, volume, clicks[:1], rows) if structure else None,
        "peak_memory_mib": memory,
        "load_average": os.getloadavg()[0],
        "computer": f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}, torch {torch.__version__}",
    }
    if as_json:
        print(json.dumps(report, indent=2))
    else:
        _show(report, rows)


def model_of(name: str, weights: str | None) -> TrainedModel:
    """The bundled or given model; the paper's network with random weights where none are given."""
    if weights is not None:
        return load(weights)
    if name == "ctsam3d-small":
        return load_model(name)
    torch.manual_seed(0)
    return TrainedModel(build(name).eval(), ModelInfo(name, (-1000.0, 1000.0)), "untrained")


def liver() -> tuple[Volume, list[Click]]:
    """A CT, and clicks around the voxel that lies deepest in its liver, some way from the ends of the CT."""
    if (DATA / "ct" / "torso-3mm.nii.gz").is_file():
        volume = Volume.read(DATA / "ct" / "torso-3mm.nii.gz")
        labels = Volume.read(DATA / "label" / "torso-3mm.nii.gz").array
    else:
        from CTSAM3DLib.phantom.torso import torso

        phantom = torso()
        volume, labels = phantom.ct, phantom.labels
    depth = edt.edt((labels == LIVER).astype(np.uint8), black_border=True)
    ends = round(FROM_ENDS_MM / volume.geometry.spacing[2])
    depth[:ends] = depth[-ends:] = 0
    z, y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    deepest = volume.geometry.to_lps([[float(x), float(y), float(z)]])[0]
    return volume, [Click(tuple(float(v) for v in deepest + np.array(offset))) for offset in OFFSETS_MM]


@dataclass(frozen=True)
class Question:
    """What is asked of an engine, and what came before, which is not timed."""

    ask: Callable[[Engine], object]
    before: Callable[[Engine], object] = lambda engine: None


Decode = tuple[list, list]
"""Features and prompts."""


def questions(engine: Engine, volume: Volume, clicks: list[Click]) -> dict[str, Question]:
    """What a session asks of an engine, by name: with the prompts of a session of this very model."""
    recorder, session, result = recorded(engine, volume, clicks)
    (z, y, x), first, later = result.patches[0].start, recorder.decoded[0], recorder.decoded[-1]
    patch = session.source.patch((z, y, x))
    around = [(z, y, x + STRIDE), (z, y, x - STRIDE), (z, y + STRIDE, x), (z, y - STRIDE, x)]
    # What growth tells a neighbour: the mask where they overlap, and no click.
    overlaps = [np.zeros((3, *patch.shape), np.float32) for _ in around]
    for overlap, start in zip(overlaps, around, strict=True):
        overlap[0] = result.canvas.read(start).astype(np.float32) / 255
    neighbours = [session.features(start) for start in around], overlaps
    mask = result.canvas.read((z, y, x))
    found = {
        "encode": Question(lambda e: e.encode(patch)),
        "first click": after(later, first),  # that of another structure
        **_later_clicks("later click", recorder.decoded, recorder.expected),
        "4 neighbours": after(first, neighbours),
        "propose": Question(lambda e: e.predict_prompts([patch], [mask], [patch])),
    }
    if engine.model.info.name == "ctsam3d":
        found["first click, CT just opened"] = after(later, first, np.zeros_like(first[1][0]))
        bundled, _, _ = recorded(Engine(load_model(), "cpu"), volume, clicks)
        surer = [(first[0], prompts) for _, prompts in bundled.decoded]
        found |= _later_clicks("later click, surer mask", surer, bundled.expected)
    return found


def _later_clicks(name: str, decodes: list[Decode], expected: list[np.ndarray]) -> dict[str, Question]:
    """The last click after the one before it, at once and after a pause."""
    *_, before, last = decodes
    return {name: after(before, last), f"{name}, after a pause": after(before, last, expected[-2])}


def after(known: Decode, asked: Decode, expected: np.ndarray | None = None) -> Question:
    """A decode after another: at once, or after a pause for which prompts were expected."""

    def before(engine: Engine) -> None:
        engine.decode(*known)
        if expected is not None:
            engine.prefetch(lambda: expected)
            time.sleep(PAUSE_S)

    return Question(lambda engine: engine.decode(*asked), before)


class Recorder:
    """Stands in for an engine, and notes what it is asked to decode: features and prompts of every call."""

    def __init__(self, engine: Engine) -> None:
        self.model, self.execution = engine.model, engine.execution
        self.encode, self.predict_prompts = engine.encode, engine.predict_prompts
        self.decoded: list[tuple[list, list]] = []
        self.expected: list[np.ndarray] = []
        self._engine = engine

    def prefetch(self, prompts):
        self.expected.append(prompts())

    def decode(self, features, prompts):
        self.decoded.append((list(features), list(prompts)))
        return self._engine.decode(features, prompts)


def recorded(engine: Engine, volume: Volume, clicks: list[Click]) -> tuple[Recorder, Session, Result]:
    """A session in which the clicks came one after another, what it asked of the engine, and its last mask."""
    recorder = Recorder(engine)
    session = Segmenter(recorder).open(volume)  # type: ignore[arg-type]
    for count in range(1, len(clicks) + 1):
        result = session.segment(clicks[:count], reach="patch")
    return recorder, session, result


def _row(name: str, question: Question, plain: Engine, engine: Engine, repeats: int) -> Row:
    best = {"plain": [np.inf, np.inf], "engine": [np.inf, np.inf]}
    answers: dict[str, object] = {}
    for _ in range(repeats + 1):  # in turns, so that both meet the same disturbances; the first time is a warm-up
        for kind, answering in (("plain", plain), ("engine", engine)):
            question.before(answering)
            wall, processor = time.perf_counter(), time.process_time()
            answers[kind] = question.ask(answering)
            if answering.device.startswith("cuda"):
                torch.cuda.synchronize(answering.device)
            took = time.perf_counter() - wall, time.process_time() - processor
            best[kind] = [min(known, new) for known, new in zip(best[kind], took, strict=True)]
    row = Row(
        name,
        best["plain"][0],
        best["engine"][0],
        best["plain"][1],
        best["engine"][1],
        multiplications(plain.model.network, lambda: question.ask(plain)) / 1e9,
    )
    if "click" in name or "neighbours" in name:
        expected, given = ([p for p, _ in answers[kind]] for kind in ("plain", "engine"))
        both = sum(np.count_nonzero((a > 127) & (b > 127)) for a, b in zip(expected, given, strict=True))
        sizes = sum(np.count_nonzero(p > 127) for p in (*expected, *given))
        row.dice = 2 * both / sizes if sizes else 1.0
        row.most_different = float(max(np.abs(a.astype(int) - b).max() for a, b in zip(expected, given, strict=True)))
    return row


def multiplications(network: nn.Module, work: Callable[[], object]) -> float:
    """Multiply-adds of the convolutions and linear layers that some work runs through plainly."""
    counted = 0.0

    def count(module, inputs, output) -> None:
        nonlocal counted
        if isinstance(module, nn.ConvTranspose3d):
            counted += inputs[0].numel() * module.weight[0].numel()
        elif isinstance(module, nn.Conv3d):
            counted += output.numel() * module.weight[0].numel()
        else:
            counted += output.numel() * module.in_features

    layers = [m for m in network.modules() if isinstance(m, nn.Conv3d | nn.ConvTranspose3d | nn.Linear)]
    handles = [layer.register_forward_hook(count) for layer in layers]
    try:
        work()
    finally:
        for handle in handles:
            handle.remove()
    return counted


def matrix_peak() -> float:
    """Thousand millions of float32 multiply-adds a second in a large matrix product: what this computer can do."""
    a, b = torch.randn(2, 2048, 2048)
    seconds = []
    for _ in range(8):
        begun = time.perf_counter()
        torch.mm(a, b)
        seconds.append(time.perf_counter() - begun)
    return 2048**3 / min(seconds) / 1e9


def _structure(engine: Engine, volume: Volume, clicks: list[Click], rows: list[Row]) -> dict[str, float]:
    """One click grown to the whole structure, against plain decodes of the clicked patch and all 26 neighbours."""
    plain_s = next(row.plain_s for row in rows if row.step == "first click")
    first: list[float] = []
    session = Segmenter(engine).open(volume)
    begun = time.perf_counter()
    result = session.segment(clicks, progress=lambda _: first.append(time.perf_counter() - begun))
    done = time.perf_counter() - begun
    return {
        "first_mask_s": first[0] if first else done,
        "done_s": done,
        "patches": len(result.patches),
        "plain_decodes_s": STRUCTURE_PATCHES * plain_s,
        "times_faster": STRUCTURE_PATCHES * plain_s / done,
    }


def _peak_of_child(name: str, weights: str | None, device: str, plain: bool) -> float:
    """MiB that a process of its own takes at most to load the model and answer clicks: of a GPU's memory, if on one."""
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        return process.submit(_answer_and_measure, name, weights, device, plain).result()


def _answer_and_measure(name: str, weights: str | None, device: str, plain: bool) -> float:
    engine = Engine(model_of(name, weights), device, plain=plain)
    volume, clicks = liver()
    Segmenter(engine).open(volume).segment(clicks, reach="patch")
    if engine.device.startswith("cuda"):
        return torch.cuda.max_memory_reserved(engine.device) / MIB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / MIB


def _show(report: dict, rows: list[Row]) -> None:
    console = Console(width=130)
    headings = (
        "",
        "plain s",
        "engine s",
        "times",
        "processor: plain",
        "engine",
        "times",
        "of peak",
        "Dice",
        "most off",
    )
    table = Table(*headings, title=f"{report['network']}, weights: {report['weights']}")
    for row in rows:
        share = row.multiplications / row.engine_s / report["matrix_peak_gmac_per_s"]
        table.add_row(
            row.step,
            f"{row.plain_s:.3f}",
            f"{row.engine_s:.3f}",
            f"{row.plain_s / row.engine_s:.1f}",
            f"{row.plain_cpu_s:.2f}",
            f"{row.engine_cpu_s:.2f}",
            f"{row.plain_cpu_s / row.engine_cpu_s:.1f}",
            f"{share:.0%}",
            "" if row.dice is None else f"{row.dice:.5f}",
            "" if row.most_different is None else f"{row.most_different:.0f}/255",
        )
    console.print(table)
    if grown := report["structure"]:
        console.print(
            f"Whole structure: first mask after {grown['first_mask_s']:.2f} s, all {grown['patches']} patches after "
            f"{grown['done_s']:.2f} s; {STRUCTURE_PATCHES} plain decodes take {grown['plain_decodes_s']:.1f} s, "
            f"{grown['times_faster']:.1f} times as long."
        )
    memory = report["peak_memory_mib"]
    console.print(
        f"Peak memory of a process of its own: engine {memory['engine']:.0f} MiB, plain {memory['plain']:.0f} MiB. "
        f"{report['execution']}, {report['threads']} threads; float32 matrix peak "
        f"{report['matrix_peak_gmac_per_s']:.0f} GMAC/s; load {report['load_average']:.1f}; {report['computer']}"
    )


if __name__ == "__main__":
    typer.run(main)

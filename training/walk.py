"""Learn how a model's random walk weighs its evidence: `python -m training.walk MODEL --data DATA --output FILE`.

The walk (`CTSAM3DLib/segmentation/walk.py`) has some hundred weights. They are learnt on the patients that the plan
does not hold out, in rounds: structures are clicked at with the weights so far, by the protocol of
`training.evaluate`, what is known at some of the clicks is kept, and the weights descend on the Dice of the walk there.
The network's own weights stay as they are. FILE is the model with its walk, as `training.evaluate --weights` takes it;
with `--without-walk` that measures the same network alone.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from rich.progress import track

from CTSAM3DLib.atomic import check_output
from CTSAM3DLib.checkpoints import checkpoint as checkpoints
from CTSAM3DLib.checkpoints.checkpoint import TrainedModel
from CTSAM3DLib.clicks.simulation import first_click, simulate
from CTSAM3DLib.execution.engine import Engine
from CTSAM3DLib.imaging.resampling import as_image, interpolate
from CTSAM3DLib.imaging.volume import Volume
from CTSAM3DLib.model.network import CTSAM3D
from CTSAM3DLib.model.small.walk import CLICKS, EDGES, VOXELS, Walk
from CTSAM3DLib.run_command import run_command
from CTSAM3DLib.segmentation.evidence import Asked, coarser
from CTSAM3DLib.segmentation.session import Segmenter, Session
from CTSAM3DLib.segmentation.walk import evidence_around
from training.config import RecipeError
from training.data.datasets import CaseRecord, read_dataset
from training.evaluation.body_regions import region_of
from training.evaluation.click_protocol import click_rng
from training.evaluation.selection import spread
from training.learning.plan import Plan
from training.learning.walks import Situation, fit

CLICKS_OF_A_STRUCTURE = 9
KEPT = ((1,), (2, 3), (4, 5, 6), (7, 8, 9))
"""Of each of these counts of clicks one is kept."""
FEWEST_VOXELS = 100
BY_HAND = {"answer": (2.0, -2.0), "before": (0.3, -0.3), "clicks": (2.0, 2.0)}
BY_HAND |= {"near_5": (8.0, -4.0), "away_5": (-4.0, 8.0), "near_30": (0.0, -1.5)}
"""Where the descent begins: how the logarithms of the pulls in- and outwards rise with what is known."""
PULLS_BY_HAND = (-7.0, -7.5)
COSTS_BY_HAND = {"hu": 0.5, "noise": 0.5, "level": 10.0, "vectors": 20.0, "answer": 0.5, "places": 0.5}


def main(
    model: Annotated[Path, typer.Argument(help="Trained weights, with a walk or without.")],
    data: Annotated[Path, typer.Option(help="The data set to learn from.")],
    output: Annotated[Path, typer.Option(help="The model with its walk, .safetensors.")],
    plan: Annotated[str, typer.Option(help="The recipe that says who is held out.")] = "whole-body.yaml",
    hidden: Annotated[int, typer.Option(min=1, help="Hidden units of a new walk.")] = 16,
    structures: Annotated[int, typer.Option(min=1, help="Structures of a case that are clicked at in a round.")] = 3,
    cases: Annotated[int | None, typer.Option(min=1, help="At most so many cases in a round.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Of clicking and learning.")] = 2,
    minutes: Annotated[float, typer.Option(help="How long a round learns.")] = 10.0,
    rate: Annotated[float, typer.Option(help="Learning rate.")] = 8e-3,
    batch: Annotated[int, typer.Option(min=1, help="Situations of a step.")] = 4,
    seed: Annotated[int, typer.Option(help="Of all that is drawn.")] = 0,
) -> None:
    """Learn the weights of a walk by clicking at structures of patients that are not held out."""
    check_output(output, (".safetensors",))
    torch.manual_seed(seed)
    held_out = Plan.read(Path(plan)).held_out
    records = [record for record in read_dataset(data) if (record.patient or record.case) not in held_out]
    records = [record for record in records if record.labels]
    if not records:
        raise RecipeError(f"{data} has no labelled case of a patient that is not held out; choose another plan.")
    trained = with_walk(checkpoints.load(model), hidden)
    walk = trained.network.walk
    assert walk is not None  # with_walk
    situations: list[Situation] = []
    for count in range(rounds):
        order = np.random.default_rng([seed, count]).permutation(len(records))[:cases]
        engine = Engine(trained, "cpu")
        for index in track(order, f"clicking, round {count + 1}"):
            record = records[index]
            situations += met(Segmenter(engine), record, structures, seed + count)
        engine.close()
        fit(walk, situations, minutes, rate, batch, seed + count, _tell)
        checkpoints.save(output, trained.network, trained.info)


def with_walk(model: TrainedModel, hidden: int) -> TrainedModel:
    """The model with a walk that begins by hand, unless it has one. Raises ModelError where it has no semantics."""
    if model.network.walk is not None:
        return model
    config = dataclasses.replace(model.network.config, walk_width=hidden)
    network = CTSAM3D(config).eval()
    assert network.walk is not None
    network.load_state_dict({**network.state_dict(), **model.network.state_dict()})
    begin_by_hand(network.walk)
    return dataclasses.replace(model, network=network)


@torch.no_grad()
def begin_by_hand(walk: Walk) -> None:
    """Weights that follow edges and obey clicks; the hidden units count for little as yet."""
    walk.edge_costs.copy_(torch.tensor([math.log(COSTS_BY_HAND[kind]) for kind in EDGES]))
    walk.straight.bias.copy_(torch.tensor(PULLS_BY_HAND))
    kinds = (*CLICKS, *VOXELS)
    walk.straight.weight.copy_(torch.tensor([BY_HAND.get(kind, (0.0, 0.0)) for kind in kinds]).T)
    walk.hidden.weight.normal_(0, 0.3)
    walk.bent.weight.normal_(0, 0.02)


def met(segmenter: Segmenter, record: CaseRecord, structures: int, seed: int) -> Iterator[Situation]:
    """What is met by clicking at some structures of a case. Raises VolumeError."""
    ct = Volume.read(record.ct)
    labels = record.label_maps(ct)["labels"].array
    values = {name: value for value, name in record.labels.items()}
    large = [name for name, value in values.items() if np.count_nonzero(labels == value) >= FEWEST_VOXELS]
    session = segmenter.open(ct)
    for name in sorted(spread(f"{seed}/{record.case}", large, structures)):
        rng = click_rng(seed, record.case, name)
        truth = labels == values[name]
        kept = {int(rng.choice(counts)) for counts in KEPT}
        share = interpolate(as_image(truth.astype(np.float32), ct.geometry), session.grid.geometry, outside=0.0)
        answers = simulate(session, truth, first_click(truth, rng), CLICKS_OF_A_STRUCTURE)
        for count, (answer, _, _) in enumerate(answers, start=1):
            if count in kept:
                yield _situation(session, answer.clicks, region_of(record), share)


def _situation(session: Session, clicks: tuple, region: str, share: np.ndarray) -> Situation:
    *_, turn = session.steps(clicks, "structure")
    before = None
    if len(clicks) > 1:
        *_, earlier = session.steps(clicks[:-1], "structure")
        before = earlier.state.walked
    state = turn.state
    sights = [session.sight(start) for start in dict.fromkeys(patch.start for patch in state.patches)]
    asked = Asked.on(session.grid, clicks, state.quality)
    box, found = evidence_around(asked, state.canvas, before, sights, session.grid)
    truth = coarser(share[box], found.step) >= 0.5
    return Situation.of(region, found, truth, np.count_nonzero(share >= 0.5) / found.step**3)


def _tell(step: int, dice: float) -> None:
    typer.echo(f"step {step}: Dice {dice:.3f}")


if __name__ == "__main__":
    run_command(lambda: typer.run(main))

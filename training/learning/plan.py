"""What is learnt, in which shares and how fast: a recipe of the loop, read from YAML."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from CTSAM3DLib.model import CTSAM3D
from CTSAM3DLib.model.configs import config_named
from training.config import RecipeError, recipe_values
from training.learning.click_rounds import Prompting
from training.learning.looks import LookRange
from training.learning.poses import PoseRange

FOLDER = Path(__file__).parents[1] / "plans"
TASKS = ("label_maps", "clicks", "cross_patch")


@dataclass(frozen=True)
class Task:
    """One task of the loop.

    Attributes:
        share: of all steps; the shares need not sum up to 1.
        batch: patches of a step.
        rate: learning rate.
        rounds: of clicks on the same patches, each with a step of the optimiser.
        pieces: share of samples whose structure is a supervoxel.

    """

    share: float
    batch: int
    rate: float
    rounds: int = 1
    pieces: float = 0.0


@dataclass(frozen=True)
class Plan:
    """All that a run depends on but the data.

    Attributes:
        network, network_changes: the network by name, and sizes of it that are changed.
        held_out: patients that are not learnt from.
        regions: region to its share among the samples.
        tasks: of `TASKS`, by name.
        prompting, poses, looks: as in their modules.
        stray: how far, in voxels on each axis, a patch's centre strays from the structure that was drawn.
        warmup_steps: in which the rate rises. anneal: whether the rate falls with the time of a run that has one.
        ema_decay: of the running average of the weights, a step.
        precision: "float32" or "bfloat16".
        seed: of everything drawn.

    """

    network: str
    spacing: float
    window: tuple[float, float]
    regions: Mapping[str, float]
    tasks: Mapping[str, Task]
    prompting: Prompting
    held_out: tuple[str, ...] = ()
    network_changes: Mapping[str, Any] = field(default_factory=dict)
    poses: PoseRange = field(default_factory=PoseRange)
    looks: LookRange = field(default_factory=LookRange)
    stray: int = 22
    warmup_steps: int = 30
    anneal: bool = False
    weight_decay: float = 1e-2
    gradient_clip: float = 1.0
    ema_decay: float = 0.998
    precision: str = "bfloat16"
    seed: int = 0

    @classmethod
    def read(cls, path: Path | str) -> Plan:
        """From a YAML file, or one of training/plans by its name; `base` names one whose fields it changes.

        Raises RecipeError for what is missing, unknown, or cannot be.
        """
        values = recipe_values(Path(path), FOLDER)
        try:
            tasks = {name: Task(**fields) for name, fields in values.pop("tasks").items()}
            low, high = values.pop("window")
            plan = cls(
                prompting=Prompting(**values.pop("prompting")),
                poses=PoseRange(**_with_tuples(values.pop("poses", {}))),
                looks=LookRange(**values.pop("looks", {})),
                tasks=tasks,
                window=(low, high),
                **_with_tuples(values),
            )
        except (TypeError, KeyError, ValueError, AttributeError) as error:
            raise RecipeError(f"The recipe {path} cannot be followed ({error}); see whole-body.yaml.") from error
        if unknown := sorted(set(tasks) - set(TASKS)):
            raise RecipeError(f"{path} has the tasks {', '.join(unknown)}; choose from: {', '.join(TASKS)}.")
        if not any(task.share > 0 for task in tasks.values()):
            raise RecipeError(f"No task of {path} has a share above 0; give one a share.")
        return plan

    def build_network(self) -> CTSAM3D:
        """The untrained network; raises ModelError for an unknown name or size."""
        return CTSAM3D(dataclasses.replace(config_named(self.network), **_with_tuples(self.network_changes)))


def _with_tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}

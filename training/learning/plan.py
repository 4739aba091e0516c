"""The configuration of the training loop, read from YAML: tasks, sampling weights and learning rates."""

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
    """One training task.

    Attributes:
        share: sampling weight of the task among all steps; the weights need not sum to 1.
        batch: patches in a step.
        rate: learning rate.
        rounds: click rounds on the same patches, each with an optimiser step.
        pieces: share of samples whose target is a supervoxel.

    """

    share: float
    batch: int
    rate: float
    rounds: int = 1
    pieces: float = 0.0


@dataclass(frozen=True)
class Plan:
    """All settings of a run except the data.

    Attributes:
        network, network_changes: the network by name, and changed sizes.
        held_out: patients left out of training.
        regions: sampling weight of each region of the body.
        tasks: the tasks by name, of `TASKS`.
        prompting, poses, looks: sampling of prompts, poses and appearances, as in their modules.
        stray: centre jitter, voxels on each axis: the largest distance of a patch's centre from the drawn voxel.
        warmup_steps: steps in which the learning rate rises. anneal: whether the rate falls over the time of a run.
        ema_decay: decay of the moving average of the weights for each step.
        precision: "float32" or "bfloat16".
        seed: seed of all random draws.

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
        """Read a YAML file, or a file of training/plans by name; the key `base` names a file whose fields it overrides.

        Raises RecipeError for missing, unknown or invalid fields.
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

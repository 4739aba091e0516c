"""The configuration of a training run, a *recipe*: all settings except the data, read from YAML."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from CTSAM3DLib.errors import CTSAM3DError
from CTSAM3DLib.model import CTSAM3D
from CTSAM3DLib.model.configs import config_named

FOLDER = Path(__file__).with_name("recipes")
CHOICES = {
    "optimiser": ("adamw", "muon"),
    "schedule": ("cosine", "tenth"),
    "precision": ("float32", "bfloat16"),
}
PARTS = ("encoder", "decoder", "cross_patch")


class RecipeError(CTSAM3DError):
    """A recipe is missing or invalid."""


@dataclass(frozen=True)
class Recipe:
    """The settings of a run. One step is one batch of pairs of patches with all its click rounds.

    A batch is `micro_batches` of `pairs` each, spread over the processes of a run; their gradients are averaged before
    the optimiser step at the end of each round (Algorithm 1, line 7).
    """

    network: str
    spacing: float
    """mm. Voxel size of the patches."""
    window: tuple[float, float]
    """HU. Values that are scaled to 0 and 1."""
    steps: int
    micro_batches: int
    pairs: int
    rounds: int
    optimiser: str
    """`adamw` or `muon`."""
    learning_rate: float
    warmup_steps: int
    schedule: str
    """`cosine`, down to a fiftieth, or `tenth`, the paper's: a tenth of the rate from `tenth_from` on."""
    weight_decay: float
    gradient_clip: float
    ema_decay: float
    """Decay of the moving average of the weights for each round; 0 keeps the last weights."""
    precision: str
    """`float32` or `bfloat16`."""
    compile: bool
    cross_patch: bool
    """Whether the cross-patch network is trained."""
    continuation_share: float
    """Share of patches V that are first prompted as growth prompts a neighbour: by the mask in the overlap."""
    edit_share: float
    """Share of patches that start with a wrong mask to correct."""
    deviation: int
    """Centre jitter: largest distance, voxels on each axis, of a patch's centre from the voxel that a pair shares."""
    varied: bool
    """Whether patches are augmented (rotation, scale, appearance), or only cropped."""
    shares: dict[str, float]
    """Sampling weights of real labels, supervoxels and phantoms."""
    seed: int
    checkpoint_every: int
    held_out: tuple[str, ...] = ()
    """Cases left out of training."""
    frozen: tuple[str, ...] = ()
    """Parts of the network that are not trained: `encoder`, `decoder`, `cross_patch`. The voxel embedding never is,
    since it is learnt from label maps (`training.learn`)."""
    label_limit: int | None = None
    """Highest TotalSegmentator v1 index in training; 104 is the paper's ablation without the curated tissues."""
    tenth_from: float = 0.8
    """Share of all steps after which the schedule `tenth` lowers the rate."""
    network_changes: dict[str, Any] = field(default_factory=dict)
    """Fields of the network's configuration that differ from the named one, as in the ablations."""

    @classmethod
    def read(cls, path: Path | str) -> Recipe:
        """Read a YAML file, or a file of training/recipes by name; the key `base` names a recipe to override.

        Raises RecipeError for a missing file, and for missing, unknown or invalid fields.
        """
        values = recipe_values(Path(path))
        known = {field.name: field for field in dataclasses.fields(cls)}
        required = {name for name, field in known.items() if _has_no_default(field)}
        odd = sorted((required - values.keys()) | (values.keys() - known.keys()))
        if odd:
            raise RecipeError(f"The recipe {path} lacks or misspells the fields {', '.join(odd)}; see small.yaml.")
        if unknown := set(values.get("frozen", ())) - set(PARTS):
            raise RecipeError(f"{path} freezes {', '.join(sorted(unknown))}; choose from: {', '.join(PARTS)}.")
        for name, choices in CHOICES.items():
            if values[name] not in choices:
                raise RecipeError(f"{name} is '{values[name]}' in {path}; choose one of: {', '.join(choices)}.")
        lists: dict[str, Any] = {
            name: tuple(values[name]) for name in ("window", "held_out", "frozen") if name in values
        }
        return cls(**{**values, **lists})

    def build_network(self) -> CTSAM3D:
        """The untrained network; raises ModelError for an unknown name."""
        changes: dict[str, Any] = {
            key: tuple(v) if isinstance(v, list) else v for key, v in self.network_changes.items()
        }
        return CTSAM3D(dataclasses.replace(config_named(self.network), **changes))

    def scaled(self, hu: NDArray[np.int16]) -> NDArray[np.float32]:
        """Scale HU to the network's input: clipped to the window, 0..1, float32, the same shape."""
        low, high = self.window
        return (np.clip(hu, low, high) - low).astype(np.float32) / np.float32(high - low)

    def rate_at(self, step: float) -> float:
        """The learning rate at a step: a linear warm-up, then the schedule."""
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / (self.warmup_steps + 1)
        if self.schedule == "tenth":
            return self.learning_rate * (0.1 if step >= self.tenth_from * self.steps else 1.0)
        done = (step - self.warmup_steps) / max(self.steps - self.warmup_steps, 1)
        return self.learning_rate * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(done, 1.0))))


def _has_no_default(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def recipe_values(path: Path, folder: Path = FOLDER) -> dict[str, Any]:
    """The fields of a YAML file, or of a file of the folder by name, merged over those of its `base`.

    Raises RecipeError.
    """
    found = path if path.exists() else folder / path.name
    try:
        values = yaml.safe_load(found.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        ours = ", ".join(sorted(file.name for file in folder.glob("*.yaml")))
        raise RecipeError(f"There is no recipe {path}; give a file, or one of ours: {ours}.") from error
    except yaml.YAMLError as error:
        raise RecipeError(f"{path} is not YAML ({error}).") from error
    if not isinstance(values, dict):
        raise RecipeError(f"{path} is not a recipe; see those of {folder.name} for what one looks like.")
    base = values.pop("base", None)
    return values if base is None else {**recipe_values(found.with_name(base), folder), **values}

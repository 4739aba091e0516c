"""Load a bundled model by name, or a model from a file."""

from __future__ import annotations

from pathlib import Path

from CTSAM3DLib.checkpoints.bundled import bundled_models
from CTSAM3DLib.checkpoints.checkpoint import TrainedModel, load
from CTSAM3DLib.errors import ModelError


def load_model(
    name: str = "ctsam3d-small", weights: str | Path | None = None, window: tuple[float, float] | None = None
) -> TrainedModel:
    """The bundled model of this name, or the model in the file `weights`; `window` is in HU. Raises ModelError."""
    if weights is not None:
        return load(weights, window)
    bundled = bundled_models()
    if name in bundled:
        return load(bundled[name], window)
    if name == "ctsam3d":
        raise ModelError("The paper's model is not bundled; give its downloaded params.pth as weights.")
    raise ModelError(f"There is no model called '{name}'; choose one of: {', '.join(bundled)}.")

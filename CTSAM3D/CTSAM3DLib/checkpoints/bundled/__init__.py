"""The models that come with CT-SAM3D: safetensors files beside their model cards."""

from __future__ import annotations

from pathlib import Path


def bundled_models() -> dict[str, Path]:
    """The weight files of the bundled models by model name."""
    return {path.stem: path for path in sorted(Path(__file__).parent.glob("*.safetensors"))}

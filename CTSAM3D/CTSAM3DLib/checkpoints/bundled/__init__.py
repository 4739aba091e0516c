"""The models that come with CT-SAM3D, beside their cards."""

from __future__ import annotations

from pathlib import Path


def bundled_models() -> dict[str, Path]:
    """The files of the bundled models by name."""
    return {path.stem: path for path in sorted(Path(__file__).parent.glob("*.safetensors"))}

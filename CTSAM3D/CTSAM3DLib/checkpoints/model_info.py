"""What a model says of itself; known without loading it, and sent by servers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ModelInfo:
    """What a result has to say of the model it was made with."""

    name: str
    window: tuple[float, float]
    """HU that become 0 and 1."""
    spacing: float = 1.5
    """Voxel of the patches, mm."""
    cross_patch: bool = True
    """Whether its cross-patch network was trained; without, growth follows the overlap of patches alone."""
    labels: tuple[str, ...] = ()
    """Structures that it was trained on."""
    data_hash: str = ""
    """Identifies the training data."""
    licence: str = ""
    card: str = ""
    """The model card, Markdown."""

"""Model metadata, readable without loading the weights; servers send it to clients."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ModelInfo:
    """Metadata of a model, saved with its weights and recorded in results."""

    name: str
    window: tuple[float, float]
    """HU. Values that are scaled to 0 and 1."""
    spacing: float = 1.5
    """mm. Voxel size of the model grid."""
    cross_patch: bool = True
    """Whether the cross-patch network was trained; if not, growth is prompted by the overlap of patches alone."""
    labels: tuple[str, ...] = ()
    """Structures in the training data."""
    data_hash: str = ""
    """Identifies the training data."""
    licence: str = ""
    card: str = ""
    """The model card, Markdown."""

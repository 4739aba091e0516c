"""What a workspace's process is told by the front, as one line of JSON on its input."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel

from CTSAM3DLib.interaction.backends import KnownServer

DOOR_HEADER = "X-CTSAM3D-Door"
"""Carries the secret in every request of the front to a workspace: nobody else on the computer gets in."""


class Start(BaseModel, frozen=True):
    """All that a workspace needs to know."""

    folder: Path
    """Of its own; what it finds saved there it opens."""
    front: str
    """Address at which the front gives out the network."""
    secret: str
    """Proves the front to the workspace, and the workspace to the front."""
    models: tuple[str, ...]
    """Names of the models on this computer."""
    servers: tuple[KnownServer, ...] = ()
    ct: Path | None = None
    """A CT to begin with."""

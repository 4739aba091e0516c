"""Warm start: take the weights of a slightly different network where shapes allow."""

from __future__ import annotations

from pathlib import Path

import torch

from CTSAM3DLib.checkpoints.checkpoint import load
from CTSAM3DLib.model import CTSAM3D


@torch.no_grad()
def fitted(network: CTSAM3D, weights: Path) -> list[str]:
    """Load the weights of a file into a network; returns the names of its tensors that keep their values.

    A convolution with more input channels than the file's takes its weights, and zeros for the new channels, so that
    the network predicts as the file's. Raises ModelError where the file cannot be read.
    """
    trained = load(weights).network.state_dict()
    fresh = []
    for name, own in network.state_dict().items():
        given = trained.get(name)
        if given is None or given.ndim != own.ndim:
            fresh.append(name)
        elif given.shape == own.shape:
            own.copy_(given)
        elif given.ndim == 5 and given.shape[0] == own.shape[0] and given.shape[2:] == own.shape[2:]:
            if given.shape[1] < own.shape[1]:
                own.zero_()
                own[:, : given.shape[1]] = given
            else:
                fresh.append(name)
        else:
            fresh.append(name)
    return fresh

"""The weights of a system: a user's file, or random weights marked as such."""

from __future__ import annotations

import hashlib
import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .serve import FRESH, Refusal, Settings


def device_of(settings: Settings) -> torch.device:
    """The requested device; by default CUDA if available."""
    return torch.device(settings.device or ("cuda" if torch.cuda.is_available() else "cpu"))


def chosen(settings: Settings, what: str) -> Path | None:
    """The user's weights, or None for a random start from seed 0. Raises Refusal where there is neither.

    `what` tells the user which file or folder is meant.
    """
    if settings.weights is None:
        raise Refusal(f"it needs {what}; give it by --weights, or --weights {FRESH} for random ones that mean nothing.")
    if settings.weights == FRESH:
        random.seed(0)
        np.random.seed(0)
        torch.manual_seed(0)
        return None
    path = Path(settings.weights)
    if not path.exists():
        raise Refusal(f"{path} does not exist; give {what} by --weights.")
    return path


def identity(path: Path | None) -> str:
    """The start of the SHA-256 of a file, or of all files of a folder with their names; FRESH for None."""
    if path is None:
        return FRESH
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    digest = hashlib.sha256()
    for file in files:
        if file != path:
            digest.update(file.relative_to(path).as_posix().encode())
        with file.open("rb") as opened:
            for block in iter(lambda: opened.read(2**20), b""):
                digest.update(block)
    return digest.hexdigest()[:8]


def read(path: Path, trusted: bool) -> Any:
    """What PyTorch has saved in a file: tensors, and other objects only where its source is trusted.

    Raises Refusal where it holds others.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=not trusted)
    except pickle.UnpicklingError as error:
        raise Refusal(
            f"{path} holds more than tensors, so that reading it can run code; "
            "where you trust its source, add --option trust=yes."
        ) from error


def load_into(
    module: torch.nn.Module,
    path: Path | None,
    *,
    trusted: bool,
    key: str | None = None,
    prefix: str = "",
    without: str | None = None,
) -> None:
    """Fill a network with the tensors of a file, if one is given; all must be there and none be left over.

    `key` names the part of the file that holds them, where it has parts; `prefix` is what their names begin with, and
    those that begin with `without` after it are not wanted. Raises Refusal where they do not fit.
    """
    if path is None:
        return
    content = read(path, trusted)
    if key is not None and key in content:
        content = content[key]
    tensors = {name.removeprefix(prefix): value for name, value in content.items()}
    if without is not None:
        tensors = {name: value for name, value in tensors.items() if not name.startswith(without)}
    try:
        module.load_state_dict(tensors)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise Refusal(f"{path} does not fit this network ({reason}); give another file by --weights.") from error

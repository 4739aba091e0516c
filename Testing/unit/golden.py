"""Weights and inputs made from names alone, and what is kept of the published network's answers to them.

The published CT-SAM3D network was run once on these weights and inputs; `golden_network.npz` holds an `excerpt` of
each of its answers, so that our network can be held against it without the checkpoint.
"""

import json
import zlib
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
KEPT_WHOLE = 2**13
KEPT = 2000
"""Values kept of an answer that is larger."""


def published_weights() -> dict[str, np.ndarray]:
    """Return an array for every tensor of the published checkpoint, by its published name."""
    shapes = json.loads((HERE / "published_tensors.json").read_text())
    return {name: weight(name, tuple(shape)) for name, shape in shapes.items()}


def weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return values that depend on the name alone, of a size that keeps activations near 1."""
    rng = _generator(name)
    kind = name.rpartition(".")[2]
    if kind == "num_batches_tracked":
        return np.zeros(shape, np.int64)
    if kind == "running_var" or (kind == "weight" and len(shape) < 2):
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)
    scale = 0.1 if len(shape) < 2 else 1 / np.sqrt(np.prod(shape[1:]))
    return (scale * rng.standard_normal(shape)).astype(np.float32)


def inputs() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return an image, another image and a previous mask, (1, 1, 64, 64, 64) in 0..1."""
    rng = _generator("inputs")
    image, other, previous = (rng.random((1, 1, 64, 64, 64), np.float32) for _ in range(3))
    return image, other, previous


def excerpt(name: str, answer: np.ndarray) -> np.ndarray:
    """Return a small answer as it is; of a large one some values, chosen by its name, its mean and its spread."""
    if answer.size <= KEPT_WHOLE or name == "click_maps":  # mostly zeros, which compress
        return answer
    chosen = _generator(f"excerpt {name}").choice(answer.size, KEPT, replace=False)
    whole = answer.astype(np.float64)
    return np.append(answer.ravel()[chosen], [whole.mean(), whole.std()]).astype(np.float32)


def _generator(name: str) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(name.encode()))

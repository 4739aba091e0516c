"""The stream of training samples: pairs of overlapping patches with one structure, as in the paper's supplement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import SimpleITK as sitk

from training.phantoms import anatomy_like, torso
from training.real_volumes import AIR, BRIGHTEST, Foreground, RealVolume

PATCH = 64
DEVIATION = 28
"""How far, in voxels on each axis, a patch centre strays from the anchor: below half a patch, so both hold it."""

FEWEST_VOXELS = 30
PIECES = ("supervoxels_merged", "intensity")
"""Pseudo-labels to learn from; the finest supervoxels teach a network to answer a ball around every click."""

TORSO_SHARE = 0.5
"""Share of synthetic scenes that are whole torsos, whose organs have the sizes of real ones."""
MIXTURE = {"real-labels": 0.55, "supervoxels": 0.25, "phantom": 0.2}

Offset = tuple[int, int, int]


@dataclass(frozen=True)
class Sample:
    """Two overlapping patches of one CT and what belongs to one structure in them.

    Attributes:
        image_u, image_v: int16 HU, (64, 64, 64) in z, y, x.
        truth_u, truth_v: bool, the same shape; never empty.
        offset: (dz, dy, dx), first voxel of V minus first voxel of U.
        source: "real-labels", "supervoxels" or "phantom".

    """

    image_u: np.ndarray
    image_v: np.ndarray
    truth_u: np.ndarray
    truth_v: np.ndarray
    offset: Offset
    source: str


class RealSamples:
    """Samples of real CTs.

    Organ labels are drawn evenly over (volume, label) pairs, weighted so that the few cases with many structures get
    about as many draws as the many cases with few; pseudo-labels by the square root of their size.
    """

    def __init__(self, volumes: Sequence[RealVolume]) -> None:
        self._volumes = volumes
        organs, pieces, organ_weights, piece_weights = [], [], [], []
        for number, volume in enumerate(volumes):
            annotated = [name for name in ("labels", "tissue") if name in volume.labels]
            structures = sum(len(volume.foreground[name].labels) for name in annotated)
            for name, foreground in volume.foreground.items():
                rows = [(number, name, row) for row in range(len(foreground.labels))]
                if name in annotated:
                    organs += rows
                    organ_weights.append(np.full(len(rows), structures**0.4))
                elif rows and name in PIECES:
                    pieces += rows
                    sizes = np.sqrt(foreground.counts)
                    piece_weights.append(sizes / sizes.sum())
        self._structures = {
            "real-labels": (organs, _cumulative(organ_weights)),
            "supervoxels": (pieces, _cumulative(piece_weights)),
        }

    def draw(self, rng: np.random.Generator, source: str = "real-labels") -> Sample:
        """Return a sample of the volumes' own labels ("real-labels") or of their pseudo-labels ("supervoxels").

        Raises:
            ValueError: no volume has labels of that source.

        """
        structures, cumulative = self._structures[source]
        if not structures:
            raise ValueError(f"No volume has {source}; give volumes that have, or set the share of {source} to 0.")
        while True:
            number, name, row = structures[np.searchsorted(cumulative, rng.random(), side="right")]
            volume = self._volumes[number]
            sample = _pair(volume.ct, volume.labels[name], volume.foreground[name], row, source, rng)
            if sample is not None:
                return sample


class PhantomSamples:
    """Samples of synthetic scenes; a pool of scenes is renewed one by one, each after `draws_per_scene` draws.

    The pool fills at its first draws, so the object itself costs nothing to make.
    """

    def __init__(self, scenes: int = 40, draws_per_scene: int = 25, edge: int = 112) -> None:
        self._scenes, self._draws_per_scene, self._edge = scenes, draws_per_scene, edge
        self._pool: list[tuple[np.ndarray, np.ndarray, Foreground]] = []
        self._draws = 0

    def draw(self, rng: np.random.Generator) -> Sample:
        """Return a sample of a random structure of a random scene."""
        while True:
            if len(self._pool) < self._scenes and self._draws % 4 == 0:
                self._pool.append(self._scene(rng))
            elif self._draws % self._draws_per_scene == 0:
                self._pool[rng.integers(len(self._pool))] = self._scene(rng)
            self._draws += 1
            ct, label_map, foreground = self._pool[rng.integers(len(self._pool))]
            row = int(rng.integers(len(foreground.labels)))
            sample = _pair(ct, label_map, foreground, row, "phantom", rng)
            if sample is not None:
                return sample

    def _scene(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, Foreground]:
        if rng.random() < TORSO_SHARE:
            phantom = torso(int(rng.integers(2**31)), spacing=(1.5, 1.5, 1.5))
            return np.asarray(phantom.ct.array, np.int16), phantom.labels, Foreground.of(phantom.labels)
        ct, label_map = anatomy_like(rng, (self._edge,) * 3)
        return ct, label_map, Foreground.of(label_map)


def mixed(
    rng: np.random.Generator,
    real: RealSamples,
    phantom: PhantomSamples,
    shares: Mapping[str, float] = MIXTURE,
) -> Sample:
    """Return a sample whose source is drawn by `shares`: source to weight, of any sum."""
    weights = np.array(list(shares.values()), float)
    source = list(shares)[rng.choice(len(weights), p=weights / weights.sum())]
    return phantom.draw(rng) if source == "phantom" else real.draw(rng, source)


def augment(sample: Sample, rng: np.random.Generator) -> Sample:
    """Return the sample flipped, turned and with another scanner's look; U and V, and their offset, alike.

    Flips on every axis with probability 1/2, the axes permuted with 1/5; HU scaled by 0.9 to 1.1 and shifted by up to
    20 HU; white noise of up to 25 HU on half of the samples, a light blur on one in seven.
    """
    axes = list(rng.permutation(3)) if rng.random() < 0.2 else [0, 1, 2]
    signs = rng.choice([-1, 1], size=3)
    steps = tuple(slice(None, None, int(sign)) for sign in signs)
    gain, shift = rng.uniform(0.9, 1.1), rng.uniform(-20, 20)
    noise = rng.uniform(0, 25) if rng.random() < 0.5 else 0.0
    blur = rng.uniform(0.4, 0.9) if rng.random() < 0.15 else 0.0

    def turn(patch: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(patch.transpose(axes)[steps])

    def look(patch: np.ndarray) -> np.ndarray:
        image = turn(patch).astype(np.float32)
        if blur:
            smooth = sitk.DiscreteGaussian(sitk.GetImageFromArray(image), variance=[blur**2] * 3, maximumKernelWidth=5)
            image = sitk.GetArrayFromImage(smooth)
        image *= gain
        image += shift
        if noise:
            image += noise * rng.standard_normal(image.shape, dtype=np.float32)
        return np.clip(image, AIR, BRIGHTEST, out=image).astype(np.int16)

    dz, dy, dx = (int(sample.offset[axis] * sign) for axis, sign in zip(axes, signs, strict=True))
    return replace(
        sample,
        image_u=look(sample.image_u),
        image_v=look(sample.image_v),
        truth_u=turn(sample.truth_u),
        truth_v=turn(sample.truth_v),
        offset=(dz, dy, dx),
    )


def _pair(
    ct: np.ndarray,
    label_map: np.ndarray,
    foreground: Foreground,
    row: int,
    source: str,
    rng: np.random.Generator,
) -> Sample | None:
    """Return a pair of patches around a random voxel of one label, or None when U shows too little of it."""
    anchor = np.array(np.unravel_index(foreground.draw(row, rng), ct.shape))
    start_u, start_v = anchor - PATCH // 2 + rng.integers(-DEVIATION, DEVIATION + 1, size=(2, 3))
    label = foreground.labels[row]
    truth_u = _patch(label_map, start_u, 0) == label
    if np.count_nonzero(truth_u) < FEWEST_VOXELS:
        return None
    truth_v = _patch(label_map, start_v, 0) == label
    dz, dy, dx = (start_v - start_u).tolist()
    return Sample(_patch(ct, start_u, AIR), _patch(ct, start_v, AIR), truth_u, truth_v, (dz, dy, dx), source)


def _patch(array: np.ndarray, start: np.ndarray, outside: int) -> np.ndarray:
    """Return the 64³ patch that begins at voxel `start`, `outside` where it leaves the array."""
    first = np.clip(start, 0, array.shape)
    last = np.clip(start + PATCH, 0, array.shape)
    inside = array[first[0] : last[0], first[1] : last[1], first[2] : last[2]]
    if inside.shape == (PATCH,) * 3:
        return np.array(inside)
    patch = np.full((PATCH,) * 3, outside, array.dtype)
    at, to = first - start, last - start
    patch[at[0] : to[0], at[1] : to[1], at[2] : to[2]] = inside
    return patch


def _cumulative(weights: list[np.ndarray]) -> np.ndarray:
    """Return the cumulative distribution over all weights, its end exactly 1."""
    if not weights:
        return np.ones(1)
    total = np.concatenate(weights).cumsum()
    return np.append(total[:-1] / total[-1], 1.0)

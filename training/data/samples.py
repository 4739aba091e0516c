"""Training samples: pairs of overlapping patches with one structure, as in the paper's supplement."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.ndimage import affine_transform, gaussian_filter, uniform_filter1d

from CTSAM3DLib.imaging.constants import AIR_HU, PATCH
from training.data.real_volumes import BRIGHTEST, Foreground, RealVolume
from training.phantoms.phantoms import anatomy_like, torso

MIN_VOXELS = 30
CONTRAST_SHARE = 0.4
"""Share of labelled samples in which the HU of structures change, as by contrast phases."""
UPRIGHT_SHARE = 0.8
"""Share of samples in the patient's orientation, which helps to tell structures apart."""
PIECES = ("supervoxels_merged", "intensity")
"""Pseudo-labels for training; from the finest supervoxels a network learns to predict a ball around every click."""

TORSO_SHARE = 0.5
"""Share of synthetic scenes that are whole torsos, whose organs have the sizes of real ones."""
_SCENES = 7  # seed of all scenes

Offset = tuple[int, int, int]


@dataclass(frozen=True)
class Cropping:
    """How the patches of a pair are placed around the voxel that both hold."""

    deviation: int = 20
    """Centre jitter: largest distance in voxels on each axis of a patch's centre from the voxel; below half a patch."""
    varied: bool = True
    """Whether patches are augmented (rotation, scale, appearance), or only cropped, as in the paper."""


@dataclass(frozen=True)
class Sample:
    """Two overlapping patches U and V of one CT, and the ground truth of one structure in them.

    Attributes:
        image_u, image_v: int16 HU, (64, 64, 64) in z, y, x.
        truth_u, truth_v: bool, the same shape; truth_u is never empty.
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
    """The sampler of real CTs.

    Organ labels are sampled over (volume, label) pairs, weighted so that the few cases with many structures come about
    as often as the many cases with few; pseudo-labels by the square root of their size.
    """

    def __init__(self, volumes: Sequence[RealVolume], cropping: Cropping = Cropping()) -> None:
        self._volumes, self._cropping = volumes, cropping
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
            recolour = name == "labels" and self._cropping.varied and rng.random() < CONTRAST_SHARE
            foreground = volume.foreground[name]
            sample = _pair(volume.ct, volume.labels[name], foreground, row, source, rng, self._cropping, recolour)
            if sample is not None:
                return sample


class PhantomSamples:
    """The sampler of synthetic scenes, from a pool that replaces one scene every few steps.

    Scenes are reproducible by number, so a resumed run samples the same scenes; the pool is filled on demand.
    """

    def __init__(
        self,
        spacing: float = 1.5,
        cropping: Cropping = Cropping(),
        scenes: int = 40,
        steps_per_scene: int = 4,
        edge: int = 104,
    ) -> None:
        self._spacing, self._cropping = spacing, cropping
        self._scenes, self._steps_per_scene, self._edge = scenes, steps_per_scene, edge
        self._pool: OrderedDict[int, tuple[np.ndarray, np.ndarray, Foreground]] = OrderedDict()

    def draw(self, rng: np.random.Generator, step: int) -> Sample:
        """Return a sample of a random structure of a random scene of the step's pool."""
        first = step // self._steps_per_scene
        while True:
            ct, label_map, foreground = self._scene(first + int(rng.integers(self._scenes)))
            row = int(rng.integers(len(foreground.labels)))
            sample = _pair(ct, label_map, foreground, row, "phantom", rng, self._cropping)
            if sample is not None:
                return sample

    def _scene(self, number: int) -> tuple[np.ndarray, np.ndarray, Foreground]:
        if number not in self._pool:
            while len(self._pool) >= self._scenes:
                del self._pool[min(self._pool)]
            self._pool[number] = self._made(np.random.default_rng([_SCENES, number]))
        return self._pool[number]

    def _made(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, Foreground]:
        if rng.random() < TORSO_SHARE:
            phantom = torso(int(rng.integers(2**31)), spacing=(self._spacing,) * 3)
            return np.asarray(phantom.ct.array, np.int16), phantom.labels, Foreground.of(phantom.labels)
        ct, label_map = anatomy_like(rng, (self._edge,) * 3)
        return ct, label_map, Foreground.of(label_map)


def mixed(
    rng: np.random.Generator,
    step: int,
    real: RealSamples | None,
    phantom: PhantomSamples,
    shares: Mapping[str, float],
) -> Sample:
    """Return a sample whose source is drawn by the sampling weights `shares`, of any sum.

    Raises ValueError if real volumes are drawn and there are none.
    """
    weights = np.array(list(shares.values()), float)
    source = list(shares)[rng.choice(len(weights), p=weights / weights.sum())]
    if source == "phantom":
        return phantom.draw(rng, step)
    if real is None:
        raise ValueError(f"A share of {source} needs CTs; give their folder, or set the share to 0.")
    return real.draw(rng, source)


@dataclass(frozen=True)
class Pose:
    """Spatial augmentation: rotation, mirroring and scaling about the voxel that both patches of a pair hold."""

    anchor: np.ndarray
    matrix: np.ndarray
    """(3, 3), from voxels of the patches to voxels of the CT, in z, y, x."""

    @classmethod
    def random(cls, anchor: np.ndarray, rng: np.random.Generator, upright_share: float = UPRIGHT_SHARE) -> Pose:
        """Draw a pose: mirrored left to right in half of the draws, rotated by about 12°, scaled by about 15 %.

        A share of the draws has any orientation.
        """
        if rng.random() < upright_share:
            matrix = np.diag([1.0, 1.0, rng.choice([-1.0, 1.0])])
        else:
            matrix = np.eye(3)[rng.permutation(3)] * rng.choice([-1, 1], size=3)
        if rng.random() < 0.7:
            skew = rng.normal(0, np.radians(8), (3, 3))
            turn, _ = np.linalg.qr(np.eye(3) + skew - skew.T)
            turn *= np.sign(np.diag(turn))
            matrix = matrix @ turn * np.exp(rng.normal(0, 0.1, 3) + rng.normal(0, 0.1))
        return cls(anchor, matrix)

    def read(self, array: np.ndarray, start: np.ndarray, outside: float, order: int) -> np.ndarray:
        """The 64³ voxels from `start` (relative to the anchor), interpolated linearly (order 1) or not at all (0)."""
        corners = self.anchor + (start + (PATCH - 1) * _CUBE) @ self.matrix.T
        first = np.clip(np.floor(corners.min(axis=0)).astype(int) - 1, 0, array.shape)
        last = np.clip(np.ceil(corners.max(axis=0)).astype(int) + 2, 0, array.shape)
        part = array[first[0] : last[0], first[1] : last[1], first[2] : last[2]]
        if 0 in part.shape:
            return np.full((PATCH,) * 3, outside, array.dtype)
        offset = self.anchor + self.matrix @ start - first
        return affine_transform(part, self.matrix, offset, (PATCH,) * 3, order=order, mode="constant", cval=outside)


_CUBE = np.indices((2, 2, 2)).reshape(3, -1).T


def augment(sample: Sample, rng: np.random.Generator) -> Sample:
    """Return the sample with an appearance augmentation, the same for U and V."""
    look = scanner_look(rng)
    return replace(sample, image_u=look(sample.image_u), image_v=look(sample.image_v))


def scanner_look(rng: np.random.Generator) -> Callable[[np.ndarray], np.ndarray]:
    """Draw an appearance augmentation: a function of a patch of int16 HU.

    HU are scaled by 0.9 to 1.1 and shifted by up to 20 HU; half of the draws add white noise of up to 25 HU, one in
    seven blurs lightly, and one in ten averages two or three slices along one axis.
    """
    gain, shift = rng.uniform(0.9, 1.1), rng.uniform(-20, 20)
    noise = rng.uniform(0, 25) if rng.random() < 0.5 else 0.0
    blur = rng.uniform(0.4, 0.9) if rng.random() < 0.15 else 0.0
    thick, axis = (int(rng.integers(2, 4)), int(rng.integers(3))) if rng.random() < 0.1 else (1, 0)

    def look(patch: np.ndarray) -> np.ndarray:
        image = patch.astype(np.float32)
        if blur:
            image = gaussian_filter(image, blur, truncate=2.5)
        if thick > 1:
            image = uniform_filter1d(image, thick, axis)
        image *= gain
        image += shift
        if noise:
            image += noise * rng.standard_normal(image.shape, dtype=np.float32)
        return np.clip(image, AIR_HU, BRIGHTEST, out=image).astype(np.int16)

    return look


def _pair(
    ct: np.ndarray,
    label_map: np.ndarray,
    foreground: Foreground,
    row: int,
    source: str,
    rng: np.random.Generator,
    cropping: Cropping,
    recolour: bool = False,
) -> Sample | None:
    """Return a pair of patches around a random voxel of one label, or None when U shows too little of it.

    With `recolour` the HU of every labelled structure change by up to about 40, as by contrast phases.
    """
    anchor = np.array(np.unravel_index(foreground.draw(row, rng), ct.shape))
    start_u, start_v = rng.integers(-cropping.deviation, cropping.deviation + 1, size=(2, 3)) - PATCH // 2
    pose = Pose.random(anchor, rng) if cropping.varied else Pose(anchor, np.eye(3))
    label = foreground.labels[row]
    labels_u = pose.read(label_map, start_u, 0, order=0)
    truth_u = labels_u == label
    if np.count_nonzero(truth_u) < MIN_VOXELS:
        return None
    labels_v = pose.read(label_map, start_v, 0, order=0)
    image_u, image_v = (pose.read(ct, start, AIR_HU, order=1) for start in (start_u, start_v))
    if recolour:
        change = rng.normal(0, 20, np.iinfo(label_map.dtype).max + 1).astype(np.int16)
        change[0] = 0
        image_u, image_v = image_u + change[labels_u], image_v + change[labels_v]
    dz, dy, dx = (start_v - start_u).tolist()
    return Sample(image_u, image_v, truth_u, labels_v == label, (dz, dy, dx), source)


def _cumulative(weights: list[np.ndarray]) -> np.ndarray:
    """Return the cumulative distribution over all weights, its end exactly 1."""
    if not weights:
        return np.ones(1)
    total = np.concatenate(weights).cumsum()
    return np.append(total[:-1] / total[-1], 1.0)

"""Volumes and clicks for the benchmarks of the server: real heads where there are any, else noisy torsos."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from CTSAM3DLib.clicks.click import Click
from CTSAM3DLib.imaging.volume import Volume
from Testing.support.data import DATA

CTS = DATA / "ct"
CLICKS_A_VISIT = 3
_BODY_HU = (-200, 300)


def volumes(count: int) -> list[Volume]:
    """Different CTs."""
    heads = sorted(CTS.glob("openkbp-*.nii.gz"))[:count]
    if len(heads) == count:
        return [Volume.read(path) for path in heads]
    from CTSAM3DLib.phantom.torso import torso

    ct = torso().ct
    noises = (np.random.default_rng(seed).normal(0, 10, ct.array.shape).astype(np.int16) for seed in range(count))
    return [Volume(ct.array + noise, ct.geometry, f"torso {number}") for number, noise in enumerate(noises)]


def visits(volume: Volume, seed: int) -> Iterator[list[list[Click]]]:
    """Without end: the growing lists of clicks that a user makes at one place in soft tissue, the last one negative."""
    rng = np.random.default_rng(seed)
    low, high = _BODY_HU
    body = np.argwhere((volume.array > low) & (volume.array < high))
    while True:
        place = body[rng.integers(len(body))]
        around = place + rng.integers(-6, 7, (CLICKS_A_VISIT, 3))
        voxels = np.clip(around, 0, np.subtract(volume.array.shape, 1))
        points = volume.geometry.to_lps(voxels[:, ::-1])
        clicks = [Click(tuple(map(float, point))) for point in points]
        clicks[-1] = Click(clicks[-1].position, positive=False)
        yield [clicks[:count] for count in range(1, CLICKS_A_VISIT + 1)]


def click_lists(volume: Volume, seed: int) -> Iterator[list[Click]]:
    """Without end: all lists of all visits, one after another."""
    return itertools.chain.from_iterable(visits(volume, seed))

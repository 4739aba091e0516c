"""Pseudo-labels for any CT without annotation: supervoxels and intensity regions.

Training on random regions of real images makes a click model general (ScribblePrompt, Wong et al., ECCV 2024; VISTA3D
and nnInteractive do the same). There are three maps on the CT's own grid, 0 outside the regions.
"""

from __future__ import annotations

import heapq

import cc3d
import numpy as np
import SimpleITK as sitk

SOFT_TISSUE = (-200, 300)
FAT = (-150, -30)
MIN_ML, MAX_ML = 10.0, 400.0
"""Size range of merged supervoxels, that of organs."""


def pseudo_labels(ct: np.ndarray, spacing: float) -> dict[str, np.ndarray]:
    """Return the uint16 maps "supervoxels_fine", "supervoxels_merged" and "intensity" of a CT.

    Args:
        ct: int16 HU, (z, y, x).
        spacing: voxel size of the isotropic grid, mm.

    """
    body = body_mask(ct)
    image = sitk.GetImageFromArray(ct.astype(np.float32))
    smooth = sitk.GetArrayFromImage(sitk.DiscreteGaussian(image, variance=[1.0] * 3, maximumKernelWidth=5))
    smoother = sitk.GetArrayFromImage(sitk.DiscreteGaussian(image, variance=[2.5] * 3, maximumKernelWidth=9))
    soft_tissue = np.clip(smoother, *SOFT_TISSUE)
    fine = _slic(soft_tissue, body, pieces_mm=15.0, spacing=spacing)
    return {
        "supervoxels_fine": fine,
        "supervoxels_merged": _merge(fine, soft_tissue, tolerance=18.0, voxel_ml=spacing**3 / 1000),
        "intensity": _intensity_regions(smooth, body, smallest=int(300 / spacing**3)),
    }


def body_mask(ct: np.ndarray) -> np.ndarray:
    """Return the largest piece above -300 HU, bool (z, y, x), its holes (lungs, bowel gas) filled slice by slice."""
    body = cc3d.largest_k(ct > -300, k=1, connectivity=6).astype(bool)
    for filled in body:
        air = np.pad(~filled, 1, constant_values=True)
        outside = cc3d.connected_components(air, connectivity=4)
        filled[:] = (outside != outside[0, 0])[1:-1, 1:-1]
    return body


def _slic(image: np.ndarray, body: np.ndarray, pieces_mm: float, spacing: float) -> np.ndarray:
    """Return SLIC supervoxels (Achanta et al., 2012) of the image inside the body, numbered from 1."""
    slic = sitk.SLICImageFilter()
    slic.SetSuperGridSize([max(2, round(pieces_mm / spacing))] * 3)
    slic.SetMaximumNumberOfIterations(5)
    slic.SetSpatialProximityWeight(10.0)
    regions = sitk.GetArrayFromImage(slic.Execute(sitk.GetImageFromArray(image)))
    regions[~body] = 0
    used = np.bincount(regions.ravel())
    used[0] = 0
    numbers = np.cumsum(used > 0)
    if numbers[-1] > np.iinfo(np.uint16).max:
        raise ValueError(f"{numbers[-1]} supervoxels do not fit 16 bits; raise the size of the pieces.")
    return np.where(used > 0, numbers, 0).astype(np.uint16)[regions]


def _merge(fine: np.ndarray, image: np.ndarray, tolerance: float, voxel_ml: float) -> np.ndarray:
    """Merge touching supervoxels greedily, nearest means first, up to organ size; regions below it are left out."""
    sizes = np.bincount(fine.ravel()).astype(np.float64)
    means = np.bincount(fine.ravel(), image.ravel(), sizes.size) / np.maximum(sizes, 1)
    sizes *= voxel_ml
    parent = np.arange(sizes.size)
    neighbours: list[set[int]] = [set() for _ in parent]
    for a, b in _touching(fine):
        neighbours[a].add(b)
        neighbours[b].add(a)

    def gap(a: int, b: int) -> float:
        return abs(means[a] - means[b])

    queue = [(gap(a, b), a, b) for a, near in enumerate(neighbours) for b in near if a < b and gap(a, b) < tolerance]
    heapq.heapify(queue)
    while queue:
        difference, a, b = heapq.heappop(queue)
        stale = parent[a] != a or parent[b] != b or difference != gap(a, b)
        if stale or sizes[a] + sizes[b] > MAX_ML:
            continue
        means[a] = (means[a] * sizes[a] + means[b] * sizes[b]) / (sizes[a] + sizes[b])
        sizes[a] += sizes[b]
        parent[b] = a
        neighbours[a] = (neighbours[a] | neighbours[b]) - {a, b}
        for other in neighbours[a]:
            neighbours[other] = (neighbours[other] - {b}) | {a}
            if gap(a, other) < tolerance:
                heapq.heappush(queue, (gap(a, other), min(a, other), max(a, other)))
    while (parent[parent] != parent).any():
        parent = parent[parent]
    parent[sizes[parent] < MIN_ML] = 0
    parent[0] = 0
    return parent.astype(np.uint16)[fine]


def _touching(regions: np.ndarray) -> np.ndarray:
    """Return the pairs (n, 2) of region numbers above 0 that share a face."""
    codes = []
    for axis in range(3):
        a = np.moveaxis(regions, axis, 0)[:-1].astype(np.uint32)
        b = np.moveaxis(regions, axis, 0)[1:].astype(np.uint32)
        border = (a != b) & (a > 0) & (b > 0)
        codes.append(np.unique((np.minimum(a, b)[border] << np.uint32(16)) | np.maximum(a, b)[border]))
    pairs = np.unique(np.concatenate(codes))
    return np.stack([pairs >> 16, pairs & 0xFFFF], axis=1).astype(np.int64)


def _intensity_regions(smooth: np.ndarray, body: np.ndarray, smallest: int) -> np.ndarray:
    """Return the connected pieces of bone and contrast, of air inside the body, and of fat, numbered from 1."""
    regions = np.zeros(smooth.shape, np.uint16)
    kinds = [smooth > 180, body & (smooth < -500), body & (smooth > FAT[0]) & (smooth < FAT[1])]
    for kind in kinds:
        pieces = cc3d.dust(cc3d.connected_components(kind & body, connectivity=6), threshold=smallest, connectivity=6)
        pieces, _ = cc3d.connected_components(pieces > 0, connectivity=6, return_N=True)
        regions = np.where(pieces > 0, pieces + regions.max(), regions).astype(np.uint16)
    return regions

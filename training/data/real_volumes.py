"""Real CTs and their label maps, resampled to the network's grid once and then read from a cache on disk."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import cc3d
import numpy as np
import SimpleITK as sitk
from rich.console import Console
from rich.progress import track
from scipy.ndimage import find_objects

from CTSAM3DLib.atomic import atomic_write
from CTSAM3DLib.errors import OutputError, VolumeError
from CTSAM3DLib.imaging.constants import AIR_HU, PAPER_SPACING
from CTSAM3DLib.imaging.geometry import Geometry, filled_box
from CTSAM3DLib.imaging.resampling import as_image, interpolate, shrunk
from CTSAM3DLib.imaging.volume import Volume
from training.data.datasets import CaseRecord
from training.data.supervoxels import pseudo_labels

BRIGHTEST = 3071
MARGIN_MM = 15.0
"""Margin around the body."""
BORDER = 8
"""Voxels. Margin around a label for its smoothing."""
PREPARATION = "4"
"""Version of the preprocessing; raise it with every change of its output, so that stale caches are not used."""


@dataclass(frozen=True)
class Foreground:
    """The foreground of a label map: for each label its number of voxels and a bounded sample of their indices."""

    labels: np.ndarray
    counts: np.ndarray
    starts: np.ndarray
    stops: np.ndarray
    voxels: np.ndarray

    @classmethod
    def of(cls, label_map: np.ndarray, limit: int = 4_000) -> Foreground:
        """Return the foreground of a label map; at most `limit` voxels of each label, drawn with a fixed seed."""
        flat = label_map.ravel()
        voxels = np.random.default_rng(0).permutation(np.flatnonzero(flat).astype(np.uint32))
        order = np.argsort(flat[voxels], kind="stable")
        voxels = voxels[order]
        labels, starts, counts = np.unique(flat[voxels], return_index=True, return_counts=True)
        kept = np.minimum(counts, limit)
        pieces = [voxels[start : start + count] for start, count in zip(starts, kept, strict=True)]
        stops = np.cumsum(kept)
        return cls(labels, counts, stops - kept, stops, np.concatenate(pieces) if pieces else voxels)

    def only(self, labels: Iterable[int]) -> Foreground:
        """Return the foreground of some of the labels."""
        rows = np.isin(self.labels, list(labels))
        return Foreground(self.labels[rows], self.counts[rows], self.starts[rows], self.stops[rows], self.voxels)

    def draw(self, row: int, rng: np.random.Generator) -> int:
        """Return the flat index of a random voxel of `labels[row]`."""
        return int(self.voxels[rng.integers(self.starts[row], self.stops[row])])


@dataclass(frozen=True)
class RealVolume:
    """One CT on an isotropic LPS grid, cropped to the body; its arrays are memory-mapped.

    Attributes:
        case: the name of the case in the data set.
        ct: int16 HU, (z, y, x), within [-1024, 3071].
        labels: label maps of the same shape: "labels" and "tissue" where the data have them (uint8 or uint16), and the
            pseudo-labels of `training.data.supervoxels` (uint16).
        foreground: the foreground of each label map; of "labels" and "tissue" only named labels.

    """

    case: str
    ct: np.ndarray
    labels: dict[str, np.ndarray]
    foreground: dict[str, Foreground]


def prepare(
    records: Sequence[CaseRecord],
    cache_folder: Path,
    spacing: float = PAPER_SPACING,
    pseudo: bool = True,
    jobs: int = 1,
    progress: bool = False,
) -> list[RealVolume]:
    """Return the preprocessed volumes of the records, from `cache_folder` where possible.

    Args:
        records: the cases of `training.data.datasets.read_dataset`, or some of them.
        cache_folder: created if absent; holds one folder for each case, named by the hash of contents and settings.
        spacing: voxel size of the isotropic grid, mm.
        pseudo: whether to compute pseudo-labels.
        jobs: number of processes.
        progress: whether to show a progress bar on stderr.

    Raises:
        VolumeError: files that cannot be read or do not fit each other; the other cases are prepared before.
        OutputError: the cache cannot be written.

    """
    cache_folder = Path(cache_folder)
    step = partial(_prepared_or_reason, cache_folder=cache_folder, spacing=spacing, pseudo=pseudo)
    each = _each(step, records, jobs)
    results = list(track(each, "preparing", len(records), console=Console(stderr=True), disable=not progress))
    folders = [result for result in results if isinstance(result, Path)]
    reasons = [str(result) for result in results if isinstance(result, VolumeError)]
    if reasons:
        raise VolumeError(f"{len(reasons)} of {len(records)} cases cannot be used: {' '.join(reasons[:3])}")
    return [_load(record, folder) for record, folder in zip(records, folders, strict=True)]


def content_hash(record: CaseRecord, cache_folder: Path) -> str:
    """Return `record.content_hash()`, cached by path, size and modification time of its files.

    Raises VolumeError where a file cannot be read, OutputError where the cache cannot be written.
    """
    try:
        stamps = [(part, str(path.resolve()), path.stat()) for part, path in record.files().items()]
    except OSError as error:
        raise VolumeError(f"{error.filename} cannot be read ({error.strerror}); restore the file.") from error
    key = repr([(part, path, stat.st_size, stat.st_mtime_ns) for part, path, stat in stamps])
    cached = cache_folder / "hashes" / hashlib.sha256(key.encode()).hexdigest()
    if not cached.exists():
        _make_folder(cached.parent)
        content = record.content_hash()
        with atomic_write(cached) as unfinished:
            unfinished.write_text(content)
    return cached.read_text()


def _each(step: partial, records: Sequence[CaseRecord], jobs: int) -> Iterator[Path | VolumeError]:
    if jobs <= 1:
        yield from map(step, records)
        return
    # One thread for each process: there are more cases than cores, and ITK's threads would only compete.
    with ProcessPoolExecutor(
        jobs, get_context("spawn"), sitk.ProcessObject.SetGlobalDefaultNumberOfThreads, (1,)
    ) as pool:
        yield from pool.map(step, records)


def _prepared_or_reason(record: CaseRecord, cache_folder: Path, spacing: float, pseudo: bool) -> Path | VolumeError:
    try:
        return _prepared(record, cache_folder, spacing, pseudo)
    except VolumeError as error:
        return error


def _prepared(record: CaseRecord, cache_folder: Path, spacing: float, pseudo: bool) -> Path:
    """Return the folder of the preprocessed case, written atomically, also if several processes write it."""
    key = repr((PREPARATION, spacing, pseudo, content_hash(record, cache_folder)))
    folder = cache_folder / f"{record.case}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
    if folder.exists():
        return folder
    arrays = _prepare_case(record, spacing, pseudo)
    needed = 2 * sum(array.nbytes for array in arrays.values())
    if shutil.disk_usage(cache_folder).free < needed:
        raise OutputError(f"{cache_folder} has less than the {needed / 1e6:.0f} MB left for a case; free some space.")
    try:
        with atomic_write(folder) as unfinished:
            unfinished.mkdir()
            for name, array in arrays.items():
                np.save(unfinished / f"{name}.npy", array)
                if name != "ct":
                    table = vars(Foreground.of(array)).copy()
                    np.save(unfinished / f"{name}.voxels.npy", table.pop("voxels"))
                    np.savez(unfinished / f"{name}.npz", **table)
    except OutputError:
        if not folder.exists():
            raise
    return folder


def _load(record: CaseRecord, folder: Path) -> RealVolume:
    maps, foreground = {}, {}
    named = {"labels": record.labels, "tissue": record.tissues}
    for path in sorted(folder.glob("*.npz")):
        maps[path.stem] = np.load(path.with_suffix(".npy"), mmap_mode="r")
        voxels = np.load(path.with_suffix(".voxels.npy"), mmap_mode="r")
        foreground[path.stem] = Foreground(**np.load(path), voxels=voxels)
        if path.stem in named:
            foreground[path.stem] = foreground[path.stem].only(named[path.stem])
    return RealVolume(record.case, np.load(folder / "ct.npy", mmap_mode="r"), maps, foreground)


def _prepare_case(record: CaseRecord, spacing: float, pseudo: bool) -> dict[str, np.ndarray]:
    ct = _read_ct(record.ct)
    label_maps = record.label_maps(ct)
    image = as_image(np.clip(ct.array.astype(np.float32), AIR_HU, BRIGHTEST), ct.geometry)
    grid = isotropic_grid(ct.geometry, spacing)
    values = np.rint(interpolate(shrunk(image, spacing), grid, outside=AIR_HU)).astype(np.int16)
    box = _body(values, round(MARGIN_MM / spacing))
    grid = grid.crop(box)
    arrays = {"ct": np.ascontiguousarray(values[box])}
    for name, label_map in label_maps.items():
        arrays[name] = resampled_labels(label_map, grid)
    if pseudo:
        maps = pseudo_labels(arrays["ct"], spacing)
        del maps["supervoxels_fine"]  # too small to learn from, too large to keep
        arrays |= maps
    return arrays


def _read_ct(path: Path) -> Volume:
    ct = Volume.read(path)
    try:
        ct.check_ct()
    except VolumeError as error:
        raise VolumeError(f"{path} cannot be learned from: {error}") from error
    return ct


def isotropic_grid(geometry: Geometry, spacing: float) -> Geometry:
    """Return the grid along L, P, S of `spacing` mm that spans a volume between the outer faces of its voxels.

    Between outer voxel centres, every second sample of 1.5 mm in voxels of 3 mm would lie on the border of two labels.
    """
    corners = geometry.corners(margin=0.5)
    x, y, z = np.maximum(np.floor(np.ptp(corners, axis=0) / spacing + 1e-3).astype(int), 1)
    return Geometry((z, y, x), tuple(corners.min(axis=0) + spacing / 2), (spacing,) * 3, (1, 0, 0, 0, 1, 0, 0, 0, 1))


def resampled_labels(label_map: Volume, grid: Geometry) -> np.ndarray:
    """Resample a label map: interpolate each label's mask linearly and take the largest, which keeps borders smooth."""
    labels = np.zeros(grid.shape, label_map.array.dtype)
    strongest = np.zeros(grid.shape, np.float32)
    background = np.ones(grid.shape, np.float32)
    for label, found in enumerate(find_objects(label_map.array), start=1):
        if found is None:
            continue
        z, y, x = (
            slice(max(axis.start - BORDER, 0), min(axis.stop + BORDER, size))
            for axis, size in zip(found, label_map.array.shape, strict=True)
        )
        place = label_map.geometry.crop((z, y, x))
        box = grid.box_around(place.corners(margin=0.5))
        if not labels[box].size:
            continue
        image = _softened(as_image((label_map.array[z, y, x] == label).astype(np.float32), place), grid.spacing[0])
        share = interpolate(image, grid.crop(box), outside=0)
        labels[box][share > strongest[box]] = label
        np.maximum(strongest[box], share, out=strongest[box])
        background[box] -= share
    labels[background > strongest] = 0
    return labels


def _softened(share: sitk.Image, spacing: float) -> sitk.Image:
    """A mask blurred along axes that are much finer than `spacing` mm, as larger voxels average it."""
    variances = [(0.4 * spacing / own) ** 2 if own < 0.7 * spacing else 0.0 for own in share.GetSpacing()]
    if not any(variances):
        return share
    return sitk.DiscreteGaussian(share, variances, maximumKernelWidth=15, useImageSpacing=False)


def _body(ct: np.ndarray, margin: int) -> tuple[slice, slice, slice]:
    """Return the box of the largest component above -300 HU, with a margin in voxels."""
    box = filled_box(cc3d.largest_k(ct[::2, ::2, ::2] > -300, k=1) > 0)
    if box[0].start == box[0].stop:
        return slice(0, ct.shape[0]), slice(0, ct.shape[1]), slice(0, ct.shape[2])
    z, y, x = (
        slice(max(2 * axis.start - margin, 0), min(2 * axis.stop - 1 + margin, size))
        for axis, size in zip(box, ct.shape, strict=True)
    )
    return z, y, x


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder} cannot be made ({error.strerror}); choose another cache.") from error

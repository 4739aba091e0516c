"""Real CTs and their label maps on the model's 1.5 mm grid, prepared once and then read from a cache."""

from __future__ import annotations

import hashlib
import itertools
import json
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import cc3d
import numpy as np
import SimpleITK as sitk

from CTSAM3DLib.errors import VolumeError
from training.supervoxels import pseudo_labels

SPACING = 1.5
AIR, BRIGHTEST = -1024, 3071
MARGIN = 10
PREPARATION = "2"
"""Raise whenever a prepared case would come out differently, so that no stale cache is used."""


@dataclass(frozen=True)
class Foreground:
    """Where the labels of a map lie: for each, its voxel count and a bounded sample of its voxels to draw from."""

    labels: np.ndarray
    counts: np.ndarray
    starts: np.ndarray
    voxels: np.ndarray

    @classmethod
    def of(cls, label_map: np.ndarray, limit: int = 20_000) -> Foreground:
        """Return the foreground of a label map; at most `limit` voxels of each label, drawn with a fixed seed."""
        flat = label_map.ravel()
        voxels = np.random.default_rng(0).permutation(np.flatnonzero(flat).astype(np.uint32))
        order = np.argsort(flat[voxels], kind="stable")
        voxels = voxels[order]
        labels, starts, counts = np.unique(flat[voxels], return_index=True, return_counts=True)
        kept = np.minimum(counts, limit)
        pieces = [voxels[start : start + count] for start, count in zip(starts, kept, strict=True)]
        stops = np.concatenate([[0], np.cumsum(kept)])
        return cls(labels, counts, stops, np.concatenate(pieces) if pieces else voxels)

    def draw(self, row: int, rng: np.random.Generator) -> int:
        """Return the flat index of a random voxel of `labels[row]`."""
        return int(self.voxels[rng.integers(self.starts[row], self.starts[row + 1])])


@dataclass(frozen=True)
class RealVolume:
    """One CT on an LPS grid of 1.5 mm, cropped to the body.

    Attributes:
        case: its name in `dataset.json`.
        ct: int16 HU, (z, y, x), within [-1024, 3071].
        labels: label maps of the same shape: "labels" and "tissue" where the data have them (uint8), and the
            pseudo-labels of `training.supervoxels` (uint16).
        foreground: for each label map, where its labels lie.

    """

    case: str
    ct: np.ndarray
    labels: dict[str, np.ndarray]
    foreground: dict[str, Foreground]


def prepare(data_folder: Path, cache_folder: Path, cases: Iterable[str] | None = None) -> list[RealVolume]:
    """Return the cases of `data_folder` (all, or those named), made ready in `cache_folder` where they are not yet.

    Arrays are memory-mapped, so a volume costs memory only where it is read.

    Raises:
        VolumeError: there is no `dataset.json`, a named case is not in it, or a file cannot be read.

    """
    data_folder = Path(data_folder)
    try:
        entries = {entry["case"]: entry for entry in json.loads((data_folder / "dataset.json").read_text())}
    except FileNotFoundError as error:
        raise VolumeError(f"{data_folder} holds no dataset.json; name the folder that does.") from error
    wanted = list(entries) if cases is None else list(cases)
    if unknown := [case for case in wanted if case not in entries]:
        raise VolumeError(f"dataset.json lists no case {', '.join(unknown)}; it has {', '.join(entries)}.")
    return [_prepared(entries[case], data_folder, Path(cache_folder)) for case in wanted]


def _prepared(entry: dict, data_folder: Path, cache_folder: Path) -> RealVolume:
    sources = {"ct": data_folder / entry["ct"]}
    if entry.get("label"):
        sources["labels"] = data_folder / entry["label"]
        tissue = sources["labels"].with_name(f"{entry['case']}-tissue.nii.gz")
        if tissue.exists():
            sources["tissue"] = tissue
    digest = hashlib.sha256(PREPARATION.encode())
    for name, path in sources.items():
        digest.update(name.encode() + _read_bytes(path))
    folder = cache_folder / f"{entry['case']}-{digest.hexdigest()[:16]}"
    if not folder.exists():
        _write(folder, _prepare_case(sources))
    arrays = {path.stem: np.load(path, mmap_mode="r") for path in sorted(folder.glob("*.npy"))}
    foreground = {path.stem: Foreground(**np.load(path)) for path in sorted(folder.glob("*.npz"))}
    return RealVolume(entry["case"], arrays.pop("ct"), arrays, foreground)


def _write(folder: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write the arrays so that `folder` appears only when it is complete, whoever else prepares the same case."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".unfinished-"))
    try:
        for name, array in arrays.items():
            np.save(unfinished / f"{name}.npy", array)
            if name != "ct":
                np.savez(unfinished / f"{name}.npz", **vars(Foreground.of(array)))
        unfinished.rename(folder)
    except OSError:
        shutil.rmtree(unfinished, ignore_errors=True)
        if not folder.exists():
            raise


def _prepare_case(sources: dict[str, Path]) -> dict[str, np.ndarray]:
    image = sitk.Clamp(_read(sources["ct"]), sitk.sitkInt16, AIR, BRIGHTEST)
    image = _crop_to_body(sitk.Resample(image, _model_grid(image), sitk.Transform(), sitk.sitkLinear, AIR))
    arrays = {"ct": sitk.GetArrayFromImage(image)}
    for name in sources.keys() - {"ct"}:
        label_map = sitk.Cast(_read(sources[name]), sitk.sitkUInt8)
        # Interpolating each label and taking the strongest keeps boundaries smooth where the source is coarser.
        label_map = sitk.Resample(label_map, image, sitk.Transform(), sitk.sitkLabelLinear, 0)
        arrays[name] = sitk.GetArrayFromImage(label_map)
    return arrays | pseudo_labels(arrays["ct"], SPACING)


def _model_grid(image: sitk.Image) -> sitk.Image:
    """Return an empty image: axis-aligned in LPS, 1.5 mm, spanning the voxels of `image` from rim to rim.

    From centre to centre, voxels of 3 mm would put every second sample on the border between two labels.
    """
    corners = itertools.product(*[(-0.5, size - 0.5) for size in image.GetSize()])
    points = np.array([image.TransformContinuousIndexToPhysicalPoint(corner) for corner in corners])
    size = np.maximum(np.floor(np.ptp(points, axis=0) / SPACING + 1e-3).astype(int), 1)
    grid = sitk.Image(size.tolist(), sitk.sitkInt16)
    grid.SetSpacing((SPACING,) * 3)
    grid.SetOrigin((points.min(axis=0) + SPACING / 2).tolist())
    return grid


def _crop_to_body(image: sitk.Image) -> sitk.Image:
    """Return the image cropped to its largest piece above -300 HU and a margin around it."""
    dense = cc3d.largest_k(sitk.GetArrayViewFromImage(image)[::2, ::2, ::2] > -300, k=1)
    where = np.argwhere(dense)
    if where.size == 0:
        return image
    first = np.maximum(2 * where.min(axis=0) - MARGIN, 0)[::-1]
    last = np.minimum(2 * where.max(axis=0) + MARGIN + 1, image.GetSize()[::-1])[::-1]
    return sitk.RegionOfInterest(image, (last - first).tolist(), first.tolist())


def _read(path: Path) -> sitk.Image:
    try:
        return sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise VolumeError(f"{path} cannot be read as an image; replace the file.") from error


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise VolumeError(f"{path} cannot be read ({error.strerror}); check dataset.json.") from error

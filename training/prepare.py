"""Preprocess a data set for training, once: `python -m training.prepare DATA OUT.npz`.

Every case is resampled to the model's grid, cropped to the body and packed (`training/data/prepared.py`). Held-out
patients are packed too; the plan states which cases are trained on. Air around the body is set to a constant.
Synthetic scenes are added, and atlases: label maps without a CT, for which training synthesises HU by the statistics of
the CTs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import cc3d
import numpy as np
import SimpleITK as sitk
import typer
from numpy.typing import NDArray
from rich.console import Console
from scipy.ndimage import binary_dilation

from CTSAM3DLib.imaging.constants import AIR_HU
from CTSAM3DLib.run_command import run_command
from training.data.atlas_patients import atlas_cases
from training.data.datasets import CaseRecord, read_dataset
from training.data.kind_hu import kind_hu
from training.data.prepared import STEP_HU, Prepared, PreparedCase, quantised
from training.data.real_volumes import RealVolume, prepare
from training.learning.plan import Plan
from training.phantoms.phantoms import anatomy_like, torso

TORSO_SHARE = 0.4
"""Share of torsos among the synthetic scenes; the others hold shapes without a name."""
SCENE_EDGE = 104
KEPT_AIR_MM = 9.0
"""mm around the body that keep their HU; farther out there are only the table and noise."""


def prepared_cases(
    records: Sequence[CaseRecord],
    volumes: Sequence[RealVolume],
    window: tuple[float, float],
    spacing: float,
    step_hu: int = STEP_HU,
) -> Iterator[PreparedCase]:
    """Pack volumes on the model's grid as prepared cases; `spacing` in mm, `window` in HU."""
    for record, volume in zip(records, volumes, strict=True):
        labels = volume.labels.get("labels")
        pieces = None if _is_coarse(record, spacing) else volume.labels.get("supervoxels_merged")
        yield PreparedCase(
            name=record.case,
            patient=record.patient or record.case,
            region=record.region or "other",
            source="ct",
            names=record.labels,
            labels=np.zeros(volume.ct.shape, np.uint8) if labels is None else np.asarray(labels).astype(np.uint8),
            hu=quantised(_with_even_air(np.asarray(volume.ct), spacing), window, step_hu),
            pieces=None if pieces is None else np.asarray(pieces).astype(np.uint16),
            licence=record.licence,
        )


def synthetic_scenes(
    count: int, spacing: float, window: tuple[float, float], step_hu: int = STEP_HU
) -> Iterator[PreparedCase]:
    """Synthetic scenes of `training.phantoms.phantoms`, numbered from 0 and reproducible by number."""
    for number in range(count):
        rng = np.random.default_rng([7, number])
        if rng.random() < TORSO_SHARE:
            phantom = torso(int(rng.integers(2**31)), spacing=(spacing,) * 3)
            hu, labels, names = np.asarray(phantom.ct.array, np.int16), phantom.labels, phantom.names
        else:
            hu, labels = anatomy_like(rng, (SCENE_EDGE,) * 3)
            names = {}
        name = f"scene-{number}"
        yield PreparedCase(name, name, "synthetic", "phantom", names, labels, quantised(hu, window, step_hu))


def _is_coarse(record: CaseRecord, spacing: float) -> bool:
    """Whether the CT's own voxels are larger than the grid's; supervoxels would then follow interpolated edges."""
    header = sitk.ImageFileReader()
    header.SetFileName(str(record.ct))
    try:
        header.ReadImageInformation()
    except RuntimeError:  # a folder of slices, say, which was read by other means
        return False
    return max(header.GetSpacing()) > 1.2 * spacing


def _with_even_air(ct: NDArray[np.int16], spacing: float) -> NDArray[np.int16]:
    """The CT (z, y, x), HU, with `AIR_HU` wherever no body is near."""
    body = cc3d.largest_k(ct > -500, k=1)
    near = binary_dilation(body[::2, ::2, ::2], iterations=max(round(KEPT_AIR_MM / spacing / 2), 1))
    near = near.repeat(2, 0).repeat(2, 1).repeat(2, 2)[: ct.shape[0], : ct.shape[1], : ct.shape[2]]
    outside = cc3d.largest_k(~near & (ct < -500), k=1).astype(bool)  # lungs and bowel gas are inside
    return np.where(outside, np.int16(AIR_HU), ct)


def main(
    data: Annotated[Path, typer.Argument(help="A folder of CTs in a layout of training.data.datasets.")],
    output: Annotated[Path, typer.Argument(help="The file to write, .npz.")],
    cache: Annotated[Path | None, typer.Option(help="Where volumes on the grid are kept; default beside OUT.")] = None,
    spacing: Annotated[float, typer.Option(help="Voxel of the model's grid, mm.")] = 3.0,
    window: Annotated[tuple[float, float], typer.Option(help="HU that the model tells apart.")] = (-1000, 800),
    without: Annotated[list[str] | None, typer.Option(help="A case to leave out; may be repeated.")] = None,
    without_held_out: Annotated[
        Path | None, typer.Option(help="A plan of training.learn whose held-out patients are left out.")
    ] = None,
    step: Annotated[int, typer.Option(help="What HU are rounded to; 8 where the file has to travel.")] = STEP_HU,
    scenes: Annotated[int, typer.Option(help="Synthetic scenes to add.")] = 5,
    atlases: Annotated[Path | None, typer.Option(help="A folder of label maps without a CT, to add.")] = None,
    jobs: Annotated[int, typer.Option(help="How many processes prepare.")] = 1,
) -> None:
    """Resample all cases of a data set to the model's grid, and pack them into one file."""
    held_out = () if without_held_out is None else Plan.read(without_held_out).held_out
    records = [
        record
        for record in read_dataset(data)
        if record.case not in (without or ()) and (record.patient or record.case) not in held_out
    ]
    volumes = prepare(records, cache or output.parent / "cache", spacing, True, jobs, progress=True)
    cases = [
        *prepared_cases(records, volumes, window, spacing, step),
        *synthetic_scenes(scenes, spacing, window, step),
        *(atlas_cases(atlases, spacing) if atlases else ()),
    ]
    whole = Prepared(spacing, window, tuple(cases), dict(kind_hu(cases)), step)
    whole.write(output)
    voxels = sum(case.labels.size for case in whole.cases)
    Console().print(f"{len(cases)} cases, {voxels / 1e6:.0f} M voxels, {output.stat().st_size / 2**20:.1f} MiB.")


if __name__ == "__main__":
    run_command(lambda: typer.run(main))

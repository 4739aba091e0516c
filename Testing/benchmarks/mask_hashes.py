"""SHA-256 of masks of fixed clicks, to compare two versions of the code: `python -m Testing.benchmarks.mask_hashes`.

Ten lists of clicks on a torso and on a head, with the bundled model and with the paper's network (untrained, weights
from a fixed seed). Hashes are of one machine: another processor rounds otherwise.
"""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
import typer

from CTSAM3DLib import Click, Segmenter, Volume
from CTSAM3DLib.checkpoints.checkpoint import save
from CTSAM3DLib.checkpoints.model_info import ModelInfo
from CTSAM3DLib.model import build
from Testing.support.data import DATA

CASES = ("torso-3mm", "openkbp-66")
LISTS = 10
Reach = Literal["patch", "neighbours", "structure"]


def click_lists(volume: Volume, seed: int = 0) -> list[list[Click]]:
    """Ten lists of one to five clicks at voxels of soft tissue, the third and later ones perhaps negative."""
    rng = np.random.default_rng(seed)
    tissue = np.argwhere((volume.array > -50) & (volume.array < 250))
    lists = []
    for number in range(LISTS):
        first = tissue[rng.integers(len(tissue))]
        near = tissue[np.abs(tissue - first).max(axis=1) < 20]
        voxels = [first, *(near[rng.integers(len(near))] for _ in range(number % 5))]
        positions = volume.geometry.to_lps(np.array(voxels)[:, ::-1])
        lists.append([Click(tuple(p), positive=n < 2 or n % 2 == 0) for n, p in enumerate(positions)])
    return lists


def paper_segmenter(folder: str) -> Segmenter:
    """The paper's network with weights from seed 0, by way of a file."""
    torch.manual_seed(0)
    file = Path(folder, "untrained.safetensors")
    save(file, build("ctsam3d"), ModelInfo("ctsam3d", (-125.0, 225.0)))
    return Segmenter.load(weights=str(file))


def main(data: Annotated[Path, typer.Argument(help="A folder with ct/.")] = DATA) -> None:
    """Print a line for each network, case and list of clicks: voxels in the mask, and the mask's hash."""
    with tempfile.TemporaryDirectory() as folder:
        networks: list[tuple[str, Segmenter, Reach]] = [
            ("ctsam3d-small", Segmenter.load(), "structure"),
            ("ctsam3d", paper_segmenter(folder), "patch"),
        ]
    for name, segmenter, reach in networks:
        for case in CASES:
            volume = Volume.read(data / "ct" / f"{case}.nii.gz")
            session = segmenter.open(volume)
            for number, clicks in enumerate(click_lists(volume)):
                mask = session.segment(clicks, reach).mask.array
                digest = hashlib.sha256(np.ascontiguousarray(mask)).hexdigest()[:16]
                print(name, case, number, int(mask.sum()), digest, flush=True)


if __name__ == "__main__":
    typer.run(main)

"""What is promised between processors: a mask begun on one and continued, or clicked anew, on another is the same mask.

Another kind of arithmetic rounds otherwise. At most one voxel in 10,000 of a mask may change by it, and nothing is
refused for it. Here other processors are child processes whose mathematics libraries are told to compute as on these.
"""

import pickle
import subprocess
import sys
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest

from CTSAM3DLib.clicks.click import Click
from CTSAM3DLib.imaging.volume import Volume
from CTSAM3DLib.segmentation.canvas import Canvas
from CTSAM3DLib.segmentation.click_step import State
from CTSAM3DLib.segmentation.session import Segmenter, Session, _prefixes
from Testing.benchmarks.network import liver
from Testing.processors import environment

pytestmark = pytest.mark.model

OTHERS = {
    "SSE and one thread": {
        "MKL_CBWR": "COMPATIBLE",
        "ATEN_CPU_CAPABILITY": "default",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "OMP_NUM_THREADS": "1",
    },
    "AVX2": {"MKL_CBWR": "AVX2", "ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"},
}
BEGUN = 2
"""Clicks that were made here when the mask moves to another processor."""
MAX_CHANGED = 1e-4


def clicked() -> tuple[Volume, list[Click]]:
    """A CT and clicks in and beside its liver."""
    volume, clicks = liver()
    z, y, x = clicks[0].position
    return volume, [*clicks, Click((z + 40.0, y - 30.0, x), positive=False)]


def mask_of(session: Session, clicks: list[Click]) -> np.ndarray:
    return session.segment(clicks, reach="patch").mask.array > 0


def moved(folder: Path) -> None:
    """Continue there what was begun here, and click it anew; runs in a child process."""
    volume, clicks = clicked()
    tiles, walked, rest = pickle.loads((folder / "begun").read_bytes())
    state = State(Canvas(MappingProxyType(tiles)), *rest, walked=Canvas(MappingProxyType(walked)))
    segmenter = Segmenter.load(device="cpu")
    continued, anew = segmenter.open(volume), segmenter.open(volume)
    continued._put_state(_prefixes(clicks)[BEGUN - 1], "patch", state)
    masks = [mask_of(continued, clicks), *(mask_of(anew, clicks[:count]) for count in range(1, len(clicks) + 1))]
    np.savez_compressed(folder / "masks.npz", *masks)


@pytest.fixture(scope="module")
def begun() -> tuple[list[np.ndarray], bytes]:
    """The masks here after each click, and what is known after those that were begun with."""
    volume, clicks = clicked()
    session = Segmenter.load(device="cpu").open(volume)
    masks = [mask_of(session, clicks[:count]) for count in range(1, len(clicks) + 1)]
    _, state = session._longest_cached(_prefixes(clicks)[:BEGUN], "patch")
    rest = state.patches, state.clicked, state.quality
    return masks, pickle.dumps((dict(state.canvas.tiles), dict(state.walked.tiles), rest))


@pytest.mark.parametrize("other", OTHERS)
def test_a_mask_moves_to_another_processor(begun, other, tmp_path):
    masks, known = begun
    (tmp_path / "begun").write_bytes(known)
    code = f"from pathlib import Path; from {__name__} import moved; moved(Path({str(tmp_path)!r}))"
    subprocess.run([sys.executable, "-c", code], env=environment(OTHERS[other]), check=True, timeout=300)
    with np.load(tmp_path / "masks.npz") as file:
        continued, *anew = file.values()
    for there, here in ((continued, masks[-1]), *zip(anew, masks, strict=True)):
        assert here.any()
        assert np.count_nonzero(there != here) <= MAX_CHANGED * np.count_nonzero(here)

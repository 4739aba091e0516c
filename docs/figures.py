"""Draw the pictures of `docs/` anew: `python docs/figures.py`."""

import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # the stand-in network lies with the tests, which are not installed

from CTSAM3DLib import Click, Segmenter, Volume  # noqa: E402
from CTSAM3DLib.execution.engine import Engine  # noqa: E402
from CTSAM3DLib.imaging.constants import PATCH  # noqa: E402
from CTSAM3DLib.segmentation.canvas import MASK  # noqa: E402
from CTSAM3DLib.segmentation.patch_grid import TileSampler  # noqa: E402
from CTSAM3DLib.segmentation.session import Result  # noqa: E402
from Testing.support.threshold_network import threshold_model  # noqa: E402
from training.phantoms.phantoms import torso  # noqa: E402

STRUCTURE = "aorta"


def cross_patch() -> None:
    """One click in the phantom's aorta, and how its mask grows: coronal projections with the patches.

    A network that knows the truth answers, so that the picture shows the rules and not a model.
    """
    phantom = torso()
    value = next(number for number, name in phantom.names.items() if name == STRUCTURE)
    truth = phantom.labels == value
    voxels = np.argwhere(truth)
    z, y, x = voxels[len(voxels) // 4]
    (lps,) = phantom.ct.geometry.to_lps([(x, y, z)])
    known = Volume(np.where(truth, 800, -100).astype(np.int16), phantom.ct.geometry)
    session = Segmenter(Engine(threshold_model(), "cpu")).open(known)
    partial: list[Result] = []
    final = session.segment([Click(tuple(float(v) for v in lps))], progress=partial.append)
    shown = [partial[0], *(partial[len(partial) * part // 3] for part in (1, 2) if len(partial) > 2), final]

    click = session.grid.to_voxels([lps])[0]
    plane = coronal_plane(TileSampler(phantom.ct), int(click[1]))
    figure = Figure(figsize=(3.0 * len(shown), 3.8), layout="constrained")
    for axes, result in zip(figure.subplots(1, len(shown)), shown, strict=True):
        axes.imshow(plane, cmap="gray", vmin=-160, vmax=240, origin="lower")
        mask = np.zeros(plane.shape, bool)
        values, (z0, _, x0) = result.canvas.dense()
        projected = (values >= MASK).any(axis=1)
        mask[z0 : z0 + projected.shape[0], x0 : x0 + projected.shape[1]] = projected[
            : mask.shape[0] - z0, : mask.shape[1] - x0
        ]
        axes.imshow(np.ma.masked_where(~mask, mask), cmap="autumn", alpha=0.75, origin="lower")
        for patch in result.patches:
            corner = (patch.start[2] - 0.5, patch.start[0] - 0.5)
            axes.add_patch(Rectangle(corner, PATCH, PATCH, fill=False, lw=1, ec=f"C{patch.hops % 10}"))
        axes.plot(click[0], click[2], "o", color="lime", markersize=5, markeredgecolor="black")
        count = len(result.patches)
        axes.set_title(f"{count} patch{'es' if count > 1 else ''}, hops {max(p.hops for p in result.patches)}")
        axes.set_axis_off()
        axes.set(xlim=(-5, plane.shape[1] + 5), ylim=(-45, plane.shape[0] + 45))  # patches may leave the CT
    figure.savefig(ROOT / "docs" / "images" / "cross_patch.png", dpi=90)


def coronal_plane(sampler: TileSampler, row: int) -> np.ndarray:
    """The CT on the model grid in one coronal plane (z, x)."""
    depth, _, width = sampler.grid.shape
    tiles = [
        [sampler.tile((z, row // PATCH, x))[:, row % PATCH] for x in range(-(-width // PATCH))]
        for z in range(-(-depth // PATCH))
    ]
    return np.block(tiles)[:depth, :width]


if __name__ == "__main__":
    cross_patch()

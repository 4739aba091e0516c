"""Draw the pictures of `docs/` anew: `python docs/figures.py` (needs the bundled model and the training extra)."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from CTSAM3DLib import Click, Segmenter
from CTSAM3DLib.canvas import MASK
from CTSAM3DLib.grid import PATCH
from CTSAM3DLib.session import Result
from training.phantoms import torso

IMAGES = Path(__file__).parent / "images"
STRUCTURE = "aorta"


def cross_patch() -> None:
    """One click in the phantom's aorta, and how its mask grows: coronal maximum projections with the patches."""
    phantom = torso()
    value = next(number for number, name in phantom.names.items() if name == STRUCTURE)
    truth = phantom.labels == value
    z, y, x = np.argwhere(truth)[truth.sum() // 2]
    (lps,) = phantom.ct.geometry.to_lps([(x, y, z)])
    session = Segmenter.load().open(phantom.ct)
    partial: list[Result] = []
    final = session.segment([Click(tuple(float(v) for v in lps))], progress=partial.append)
    shown = [partial[0], *(partial[len(partial) * part // 3] for part in (1, 2) if len(partial) > 2), final]

    click = session.grid.to_voxels([lps])[0]
    plane = coronal_plane(session, int(click[1]))
    figure = Figure(figsize=(3.2 * len(shown), 4.6), layout="constrained")
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
            axes.add_patch(Rectangle(corner, PATCH, PATCH, fill=False, lw=1, ec=f"C{patch.ring % 10}"))
        axes.plot(click[0], click[2], "o", color="lime", markersize=5, markeredgecolor="black")
        count = len(result.patches)
        axes.set_title(f"{count} patch{'es' if count > 1 else ''}, ring {max(p.ring for p in result.patches)}")
        axes.set_axis_off()
    figure.savefig(IMAGES / "cross_patch.png", dpi=90)


def coronal_plane(session, row: int) -> np.ndarray:
    """The CT on the model grid in one coronal plane (z, x)."""
    depth, _, width = session.grid.shape
    plane = np.zeros((-(-depth // PATCH) * PATCH, -(-width // PATCH) * PATCH), np.int16)
    for z in range(0, depth, PATCH):
        for x in range(0, width, PATCH):
            tile = session.source.tile((z // PATCH, row // PATCH, x // PATCH))
            plane[z : z + PATCH, x : x + PATCH] = tile[:, row % PATCH]
    return plane[:depth, :width]


if __name__ == "__main__":
    cross_patch()

"""Render the pictures of the Slicer panels and of a first segmentation: `python docs/screenshots.py`.

The panels are those of the extension, in the host for tests (`Testing/host`); the segmentation is made by clicks in its
views, with the bundled model, on a real CT from `../shared/data`. Desktop Slicer is not needed, and not shown.
"""

import os
import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # the host lies with the tests, which are not installed

from CTSAM3DLib.imaging.volume import Volume  # noqa: E402
from Testing.host.host import Host, running  # noqa: E402
from Testing.support.mrml_nodes import add_segmentation, add_volume, mask_of  # noqa: E402

IMAGES = ROOT / "docs" / "images"
DATA = ROOT.parent / "shared" / "data"
CASE, LABEL, SEGMENT = "openkbp-4", 7, "mandible"
"""A patient that the bundled model has not seen in training, contoured by hand."""
CLICKS = 4
ADDED, REMOVED, MASK = "#33e64d", "#ff4033", "#f2c84b"
HU = (-300, 900)
SHOWN_VOXELS = 20
"""So far the picture reaches around the middle of the clicks, which is above that of the head."""
MODELS_FOLDER = "/home/user/.local/share/ctsam3d/models"  # instead of the folder of whoever renders the picture
MARGIN = 12


def main() -> None:
    """Write docs/images/effect.png, module.png and first_segmentation.png."""
    os.environ["CTSAM3D_MODELS_FOLDER"] = MODELS_FOLDER
    with tempfile.TemporaryDirectory() as folder, running(Path(folder)) as host:
        segment(host, Path(folder))
    with tempfile.TemporaryDirectory() as folder, running(Path(folder)) as host:
        show_module(host, Path(folder))


def segment(host: Host, folder: Path) -> None:
    """Click at the structure, each further click in the middle of what is wrong, and picture it."""
    from CTSAM3DWidgets.Backends import applicationBackends

    ct = Volume.read(DATA / "ct" / f"{CASE}.nii.gz")
    truth = Volume.read(DATA / "label" / f"{CASE}.nii.gz").array == LABEL
    host.load_module("SegmentEditorCTSAM3D")
    host.startup_completed()
    matrix = np.diag([-1.0, -1.0, 1.0, 1.0]) @ ct.geometry.ijk_to_lps
    volume = add_volume(host.scene, ct.array, matrix, CASE)
    segmentation, (segment_id,) = add_segmentation(host.scene, volume, SEGMENT)
    editor = host.segment_editor()
    editor.setSegmentationNode(segmentation)
    editor.setSourceVolumeNode(volume)
    editor.setCurrentSegmentID(segment_id)
    editor.setActiveEffectByName("CTSAM3D")
    host.process_events(0.1)
    effect = editor.effectByName("CTSAM3D").self()
    view = host.app.layoutManager().sliceWidget("Red")
    masks, clicks, texts = [np.zeros_like(truth)], [], []
    for _ in range(CLICKS):
        missing, wrong = truth & ~masks[-1], masks[-1] & ~truth
        positive = np.count_nonzero(missing) >= np.count_nonzero(wrong)
        voxel = inner_voxel(missing if positive else wrong)
        host.click(view, matrix[:3, :3] @ voxel + matrix[:3, 3], control=not positive)
        if not host.process_events(300, until=lambda: not effect.driver.busy()):
            raise SystemExit("The prediction took too long.")
        host.process_events(0.1)
        masks.append(mask_of(segmentation, segment_id, volume) > 0)
        clicks.append((voxel, positive))
        texts.append(f"{effect.panel.statusLabel.text.partition('. ')[0]}\nDice {dice(masks[-1], truth):.2f}")
    draw_clicks(ct, masks, clicks, texts)
    side_by_side("effect.png", [host.render(editor, folder / f"{dark}.png", dark) for dark in (False, True)])
    applicationBackends().computer.stop()


def show_module(host: Host, folder: Path) -> None:
    """The module's panel with a server, a batch and the bundled model."""
    from CTSAM3DWidgets.Backends import applicationBackends
    from CTSAM3DWidgets.Settings import Server, Settings

    applicationBackends.cache_clear()
    Settings().saveServer(Server("https://gpu.example.org:8900", "x" * 20, models=("ctsam3d",)))
    host.load_module("CTSAM3D")
    add_volume(host.scene, np.zeros((4, 4, 4), np.int16), name="CTChest")
    host.scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "organs")
    widget = host.module_widget("CTSAM3D")
    widget.enter()
    host.process_events(0.1)
    side_by_side("module.png", [host.render(widget, folder / f"{dark}.png", dark) for dark in (False, True)])


def inner_voxel(mask: np.ndarray) -> np.ndarray:
    """The voxel (i, j, k) of a mask (z, y, x) that lies deepest in it."""
    from edt import edt

    return np.array(np.unravel_index(edt(np.pad(mask, 1)).argmax(), np.add(mask.shape, 2)))[::-1] - 1


def dice(mask: np.ndarray, truth: np.ndarray) -> float:
    """The overlap of two masks."""
    return 2 * np.count_nonzero(mask & truth) / (np.count_nonzero(mask) + np.count_nonzero(truth))


def draw_clicks(ct: Volume, masks: list, clicks: list, texts: list[str]) -> None:
    """One axial slice a click, through the click: the mask, and what the click added and removed."""
    figure, axes = plt.subplots(1, len(clicks), figsize=(3.1 * len(clicks), 3.9), facecolor="black")
    spacing = ct.geometry.spacing
    for number, (axis, text) in enumerate(zip(axes, texts, strict=True)):
        voxel, positive = clicks[number]
        k = int(voxel[2])
        before, after = masks[number][k], masks[number + 1][k]
        axis.imshow(
            ct.array[k], "gray", vmin=HU[0], vmax=HU[1], aspect=spacing[1] / spacing[0], interpolation="bilinear"
        )
        for part, color in ((after & before, MASK), (after & ~before, ADDED), (before & ~after, REMOVED)):
            shade = np.zeros((*part.shape, 4))
            shade[part] = (*plt.matplotlib.colors.to_rgb(color), 0.45)
            axis.imshow(shade, aspect=spacing[1] / spacing[0], interpolation="nearest")
        axis.plot(voxel[0], voxel[1], "o", color=ADDED if positive else REMOVED, markeredgecolor="white", markersize=8)
        axis.set_title(f"Click {number + 1}, {'inside' if positive else 'outside'}\n{text}", color="white", fontsize=9)
        axis.axis("off")
        x, y = np.mean([voxel[:2] for voxel, _ in clicks], axis=0)
        axis.set_xlim(x - SHOWN_VOXELS, x + SHOWN_VOXELS)
        axis.set_ylim(y + 1.5 * SHOWN_VOXELS, y - 0.5 * SHOWN_VOXELS)
        # As radiologists see it: the patient's right at the left of the picture, the front at the top.
        if ct.geometry.ijk_to_lps[0, 0] < 0:
            axis.invert_xaxis()
        if ct.geometry.ijk_to_lps[1, 1] < 0:
            axis.invert_yaxis()
    figure.subplots_adjust(left=0.01, right=0.99, bottom=0.01, top=0.84, wspace=0.03)
    figure.savefig(IMAGES / "first_segmentation.png", dpi=110, facecolor="black")
    plt.close(figure)


def side_by_side(name: str, paths: list[Path]) -> None:
    """Join pictures in a row."""
    pictures = [plt.imread(path)[..., :3] for path in paths]
    height = max(picture.shape[0] for picture in pictures)
    padded = [
        np.pad(picture, ((0, height - picture.shape[0]), (0, MARGIN), (0, 0)), constant_values=1)
        for picture in pictures
    ]
    plt.imsave(IMAGES / name, np.clip(np.hstack(padded)[:, :-MARGIN], 0, 1))


if __name__ == "__main__":
    main()

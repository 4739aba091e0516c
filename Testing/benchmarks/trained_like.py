"""Weights of the paper's network that make masks, for timing it: the published ones cannot be had here.

    python -m Testing.benchmarks.trained_like OUTPUT.safetensors [--steps 40]

The decoder learns organs of one CT from clicks and from blurred, shifted masks; the encoder stays untrained. The masks
that come out follow organs and are sure of themselves away from borders, as those of a trained network are, which
decides how much of the prompts varies. They are good for nothing else.
"""

import time
from pathlib import Path
from typing import Annotated

import numpy as np
import SimpleITK as sitk
import torch
import torch.nn.functional as F  # noqa: N812
import typer
from scipy import ndimage

from CTSAM3DLib.checkpoints.checkpoint import save
from CTSAM3DLib.checkpoints.model_info import ModelInfo
from CTSAM3DLib.imaging.constants import PAPER_SPACING, PATCH
from CTSAM3DLib.imaging.volume import Volume
from CTSAM3DLib.model import build
from CTSAM3DLib.segmentation.patch_grid import TileSampler
from CTSAM3DLib.segmentation.prompt_maps import click_maps
from Testing.support.data import DATA

ORGANS = (1, 2, 3, 5, 6)
"""Spleen, kidneys, liver and stomach."""
WINDOW = (-200.0, 300.0)
RATE = 2e-3


def main(
    output: Annotated[Path, typer.Argument(help="The .safetensors file to write.")],
    steps: Annotated[int, typer.Option(help="Patches to learn from.")] = 40,
) -> None:
    """Train the decoder for some steps, and write the weights."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    ct = Volume.read(DATA / "ct" / "torso-3mm.nii.gz")
    source = TileSampler(ct, PAPER_SPACING)
    labels = on_model_grid(DATA / "label" / "torso-3mm.nii.gz", source)
    network = build("ctsam3d").eval()
    optimiser = torch.optim.AdamW(network.decoder.parameters(), RATE, betas=(0.9, 0.95))
    begun = time.perf_counter()
    for step in range(steps):
        start, truth = patch_of(labels, rng)
        low, high = WINDOW
        image = (np.clip(source.patch(start).astype(np.float32), low, high) - low) / (high - low)
        with torch.no_grad():
            levels = network.encode(torch.from_numpy(image)[None, None])
        logits, _ = network.decoder(levels, torch.from_numpy(prompts_for(truth, rng))[None])
        target = torch.from_numpy(truth.astype(np.float32))
        probability = logits[0, 0].sigmoid()
        dice = 1 - (2 * (probability * target).sum() + 1) / (probability.sum() + target.sum() + 1)
        loss = dice + F.binary_cross_entropy_with_logits(logits[0, 0], target)
        for group in optimiser.param_groups:
            group["lr"] = RATE * min(1, (step + 1) / 5) * (1 - 0.9 * step / steps)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.decoder.parameters(), 1.0)
        optimiser.step()
        print(f"{step + 1:3d}  loss {loss.item():.3f}  Dice {1 - dice.item():.3f}  {time.perf_counter() - begun:.0f} s")
        if (step + 1) % 10 == 0 or step + 1 == steps:
            card = "Trained for a moment on one CT, to time the network; of no other use."
            save(output, network, ModelInfo("ctsam3d", WINDOW, card=card))


def on_model_grid(path: Path, source: TileSampler) -> np.ndarray:
    """Labels (z, y, x) of the model grid, each that of the nearest voxel."""
    grid = source.grid.geometry
    resampled = sitk.Resample(
        sitk.ReadImage(path), grid.shape[::-1], sitk.Transform(), sitk.sitkNearestNeighbor, grid.origin, grid.spacing
    )
    return sitk.GetArrayFromImage(resampled)


def patch_of(labels: np.ndarray, rng: np.random.Generator) -> tuple[tuple[int, int, int], np.ndarray]:
    """Where a patch around a voxel of an organ starts (z, y, x), and the organ in it."""
    organ = rng.choice(ORGANS)
    voxel = rng.permutation(np.argwhere(labels == organ))[0]
    z, y, x = (
        int(np.clip(v - PATCH // 2 + rng.integers(-12, 13), 0, size - PATCH))
        for v, size in zip(voxel, labels.shape, strict=True)
    )
    return (z, y, x), labels[z : z + PATCH, y : y + PATCH, x : x + PATCH] == organ


def prompts_for(truth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """[previous, positive, negative], (3, 64, 64, 64): a click in the organ, and often a mask that is nearly right."""
    previous = np.zeros(truth.shape, np.float32)
    if rng.random() < 0.6:
        moved = ndimage.shift(truth.astype(np.float32), rng.integers(-3, 4, 3), order=0)
        previous = np.maximum(np.rint(255 * ndimage.gaussian_filter(moved, 0.8)), 1).astype(np.float32) / 255
    clicked = rng.permutation(np.argwhere(truth))[0]
    return np.stack([previous, *click_maps([clicked[::-1]], [1])])


if __name__ == "__main__":
    typer.run(main)

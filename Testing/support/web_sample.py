"""The synthetic torso on a page, and where its structures are."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from playwright.sync_api import sync_playwright

from CTSAM3DLib.phantom.torso import TorsoPhantom
from Testing.web.desk import Desk
from Testing.web.site import CHROMIUM, WINDOW, Site


@contextmanager
def desk_with(phantom: TorsoPhantom) -> Iterator[Desk]:
    """A page in a browser with this CT on it."""
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        ct = Path(folder, "sample.nii.gz")
        phantom.ct.write(ct)
        site = Site(str(ct), log=Path(folder, "log"))
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            desk = Desk(browser.new_page(viewport=WINDOW))
            desk.page.goto(site.address)
            desk.wait_for_ct()
            yield desk
        finally:
            browser.close()
            site.stop()


def from_the_middle(phantom: TorsoPhantom, name: str) -> np.ndarray:
    """The voxels (z, y, x) of a structure, those nearest to its middle first."""
    label = next(label for label, known in phantom.names.items() if known == name)
    voxels = np.argwhere(phantom.labels == label)
    return voxels[np.argsort(np.linalg.norm(voxels - voxels.mean(axis=0), axis=1))]


def position(phantom: TorsoPhantom, voxel: np.ndarray) -> tuple[float, float, float]:
    """LPS of a voxel (z, y, x)."""
    left, posterior, superior = phantom.ct.geometry.to_lps(voxel[::-1])
    return float(left), float(posterior), float(superior)


def middle(phantom: TorsoPhantom, name: str) -> tuple[float, float, float]:
    """LPS of the voxel of a structure that is nearest to its middle."""
    return position(phantom, from_the_middle(phantom, name)[0])

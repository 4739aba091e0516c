"""A worker that any Python with NumPy runs: balls around clicks, a label map by thresholds, and ways to go wrong.

It is put beside the real workers as `workers.stand_in` by the tests, and speaks the same protocol by the same code.
"""

import multiprocessing
import os
import subprocess
import sys
import time

import numpy as np

from .serve import Refusal, System, serve

RADIUS_MM = 8.0
HANGING_CHILD = """
import os, pathlib, time
file = pathlib.Path(os.environ["STAND_IN_CHILD"])
file.with_suffix(".new").write_text(str(os.getpid()))
file.with_suffix(".new").replace(file)
time.sleep(60)
"""


class StandIn(System):
    OPTIONS = {"mode": "balls", "at": "mask", "trouble": "none"}  # noqa: RUF012

    def __init__(self, settings):
        print("a library that prints to standard output", flush=True)
        os.system("echo and so do its children")
        super().__init__(settings)
        if settings.weights is None:
            raise Refusal("it needs a file of weights; give it by --weights.")
        self.weights = os.path.basename(settings.weights)
        self.classes = ("Liver", "Right Kidney") if self.option["mode"] == "automatic" else ()
        self.trouble("start")

    def trouble(self, where):
        if self.option["at"] != where:
            return
        metal = where == "volume" and self.hu.max() > 1000
        if self.option["trouble"] == "crash" or (self.option["trouble"] == "crash at metal" and metal):
            os.write(2, b"Segmentation fault, said the system\n")
            os._exit(139)
        if self.option["trouble"] == "raise":
            raise RuntimeError("CUDA out of memory.\nTried to allocate 20 GiB.")
        if self.option["trouble"] == "hang":
            if "STAND_IN_CHILD" in os.environ:
                subprocess.Popen([sys.executable, "-c", HANGING_CHILD])
            time.sleep(60)
        if self.option["trouble"] == "slow":
            with multiprocessing.get_context("fork").Pool(1) as pool:
                pool.map(abs, [1])
            for step in range(8):
                time.sleep(0.25)
                self.progress(step / 8)
        if self.option["trouble"] == "shape":
            self.hu = self.hu[:, :, 1:]

    def set_volume(self, hu, spacing):
        self.hu, self.spacing = hu, spacing
        self.reset()
        self.trouble("volume")

    def reset(self):
        self.clicks = []

    def click(self, voxel, positive):
        self.clicks.append((voxel, positive))
        self.trouble("click")

    def mask(self, structure):
        self.trouble("mask")
        if structure is not None:
            return self.hu > {"Liver": 300, "Right Kidney": 100}[structure]
        mask = np.zeros(self.hu.shape, bool)
        for voxel, positive in self.clicks:
            axes = np.ogrid[tuple(slice(size) for size in mask.shape)]
            far = sum(((axis - n) * mm) ** 2 for axis, n, mm in zip(axes, voxel, self.spacing))  # noqa: B905
            near = far <= RADIUS_MM**2
            if self.option["mode"] == "slices":
                near &= axes[0] == voxel[0]
            mask[near] = positive
        return mask


if __name__ == "__main__":
    serve(StandIn)

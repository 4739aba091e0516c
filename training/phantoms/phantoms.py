"""Synthetic CT scenes with known labels: anatomical shapes with the HU of tissues.

The scenes are made to teach clicking: many shapes, borders between tissues that are often only 15 to 40 HU apart, and
the noise, blur and slice thickness of a scanner (after SynthFM-3D and ScribblePrompt).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from CTSAM3DLib.imaging.constants import AIR_HU
from CTSAM3DLib.phantom.shapes import Canvas, along_axes, gaussian_matrix, slice_matrix, smooth_noise
from CTSAM3DLib.phantom.torso import TorsoPhantom, torso

__all__ = ["TorsoPhantom", "anatomy_like", "torso"]

TISSUES = {
    "air": ((-1020.0, -980.0), 0.04),
    "lung": ((-900.0, -780.0), 0.08),
    "fat": ((-115.0, -85.0), 0.14),
    "fluid": ((-5.0, 20.0), 0.10),
    "soft": ((30.0, 70.0), 0.34),
    "enhanced": ((100.0, 250.0), 0.18),
    "bone": ((300.0, 1500.0), 0.12),
}
"""Range of Hounsfield units and frequency of each kind of tissue."""

BACKGROUNDS = ("fat", "soft", "soft", "fluid", "lung")


def anatomy_like(rng: np.random.Generator, shape: tuple[int, int, int] = (96, 96, 96)) -> tuple[np.ndarray, np.ndarray]:
    """Return a random scene: CT (int16 HU) and label map (uint8, 0 is unlabelled), both (z, y, x)."""
    canvas = Canvas(shape, rng, wobble=rng.uniform(0.5, 4.0), wobble_period=rng.uniform(14, 40))
    background = _tissue(rng, str(rng.choice(BACKGROUNDS)))
    canvas.hu[:] = background
    labels = iter(range(1, 256))
    if rng.random() < 0.45:
        _tessellation(canvas, rng, background, labels)
    painters = (_ellipsoid, _ellipsoid, _shell, _tube, _tree, _chain, _sheet)
    for _ in range(rng.integers(10, 22)):
        painter = painters[rng.integers(len(painters))]
        painter(canvas, rng, lambda: _near(rng, background), labels)
    if rng.random() < 0.35:
        outside = ~canvas.ellipsoid(_place(canvas, rng), np.array(shape[::-1]) * rng.uniform(0.5, 0.9, 3))
        canvas.paint(outside, 0, -1000.0)
    return _scan(canvas.hu, rng), canvas.labels


Hue = Callable[[], float]


def _tissue(rng: np.random.Generator, kind: str | None = None) -> float:
    if kind is None:
        shares = np.array([share for _, share in TISSUES.values()])
        kind = str(rng.choice(list(TISSUES), p=shares / shares.sum()))
    return float(rng.uniform(*TISSUES[kind][0]))


def _near(rng: np.random.Generator, background: float) -> float:
    """Return HU close to the background, or, in half of the draws, those of any tissue."""
    if rng.random() < 0.5:
        return background + float(rng.choice([-1, 1]) * rng.uniform(15, 40))
    return _tissue(rng)


def _place(canvas: Canvas, rng: np.random.Generator) -> np.ndarray:
    return rng.uniform(0.1, 0.9, 3) * canvas.hu.shape[::-1]


def _rotation(rng: np.random.Generator) -> np.ndarray:
    return np.linalg.qr(rng.standard_normal((3, 3)))[0]


def _tessellation(canvas: Canvas, rng: np.random.Generator, background: float, labels: Iterator[int]) -> None:
    """Fill the scene with touching regions: the argmax of several smooth noises."""
    period = rng.uniform(16, 48)
    best = smooth_noise(rng, canvas.hu.shape, period)
    for _ in range(rng.integers(2, 6)):
        other = smooth_noise(rng, canvas.hu.shape, period)
        wins = other > best
        canvas.paint(wins, next(labels), _near(rng, background))
        np.maximum(best, other, out=best)


def _ellipsoid(canvas: Canvas, rng: np.random.Generator, hue: Hue, labels: Iterator[int]) -> None:
    radii = rng.uniform(4, 30) * rng.uniform(0.5, 1.0, 3)
    canvas.paint(canvas.ellipsoid(_place(canvas, rng), radii, _rotation(rng)), next(labels), hue())


def _shell(canvas: Canvas, rng: np.random.Generator, hue: Hue, labels: Iterator[int]) -> None:
    """Paint a wall and what it holds: bowel, bladder, kidney, skull."""
    centre, turn = _place(canvas, rng), _rotation(rng)
    radii = rng.uniform(8, 30) * rng.uniform(0.6, 1.0, 3)
    canvas.paint(canvas.ellipsoid(centre, radii, turn), next(labels), hue())
    canvas.paint(canvas.ellipsoid(centre, radii - rng.uniform(1.5, 4.0), turn), next(labels), hue())


def _walk(canvas: Canvas, rng: np.random.Generator, start: np.ndarray, steps: int, stride: float) -> np.ndarray:
    direction = rng.standard_normal(3)
    points = [start]
    for _ in range(steps):
        direction = direction / np.linalg.norm(direction) + 0.35 * rng.standard_normal(3)
        points.append(points[-1] + stride * direction / np.linalg.norm(direction))
    return np.array(points)


def _tube(canvas: Canvas, rng: np.random.Generator, hue: Hue, labels: Iterator[int]) -> None:
    """Paint a winding tube, at times with a lumen: vessel, oesophagus, bowel, rib."""
    radius = rng.uniform(1.5, 9)
    points = _walk(canvas, rng, _place(canvas, rng), int(rng.integers(5, 12)), max(6.0, 1.5 * radius))
    canvas.paint(canvas.tube(points, radius), next(labels), hue())
    if radius > 5 and rng.random() < 0.4:
        canvas.paint(canvas.tube(points, radius - rng.uniform(1.5, 2.5)), next(labels), hue())


def _tree(canvas: Canvas, rng: np.random.Generator, hue: Hue, labels: Iterator[int]) -> None:
    """Paint a vessel that branches, its branches thinner."""
    radius = rng.uniform(2.5, 5)
    trunk = _walk(canvas, rng, _place(canvas, rng), 6, 8.0)
    mask = canvas.tube(trunk, np.linspace(radius, 0.6 * radius, len(trunk)))
    for start in trunk[2::2]:
        mask |= canvas.tube(_walk(canvas, rng, start, 4, 7.0), np.linspace(0.6 * radius, 1.2, 5))
    canvas.paint(mask, next(labels), hue())


def _chain(canvas: Canvas, rng: np.random.Generator, hue: Hue, labels: Iterator[int]) -> None:
    """Paint a row of like blocks with gaps and a dense rind: vertebrae, carpals, teeth."""
    size = rng.uniform(5, 14)
    points = _walk(canvas, rng, _place(canvas, rng), int(rng.integers(3, 6)), 2 * size + rng.uniform(1, 5))
    turn, core = _rotation(rng), hue()
    rind = core + rng.uniform(0, 400)
    for point in points:
        label = next(labels)
        canvas.paint(canvas.ellipsoid(point, (size * 1.2, size * 1.2, size), turn, power=4.0), label, rind)
        canvas.paint(canvas.ellipsoid(point, (size * 1.2 - 1.5, size * 1.2 - 1.5, size - 1.5), turn, 4.0), label, core)


def _sheet(canvas: Canvas, rng: np.random.Generator, hue: Hue, labels: Iterator[int]) -> None:
    """Paint a thin layer through the whole scene: diaphragm, fascia, skin, muscle."""
    normal = _rotation(rng)[0]
    canvas.paint(canvas.sheet(normal, float(normal @ _place(canvas, rng)), rng.uniform(2, 7)), next(labels), hue())


def _scan(hu: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the scene with the effects of a scanner: texture, blur, thick slices, correlated noise."""
    depth, height, width = hu.shape
    textured = hu + rng.uniform(0, 12) * smooth_noise(rng, hu.shape, rng.uniform(3, 8))
    sharpness = rng.uniform(0.4, 1.0)
    along_z = gaussian_matrix(depth, sharpness)
    if rng.random() < 0.4:
        along_z = slice_matrix(depth, int(rng.integers(2, 5))) @ along_z
    image = along_axes(textured, [along_z, gaussian_matrix(height, sharpness), gaussian_matrix(width, sharpness)])
    grain = rng.uniform(0.4, 0.9)
    noise = along_axes(
        rng.standard_normal(hu.shape, dtype=np.float32),
        [None, gaussian_matrix(height, grain), gaussian_matrix(width, grain)],
    )
    image += np.float32(rng.uniform(4, 28) / noise[::4].std()) * noise
    return np.clip(image, AIR_HU, 3071).astype(np.int16)

"""A synthetic torso CT with labels, for demonstrations and tests without patient data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from CTSAM3DLib.imaging.constants import AIR_HU
from CTSAM3DLib.imaging.geometry import Geometry
from CTSAM3DLib.imaging.volume import Volume
from CTSAM3DLib.phantom.shapes import Canvas, along_axes, gaussian_matrix, smooth_noise

EXTENT = (360.0, 320.0, 300.0)
VERTEBRAE = ("L4", "L3", "L2", "L1", "T12", "T11", "T10", "T9", "T8", "T7", "T6")
FIRST_VERTEBRA, PITCH = -140.0, 28.0
BODY = (168.0, 116.0)
"""Half axes of the skin in x and y; the fat and the muscle below it are 12 and 20 mm thick."""


@dataclass(frozen=True)
class TorsoPhantom:
    """A synthetic CT (int16 HU) with its label map (uint8, z y x, 0 for unlabelled voxels) and the labels' names."""

    ct: Volume
    labels: np.ndarray
    names: dict[int, str]


def torso(
    seed: int = 0,
    spacing: tuple[float, float, float] = (1.5, 1.5, 2.0),
    shape: tuple[int, int, int] | None = None,
) -> TorsoPhantom:
    """Return a torso from the fourth lumbar to the sixth thoracic vertebra, contrast in the portal venous phase.

    The same arguments give the same voxels. Names are TotalSegmentator's where it has one.

    Args:
        seed: another seed is another patient.
        spacing: mm, (x, y, z); the volume's axes are those of LPS.
        shape: voxels, (z, y, x); by default what 360 x 320 x 300 mm take.

    """
    if shape is None:
        depth, height, width = (round(mm / step) for mm, step in zip(EXTENT[::-1], spacing[::-1], strict=True))
        shape = (depth, height, width)
    origin = (-EXTENT[0] / 2, -130.0, -EXTENT[2] / 2)
    rng = np.random.default_rng(seed)
    patient = _Patient(Canvas(shape, rng, spacing, origin, wobble=2.0, wobble_period=30.0), rng)
    for paint in (_wall, _bowel, _spine, _ribs, _chest, _upper_abdomen, _kidneys, _vessels):
        paint(patient)
    canvas = patient.canvas
    image = _scan(canvas.hu, spacing, rng)
    geometry = Geometry(shape, origin, spacing, (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0))
    return TorsoPhantom(Volume(image, geometry, f"torso-phantom-{seed}"), canvas.labels, patient.names)


@dataclass
class _Patient:
    """The canvas and its labels' names so far. x grows to the patient's left, y to the back, z to the head."""

    canvas: Canvas
    rng: np.random.Generator
    names: dict[int, str] = field(default_factory=dict)

    def add(self, name: str, mask: np.ndarray, hu: float) -> None:
        """Paint a structure, a further part of it where the name is known."""
        if name not in self.names.values():
            self.names[len(self.names) + 1] = name
        self.canvas.paint(mask, self.label(name), hu)

    def label(self, name: str) -> int:
        """Return the number of a structure that is there already."""
        return next(label for label, known in self.names.items() if known == name)

    def ball(self, centre: Sequence[float], radii: Sequence[float], power: float = 2.0) -> np.ndarray:
        """Return an ellipsoid whose size varies a little from patient to patient."""
        return self.canvas.ellipsoid(centre, np.array(radii) * self.rng.uniform(0.96, 1.04), power=power)

    def tube(self, points: Sequence[Sequence[float]], radius: float) -> np.ndarray:
        """Return a tube through the points, smoothed at its corners."""
        return self.canvas.tube(_rounded(np.array(points, float)), radius)

    def column(self, half_x: float, half_y: float) -> np.ndarray:
        """Return an elliptic cylinder around the body's axis, through the whole height."""
        return self.canvas.ellipsoid((0, 0, 0), (half_x, half_y, 1e6), power=2.3)


def _wall(patient: _Patient) -> None:
    canvas = patient.canvas
    canvas.hu[:] = -1000
    arc = canvas.ellipsoid((0, -150, 0), (300, 290, 1e6)) & ~canvas.ellipsoid((0, -150, 0), (298, 284, 1e6))
    arc |= canvas.ellipsoid((0, -150, 0), (296, 278, 1e6)) & ~canvas.ellipsoid((0, -150, 0), (295, 276, 1e6))
    y = canvas.position[1]
    canvas.paint(arc & (y > 60), 0, -350)
    skin, fat, muscle = (patient.column(BODY[0] - depth, BODY[1] - depth) for depth in (0, 2.5, 12))
    patient.add("skin", skin, 20)
    patient.add("subcutaneous_fat", fat, -105)
    patient.add("muscle_wall", muscle, 55)
    canvas.paint(patient.column(BODY[0] - 30, BODY[1] - 30), 0, -95)
    for side, x in (("right", -36), ("left", 36)):
        patient.add(f"autochthon_{side}", patient.ball((x, 86, 0), (27, 19, 1e6)), 58)
        patient.add(f"iliopsoas_{side}", patient.tube([(0.6 * x, 55, -55), (1.2 * x, 52, -160)], 17), 60)


def _spine(patient: _Patient) -> None:
    for number, name in enumerate(VERTEBRAE):
        z = FIRST_VERTEBRA + number * PITCH
        width = 24 - 0.7 * number
        patient.add("intervertebral_discs", patient.ball((0, 58, z + PITCH / 2), (width - 2, 16, 5), 4), 85)
        bone = f"vertebrae_{name}"
        for x in (-1, 1):
            patient.add(bone, patient.tube([(x * 12, 74, z), (x * 15, 92, z - 2), (x * 40, 90, z - 2)], 4.5), 420)
            patient.add(bone, patient.tube([(x * 15, 90, z - 2), (0, 96, z - 6)], 4.5), 420)
        patient.add(bone, patient.ball((0, 97, z - 8), (4, 12, 8), 3), 400)
        patient.add(bone, patient.ball((0, 58, z), (width, 18, 11.5), 4), 480)
        patient.add(bone, patient.ball((0, 58, z), (width - 3, 15, 9), 4), 210)
    patient.add("spinal_canal", patient.ball((0, 83, 0), (9, 8, 1e6)), 15)
    patient.add("spinal_cord", patient.ball((0, 83, 0), (5.5, 5, 1e6)), 42)


def _ribs(patient: _Patient) -> None:
    for number, vertebra in enumerate((*VERTEBRAE[4:], "T5", "T4"), start=4):
        name = vertebra[1:]
        z = FIRST_VERTEBRA + number * PITCH
        floating = number < 6
        angles = np.pi * np.linspace(0.12, 0.6 if floating else 0.86, 26)
        for side, sign in (("right", -1), ("left", 1)):
            around = np.stack([sign * 137 * np.sin(angles), 91 * np.cos(angles), z - 22 * (angles - angles[0])], axis=1)
            patient.add(f"rib_{side}_{name}", patient.canvas.tube(around, 5.0), 520)
            patient.canvas.paint(patient.canvas.tube(around, 2.2), patient.label(f"rib_{side}_{name}"), 220)
    patient.add("sternum", patient.ball((0, -88, 100), (17, 6, 75), 4), 260)


def _chest(patient: _Patient) -> None:
    """Paint the thorax above the diaphragm: lungs first, then the structures that lie in them."""
    lungs = {}
    for side, sign in (("right", -1), ("left", 1)):
        base = 15 if side == "right" else 0
        lung = patient.ball((sign * 70, 2, base + 75), (56, 78, 135)) & ~patient.ball((0, 10, 90), (26, 100, 200), 4)
        patient.add(f"lung_{side}", lung, -850)
        lungs[side] = lung
    for side, sign in (("right", -1), ("left", 1)):
        vessels = np.zeros_like(lungs[side])
        for _ in range(40):
            goal = np.array([sign * 70, 2, 75]) + patient.rng.uniform(-1, 1, 3) * (50, 70, 95)
            hilum = np.array([sign * 26.0, 8.0, 85.0])
            middle = (hilum + goal) / 2 + patient.rng.normal(0, 8, 3)
            vessels |= patient.canvas.tube(_rounded(np.array([hilum, middle, goal])), np.linspace(4.5, 1.3, 13))
        patient.canvas.paint(vessels & lungs[side], patient.label(f"lung_{side}"), 60)
    patient.add("heart", patient.ball((22, -32, 62), (56, 46, 52)), 95)
    patient.add("heart_ventricle_left", patient.ball((38, -28, 58), (26, 22, 30)), 155)
    patient.add("heart_ventricle_right", patient.ball((2, -52, 62), (26, 14, 28)), 150)
    patient.add("trachea", patient.tube([(0, 22, 100), (0, 14, 170)], 8.5), -1000)
    for sign in (-1, 1):
        patient.add("trachea", patient.tube([(0, 22, 102), (sign * 30, 20, 84)], 6), -1000)
    patient.add("esophagus", patient.tube([(6, 34, 170), (4, 34, 60), (20, 10, 5)], 7), 40)


def _upper_abdomen(patient: _Patient) -> None:
    stomach = [(28, -10, 8), (62, -32, 4), (64, -48, -30), (22, -62, -52)]
    patient.add("stomach", patient.tube(stomach, 31), 70)
    patient.add("stomach_content", patient.tube(stomach, 27), 18)
    bubble = patient.tube(stomach, 27) & (patient.canvas.position[1] < -58)
    patient.add("stomach_air", bubble, -990)
    patient.add("spleen", patient.ball((101, 38, -6), (28, 42, 44)), 118)
    liver = patient.ball((-66, -4, -14), (72, 76, 62)) | patient.ball((-58, 18, -50), (62, 50, 52))
    liver |= patient.ball((-2, -50, -8), (58, 30, 32))
    liver &= patient.column(BODY[0] - 31, BODY[1] - 31)
    patient.add("liver", liver, 108)
    branches = np.zeros_like(liver)
    for goal in ((-100, -30, 20), (-110, 20, -20), (-70, -50, -10), (-90, 40, -50), (-30, -50, 0), (-60, 10, 25)):
        branches |= patient.tube([(-32, 0, -32), (-55, -6, -18), goal], 4)
    patient.add("liver_vessels", branches & liver, 165)
    patient.add("gallbladder", patient.ball((-52, -62, -66), (15, 17, 24)), 8)
    patient.add("pancreas", patient.tube([(-18, -14, -64), (8, -8, -46), (40, 6, -34), (78, 26, -22)], 11), 92)
    patient.add("duodenum", patient.tube([(-28, -40, -52), (-40, -6, -62), (-36, 2, -96), (0, 10, -104)], 12), 62)


def _bowel(patient: _Patient) -> None:
    rng = patient.rng
    coils = [np.array([-30.0, -40.0, -150.0])]
    for step in range(26):
        side = 62 * np.sin(2.1 * step)
        coils.append(np.array([side, -38 + rng.uniform(-24, 24), -150 + 3.0 * step + rng.uniform(-6, 6)]))
    patient.add("small_bowel", patient.canvas.tube(_rounded(np.array(coils)), 12), 75)
    patient.canvas.paint(patient.canvas.tube(_rounded(np.array(coils)), 8.5), patient.label("small_bowel"), 25)
    frame = [(-98, 12, -165), (-102, 6, -110), (-96, -32, -84), (-40, -66, -96), (40, -66, -96), (92, -30, -76)]
    frame += [(104, 14, -100), (102, 26, -165)]
    patient.add("colon", patient.tube(frame, 20), 60)
    lumen = patient.tube(frame, 16.5)
    patient.canvas.paint(lumen, patient.label("colon"), 15)
    gas = smooth_noise(rng, lumen.shape, 9.0) - 0.02 * (patient.canvas.position[1] + 40) > 0.2
    patient.canvas.paint(lumen & gas, patient.label("colon"), -900)


def _kidneys(patient: _Patient) -> None:
    for side, x, z in (("right", -66, -94), ("left", 68, -74)):
        patient.canvas.paint(patient.ball((x, 44, z), (33, 30, 56)), 0, -100)
        cortex = patient.ball((x, 44, z), (28, 25, 50))
        sinus = patient.ball((x * 0.72, 40, z), (17, 10, 22))
        patient.add(f"kidney_{side}", cortex, 190)
        for height in (-32, -16, 0, 16, 32):
            for y in (35, 53):
                pyramid = patient.ball((x * 1.1, y, z + height), (9, 7, 7)) & cortex
                patient.canvas.paint(pyramid, patient.label(f"kidney_{side}"), 125)
        patient.add(f"kidney_pelvis_{side}", sinus & cortex, -60)
        patient.add(f"adrenal_gland_{side}", patient.tube([(x * 0.6, 38, z + 50), (x * 0.8, 46, z + 62)], 4), 80)


def _vessels(patient: _Patient) -> None:
    aorta = [(4, 30, -170), (6, 30, -60), (14, 36, 20), (22, 40, 90), (16, 20, 122), (-8, -16, 112), (2, -22, 84)]
    patient.add("inferior_vena_cava", patient.tube([(-22, 28, -170), (-22, 26, -60), (-18, 4, 34)], 11.5), 130)
    patient.add("portal_vein", patient.tube([(10, 2, -60), (-14, 2, -44), (-36, -2, -30)], 7), 165)
    patient.add("aorta", patient.tube(aorta, 11.5), 175)
    for x in (-52, 54):
        patient.add("renal_vessels", patient.tube([(4, 28, -74), (x, 40, -80)], 3.5), 165)


def _rounded(points: np.ndarray, steps: int = 6) -> np.ndarray:
    """Return a denser polyline through the points (Catmull-Rom spline)."""
    padded = np.concatenate([[2 * points[0] - points[1]], points, [2 * points[-1] - points[-2]]])
    share = np.linspace(0, 1, steps, endpoint=False)[:, None]
    pieces = []
    for before, start, end, after in zip(padded, padded[1:], padded[2:], padded[3:], strict=False):
        tangent_in, tangent_out = (end - before) / 2, (after - start) / 2
        bend = (3 * (end - start) - 2 * tangent_in - tangent_out) * share**2
        pieces.append(start + tangent_in * share + bend + (2 * (start - end) + tangent_in + tangent_out) * share**3)
    return np.concatenate([*pieces, points[-1:]])


def _scan(hu: np.ndarray, spacing: Sequence[float], rng: np.random.Generator) -> np.ndarray:
    """Return the torso as scanned: a point spread of 1 mm, noise of 12 HU that is correlated within slices."""
    x, y, z = spacing
    depth, height, width = hu.shape
    blur = [gaussian_matrix(depth, 1.0 / z), gaussian_matrix(height, 1.0 / y), gaussian_matrix(width, 1.0 / x)]
    image = along_axes(hu, blur)
    noise = rng.standard_normal(hu.shape, dtype=np.float32)
    noise = along_axes(noise, [None, gaussian_matrix(height, 0.7), gaussian_matrix(width, 0.7)])
    image += noise * np.float32(12.0 / noise[::8].std())
    image += 4 * smooth_noise(rng, hu.shape, 6.0)
    scanned: np.ndarray = np.clip(np.rint(image), AIR_HU, 3071).astype(np.int16)
    return scanned

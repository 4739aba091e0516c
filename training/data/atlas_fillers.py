"""Complete each atlas to a whole patient: tissue between its structures, around them, and under the skin.

Labels that begin with "filler_" are plausible guesses and not trained on; `training.learning.painting` defines their
appearance. Lengths are mm; arrays are (z, y, x), z up, y to the back, x to the patient's left.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import binary_dilation, binary_fill_holes

from training.data.atlas_bodies import add_left_arm
from training.data.atlas_flesh import body_around
from training.data.atlas_head import give_airway, give_brain, give_sinuses, split_filled_skull
from training.data.atlas_trunk import Trunk, give_diaphragm_organs
from training.data.label_canvas import LabelCanvas, Mask, axial_hulls

FLESHY = (
    "femur_*",
    "tibia_*",
    "fibula_*",
    "foot_*",
    "toes_*",
    "talus_*",
    "patella_*",
    "humerus_*",
    "ulna_*",
    "radius_*",
    "scapula_*",
    "clavicula_*",
    "metacarpal_*",
    "phalanges_*",
    "hip_*",
    "sacrum",
    "skull",
    "mandible",
    "vertebrae_C*",
    "vertebrae_cervical",
    "hyoid",
    "ribs_1_*",
    "ribs_2_*",
    "filler_long_bone",
    "filler_rib",
    "filler_vertebra",
    "filler_skull",
    "filler_mandible",
    "other_bones",
)
BONES = ("vertebrae_*", "filler_vertebra", "sacrum", "*hips", "hip_*")


def complete_abdomen(canvas: LabelCanvas) -> None:
    """Fat inside and outside of the wall of muscle, the bases of the lungs, the content of the spinal canal."""
    _pad_sideways(canvas, 45)
    solid = canvas.labels > 0
    hull = canvas.smoothed(axial_hulls(solid), 9)
    body = canvas.smoothed(canvas.near(hull, 22), 6) | hull
    give_spinal_canal(canvas)
    ribs = canvas.mask("ribs_*")
    trunk = Trunk.of(canvas, hull, ribs | canvas.mask(*BONES), canvas.mask("vertebrae_*"), wall=4)
    organs = canvas.mask("liver", "spleen", "stomach*", "colon*", "kidney*")
    trunk.give_lungs(canvas, trunk.floor_over(canvas, organs))
    canvas.paint("filler_soft_tissue", _between(canvas, ribs, 14))
    finish(canvas, body, hull, inside="filler_fat")


def complete_knee(canvas: LabelCanvas) -> None:
    """Fat between the muscles and under the skin; what is left of the joint space is soft."""
    _pad_sideways(canvas, 25)
    hull = canvas.smoothed(axial_hulls(canvas.labels > 0), 6)
    body = canvas.smoothed(canvas.near(hull, 8), 6)
    joint = canvas.mask("*cartilage", "*meniscus", "femur", "tibia", "patella", "*ligament")
    canvas.paint("filler_soft_tissue", _between(canvas, joint, 7))
    finish(canvas, body, hull, inside="filler_fat")


def complete_head_and_neck(canvas: LabelCanvas) -> None:
    """Brain, airway and sinuses, lungs, the muscles that are not labelled, and skin."""
    _pad_sideways(canvas, 30, left_and_right=False)
    solid = canvas.labels > 0
    hull = canvas.smoothed(axial_hulls(solid), 5)
    over_bone = canvas.distance_to(canvas.mask("skull", "mandible"))
    thickness = np.where(over_bone < 40, 6 + over_bone / 4, 16)
    body = canvas.smoothed(canvas.distance_to(hull | solid) < thickness, 4) | solid
    give_spinal_canal(canvas)
    give_brain(canvas)
    give_airway(canvas, body)
    give_sinuses(canvas)
    ribs = canvas.mask("ribs_*")
    chest = axial_hulls(ribs | canvas.mask("sternum", "vertebrae_T*"))
    trunk = Trunk.of(canvas, chest, ribs | canvas.mask("sternum"), canvas.mask("vertebrae_*"), wall=9)
    trunk.give_lungs(canvas, np.full(canvas.labels.shape[1:], -1.0, np.float32))
    finish(canvas, body, solid, fat=7, inside="filler_muscle_and_fat")


def complete_skeleton(canvas: LabelCanvas) -> None:
    """Flesh around the bones of a skeleton, thorax and abdomen with what fills them, a brain in the filled skull."""
    canvas.pad(*2 * ((round(12 / canvas.spacing), round(75 / canvas.spacing), round(75 / canvas.spacing)),))
    ribs = canvas.mask("ribs_and_sternum")
    girdle = canvas.mask("hip_*", "sacrum")
    hull = _trunk_hull(canvas, ribs, girdle, canvas.mask("vertebrae_L*", "vertebrae_T*"))
    head = axial_hulls(canvas.mask("skull", "mandible", "vertebrae_cervical"))
    body = body_around(canvas, hull | head)
    split_filled_skull(canvas)
    give_spinal_canal(canvas)
    give_airway(canvas, body)
    trunk = Trunk.of(canvas, hull, ribs | girdle, canvas.mask("vertebrae_*"), wall=9)
    give_diaphragm_organs(canvas, trunk, trunk.lowest_in_front(canvas, ribs))
    finish(canvas, body, hull, fat=10)


def complete_arms(canvas: LabelCanvas) -> None:
    """Both arms at a trunk of bones that are not told apart, with flesh around all."""
    add_left_arm(canvas)
    _pad_sideways(canvas, 60)
    bones = canvas.mask("other_bones")
    ribs, spine_alone, girdle = _at_waist(canvas, bones)
    hull = canvas.smoothed(_hull_of_each_leg(canvas, bones), 6) | _trunk_hull(canvas, ribs, girdle, spine_alone)
    body = body_around(canvas, hull)
    spine = bones & canvas.near(_middle_column(canvas, bones), 45)
    trunk = Trunk.of(canvas, hull, bones, spine, wall=9)
    give_diaphragm_organs(canvas, trunk, trunk.lowest_in_front(canvas, ribs))
    # Bones of few polygons are shells: what is inside of them is marrow.
    canvas.paint("filler_bone", _closed(bones, canvas))
    finish(canvas, body, hull, fat=9)


def complete_whole_body(canvas: LabelCanvas) -> None:
    """What an atlas with skin and organs has not named: lungs, bowel, muscle, fat, brain."""
    body = canvas.labels > 0
    canvas.labels[canvas.mask("body")] = 0
    del canvas.names[canvas.value("body")]
    ribs = canvas.mask("filler_rib")
    girdle = canvas.mask("hip_*", "sacrum")
    organs = canvas.mask("liver", "spleen", "kidney*", "pancreas", "colon", "small_bowel", "heart*")
    spine = canvas.mask("filler_vertebra")
    hull = (_trunk_hull(canvas, ribs, girdle, spine) | axial_hulls(organs)) & body
    split_filled_skull(canvas, "filler_skull")
    give_spinal_canal(canvas)
    trunk = Trunk.of(canvas, hull, ribs | girdle, spine, wall=8)
    canvas.paint("filler_blood", axial_hulls(canvas.mask("heart*")))
    below = canvas.mask("liver", "spleen", "kidney*", "pancreas", "colon")
    floor = trunk.floor_over(canvas, below)
    trunk.give_lungs(canvas, floor)
    trunk.give_viscera(canvas, floor)
    finish(canvas, body, hull, fat=11)


def finish(canvas: LabelCanvas, body: Mask, hull: Mask, fat: float = 0, inside: str = "filler_soft_tissue") -> None:
    """Label skin, the fat below it, and the rest of the body as `inside`.

    Fat lies outside of the hull of bones, organs and named muscles; around the bones of limbs, neck and pelvis, which
    muscles cover, fat is at most `fat` mm deep if `fat` is given.
    """
    body = body | (canvas.labels > 0)
    depth = canvas.depth(body)
    canvas.paint("filler_skin", body & (depth <= canvas.spacing * 1.01))
    deep = canvas.near(hull, 4)
    if fat:
        deep |= (depth > fat) & canvas.near(canvas.mask(*FLESHY), 55)
    canvas.paint(inside, body & deep)
    canvas.paint("subcutaneous_fat", body)


def give_spinal_canal(canvas: LabelCanvas) -> None:
    """Label the region that vertebrae enclose in axial slices, and the region between two such slices."""
    spine = canvas.mask("vertebrae_*", "*IntervertebralDisc", "filler_vertebra")
    ring = binary_dilation(spine, np.ones((3, 3, 3), bool))
    enclosed = np.zeros_like(spine)
    for z in np.flatnonzero(ring.any(axis=(1, 2))):
        enclosed[z] = binary_fill_holes(ring[z]) & ~ring[z]
    certain = not canvas.mask("filler_vertebra").any() and not canvas.mask("spinal_cord").any()
    canvas.paint("spinal_cord" if certain else "filler_cord", canvas.near(enclosed, 1.5 * canvas.spacing) & ~spine)


def _pad_sideways(canvas: LabelCanvas, millimetres: float, left_and_right: bool = True) -> None:
    voxels = round(millimetres / canvas.spacing)
    margins = (0, voxels, voxels if left_and_right else 0)
    canvas.pad(margins, margins)


def _between(canvas: LabelCanvas, mask: Mask, gap: float) -> Mask:
    """Voxels between parts of the mask that are at most `gap` mm apart."""
    padded = np.pad(mask, 8)
    wide = canvas.distance_to(padded) <= gap / 2
    return (canvas.distance_to(~wide) > gap / 2)[8:-8, 8:-8, 8:-8]


def _closed(mask: Mask, canvas: LabelCanvas) -> Mask:
    closed = _between(canvas, mask, 5) | mask
    for axis in (0, 1, 2):
        for index in range(mask.shape[axis]):
            at = (slice(None),) * axis + (index,)
            small = binary_fill_holes(closed[at]) & ~closed[at]
            if 0 < small.sum() * canvas.spacing**2 < 1800:  # a canal or the inside of ribs is no marrow
                closed[at] |= small
    return closed


def _trunk_hull(canvas: LabelCanvas, ribs: Mask, girdle: Mask, spine: Mask) -> Mask:
    """Between the top of the ribs and the bottom of the pelvis: the hull of each slice, where there are only
    vertebrae that of ribs and pelvis above and below."""
    hulls = axial_hulls(ribs | girdle | spine)
    bony = np.flatnonzero((ribs | girdle).any(axis=(1, 2)))
    low_rib, high_hip = np.flatnonzero(ribs.any(axis=(1, 2)))[0], np.flatnonzero(girdle.any(axis=(1, 2)))[-1]
    margin = round(40 / canvas.spacing)
    below, above = max(min(high_hip, low_rib) - margin, bony[0]), min(max(low_rib, high_hip) + 2 * margin, bony[-1])
    inner, outer = (canvas_distance(canvas, hulls[z]) for z in (below, above))
    for z in range(below, above + 1):
        share = (z - below) / max(above - below, 1)
        hulls[z] |= (1 - share) * inner + share * outer < 0
    return canvas.smoothed(hulls, 9)


def canvas_distance(canvas: LabelCanvas, area: Mask) -> np.ndarray:
    """Signed distance in mm to the border of an area of a slice, negative inside."""
    return canvas.distance_to(area) - canvas.distance_to(~area)


def _hull_of_each_leg(canvas: LabelCanvas, bones: Mask) -> Mask:
    """Hulls of slices; where no bone is near the middle, the two sides have one each."""
    middle = bones.shape[2] // 2
    near = round(20 / canvas.spacing)
    halves = np.concatenate((axial_hulls(bones[:, :, :middle]), axial_hulls(bones[:, :, middle:])), axis=2)
    together = np.asarray(np.any(bones[:, :, middle - near : middle + near], axis=(1, 2)))
    return np.where(together[:, None, None], axial_hulls(bones), halves)


def _middle_column(canvas: LabelCanvas, bones: Mask) -> Mask:
    """The line along the backmost bones of the middle."""
    middle = bones.shape[2] // 2
    column = np.zeros_like(bones)
    for z in np.flatnonzero(bones[:, :, middle].any(axis=1)):
        column[z, max(np.flatnonzero(bones[z, :, middle])[-1] - round(25 / canvas.spacing), 0), middle] = True
    return column


def _at_waist(canvas: LabelCanvas, bones: Mask) -> tuple[Mask, Mask, Mask]:
    """Bones of the thorax, of the waist, where there are vertebrae alone, and of the pelvis."""
    rows = np.asarray(np.any(bones, axis=1))
    width = np.array([np.ptp(np.flatnonzero(row)) if row.any() else 0 for row in rows]) * canvas.spacing
    size = len(bones)
    narrow = np.flatnonzero((width < 115) & (abs(np.arange(size) - 0.45 * size) < 0.25 * size))
    z = np.arange(size)[:, None, None]
    low, high = narrow[0], narrow[-1]
    pelvis = bones & (z < low) & (z > low - 150 / canvas.spacing)
    return bones & (z > high), bones & (z >= low) & (z <= high), pelvis

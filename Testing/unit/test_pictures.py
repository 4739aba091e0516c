"""Pictures: where things appear, at what scale, and whatever the CT's own axes are."""

import matplotlib.image
import numpy as np
import pytest

from CTSAM3DLib.clicks.click import Click
from CTSAM3DLib.errors import OutputError
from CTSAM3DLib.imaging.geometry import Geometry
from CTSAM3DLib.imaging.volume import Volume
from CTSAM3DLib.output.pictures import DPI, GAP_MM, LEGEND_INCHES, PALETTE, WIDTH_INCHES, Overlay, three_planes

MAGENTA = (1.0, 0.0, 1.0)
BALL_LPS, RADIUS = np.array((-22.0, -15.0, 26.0)), 12.0
TILT = np.array([[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, 1.0]])
DIRECTIONS = {"LPS": np.eye(3), "RAI": np.diag([-1.0, -1.0, -1.0]), "SPL": np.eye(3)[::-1], "oblique": TILT}


def make_ct(direction=DIRECTIONS["LPS"], spacing=(2.0, 2.5, 3.0), size_mm=120.0) -> Volume:
    """A CT of soft tissue centred on the origin of LPS."""
    spacing = np.array(spacing)
    size = np.rint(size_mm / spacing).astype(int)
    origin = -direction @ (spacing * (size - 1) / 2)
    geometry = Geometry(tuple(size[::-1]), tuple(origin), tuple(spacing), tuple(direction.ravel()))
    return Volume(np.full(geometry.shape, 40, np.int16), geometry)


def lps_of_voxels(ct: Volume) -> np.ndarray:
    k, j, i = np.indices(ct.array.shape)
    return ct.geometry.to_lps(np.stack([i, j, k], axis=-1))


def ball(ct: Volume, centre=BALL_LPS, radius=RADIUS) -> Volume:
    distance = np.linalg.norm(lps_of_voxels(ct) - centre, axis=-1)
    return Volume((distance <= radius).astype(np.uint8), ct.geometry)


def draw(path, ct, masks=(), clicks=()) -> np.ndarray:
    """The picture's RGB without its legend."""
    three_planes(ct, masks, clicks, path)
    return matplotlib.image.imread(path)[: -int(LEGEND_INCHES * DPI), :, :3]


def colored(image: np.ndarray, color, tolerance=0.12) -> np.ndarray:
    return np.abs(image - color).max(axis=-1) <= tolerance


def panels_of(found: np.ndarray, width_mm: float):
    """Rows and columns in mm of what is found in each of three panels of the same width, from the bottom left."""
    per_mm = WIDTH_INCHES * DPI / (3 * width_mm + 2 * GAP_MM)
    for number in range(3):
        left = number * (width_mm + GAP_MM) * per_mm
        rows, columns = np.nonzero(found[:, round(left) : round(left + width_mm * per_mm)])
        yield (len(found) - rows) / per_mm, columns / per_mm


@pytest.mark.parametrize("direction", ["LPS", "RAI", "SPL"])
def test_a_ball_is_round_and_where_a_radiologist_looks_for_it(tmp_path, direction):
    ct = make_ct(DIRECTIONS[direction])
    image = draw(tmp_path / "x.png", ct, [Overlay(ball(ct), "ball", MAGENTA)])
    low, high = ct.geometry.corners(margin=0.5).min(axis=0), ct.geometry.corners(margin=0.5).max(axis=0)
    left, posterior, superior = BALL_LPS - low
    anterior = high[1] - BALL_LPS[1]
    expected = ((left, anterior), (left, superior), (posterior, superior))  # across, and up from the bottom
    for (rows, columns), (across, up) in zip(panels_of(colored(image, MAGENTA), 120.0), expected, strict=True):
        assert (columns.min() + columns.max()) / 2 == pytest.approx(across, abs=2)
        assert (rows.min() + rows.max()) / 2 == pytest.approx(up, abs=2)
        assert np.ptp(columns) == pytest.approx(2 * RADIUS, abs=3)
        assert np.ptp(rows) == pytest.approx(2 * RADIUS, abs=3)


def test_an_oblique_ct_is_shown_upright(tmp_path):
    ct = make_ct(DIRECTIONS["oblique"])
    bar = (np.abs(lps_of_voxels(ct)) <= (8, 32, 8)).all(axis=-1).astype(np.uint8)  # along the patient's P axis
    image = draw(tmp_path / "x.png", ct, [Overlay(Volume(bar, ct.geometry), "bar", MAGENTA)])
    axial = colored(image, MAGENTA)[:, : image.shape[1] // 3]
    rows, columns = np.nonzero(axial)
    assert np.ptp(rows) / np.ptp(columns) == pytest.approx(4, abs=0.6)


def test_clicks_are_drawn_on_the_planes_that_they_are_near(tmp_path):
    near, far = Click((10.0, 20.0, -30.0)), Click((-40.0, -40.0, 40.0), positive=False)
    image = draw(tmp_path / "x.png", make_ct(), clicks=[far, near])
    green = colored(image, (0x35 / 255, 0xD0 / 255, 0x4A / 255))
    red = colored(image, (0xFF / 255, 0x3B / 255, 0x30 / 255))
    assert all(len(rows) for rows, _ in panels_of(green, 120.0))
    assert not red.any()
    image = draw(tmp_path / "x.png", make_ct(), clicks=[near, far])
    assert colored(image, (0xFF / 255, 0x3B / 255, 0x30 / 255)).any()


def test_planes_show_the_widest_part_of_the_mask(tmp_path):
    ct = make_ct()
    small = ball(ct, centre=(30, 30, -40), radius=8)
    both = Volume(ball(ct).array | small.array, ct.geometry)
    image = draw(tmp_path / "x.png", ct, [Overlay(both, "ball", MAGENTA)])
    for _, columns in panels_of(colored(image, MAGENTA), 120.0):
        assert np.ptp(columns) == pytest.approx(2 * RADIUS, abs=3)


@pytest.mark.parametrize("masks", [0, 1], ids=["no mask", "an empty mask"])
def test_nothing_to_show_but_the_ct(tmp_path, masks):
    ct = make_ct()
    empty = Volume(np.zeros(ct.array.shape, np.uint8), ct.geometry)
    image = draw(tmp_path / "x.png", ct, [Overlay(empty, "nothing", PALETTE[0])] * masks)
    assert colored(image, (0.5, 0.5, 0.5)).mean() > 0.5  # 40 HU in the middle of the window


def test_a_thin_slab(tmp_path):
    ct = make_ct(spacing=(2.0, 2.0, 60.0))
    thin = Volume(ct.array, Geometry(ct.geometry.shape, ct.geometry.origin, (2.0, 2.0, 0.3), ct.geometry.direction))
    mask = Volume(np.ones(thin.array.shape, np.uint8), thin.geometry)
    assert draw(tmp_path / "x.png", thin, [Overlay(mask, "all", MAGENTA)]).any()


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(OutputError, match="does not exist"):
        three_planes(make_ct(), [], [], tmp_path / "nowhere" / "x.png")
    assert not list(tmp_path.iterdir())

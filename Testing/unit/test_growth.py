"""Cross-patch growth, with answers and heat maps that are known: which patches, in which order, and what is kept."""

from collections.abc import Callable

import numpy as np
import pytest

from CTSAM3DLib.imaging.constants import PATCH
from CTSAM3DLib.segmentation.canvas import MASK, Canvas
from CTSAM3DLib.segmentation.fusion import depth_in_patch
from CTSAM3DLib.segmentation.growth import BORDER, GROUP, MIN_OPEN, MIN_PEAK, STRIDE, Growth, grow
from CTSAM3DLib.segmentation.patch_grid import ModelGrid, Start

START = (STRIDE * 2,) * 3
"""Of the clicked patch, in the middle of five by five by five patches."""
GRID = ModelGrid((0.0, 0.0, 0.0), (4 * STRIDE + PATCH,) * 3)


class Prompter:
    """Answers what it is told to, and keeps what it was asked."""

    def __init__(
        self,
        answer: Callable[[Start], np.ndarray],
        heat_map: Callable[[Start, Start], np.ndarray] = lambda source, neighbour: np.zeros((PATCH,) * 3, np.float32),
    ) -> None:
        self.grid = GRID
        self._answer, self._heat_map = answer, heat_map
        self.answered: list[tuple[Start, ...]] = []
        self.points: dict[Start, Start | None] = {}
        self.sources: dict[Start, Start] = {}

    def predict(self, canvas, starts, points):
        self.answered.append(tuple(starts))
        self.points.update(zip(starts, points, strict=True))
        return [self._answer(start) for start in starts]

    def predict_prompts(self, canvas, starts, neighbours):
        self.sources.update(zip(neighbours, starts, strict=True))
        return [self._heat_map(source, neighbour) for source, neighbour in zip(starts, neighbours, strict=True)]


def constant(value: int) -> np.ndarray:
    return np.full((PATCH,) * 3, value, np.uint8)


def neighbour(z: int, y: int, x: int) -> Start:
    return tuple(a + STRIDE * step for a, step in zip(START, (z, y, x), strict=True))


def grown(
    prompter: Prompter, clicked: np.ndarray, max_hops=None, budget=96, before: Canvas | None = None
) -> list[Growth]:
    before = Canvas() if before is None else before
    return list(grow(prompter, before, before.write(START, clicked), START, max_hops, budget))


def open_at(**sides: int) -> np.ndarray:
    """A clicked patch with so many voxels of mask at each of these sides: `z0`, `z1`, `y0`, ..."""
    patch = constant(1)
    for side, count in sides.items():
        axis, end = "zyx".index(side[0]), -1 if side[1] == "1" else 0
        face = np.moveaxis(patch, axis, 0)[end]
        across = face[24:40, 24:40].reshape(-1)
        across[:count] = 255
        face[24:40, 24:40] = across.reshape(16, 16)
    return patch


def test_a_mask_that_reaches_no_side_asks_for_nothing():
    patch = constant(1)
    patch[BORDER:-BORDER, BORDER:-BORDER, BORDER:-BORDER] = 255
    prompter = Prompter(lambda start: constant(1))
    (only,) = grown(prompter, patch)
    assert not prompter.answered
    assert not only.following


@pytest.mark.parametrize(("count", "asked"), [(MIN_OPEN - 1, 0), (MIN_OPEN, 1)])
def test_a_side_is_open_from_so_many_voxels_on(count, asked):
    prompter = Prompter(lambda start: constant(1))
    grown(prompter, open_at(z1=count))
    assert prompter.answered == [(neighbour(1, 0, 0),)] * asked


def test_mask_that_was_there_before_opens_no_side():
    prompter = Prompter(lambda start: constant(1))
    before = Canvas().write(START, open_at(z1=100))
    grown(prompter, open_at(z1=100), before=before)
    assert not prompter.answered


def test_the_widest_opening_comes_first_in_groups():
    counts = {"z0": 10, "z1": 60, "y0": 50, "y1": 20, "x0": 40, "x1": 30}
    prompter = Prompter(lambda start: constant(1))
    grown(prompter, open_at(**counts))
    order = [start for group in prompter.answered for start in group]
    steps = {"z0": (-1, 0, 0), "z1": (1, 0, 0), "y0": (0, -1, 0), "y1": (0, 1, 0), "x0": (0, 0, -1), "x1": (0, 0, 1)}
    assert order == [neighbour(*steps[side]) for side in sorted(counts, key=counts.get, reverse=True)]
    assert [len(group) for group in prompter.answered] == [GROUP, len(counts) - GROUP]


def test_rings_are_answered_one_after_the_other_and_bounded():
    prompter = Prompter(lambda start: constant(255))
    *_, last = grown(prompter, constant(255), max_hops=1)
    assert [patch.hops for patch in last.patches] == [1] * 26
    *_, last = grown(Prompter(lambda start: constant(255)), constant(255), max_hops=None, budget=1000)
    hops = [patch.hops for patch in last.patches]
    assert hops == sorted(hops)
    assert (hops.count(1), hops.count(2)) == (26, 98)
    assert len(hops) == len({patch.start for patch in last.patches}) == 5**3 - 1


@pytest.mark.parametrize("budget", [1, 5, 26, 40])
def test_no_more_patches_than_the_budget(budget):
    prompter = Prompter(lambda start: constant(255))
    *_, last = grown(prompter, constant(255), budget=budget)
    assert len(last.patches) == sum(map(len, prompter.answered)) == budget


def test_every_patch_is_named_before_the_network_looks_at_it():
    prompter = Prompter(lambda start: constant(255))
    growths = grow(prompter, Canvas(), Canvas().write(START, constant(255)), START, 1, 96)
    named: set[Start] = set()
    for growth in growths:
        asked = {start for group in prompter.answered for start in group} | set(prompter.sources.values())
        assert asked <= named
        named |= set(growth.following)


def test_the_deepest_patch_counts_where_patches_overlap():
    values = {neighbour(0, 0, 1): 150, neighbour(0, 1, 1): 160, neighbour(0, 1, 0): 170}
    prompter = Prompter(lambda start: constant(values.get(start, 1)))
    clicked = open_at(x1=100, y1=90)
    clicked[24:40, -BORDER:, -BORDER:] = 255  # the corner between both
    *_, last = grown(prompter, clicked, max_hops=1)
    depths = {start: Canvas().write(start, depth_in_patch()) for start in values}
    for start in values:
        depth = {other: canvas.read(start) for other, canvas in depths.items()}
        others = np.max([depth[other] for other in values if other != start], axis=0)
        outside_clicked = Canvas().write(START, constant(255)).read(start) == 0
        alone = outside_clicked & (depth[start] > others)
        assert alone.sum() > 64**3 / 5
        assert np.all(last.canvas.read(start)[alone] == values[start])


def test_the_clicked_patch_stays_as_it_was_answered():
    clicked = open_at(z0=50, z1=50)
    *_, last = grown(Prompter(lambda start: constant(255)), clicked)
    assert np.array_equal(last.canvas.read(START), clicked)


def test_what_earlier_clicks_found_stays():
    earlier = neighbour(1, 0, 0)
    before = Canvas().write(earlier, constant(200)).write(START, constant(1))
    prompter = Prompter(lambda start: constant(1))
    *_, last = grown(prompter, open_at(z1=100), before=before)
    assert (earlier,) in prompter.answered
    beyond = last.canvas.read(earlier)[PATCH - STRIDE :]
    assert np.all(beyond == 200)


def test_a_clear_peak_of_the_heat_map_becomes_a_click():
    peak = (50, 20, 30)

    def heat_map(source: Start, target: Start) -> np.ndarray:
        values = np.zeros((PATCH,) * 3, np.float32)
        values[peak] = MIN_PEAK if target == neighbour(1, 0, 0) else MIN_PEAK - 0.01
        return values

    prompter = Prompter(lambda start: constant(1), heat_map)
    grown(prompter, open_at(z1=100, z0=100))
    assert prompter.points[neighbour(1, 0, 0)] == tuple(a + b for a, b in zip(neighbour(1, 0, 0), peak, strict=True))
    assert prompter.points[neighbour(-1, 0, 0)] is None
    assert prompter.sources == {neighbour(1, 0, 0): START, neighbour(-1, 0, 0): START}


def test_a_neighbour_is_proposed_from_the_patch_that_reaches_furthest_into_it():
    """Both the clicked patch's side and its first neighbour's open into the same patch of the second ring."""
    wide = constant(1)
    wide[-BORDER:, :, :] = 255
    wide[:, :, -BORDER:] = 255
    narrow = constant(1)
    narrow[-1, 30:34, 30:34] = 255
    prompter = Prompter(lambda start: wide if start == neighbour(1, 0, 0) else narrow)
    grown(prompter, open_at(z1=100, x1=90), max_hops=2)
    assert prompter.sources[neighbour(1, 0, 1)] == neighbour(1, 0, 0)


def test_nothing_beyond_the_grid_is_asked():
    prompter = Prompter(lambda start: constant(255))
    prompter.grid = ModelGrid((0.0, 0.0, 0.0), (START[0] + PATCH, 400, 400))
    grown(prompter, constant(255), max_hops=1)
    asked = {start for group in prompter.answered for start in group}
    assert asked
    assert all(z <= START[0] for z, _, _ in asked)


def test_the_mask_is_what_the_canvas_holds_from_the_half_on():
    *_, last = grown(Prompter(lambda start: constant(MASK)), open_at(z1=100), max_hops=1)
    assert np.all(last.canvas.read(neighbour(1, 0, 0))[PATCH - STRIDE :] >= MASK)

"""A mask is a function of (volume, ordered clicks, reach, model): what sessions promise."""

import threading

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from CTSAM3DLib.cache import Cache
from CTSAM3DLib.clicks.click import Click
from CTSAM3DLib.errors import Cancelled, ClickError, CTSAM3DError, VolumeError
from CTSAM3DLib.execution.engine import Engine
from CTSAM3DLib.imaging.volume import Geometry, Volume
from CTSAM3DLib.segmentation.patch_grid import TileSampler
from CTSAM3DLib.segmentation.session import Segmenter, Session
from Testing.support.threshold_network import threshold_model

SPACING = (1.5, 1.5, 1.5)
STRAIGHT = (1.0, 0, 0, 0, 1, 0, 0, 0, 1)


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return Segmenter(Engine(threshold_model(), "cpu"))


def volume_with(bright: np.ndarray, direction=STRAIGHT, spacing=SPACING, origin=(-50.0, -60.0, 700.0)) -> Volume:
    """Soft tissue at 0 HU with bright parts at 800 HU in one corner of air."""
    array = np.where(bright, 800, 0).astype(np.int16)
    array[0] = -1000
    return Volume(array, Geometry(bright.shape, origin, spacing, direction))


@pytest.fixture(scope="module")
def tube() -> Volume:
    """A tube of 12 x 12 voxels that runs through 256 slices and once sideways."""
    bright = np.zeros((256, 90, 150), bool)
    bright[5:250, 40:52, 30:42] = True
    bright[120:132, 40:52, 30:140] = True
    return volume_with(bright)


def click_at(volume: Volume, z: int, y: int, x: int, positive: bool = True) -> Click:
    (l, p, s) = volume.geometry.to_lps([(x, y, z)])[0]  # noqa: E741
    return Click((float(l), float(p), float(s)), positive)


def test_structure_reach_follows_a_tube_to_all_its_ends(segmenter, tube):
    session = segmenter.open(tube)
    mask = session.segment([click_at(tube, 20, 46, 36)]).mask.array
    assert np.array_equal(mask > 0, tube.array > 200)


def test_reach_bounds_how_far_a_click_acts(segmenter, tube):
    click = click_at(tube, 60, 46, 36)
    session = segmenter.open(tube)
    extent = {}
    for reach in ("patch", "neighbours", "structure"):
        result = session.segment([click], reach)
        slices = np.flatnonzero(result.mask.array.any(axis=(1, 2)))
        extent[reach] = slices[-1] - slices[0] + 1
    assert extent["patch"] == 64
    assert extent["patch"] < extent["neighbours"] < extent["structure"] == 245


def test_undo_edit_and_replay_are_bit_identical(segmenter, tube):
    first, second, third = (
        click_at(tube, 60, 46, 36),
        click_at(tube, 126, 46, 100, False),
        click_at(tube, 200, 46, 36),
    )
    session = segmenter.open(tube)
    one = session.segment([first]).mask.content_hash
    three = session.segment([first, second, third]).mask.content_hash
    assert session.segment([first]).mask.content_hash == one
    deleted = session.segment([first, third]).mask.content_hash
    assert session.segment([first, second, third]).mask.content_hash == three != deleted
    fresh = segmenter.open(tube)
    assert fresh.segment([first, second, third]).mask.content_hash == three
    assert fresh.segment([first, third]).mask.content_hash == deleted


def test_undo_asks_the_network_nothing(segmenter, tube):
    session = segmenter.open(tube)
    clicks = [click_at(tube, 60, 46, 36), click_at(tube, 200, 46, 36)]
    session.segment(clicks)
    network = segmenter.engine.model.network
    decoded = network.decoded
    session.segment(clicks[:1])
    session.segment(clicks)
    assert network.decoded == decoded


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_way_to_a_list_of_clicks_gives_the_mask_of_that_list(segmenter, tube, data):
    pool = [click_at(tube, z, 46, x, sign) for z, x, sign in ((20, 36, True), (126, 90, False), (126, 120, True))]
    pool += [click_at(tube, 240, 46, 36, True), click_at(tube, 60, 20, 60, False)]
    lists = data.draw(st.lists(st.lists(st.sampled_from(pool), min_size=1, max_size=3), min_size=1, max_size=3))
    lists = [[pool[0], *clicks] for clicks in lists]
    session = segmenter.open(tube)
    wandering = [session.segment(clicks).mask.content_hash for clicks in lists]
    assert wandering[-1] == segmenter.open(tube).segment(lists[-1]).mask.content_hash


def test_a_negative_click_removes_around_itself_and_nothing_elsewhere(segmenter, tube):
    session = segmenter.open(tube)
    positive = click_at(tube, 60, 46, 36)
    before = session.segment([positive]).mask.array
    after = session.segment([positive, click_at(tube, 126, 46, 120, False)]).mask.array
    removed = np.argwhere(before & ~after.astype(bool))
    assert len(removed) > 0
    assert not np.any(after & ~before.astype(bool))
    assert np.all(np.abs(removed - (126, 46, 120)).max(axis=1) <= 32 + 1)


def test_a_negative_click_away_from_the_mask_changes_nothing(segmenter, tube):
    session = segmenter.open(tube)
    positive = click_at(tube, 60, 46, 36)
    alone = session.segment([positive], "patch").mask.content_hash
    assert session.segment([positive, click_at(tube, 220, 80, 120, False)], "patch").mask.content_hash == alone


def test_negative_clicks_that_come_first_act_with_the_first_positive_one(segmenter, tube):
    session = segmenter.open(tube)
    negative, positive = click_at(tube, 70, 46, 36, False), click_at(tube, 60, 46, 36)
    mask = session.segment([negative, positive], "patch").mask.array
    assert mask[60, 46, 36] == 0 or mask[70, 46, 36] == 0
    assert mask[70, 46, 36] == 0
    assert mask[50, 46, 36] == 1


def test_a_second_structure_is_added_and_the_first_is_kept(segmenter):
    bright = np.zeros((150, 150, 150), bool)
    bright[20:40, 20:40, 20:40] = True
    bright[110:130, 110:130, 110:130] = True
    volume = volume_with(bright)
    session = segmenter.open(volume)
    both = session.segment([click_at(volume, 30, 30, 30), click_at(volume, 120, 120, 120)]).mask.array
    assert np.array_equal(both > 0, bright)


def test_progress_shows_the_clicked_patch_first_and_then_only_grows(segmenter, tube):
    seen = []
    result = segmenter.open(tube).segment([click_at(tube, 60, 46, 36)], progress=seen.append)
    assert len(seen) > 2
    assert len(seen[0].patches) == 1
    assert not any(partial.final for partial in seen)
    assert result.final
    volumes = [int(partial.mask.array.sum()) for partial in seen]
    assert volumes == sorted(volumes)
    assert [patch.hops for patch in result.patches] == sorted(patch.hops for patch in result.patches)


def test_cancel_loses_nothing(segmenter, tube):
    session = segmenter.open(tube)
    first, second = click_at(tube, 60, 46, 36), click_at(tube, 126, 46, 120, False)
    expected = segmenter.open(tube).segment([first, second]).mask.content_hash
    stop = threading.Event()
    with pytest.raises(Cancelled):
        session.segment([first], progress=lambda partial: stop.set(), cancel=stop)
    assert session.segment([first, second]).mask.content_hash == expected


def test_a_session_that_can_keep_nothing_gives_the_same_masks(segmenter, tube):
    clicks = [click_at(tube, 60, 46, 36), click_at(tube, 126, 46, 100, False)]
    forgetful = Session(segmenter.engine, TileSampler(tube), tube.geometry, Cache(0))
    for count in (2, 1):
        expected = segmenter.open(tube).segment(clicks[:count], "neighbours")
        assert forgetful.segment(clicks[:count], "neighbours").mask.content_hash == expected.mask.content_hash


def test_steps_name_the_patches_before_the_network_looks_at_them(segmenter, tube):
    looked_at, named, steps = set(), set(), 0

    class Watched(TileSampler):
        def patch(self, start):
            looked_at.add(start)
            return super().patch(start)

    session = Session(segmenter.engine, Watched(tube), tube.geometry)
    for step in session.steps([click_at(tube, 60, 46, 36), click_at(tube, 126, 46, 100, False)], "structure"):
        assert looked_at <= named
        assert step.final == (not step.starts)
        named |= set(step.starts)
        steps += 1
    assert step.final
    assert steps > 4
    assert len(looked_at) > 4


def test_prefetching_is_for_the_patch_where_the_last_click_was_answered(tube, monkeypatch):
    """What the engine prefetches for is what the next decode asks, but for the new click."""
    engine = Engine(threshold_model(), "cpu")
    expected, decoded = [], []
    monkeypatch.setattr(engine, "prefetch", lambda prompts: expected.append(prompts()))
    decode = engine.decode
    monkeypatch.setattr(
        engine, "decode", lambda features, prompts: decoded.append(prompts) or decode(features, prompts)
    )
    session = Segmenter(engine).open(tube)
    clicks = [click_at(tube, 60, 46, 36), click_at(tube, 70, 46, 36, False)]
    session.segment(clicks[:1], reach="neighbours")
    decoded.clear()
    session.segment(clicks, reach="neighbours")
    engine.close()
    (previous, positive, _), (now, positive_now, negative_now) = expected[0], decoded[0][0]
    assert previous.any()
    assert np.array_equal(previous, now)
    assert np.array_equal(positive, positive_now)
    assert negative_now.any()


def test_growth_stops_at_the_patch_budget(segmenter, tube, monkeypatch):
    monkeypatch.setattr("CTSAM3DLib.segmentation.click_step.MAX_PATCHES", 2)
    result = segmenter.open(tube).segment([click_at(tube, 60, 46, 36)])
    assert len(result.patches) == 3


@pytest.mark.parametrize("shape", [(20, 24, 30), (4, 200, 40), (70, 64, 63)])
def test_volumes_smaller_than_a_patch(segmenter, shape):
    bright = np.zeros(shape, bool)
    middle = tuple(size // 2 for size in shape)
    bright[tuple(slice(max(m - 4, 1), m + 5) for m in middle)] = True
    volume = volume_with(bright)
    mask = segmenter.open(volume).segment([click_at(volume, *middle)]).mask.array
    assert np.array_equal(mask > 0, bright)


def test_an_oblique_anisotropic_volume_gives_its_mask_where_the_structure_is(segmenter):
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]
    geometry = Geometry((40, 160, 120), (12.0, -80.0, 300.0), (0.9, 0.8, 3.0), tuple(turn.ravel()))
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in geometry.shape), indexing="ij"), -1)[..., ::-1]
    positions = geometry.to_lps(grid.reshape(-1, 3)).reshape(*geometry.shape, 3)
    centre = geometry.to_lps([(60, 80, 20)])[0]
    ball = np.linalg.norm(positions - centre, axis=-1) < 25
    array = np.where(ball, 800, 0).astype(np.int16)
    array[0] = -1000
    session = segmenter.open(Volume(array, geometry))
    mask = session.segment([Click(tuple(float(v) for v in centre))]).mask.array > 0
    assert np.linalg.norm(positions[mask].mean(axis=0) - centre) < 0.75
    # The threshold of 200 HU lies outside of half the contrast, so the ball comes back a little larger.
    assert 0.95 < mask.sum() / ball.sum() < 1.15


def test_the_result_says_how_it_was_made(segmenter, tube):
    clicks = (click_at(tube, 60, 46, 36), click_at(tube, 126, 46, 120, False))
    result = segmenter.open(tube).segment(clicks, "neighbours")
    assert result.clicks == clicks
    assert (result.reach, result.model.name, result.model.window) == ("neighbours", "threshold", (-1000.0, 1000.0))
    outside = result.mask.array.copy()
    outside[result.box] = 0
    assert not outside.any()


def test_wrong_calls_are_told_in_one_sentence(segmenter, tube):
    session: Session = segmenter.open(tube)
    inside = click_at(tube, 60, 46, 36)
    for clicks, words in (
        ([], "no click"),
        ([Click(inside.position, False)], "negative"),
        ([Click((5000.0, 0.0, 0.0))], "outside the volume"),
    ):
        with pytest.raises(ClickError, match=words):
            session.segment(clicks)
    with pytest.raises(CTSAM3DError, match="reach"):
        session.segment([inside], "everywhere")
    with pytest.raises(VolumeError, match="Hounsfield"):
        segmenter.open(Volume(np.full((10, 10, 10), 7, np.int16), tube.geometry.crop((slice(0, 10),) * 3)))

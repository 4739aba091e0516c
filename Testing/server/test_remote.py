"""A session on a server gives the masks of a local one, and whatever happens to the server, nothing is lost."""

from __future__ import annotations

import itertools
import threading
from contextlib import ExitStack, suppress
from dataclasses import replace

import numpy as np
import pytest
import requests

from CTSAM3DLib import Click, connect
from CTSAM3DLib.errors import Cancelled, ClickError, CTSAM3DError, ModelError, Problem, ServerError, VolumeError
from CTSAM3DLib.execution.engine import Engine
from CTSAM3DLib.imaging.volume import Geometry, Volume
from CTSAM3DLib.segmentation.session import Segmenter
from CTSAM3DServer.keys import KeyFile
from CTSAM3DServer.run import Server
from CTSAM3DServer.settings import Settings
from Testing.server.conftest import answers, click_at, same, serving, volume_with, wait_until
from Testing.server.unreliable import UnreliableLink
from Testing.support.data import DATA, needs_data
from Testing.support.threshold_network import threshold_model


@pytest.mark.parametrize("reach", ["patch", "neighbours", "structure"])
def test_masks_are_those_of_a_local_session_bit_for_bit(server, local, tube, clicks, reach):
    there, here = connect(server.address).open(tube), local.open(tube)
    for count in (1, 2, 3, 2, 1):  # the last two are undos
        assert same(there.segment(clicks[:count], reach), here.segment(clicks[:count], reach))


@pytest.mark.parametrize(
    ("shape", "spacing"), [((20, 24, 30), (1.5,) * 3), ((4, 200, 40), (0.7, 0.7, 5.0)), ((70, 64, 63), (1.0, 1.2, 2.0))]
)
def test_volumes_of_any_size_and_direction(server, local, shape, spacing):
    bright = np.zeros(shape, bool)
    middle = tuple(size // 2 for size in shape)
    bright[tuple(slice(max(m - 6, 1), m + 7) for m in middle)] = True
    straight = volume_with(bright, spacing=spacing)
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]
    oblique = Volume(straight.array, Geometry(shape, (12.0, -80.0, 300.0), spacing, tuple(turn.ravel())))
    for volume in (straight, oblique):
        click = [click_at(volume, *middle)]
        result = connect(server.address).open(volume).segment(click)
        assert result.mask.array.any()
        assert same(result, local.open(volume).segment(click))


def test_the_bundled_model_over_a_socket(bundled, bent_tube, bent_clicks, bent_result):
    with serving(models=[bundled.engine.model]) as server:
        result = connect(server.address).open(bent_tube).segment(bent_clicks)
    assert len(result.patches) > 3
    assert same(result, bent_result)


@needs_data("ct/torso-3mm.nii.gz")
def test_the_bundled_model_over_a_socket_on_a_patient(bundled):
    torso = Volume.read(DATA / "ct/torso-3mm.nii.gz")
    clicks = [click_at(torso, 60, 40, 80), click_at(torso, 70, 45, 75), click_at(torso, 60, 60, 60, False)]
    with serving(models=[bundled.engine.model]) as server:
        result = connect(server.address).open(torso).segment(clicks)
    assert result.mask.array.any()
    assert same(result, bundled.open(torso).segment(clicks))


def test_progress_shows_the_clicked_patch_first_and_then_only_grows(tube, clicks):
    seen = []
    with serving() as server:
        result = connect(server.address).open(tube).segment(clicks[:1], progress=seen.append)
    counts = [len(partial.patches) for partial in seen]
    assert len(counts) > 2
    assert counts[0] == 1
    assert counts == sorted(set(counts))
    assert not any(partial.final for partial in seen)
    assert result.final


def test_only_tiles_under_the_patches_are_sent(local, tube, clicks):
    with serving() as server:
        result = connect(server.address).open(tube).segment(clicks[:1], "patch")
        tiles = [key for key in server.service.cache._entries if "tile" in key]
    (patch,) = result.patches
    under = itertools.product(*({corner // 64, (corner + 63) // 64} for corner in patch.start))
    inside = {index for index in under if result.grid.has_tile(index)}
    assert {key[2] for key in tiles} == inside


def test_a_known_volume_is_not_sent_again(tube, clicks):
    with serving() as server:
        first = connect(server.address).open(tube).segment(clicks)
        turns = _uses_of_the_network(server)
        link = UnreliableLink(server.address)
        again = connect(link.address).open(tube).segment(clicks)
        link.close()
        assert same(first, again)
        assert _uses_of_the_network(server) == turns
        assert link.sent < 5000


def test_cancel_loses_nothing(local, tube, clicks):
    stop = threading.Event()
    with serving() as server:
        session = connect(server.address).open(tube)
        with pytest.raises(Cancelled):
            session.segment(clicks, progress=lambda partial: stop.set(), cancel=stop)
        assert same(session.segment(clicks), local.open(tube).segment(clicks))


def test_nothing_goes_on_that_nobody_asks_for(tube, clicks):
    with serving() as server:
        stop = threading.Event()
        with pytest.raises(Cancelled):
            connect(server.address).open(tube).segment(clicks, progress=lambda partial: stop.set(), cancel=stop)
        assert server.service.waiting == 0
        assert _uses_of_the_network(server) == 1


def test_a_server_that_starts_again_in_the_middle_of_growth_gives_the_same_mask(local, tube, clicks):
    expected = local.open(tube).segment(clicks)
    with serving() as first:
        port = int(first.address.rsplit(":", 1)[1])
        session = connect(first.address).open(tube)
        seen = []

        def end_in_the_middle(partial):
            seen.append(len(partial.patches))
            if len(seen) == 2:
                first.stop()
                threading.Thread(target=serve_again).start()

        ended = threading.Event()
        done = threading.Event()

        def serve_again():
            wait_until(lambda: not answers(first))
            with _again(port):
                ended.wait(30)
            done.set()

        try:
            result = session.segment(clicks, progress=end_in_the_middle)
        finally:
            ended.set()
            done.wait(20)
    assert same(result, expected)
    assert seen == sorted(seen)


def test_a_volume_that_was_dropped_is_sent_again(local, tube, clicks):
    with serving() as server:
        session = connect(server.address).open(tube)
        session.segment(clicks[:1])
        for key in list(server.service.cache._entries):
            server.service.cache.discard(key)
        assert same(session.segment(clicks), local.open(tube).segment(clicks))


@pytest.mark.parametrize("seed", range(3))
def test_things_dropped_at_any_moment_cost_time_alone(local, tube, clicks, seed):
    random = np.random.default_rng(seed)
    with serving() as server:
        cache = server.service.cache
        put = cache.put

        def put_and_drop(key, value, nbytes):
            put(key, value, nbytes)
            if random.random() < 0.15 and cache._entries:
                cache.discard(list(cache._entries)[int(random.integers(len(cache._entries)))])

        cache.put = put_and_drop
        assert same(connect(server.address).open(tube).segment(clicks), local.open(tube).segment(clicks))


@pytest.mark.parametrize("seed", range(2))
def test_masks_are_the_same_after_clicks_undos_cancels_losses_and_restarts_in_any_order(local, tube, seed):
    random = np.random.default_rng(seed)
    here = local.open(tube)
    reaches = ["patch", "neighbours", "structure"]
    clicks = []
    with ExitStack() as servers:
        server = servers.enter_context(serving())
        port = int(server.address.rsplit(":", 1)[1])
        there = connect(server.address).open(tube)
        for _ in range(16):
            match random.choice(["click", "click", "click", "undo", "move", "cancel", "lose", "restart"]):
                case "undo":
                    clicks = clicks[:-1]
                case "move" if clicks:
                    clicks[int(random.integers(len(clicks)))] = _click_in_the_tube(tube, random)
                case "cancel" if clicks:
                    stop = threading.Event()
                    with suppress(Cancelled):
                        there.segment(clicks, progress=lambda partial, stop=stop: stop.set(), cancel=stop)
                case "lose":
                    for key in list(server.service.cache._entries):
                        if random.random() < 0.5:
                            server.service.cache.discard(key)
                case "restart":
                    servers.close()
                    server = servers.enter_context(_again(port))
                case _:
                    clicks = [*clicks, _click_in_the_tube(tube, random, positive=not clicks or random.random() < 0.7)]
            if clicks and clicks[0].positive:
                reach = reaches[int(random.integers(3))]
                assert same(there.segment(clicks, reach), here.segment(clicks, reach))


def _click_in_the_tube(tube, random, positive=True):
    """A click at no voxel's centre, whose numbers have as many digits as there are."""
    position = click_at(tube, int(random.integers(8, 192)), 46, 36).position + random.uniform(-6, 6, 3)
    return Click(tuple(float(number) for number in position), bool(positive))


def test_numbers_arrive_as_they_were_sent(monkeypatch):
    random = np.random.default_rng(5)
    turn = np.linalg.qr(random.normal(size=(3, 3)))[0]
    array = np.full((70, 40, 50), 0, np.int16)
    array[0] = -1000
    origin = tuple(float(number) for number in random.uniform(-999, 999, 3))
    spacing = (1 / 3, 0.1 + 0.2, 2.0000000000000004)
    volume = Volume(array, Geometry(array.shape, origin, spacing, tuple(float(number) for number in turn.ravel())))
    inside = volume.geometry.to_lps(random.uniform(1, 39, (9, 3)))
    clicks = tuple(Click(tuple(float(number) for number in position)) for position in inside)
    with serving() as server:
        segment, arrived = server.service.segment, []

        def spy(owner, volume_id, model, reach, clicks):
            arrived.append((server.service.volumes.get(owner, volume_id).geometry, clicks))
            return segment(owner, volume_id, model, reach, clicks)

        monkeypatch.setattr(server.service, "segment", spy)
        connect(server.address).open(volume).segment(clicks, "patch")
    assert all(one == (volume.geometry, clicks) for one in arrived)
    assert len(arrived) > 2


def test_two_users_of_one_volume_share_no_tile_and_get_the_same_mask(tmp_path, local, tube, clicks):
    keys = KeyFile(tmp_path / "keys.json")
    users = [keys.add("anna"), keys.add("bert")]
    with serving(Settings(port=0, keys_file=keys.path)) as server:
        sessions = [connect(server.address, key).open(tube) for key in users]
        results = [session.segment(clicks) for session in sessions]
        owners = {key[0].owner for key in server.service.cache._entries if "tile" in key}
    assert sessions[0]._id == sessions[1]._id
    assert owners == {"anna", "bert"}
    expected = local.open(tube).segment(clicks)
    assert all(same(result, expected) for result in results)


@pytest.mark.parametrize("when", ["request", "answer"])
@pytest.mark.parametrize("call", ["GET /v1/models", "PUT /v1/volumes", "tiles", "segment"])
def test_a_connection_that_breaks_in_any_call_costs_time_alone(local, tube, clicks, call, when):
    with serving() as server:
        link = UnreliableLink(server.address, break_first=call, when=when)
        if call == "GET /v1/models":  # the first call tells at once, so that a user need not wait
            with pytest.raises(ServerError) as caught:
                connect(link.address)
            assert caught.value.problem is Problem.LOST
        result = connect(link.address).open(tube).segment(clicks)
        link.close()
    assert link.broken == 1
    assert same(result, local.open(tube).segment(clicks))


def test_many_users_at_once_do_not_meet(local):
    volumes = []
    for shift in range(4):
        bright = np.zeros((60, 60, 140), bool)
        bright[20:30, 20:30, 5 : 60 + 20 * shift] = True
        volumes.append(volume_with(bright, origin=(shift, 0.0, 0.0)))
    wanted = [local.open(volume).segment([click_at(volume, 25, 25, 10)]) for volume in volumes]
    found = {}
    with serving() as server:

        def user(number: int) -> None:
            volume = volumes[number % 4]
            session = connect(server.address).open(volume)
            found[number] = [session.segment([click_at(volume, 25, 25, 10)]) for _ in range(3)]

        users = [threading.Thread(target=user, args=(number,)) for number in range(8)]
        for thread in users:
            thread.start()
        for thread in users:
            thread.join(60)
    assert len(found) == 8
    for number, results in found.items():
        assert all(same(result, wanted[number % 4]) for result in results)


def test_memory_stays_under_its_bound_however_much_is_clicked(local):
    bound = 16 * 2**20
    with serving() as server:
        server.service.cache.capacity = bound  # smaller than a server may be told to have
        segmenter = connect(server.address)
        highest = 0
        for number in range(5):
            bright = np.zeros((128, 128, 128), bool)
            bright[60:70, 60:70, 5:120] = True
            volume = volume_with(bright, origin=(float(number), 0.0, 0.0))
            session = segmenter.open(volume)
            for x in (10, 40, 70, 100):
                session.segment([click_at(volume, 65, 65, x)], "patch")
                highest = max(highest, server.service.cache.nbytes)
        assert server.service.cache.evicted > 0
        assert 0.8 * bound < highest <= bound
        first = volume_with(bright)
        assert same(
            segmenter.open(first).segment([click_at(first, 65, 65, 10)]),
            local.open(first).segment([click_at(first, 65, 65, 10)]),
        )


def test_several_models_of_several_spacings(local, tube, clicks):
    coarse = replace(threshold_model(), info=replace(threshold_model().info, name="coarse", spacing=3.0), file_hash="c")
    with serving(models=[threshold_model(), coarse]) as server:
        assert [model.info.name for model in connect(server.address).server.models] == ["threshold", "coarse"]
        fine = connect(server.address).open(tube).segment(clicks)
        rough = connect(server.address, model="coarse").open(tube).segment(clicks)
    assert same(fine, local.open(tube).segment(clicks))
    assert same(rough, Segmenter(Engine(coarse, "cpu")).open(tube).segment(clicks))
    assert (rough.model.name, rough.grid.spacing) == ("coarse", 3.0)


def test_wrong_calls_are_told_as_a_local_session_does(server, local, tube, clicks):
    session = connect(server.address).open(tube)
    for wrong in ([], [click_at(tube, 20, 46, 36, False)], [click_at(tube, 20, 46, 5000)]):
        with pytest.raises(ClickError) as here:
            local.open(tube).segment(wrong)
        with pytest.raises(ClickError) as there:
            session.segment(wrong)
        assert str(here.value) == str(there.value)
    with pytest.raises(CTSAM3DError, match="reach"):
        session.segment(clicks, "everywhere")
    with pytest.raises(ClickError, match="1024"):
        session.segment(clicks * 400)
    with pytest.raises(VolumeError, match="Hounsfield"):
        connect(server.address).open(
            Volume(np.full((10, 10, 10), 7, np.int16), tube.geometry.crop((slice(0, 10),) * 3))
        )
    with pytest.raises(ModelError, match="threshold"):
        connect(server.address, model="other")


def test_a_server_that_came_back_with_another_model_says_so(tube, clicks):
    with serving() as first:
        port = int(first.address.rsplit(":", 1)[1])
        session = connect(first.address).open(tube)
        session.segment(clicks[:1])
    with (
        _again(port, models=[replace(threshold_model(), file_hash="1" * 64)]),
        pytest.raises(ServerError, match="no such model"),
    ):
        session.segment(clicks[:1])


def _again(port: int, **more):
    return serving(Settings(port=port), **more)


def _uses_of_the_network(server: Server) -> int:
    text = requests.get(f"{server.address}/metrics", timeout=5).text
    (line,) = [line for line in text.splitlines() if line.startswith("ctsam3d_turn_seconds_count")]
    return int(float(line.split()[1]))

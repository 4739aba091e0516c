"""The same server on Ray Serve: volumes on the replicas that hold them, and a replica killed in the middle."""

from __future__ import annotations

import importlib.util

import pytest
import requests

from CTSAM3DLib import connect
from CTSAM3DLib.errors import Problem, ServerError
from CTSAM3DLib.remote.protocol import VOLUME_HEADER
from CTSAM3DLib.segmentation.session import Segmenter
from Testing.server.conftest import same
from Testing.support.fuzz import ID, Fuzzer
from Testing.support.ray_cluster import RayCluster

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="Ray Serve is not installed; pip install '.[cluster]'"
)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with RayCluster(tmp_path_factory.mktemp("cluster")) as running:
        yield running


@pytest.fixture(scope="module")
def bundled():
    return Segmenter.load(device="cpu")


def test_a_cluster_is_never_without_keys(cluster):
    with pytest.raises(ServerError) as caught:
        connect(cluster.address)
    assert caught.value.problem is Problem.NO_KEY
    assert requests.get(f"{cluster.address}/healthz", timeout=5).ok


def test_requests_go_to_the_replica_that_holds_their_volume(cluster):
    fuzzer = Fuzzer(0, "ctsam3d-small", 3.0)
    address = f"{cluster.address}/v1/volumes/{ID}"
    routed = {"Authorization": f"Bearer {cluster.key}", VOLUME_HEADER: ID}
    unrouted = {"Authorization": f"Bearer {cluster.key}"}
    assert requests.put(address, json=fuzzer.volume, headers=routed, timeout=20).status_code == 204

    def statuses(headers):
        ask = {"json": fuzzer.clicks, "headers": headers, "timeout": 20}
        return {requests.post(f"{address}/segment", **ask).status_code for _ in range(20)}

    assert statuses(routed) == {200}
    assert statuses(unrouted) == {200, 404}


def test_a_replica_killed_in_the_middle_of_growth_loses_nothing(cluster, bundled, bent_tube, bent_clicks):
    expected = bundled.open(bent_tube).segment(bent_clicks)
    session = connect(cluster.address, cluster.key).open(bent_tube)
    killed = []

    def kill_all(partial) -> None:
        """Whichever replica holds the volume, it is among them."""
        while not killed:
            for replica in cluster.replicas:
                replica.kill()
                killed.append(replica.pid)

    assert same(session.segment(bent_clicks, progress=kill_all), expected)
    assert killed
    cluster.wait()
    assert not set(killed) & {replica.pid for replica in cluster.replicas}
    assert same(session.segment(bent_clicks), expected)

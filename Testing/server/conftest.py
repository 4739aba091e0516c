"""A real server on a real socket, with a network whose answer is known, in a thread of the test's own process."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import numpy as np
import pytest
import trustme

from CTSAM3DLib.clicks.click import Click
from CTSAM3DLib.execution.engine import Engine
from CTSAM3DLib.imaging.volume import Geometry, Volume
from CTSAM3DLib.segmentation.result import Result
from CTSAM3DLib.segmentation.session import Segmenter
from CTSAM3DServer.keys import Keys
from CTSAM3DServer.run import Server
from CTSAM3DServer.settings import Settings
from Testing.support.threshold_network import threshold_model


@contextmanager
def serving(settings: Settings | None = None, keys: Keys | None = None, models=None) -> Iterator[Server]:
    """A server that serves while the block runs."""
    server = Server(settings or Settings(port=0), models or [threshold_model()], keys)
    thread = threading.Thread(target=server.serve)
    thread.start()
    try:
        yield server
    finally:
        server.stop()
        thread.join(20)
    assert not thread.is_alive()


def answers(server: Server) -> bool:
    """Whether something listens at the server's address."""
    try:
        socket.create_connection((urlsplit(server.address).hostname, urlsplit(server.address).port), 2).close()
    except OSError:
        return False
    return True


def wait_until(condition: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to that in time"
        time.sleep(0.02)


@pytest.fixture(scope="session")
def local() -> Segmenter:
    """The session without a server, which every mask is compared with."""
    return Segmenter(Engine(threshold_model(), "cpu"))


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


def volume_with(bright: np.ndarray, origin=(-50.0, -60.0, 700.0), spacing=(1.5, 1.5, 1.5)) -> Volume:
    """Soft tissue at 0 HU with bright parts at 800 HU in one corner of air."""
    array = np.where(bright, 800, 0).astype(np.int16)
    array[0] = -1000
    return Volume(array, Geometry(bright.shape, origin, spacing, (1, 0, 0, 0, 1, 0, 0, 0, 1)))


@pytest.fixture(scope="session")
def tube() -> Volume:
    """A tube of 12 x 12 voxels that runs through 200 slices and once sideways: five patches and more."""
    bright = np.zeros((200, 80, 140), bool)
    bright[5:195, 40:52, 30:42] = True
    bright[120:132, 40:52, 30:130] = True
    return volume_with(bright)


def click_at(volume: Volume, z: int, y: int, x: int, positive: bool = True) -> Click:
    (l, p, s) = volume.geometry.to_lps([(x, y, z)])[0]  # noqa: E741
    return Click((float(l), float(p), float(s)), positive)


@pytest.fixture(scope="session")
def clicks(tube) -> list[Click]:
    return [click_at(tube, 20, 46, 36), click_at(tube, 126, 46, 100, False), click_at(tube, 180, 46, 36)]


@pytest.fixture(scope="session")
def bent_tube() -> Volume:
    """A bent bright tube in soft tissue, which the bundled model follows over several patches."""
    z, y, x = np.mgrid[0:160, 0:60, 0:60]
    tube = (y - 30 - 10 * np.sin(z / 25)) ** 2 + (x - 30) ** 2 < 64
    array = np.where(tube, 250, 30) + np.random.default_rng(0).normal(0, 8, tube.shape)
    array[:, :5] = -1000
    return Volume(array.astype(np.int16), Geometry((160, 60, 60), (0, 0, 0), (3, 3, 3), (1, 0, 0, 0, 1, 0, 0, 0, 1)))


@pytest.fixture(scope="session")
def bent_clicks(bent_tube) -> list[Click]:
    return [click_at(bent_tube, 20, 37, 30), click_at(bent_tube, 60, 36, 30), click_at(bent_tube, 60, 50, 50, False)]


@pytest.fixture(scope="session")
def bundled() -> Segmenter:
    """The bundled model without a server."""
    return Segmenter.load(device="cpu")


@pytest.fixture(scope="session")
def bent_result(bundled, bent_tube, bent_clicks) -> Result:
    """What every server with the bundled model has to give for the bent tube."""
    return bundled.open(bent_tube).segment(bent_clicks)


@pytest.fixture(scope="session")
def tls(tmp_path_factory):
    """A certificate for 127.0.0.1 by an authority of our own: Settings, and the authority's file."""
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    certificate.private_key_pem.write_to_path(folder / "key.pem")
    for blob in certificate.cert_chain_pems:
        blob.write_to_path(folder / "cert.pem", append=True)
    return Settings(port=0, tls_cert=folder / "cert.pem", tls_key=folder / "key.pem"), folder / "ca.pem"


def same(one, other) -> bool:
    """Whether two results are the same in everything that they say."""
    return (
        one.mask.content_hash == other.mask.content_hash
        and (one.quality, one.patches, one.box, one.final) == (other.quality, other.patches, other.box, other.final)
        and (one.clicks, one.reach, one.model, one.model_hash)
        == (other.clicks, other.reach, other.model, other.model_hash)
    )

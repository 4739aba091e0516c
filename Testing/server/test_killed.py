"""A server on another computer that is killed, and started again by whoever watches it there."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from urllib.parse import urlsplit

from CTSAM3DLib import connect
from Testing.server.conftest import same
from Testing.support.server_process import ServerProcess


def test_killed_in_the_middle_of_growth_it_gives_the_same_mask(bent_tube, bent_clicks, bent_result):
    with ServerProcess() as first, ThreadPoolExecutor(1) as watchman:
        session = connect(first.address).open(bent_tube)
        again: list[Future[ServerProcess]] = []

        def kill_once(partial) -> None:
            if not again and len(partial.patches) >= 2:
                first.kill()
                port = urlsplit(first.address).port
                again.append(watchman.submit(ServerProcess, f"--port={port}"))

        try:
            result = session.segment(bent_clicks, progress=kill_once)
        finally:
            for started in again:
                with started.result() as second:
                    after = session.segment(bent_clicks)
    assert again
    assert same(result, bent_result)
    assert same(after, bent_result)
    assert second.defects == []

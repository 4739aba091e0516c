"""A server of our own on this computer: it starts, says why it does not, survives being killed, and ends with us."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
import requests

from CTSAM3DLib.errors import Cancelled, Problem, ServerError
from CTSAM3DLib.remote.local_server import LocalServer
from Testing.server.conftest import same, wait_until

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def local_server():
    """One server for all tests, since a start takes seconds; all but the last to use it leave it running."""
    of_another_server = {"CTSAM3D_KEYS_FILE": "/none", "CTSAM3D_TLS_CERT": "/none", "CTSAM3D_MODELS": "none"}
    with LocalServer(device="cpu", environment={**os.environ, **of_another_server}) as server:
        yield server


def process_of(server: LocalServer) -> psutil.Process:
    return psutil.Process(server._process.pid)


def test_killed_between_clicks_and_in_the_middle_of_growth_it_gives_the_same_mask(
    local_server, bent_tube, bent_clicks, bent_result, caplog
):
    session = local_server.connect().open(bent_tube)
    session.segment(bent_clicks[:1])
    first = process_of(local_server)
    first.kill()
    wait_until(lambda: not local_server.running)
    killed = []

    def kill_once(partial):
        if not killed and len(partial.patches) >= 2:
            killed.append(process_of(local_server))
            killed[0].kill()

    result = session.segment(bent_clicks, progress=kill_once)
    assert killed
    assert len({first.pid, killed[0].pid, process_of(local_server).pid}) == 3
    assert same(result, bent_result)
    assert caplog.text.count("started again") == 2


def test_it_is_reached_by_its_own_key_alone_which_no_list_of_processes_shows(local_server):
    endpoint = local_server.endpoint()
    assert requests.get(f"{endpoint.address}/v1/models", timeout=5).status_code == 401
    assert endpoint.key not in " ".join(process_of(local_server).cmdline())
    assert endpoint.key not in str(process_of(local_server).environ())


def test_a_server_that_keeps_ending_is_given_up_until_it_is_started_again(
    local_server, bent_tube, bent_clicks, bent_result, monkeypatch
):
    monkeypatch.setattr("CTSAM3DLib.remote.local_server.MAX_RESTARTS", 0)
    session = local_server.connect().open(bent_tube)
    process_of(local_server).kill()
    with pytest.raises(ServerError, match="keeps ending") as caught:
        session.segment(bent_clicks)
    assert caught.value.problem is Problem.NOT_STARTED
    local_server.start()
    assert same(session.segment(bent_clicks), bent_result)


def test_stopped_it_is_gone_and_says_so(local_server, bent_tube, bent_clicks):
    process, session = process_of(local_server), local_server.connect().open(bent_tube)
    local_server.start()  # it runs already
    assert process_of(local_server) == process
    local_server.stop()
    assert not process.is_running()
    assert not local_server.running
    with pytest.raises(ServerError, match="start it first") as caught:
        session.segment(bent_clicks)
    assert caught.value.problem is Problem.NOT_STARTED
    local_server.stop()  # twice does no harm


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"python": "/no/such/python"}, "does not run"),
        ({"memory": 1}, "256 MiB"),
    ],
)
def test_why_it_does_not_start(options, words):
    with pytest.raises(ServerError, match=words) as caught:
        LocalServer(**options).start()
    assert caught.value.problem is Problem.NOT_STARTED
    assert "\n" not in str(caught.value)


def test_a_missing_requirement_is_named(tmp_path):
    (tmp_path / "uvicorn.py").write_text("raise ModuleNotFoundError('gone', name='uvicorn')")
    with pytest.raises(ServerError, match=r"needs uvicorn.*ctsam3d\[server\]"):
        LocalServer(environment={"PYTHONPATH": str(tmp_path)}).start()


def test_a_python_that_has_none_of_it_is_told_by_its_last_words(tmp_path):
    (tmp_path / "typer.py").write_text("raise ImportError('typer is broken here')")
    with pytest.raises(ServerError, match="typer is broken here"):
        LocalServer(environment={"PYTHONPATH": str(tmp_path)}).start()


def test_starting_can_be_watched_and_cancelled(tmp_path, monkeypatch):
    for module in ("typer", "random", "torch"):  # what lies in the current folder is not imported
        (tmp_path / f"{module}.py").write_text("raise ImportError('not from the current folder')")
    monkeypatch.chdir(tmp_path)
    told, cancel = [], threading.Event()
    server = LocalServer(device="cpu")

    def watch(status):
        told.append(status)
        cancel.set()

    with pytest.raises(Cancelled):
        server.start(watch, cancel)
    assert told == ["loading ctsam3d-small"]
    assert not server.running


def test_stopping_does_not_wait_for_a_start():
    server, loading, ends = LocalServer(device="cpu"), threading.Event(), []

    def start():
        try:
            server.start(lambda status: loading.set())
        except Cancelled as error:
            ends.append(error)

    thread = threading.Thread(target=start)
    thread.start()
    assert loading.wait(60)
    server.stop()
    thread.join(10)
    assert len(ends) == 1
    assert not server.running


def test_it_ends_when_its_parent_is_killed():
    code = (
        "from CTSAM3DLib.remote.local_server import LocalServer; import sys, time;"
        "server = LocalServer(device='cpu'); server.start();"
        "print(server._process.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT) as parent:
        child = psutil.Process(int(parent.stdout.readline()))
        assert child.is_running()
        parent.kill()
        begun = time.monotonic()
        wait_until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, 15)
        assert time.monotonic() - begun < 15

"""Who may use a server, and how one is started."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests
from filelock import FileLock

from CTSAM3DLib.checkpoints.bundled import bundled_models
from CTSAM3DLib.errors import CTSAM3DError, ModelError
from CTSAM3DLib.loopback import is_loopback
from CTSAM3DServer.keys import Entry, KeyFile, KeyFileError
from CTSAM3DServer.run import Server, load_models
from CTSAM3DServer.service import Service
from CTSAM3DServer.settings import Settings, SettingsError
from Testing.server.conftest import wait_until
from Testing.support.threshold_network import threshold_model


@pytest.fixture
def keys(tmp_path) -> KeyFile:
    return KeyFile(tmp_path / "keys.json")


def test_keys_are_made_found_and_revoked(keys):
    anna, bert = keys.add("anna"), keys.add("bert@clinic.example")
    assert (keys.owner_of(anna), keys.owner_of(bert)) == ("anna", "bert@clinic.example")
    assert keys.owner_of(anna[:-1]) is None
    assert [entry.name for entry in keys.entries] == ["anna", "bert@clinic.example"]
    keys.revoke("anna")
    assert keys.owner_of(anna) is None
    assert keys.owner_of(bert) is not None


def test_the_file_holds_no_key_and_is_its_owners_alone(keys):
    key = keys.add("anna")
    content = keys.path.read_text()
    assert key not in content
    (entry,) = json.loads(content)["keys"]
    assert Entry(**entry).fits(key)
    again = Entry.of("anna", key)
    assert (again.salt, again.sha256) != (entry["salt"], entry["sha256"])
    if os.name == "posix":
        assert keys.path.stat().st_mode & 0o077 == 0


def test_a_change_by_another_process_is_seen(keys):
    anna = keys.add("anna")
    other = KeyFile(keys.path)
    assert other.owner_of(anna) == "anna"
    keys.revoke("anna")
    assert other.owner_of(anna) is None


def test_changes_at_the_same_time_are_all_kept(keys):
    names = [f"user{number}" for number in range(24)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: KeyFile(keys.path).add(name), names))
        assert {entry.name for entry in keys.entries} == set(names)
        list(pool.map(lambda name: KeyFile(keys.path).revoke(name), names[::2]))
    assert {entry.name for entry in keys.entries} == set(names[1::2])


def test_a_change_that_does_not_end_is_told(keys, monkeypatch):
    monkeypatch.setattr("CTSAM3DServer.keys.LOCK_S", 0.1)
    with FileLock(f"{keys.path}.lock"), pytest.raises(KeyFileError, match="another command"):
        keys.add("anna")


@pytest.mark.parametrize("name", ["", "a b", "-x", "x" * 65, "a\nb", "../x", "ä"])
def test_names_that_are_none(keys, name):
    with pytest.raises(KeyFileError, match="cannot name"):
        keys.add(name)
    assert not keys.path.exists()


def test_what_cannot_be_done_with_keys(keys, tmp_path):
    with pytest.raises(KeyFileError, match="cannot be read"):
        keys.revoke("anna")
    keys.add("anna")
    with pytest.raises(KeyFileError, match="already"):
        keys.add("anna")
    with pytest.raises(KeyFileError, match="no key for bert"):
        keys.revoke("bert")
    entry = json.loads(keys.path.read_text())["keys"][0]
    odd = [{**entry, **change} for change in ({"name": "a\nb"}, {"sha256": 7}, {"sha256": "ä"}, {"salt": None})]
    for content in ("", "[]", '{"keys": [{"name": "anna"}]}', "\x00", *(json.dumps({"keys": [one]}) for one in odd)):
        keys.path.write_text(content)
        with pytest.raises(KeyFileError, match="not a file of keys"):
            KeyFile(keys.path).owner_of("any")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.1.2.3"])
def test_loopback(host):
    assert is_loopback(host)
    Settings(host=host).check()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "gpu.example"])
def test_other_addresses_need_keys(host, keys):
    assert not is_loopback(host)
    with pytest.raises(SettingsError, match="keys add"):
        Server(Settings(host=host), [threshold_model()])
    keys.add("anna")
    settings = Settings(host=host, keys_file=keys.path)
    settings.check()
    assert settings.unencrypted
    keys.revoke("anna")
    with pytest.raises(SettingsError, match="holds no key"):
        settings.check()


def test_settings_that_cannot_be(tmp_path):
    empty = tmp_path / "empty.pem"
    empty.touch()
    for settings, words in (
        (Settings(memory=2**20), "256 MiB"),
        (Settings(tls_cert=empty), "both"),
        (Settings(tls_cert=empty, tls_key=tmp_path / "none.pem"), "no file"),
        (Settings(tls_cert=empty, tls_key=empty), "PEM"),
    ):
        with pytest.raises(SettingsError, match=words):
            settings.check()
    with pytest.raises(CTSAM3DError, match="same name"):
        Service([threshold_model(), threshold_model()], "cpu", 2**30)


def test_models_by_name_and_by_file():
    told = []
    with pytest.raises(ModelError, match="no model called 'nothing'"):
        load_models(["nothing"], told.append)
    (file,) = bundled_models().values()
    by_name, by_file = load_models(["ctsam3d-small", str(file)], told.append)
    assert by_name.file_hash == by_file.file_hash
    assert told == ["loading nothing", "loading ctsam3d-small", f"loading {file}"]


def test_a_port_in_use_is_told(server):
    port = int(server.address.rsplit(":", 1)[1])
    with pytest.raises(SettingsError, match=f"Port {port} is in use"):
        Server(Settings(port=port), [threshold_model()])


def test_a_host_that_is_not_known_is_told(keys):
    keys.add("anna")
    with pytest.raises(SettingsError, match="not known"):
        Server(Settings(host="no-such-host.invalid", keys_file=keys.path), [threshold_model()])


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "CTSAM3DServer", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, **environment},
    )


def test_keys_on_the_command_line(tmp_path):
    path = str(tmp_path / "new folder" / "keys.json")
    added = run("keys", "add", "anna", CTSAM3D_KEYS_FILE=path)
    assert KeyFile(Path(path)).owner_of(added.stdout.strip()) == "anna"
    assert run("keys", "list", "--keys-file", path).stdout.startswith("anna\t")
    assert run("keys", "revoke", "anna", "--keys-file", path).returncode == 0
    refused = run("keys", "revoke", "anna", "--keys-file", path)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert refused.stderr.startswith("error: There is no key for anna")


def test_a_server_open_to_others_without_keys_does_not_start():
    refused = run(CTSAM3D_HOST="0.0.0.0", HOME="/nowhere", XDG_CONFIG_HOME="/nowhere")
    assert refused.returncode == 2
    assert "error: Without keys" in refused.stderr


@pytest.mark.parametrize("memory", ["nan", "0.1"])
def test_memory_that_is_none_or_too_little(memory):
    refused = run("--memory", memory)
    assert refused.returncode == 2
    assert refused.stderr == "error: The server needs at least 256 MiB of memory for its caches.\n"


def test_without_the_extra_one_sentence_says_what_to_install(tmp_path):
    (tmp_path / "uvicorn.py").write_text("raise ModuleNotFoundError('gone', name='uvicorn')")
    refused = run(PYTHONPATH=str(tmp_path))
    assert refused.returncode == 2
    assert refused.stderr == (
        "error: The server needs uvicorn, which is missing; install it by: pip install 'ctsam3d[server]'.\n"
    )


def test_the_command_serves_and_ends_gracefully(tmp_path):
    command = [sys.executable, "-m", "CTSAM3DServer", "--port", "0", "--device", "cpu"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        address = next(line.split()[2].rstrip(";") for line in process.stderr if line.startswith("serving at"))
        wait_until(lambda: requests.get(f"{address}/healthz", timeout=5).ok)
        assert requests.get(f"{address}/v1/models", timeout=5).json()["models"][0]["name"] == "ctsam3d-small"
        begun = time.monotonic()
        process.terminate()
        process.wait(20)
        assert time.monotonic() - begun < 15
        assert "Traceback" not in process.stderr.read()

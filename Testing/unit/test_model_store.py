"""The user's models: imported, downloaded from a real server on loopback, removed; what goes wrong is said."""

import errno
import hashlib
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch

from CTSAM3DLib.checkpoints import download as download_module
from CTSAM3DLib.checkpoints import model_store
from CTSAM3DLib.checkpoints.bundled import bundled_models
from CTSAM3DLib.checkpoints.checkpoint import load
from CTSAM3DLib.checkpoints.model_store import FOLDER_VARIABLE, ModelStore
from CTSAM3DLib.errors import Cancelled, ModelError

(NAME, BUNDLED), *_ = bundled_models().items()
CONTENT = BUNDLED.read_bytes()
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def store(tmp_path):
    return ModelStore(tmp_path / "models")


@pytest.fixture
def published(tmp_path):
    path = tmp_path / "weights" / "params.pth"
    path.parent.mkdir()
    torch.save({"model_state_dict": {}}, path)
    return path


class FileServer:
    """Serves CONTENT with ranges; `ranges`, `status` and `break_after` say how well."""

    def __init__(self) -> None:
        self.ranges = True
        self.status = 200
        self.break_after: int | None = None
        self.asked: list[str | None] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                wanted = self.headers.get("Range")
                server.asked.append(wanted)
                start = int(wanted.split("=")[1].rstrip("-")) if wanted and server.ranges else 0
                if server.status != 200:
                    self.send_error(server.status)
                    return
                if start >= len(CONTENT):
                    self.send_error(416)
                    return
                body = CONTENT[start:]
                self.send_response(206 if start else 200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body if server.break_after is None else body[: server.break_after])

            def log_message(self, *_):
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}/model"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._http.shutdown()
        self._http.server_close()


@pytest.fixture
def server():
    made = FileServer()
    yield made
    made.stop()


def test_an_empty_store_lists_the_bundled_models_with_their_cards(store):
    (model,) = [model for model in store.models() if model.name == NAME]
    info = load(BUNDLED).info
    assert (model.path, model.bundled) == (BUNDLED, True)
    assert (model.window, model.card, model.licence) == (info.window, info.card, info.licence)
    assert model.size == len(CONTENT)
    assert not store.folder.exists()


def test_our_file_is_imported_listed_loaded_and_removed(store):
    model = store.import_file(BUNDLED, "mine")
    assert [one.name for one in store.models()] == [*bundled_models(), "mine"]
    assert model.path.is_relative_to(store.folder)
    assert load(model.path).file_hash == SHA256
    store.remove("mine")
    assert list(store.folder.iterdir()) == []


def test_published_weights_bring_their_window(store, published):
    published.with_name("config.py").write_text("dict(min_value=-321, max_value=654.5)")
    model = store.import_file(published, "paper")
    assert model.window == (-321, 654.5)
    assert model.path.name == "params.pth"
    assert store.find("paper") == model


def test_published_weights_without_a_config_need_a_window(store, published):
    with pytest.raises(ModelError, match="window"):
        store.import_file(published, "paper")
    with pytest.raises(ModelError, match="lower first"):
        store.import_file(published, "paper", window=(5.0, -5.0))
    assert store.import_file(published, "paper", window=(-1000.0, 1000.0)).window == (-1000.0, 1000.0)


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "x" * 65, "end.", "a\\b"])
def test_a_name_that_is_no_folder_is_refused(store, name):
    with pytest.raises(ModelError, match="cannot name a model"):
        store.import_file(BUNDLED, name)
    with pytest.raises(ModelError, match="no model called"):
        store.remove(name)


def test_a_name_is_given_once(store):
    store.import_file(BUNDLED, "mine")
    for name in ("mine", "MINE", NAME):
        with pytest.raises(ModelError, match="already"):
            store.import_file(BUNDLED, name)


def test_files_of_another_kind_are_refused_and_leave_nothing(store, tmp_path):
    text = tmp_path / "notes.txt"
    text.write_text("no model")
    for path, reason in ((text, "no model of CT-SAM3D"), (tmp_path / "none", "no model file")):
        with pytest.raises(ModelError, match=reason):
            store.import_file(path, "mine")
    assert [model.name for model in store.models()] == list(bundled_models())


def test_the_bundled_model_stays(store):
    with pytest.raises(ModelError, match="comes with"):
        store.remove(NAME)
    assert BUNDLED.is_file()


def test_a_damaged_model_is_passed_over_and_found_out_by_name(store):
    store.import_file(BUNDLED, "mine").path.write_bytes(b"cut off")
    assert "mine" not in [model.name for model in store.models()]
    with pytest.raises(ModelError, match="no model of CT-SAM3D"):
        store.find("mine")


def test_a_full_disk_leaves_no_half_model(store, monkeypatch):
    def full(source, target):
        target.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(ModelError, match="disk is full"):
        store.import_file(BUNDLED, "mine")
    assert list(store.folder.iterdir()) == []


def test_the_environment_names_another_folder(tmp_path, monkeypatch):
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "elsewhere"))
    assert ModelStore().folder == tmp_path / "elsewhere"
    monkeypatch.delenv(FOLDER_VARIABLE)
    assert ModelStore().folder.parts[-2:] == ("ctsam3d", "models")


def test_a_download_is_checked_and_becomes_a_model(store, server):
    seen = []
    model = store.download(server.url, SHA256.upper(), "mine", progress=lambda done, total: seen.append((done, total)))
    assert model.path.read_bytes() == CONTENT
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert list((store.folder / ".downloads").iterdir()) == []


def test_a_download_that_broke_off_goes_on(store, server):
    server.break_after = len(CONTENT) // 3
    with pytest.raises(ModelError, match="broke off"):
        store.download(server.url, SHA256, "mine")
    server.break_after = None
    store.download(server.url, SHA256, "mine")
    first, second = server.asked
    assert first is None
    assert 0 < int(second.removeprefix("bytes=").removesuffix("-")) <= len(CONTENT) // 3
    assert store.find("mine").path.read_bytes() == CONTENT


def test_a_server_without_ranges_begins_anew(store, server):
    server.break_after, server.ranges = 1000, False
    with pytest.raises(ModelError):
        store.download(server.url, SHA256, "mine")
    server.break_after = None
    assert store.download(server.url, SHA256, "mine").path.read_bytes() == CONTENT


def test_a_cancelled_download_goes_on_later(store, server):
    cancel = threading.Event()
    with pytest.raises(Cancelled):
        store.download(server.url, SHA256, "mine", progress=lambda *_: cancel.set(), cancel=cancel)
    store.download(server.url, SHA256, "mine")
    assert server.asked[1] is not None


def test_another_checksum_is_refused_and_not_gone_on_with(store, server):
    for _ in range(2):
        with pytest.raises(ModelError, match="checksum"):
            store.download(server.url, "0" * 64, "mine")
    assert server.asked == [None, None]
    assert "mine" not in [model.name for model in store.models()]


@pytest.mark.parametrize(
    ("url", "sha256", "reason"),
    [
        ("ftp://host/file", SHA256, "https"),
        ("model.pth", SHA256, "https"),
        ("https://host/file", "abc", "not a SHA-256"),
        ("http://127.0.0.1:9/file", SHA256, "cannot be reached"),
    ],
)
def test_what_cannot_be_downloaded_is_said(store, url, sha256, reason):
    with pytest.raises(ModelError, match=reason):
        store.download(url, sha256, "mine")


def test_an_answer_that_is_an_error_is_said(store, server):
    server.status = 404
    with pytest.raises(ModelError, match="404"):
        store.download(server.url, SHA256, "mine")


def test_a_full_disk_during_a_download_is_said(store, server, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(download_module, "_fetch", full)
    with pytest.raises(ModelError, match="disk is full"):
        store.download(server.url, SHA256, "mine")
    monkeypatch.setattr(model_store.Path, "mkdir", full)
    with pytest.raises(ModelError, match="cannot be made"):
        store.download(server.url, SHA256, "other")

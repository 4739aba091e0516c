"""The module's panel: its sections through their own buttons, against real files and a real server."""

import hashlib
import http.server
import socket
import threading
from pathlib import Path

import pytest

BUNDLED = Path(__file__).parents[2] / "CTSAM3D" / "CTSAM3DLib" / "checkpoints" / "bundled" / "ctsam3d-small.safetensors"


@pytest.fixture
def panel(slicer_host, monkeypatch, tmp_path):
    """The panel in the host, with a folder for models and settings of its own."""
    monkeypatch.setenv("CTSAM3D_MODELS_FOLDER", str(tmp_path / "models"))
    from CTSAM3DWidgets.Backends import applicationBackends

    applicationBackends.cache_clear()
    slicer_host.load_module("CTSAM3D")
    panel = slicer_host.module_widget("CTSAM3D")
    panel.enter()
    yield panel.self()
    applicationBackends().computer.stop()


def wait(slicer_host, section, seconds=60):
    assert slicer_host.process_events(seconds, until=lambda: not section._task.running())


@pytest.fixture(scope="module")
def real_server():
    """A CT-SAM3D server in a process of its own: its address and a key."""
    from CTSAM3DLib.remote.local_server import LocalServer

    with LocalServer() as server:
        yield server.endpoint()


@pytest.fixture
def other_program():
    """The address of a web server that is not ours."""

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>Hello</html>")

        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()


def closed_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


# Servers


def test_a_server_is_tested_and_kept(slicer_host, panel, real_server):
    servers = panel.servers
    servers.addressEdit.text = real_server.address.removeprefix("http://")  # as users type it
    servers.keyEdit.text = f" {real_server.key} "
    servers.testButton.click()
    assert "Asking" in servers.statusLabel.text
    wait(slicer_host, servers)
    assert "works" in servers.statusLabel.text
    assert "ctsam3d-small" in servers.statusLabel.text
    from CTSAM3DWidgets.Settings import Settings

    (saved,) = Settings().servers()
    assert saved.address == real_server.address
    assert saved.key == real_server.key
    assert saved.models == ("ctsam3d-small",)
    assert not saved.consented
    assert servers.serverBox.currentData == saved.address


def test_a_wrong_key_is_told_apart_and_not_kept(slicer_host, panel, real_server):
    servers = panel.servers
    servers.addressEdit.text = real_server.address
    servers.keyEdit.text = "wrong"
    servers.testButton.click()
    wait(slicer_host, servers)
    assert "key" in servers.statusLabel.text
    assert panel.servers._settings.servers() == []


def test_another_program_is_told_apart_and_not_kept(slicer_host, panel, other_program):
    panel.servers.addressEdit.text = other_program
    panel.servers.testButton.click()
    wait(slicer_host, panel.servers)
    assert "not a CT-SAM3D server" in panel.servers.statusLabel.text
    assert panel.servers._settings.servers() == []


def test_a_server_that_is_asleep_is_kept(slicer_host, panel):
    panel.servers.addressEdit.text = f"127.0.0.1:{closed_port()}"
    panel.servers.testButton.click()
    wait(slicer_host, panel.servers)
    assert "saved all the same" in panel.servers.statusLabel.text
    assert len(panel.servers._settings.servers()) == 1


def test_an_address_that_is_none_is_refused_at_once(panel):
    panel.servers.addressEdit.text = "what is this"
    panel.servers.testButton.click()
    assert "not a server's address" in panel.servers.statusLabel.text


def test_consent_is_given_withdrawn_and_forgotten_with_the_server(slicer_host, panel):
    from CTSAM3DWidgets.Settings import Server

    settings = panel.servers._settings
    settings.saveServer(Server("https://gpu:8900", "key"))
    panel.servers.refresh()
    panel.servers.serverBox.setCurrentIndex(0)
    panel.servers.consentBox.setChecked(True)
    assert settings.server("https://gpu:8900").consented
    panel.servers.consentBox.setChecked(False)
    assert not settings.server("https://gpu:8900").consented
    panel.servers.removeButton.click()
    assert settings.servers() == []
    assert panel.servers.keyEdit.text == ""


def test_keys_stay_out_of_the_scene(slicer_host, panel, tmp_path):
    from CTSAM3DWidgets.Settings import Server

    panel.servers._settings.saveServer(Server("https://gpu:8900", "a-secret-key"))
    panel.enter()
    scene_file = tmp_path / "scene.mrml"
    slicer_host.scene.SetURL(str(scene_file))
    slicer_host.scene.Commit()
    assert "a-secret-key" not in scene_file.read_text()
    assert "gpu:8900" not in scene_file.read_text()


# Consent, as the effect and the batch ask for it


def test_nothing_is_opened_before_consent_and_the_answer_is_remembered(panel, monkeypatch):
    import slicer

    from CTSAM3DLib.errors import CTSAM3DError
    from CTSAM3DWidgets.Backends import applicationBackends
    from CTSAM3DWidgets.Settings import Server

    backends = applicationBackends()
    backends.settings.saveServer(Server("http://gpu:8900", "key", models=("ctsam3d-small",)))
    questions = []

    def answer(agrees):
        def display(text, *arguments, **keywords):
            questions.append(text)
            return agrees

        monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", display)

    answer(False)
    with pytest.raises(CTSAM3DError, match="Nothing was sent"):
        backends.ready("http://gpu:8900", "ctsam3d-small")
    answer(True)
    choice = backends.ready("http://gpu:8900", "ctsam3d-small")
    assert choice.address == "http://gpu:8900"
    assert backends.ready("http://gpu:8900", "ctsam3d-small") == choice
    assert len(questions) == 2
    assert "not encrypted" in questions[0]
    with pytest.raises(CTSAM3DError, match="does not offer"):
        backends.ready("http://gpu:8900", "another")


# Models


def test_the_bundled_model_is_listed_and_cannot_be_removed(panel):
    assert panel.models.list.item(0).text() == "ctsam3d-small"
    assert not panel.models.removeButton.enabled
    assert "Apache-2.0" in panel.models.aboutLabel.text
    assert panel.models.card.toPlainText()


def test_a_model_is_imported_offered_to_the_effect_and_removed(slicer_host, panel, monkeypatch):
    import qt

    from CTSAM3DWidgets.Backends import applicationBackends

    monkeypatch.setattr(qt.QFileDialog, "getOpenFileName", staticmethod(lambda *arguments: str(BUNDLED)))
    panel.models.nameEdit.text = "mine"
    panel.models.importButton.click()
    wait(slicer_host, panel.models)
    assert panel.models.statusLabel.text == "The model mine is ready."
    assert "mine" in applicationBackends().models("")
    assert panel.models.removeButton.enabled
    panel.models.removeButton.click()
    assert "mine" not in applicationBackends().models("")


def test_a_file_that_is_no_model_is_refused_with_a_sentence(slicer_host, panel, monkeypatch, tmp_path):
    import qt

    path = tmp_path / "model.safetensors"
    path.write_bytes(b"not a model at all")
    monkeypatch.setattr(qt.QFileDialog, "getOpenFileName", staticmethod(lambda *arguments: str(path)))
    panel.models.importButton.click()
    wait(slicer_host, panel.models)
    assert "no model of CT-SAM3D" in panel.models.statusLabel.text
    assert panel.models.importButton.enabled


@pytest.fixture
def mirror():
    """A web server that offers the bundled model's file."""
    folder = str(BUNDLED.parent)

    class Files(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=folder)

        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Files)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/{BUNDLED.name}"
    server.shutdown()


def test_a_model_is_downloaded_and_checked(slicer_host, panel, mirror):
    models = panel.models
    models.nameEdit.text = "fetched"
    models.urlEdit.text = mirror
    models.checksumEdit.text = "0" * 64
    models.downloadButton.click()
    wait(slicer_host, models)
    assert "checksum" in models.statusLabel.text
    models.checksumEdit.text = hashlib.sha256(BUNDLED.read_bytes()).hexdigest()
    models.downloadButton.click()
    assert not models.downloadButton.enabled
    wait(slicer_host, models)
    assert models.statusLabel.text == "The model fetched is ready."
    assert models.list.currentItem().text() == "fetched"


def test_a_window_that_is_none_is_refused(panel):
    panel.models.windowEdit.text = "from here to there"
    panel.models.downloadButton.click()
    assert "two numbers" in panel.models.statusLabel.text


# This computer


def test_missing_packages_are_asked_for_once(panel, monkeypatch):
    import slicer.packaging

    from CTSAM3DLib.errors import CTSAM3DError
    from CTSAM3DWidgets.Requirements import Requirements

    asked = []
    monkeypatch.setattr(slicer.packaging, "pip_check", lambda requirement: False)
    monkeypatch.setattr(
        slicer.util, "confirmOkCancelDisplay", lambda *arguments, **keywords: asked.append(keywords["detailedText"])
    )
    requirements = Requirements()
    for _ in range(2):
        with pytest.raises(CTSAM3DError):
            requirements.ensure()
    assert len(asked) == 1
    assert "fastapi" in asked[0]


def test_a_torch_that_is_too_old_is_missing(panel, monkeypatch):
    from importlib.metadata import version

    from CTSAM3DWidgets.Requirements import Requirements

    monkeypatch.setattr("importlib.metadata.version", lambda name: "2.2.2" if name == "torch" else version(name))
    assert Requirements().missing() == ["torch>=2.4"]


def test_torch_is_left_to_its_extension(panel, monkeypatch):
    import slicer

    from CTSAM3DLib.errors import CTSAM3DError
    from CTSAM3DWidgets.Requirements import Requirements

    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda *arguments, **keywords: True)
    with pytest.raises(CTSAM3DError, match="PyTorch extension is missing"):
        Requirements().install(["torch>=2.4"])


def test_the_local_server_is_started_and_stopped(slicer_host, panel):
    computer = panel.computer
    computer.startButton.click()
    wait(slicer_host, computer, 120)
    assert computer.serverLabel.text == "ready"
    assert not computer.startButton.enabled
    computer.stopButton.click()
    assert "not started" in computer.serverLabel.text


def test_the_local_server_can_be_stopped_while_it_starts(slicer_host, panel):
    computer = panel.computer
    computer.startButton.click()
    assert not computer.startButton.enabled
    slicer_host.process_events(0.3)
    computer.stopButton.click()
    assert computer.startButton.enabled
    assert "not started" in computer.serverLabel.text
    slicer_host.process_events(0.5)
    assert "not started" in computer.serverLabel.text


# Batch


@pytest.fixture
def batch(slicer_host, panel):
    """The batch section with a CT, and the quick network in the place of the chosen backend."""
    from Testing.effect.backends import ThresholdChoice
    from Testing.support.mrml_nodes import add_volume, bright_boxes

    volume = add_volume(slicer_host.scene, bright_boxes())
    choice = ThresholdChoice()
    choice.gate.set()
    panel.batch._backends.ready = lambda address, model: choice
    panel.batch.volumeSelector.setCurrentNode(volume)
    return panel.batch


def run(slicer_host, batch):
    batch.runButton.click()
    assert slicer_host.process_events(60, until=lambda: not batch._driver.busy())
    slicer_host.process_events(0.1)
    segmentation = batch.segmentationSelector.currentNode()
    return {
        segmentation.GetSegmentation().GetNthSegment(index).GetName(): segmentation.GetSegmentation().GetNthSegmentID(
            index
        )
        for index in range(segmentation.GetSegmentation().GetNumberOfSegments())
    }


def test_a_list_of_labelled_points_becomes_segments(slicer_host, batch):
    from Testing.effect.places import EDGE, INSIDE, OTHER_BOX
    from Testing.support.mrml_nodes import mask_of

    points = slicer_host.scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "organs")
    for label, place in (("first", INSIDE), ("-first", EDGE), ("second", OTHER_BOX)):
        points.AddControlPointWorld(place, label)
    batch.clicksSelector.setCurrentNode(points)
    segments = run(slicer_host, batch)
    assert set(segments) == {"first", "second"}
    segmentation, volume = batch.segmentationSelector.currentNode(), batch.volumeSelector.currentNode()
    masks = {name: mask_of(segmentation, segment_id, volume) for name, segment_id in segments.items()}
    assert all(mask.any() for mask in masks.values())
    assert "first:" in batch.statusLabel.text
    assert batch.runButton.enabled


def test_what_is_wrong_with_one_segment_does_not_keep_the_others(slicer_host, batch):
    table = slicer_host.scene.AddNewNodeByClass("vtkMRMLTableNode", "clicks")
    rows = [("inside", 37.5, 45, 45, "+"), ("outside", 999, 0, 0, "+")]
    import vtk

    for column, name in enumerate(("segment", "r", "a", "s", "sign")):
        array = vtk.vtkStringArray()
        array.SetName(name)
        for values in rows:
            array.InsertNextValue(str(values[column]))
        table.AddColumn(array)
    batch.clicksSelector.setCurrentNode(table)
    assert set(run(slicer_host, batch)) == {"inside"}
    assert "outside the volume" in batch.statusLabel.text
    assert "mL added" in batch.statusLabel.text


def test_a_segment_without_a_click_inside_does_not_keep_the_others(slicer_host, batch):
    from Testing.effect.places import EDGE, INSIDE

    points = slicer_host.scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "organs")
    for label, place in (("-first", EDGE), ("second", INSIDE)):
        points.AddControlPointWorld(place, label)
    batch.clicksSelector.setCurrentNode(points)
    assert set(run(slicer_host, batch)) == {"first", "second"}
    assert "second: " in batch.statusLabel.text
    assert batch.runButton.enabled


def test_a_segmentation_that_is_deleted_ends_the_batch(slicer_host, batch):
    from Testing.effect.places import INSIDE

    points = slicer_host.scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "organs")
    points.AddControlPointWorld(INSIDE, "first")
    batch.clicksSelector.setCurrentNode(points)
    batch.runButton.click()
    slicer_host.scene.RemoveNode(batch.segmentationSelector.currentNode())
    assert slicer_host.process_events(20, until=lambda: batch.runButton.enabled)
    assert slicer_host.scene.GetNumberOfNodesByClass("vtkMRMLSegmentEditorNode") == 0


def test_a_batch_without_clicks_says_what_to_choose(batch):
    batch.runButton.click()
    assert "Choose a CT" in batch.statusLabel.text


def test_the_batch_keeps_its_choices_in_the_scene(slicer_host, batch, panel):
    node = panel.logic.getParameterNode()
    assert node.GetNodeReference("BatchVolume") is batch.volumeSelector.currentNode()


def test_a_closed_scene_ends_the_batch(slicer_host, batch):
    from Testing.effect.places import INSIDE

    points = slicer_host.scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "organs")
    points.AddControlPointWorld(INSIDE, "first")
    batch.clicksSelector.setCurrentNode(points)
    batch.runButton.click()
    slicer_host.scene.Clear(0)
    slicer_host.process_events(0.3)
    assert not batch._driver.busy()
    assert slicer_host.scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 0


# Sample data


def test_samples_are_slicers_own_and_offered_once_slicer_has_started(slicer_host, monkeypatch):
    import SampleData
    import slicer

    asked = []
    monkeypatch.setattr(SampleData, "downloadSample", asked.append, raising=False)
    slicer_host.load_module("CTSAM3D")
    slicer_host.startup_completed()
    sources = slicer.modules.sampleDataSources["CT-SAM3D"]
    assert [source.sampleName for source in sources] == ["CT-SAM3D chest", "CT-SAM3D heart", "CT-SAM3D liver"]
    assert all(Path(source.thumbnailFileName).is_file() and source.uris == [] for source in sources)
    sources[2].customDownloader(sources[2])
    assert asked == ["CTLiver"]

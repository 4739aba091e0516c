"""A fresh Slicer has none of the packages that predictions need: effect and panel have to load without them."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

NOT_IN_SLICER = {"edt", "fastapi", "matplotlib", "monai", "prometheus_client", "psutil", "pydantic", "rich"}
NOT_IN_SLICER |= {"safetensors", "slicerio", "torch", "typer", "uvicorn", "zstandard"}
"""Packages of Resources/requirements.txt, and PyTorch."""


def without(packages):
    """The beginning of a script in which these packages are not installed."""
    return f"""
import importlib.metadata
import sys
from pathlib import Path

version = importlib.metadata.version

def version_in_slicer(name):
    if name in {packages}:
        raise importlib.metadata.PackageNotFoundError(name)
    return version(name)

importlib.metadata.version = version_in_slicer

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {packages}:
            raise ModuleNotFoundError(f"No module named '{{name}}'", name=name)

sys.meta_path.insert(0, Missing())
sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "CTSAM3D")!r}]
"""


LOAD = """
from Testing.host.host import running

with running(Path(sys.argv[1])) as host:
    host.load_module("CTSAM3D")
    host.load_module("SegmentEditorCTSAM3D")
    host.startup_completed()
    editor = host.segment_editor()
    assert editor.effectByName("CTSAM3D") is not None
    panel = host.module_widget("CTSAM3D")
    panel.enter()
    missing = panel.self().computer.requirementsLabel.text
    assert "torch" in missing, missing
    host.process_events(0.1)
"""


def run(script, *arguments):
    return subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False)


def test_effect_and_panel_load_in_a_fresh_slicer_and_say_what_is_missing(tmp_path, slicer_host):
    loaded = run(without(NOT_IN_SLICER) + LOAD, str(tmp_path))
    assert loaded.returncode == 0, loaded.stderr[-2000:]


def test_a_server_needs_one_small_package_here(slicer_host, monkeypatch):
    import slicer.packaging

    from CTSAM3DWidgets.Requirements import SERVER_PACKAGES, Requirements

    monkeypatch.setattr(slicer.packaging, "pip_check", lambda requirement: False)
    (needed,) = Requirements().missing(forServers=True)
    assert needed.startswith(SERVER_PACKAGES[0])
    loaded = run(without(NOT_IN_SLICER - set(SERVER_PACKAGES)) + "import CTSAM3DLib.remote.remote_segmenter")
    assert loaded.returncode == 0, loaded.stderr[-2000:]

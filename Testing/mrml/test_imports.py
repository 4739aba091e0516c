"""What Slicer loads at start brings in no torch, opens no connection and installs nothing."""

import subprocess
import sys
from pathlib import Path

import pytest

from Testing.host.fixtures import slicer_host as slicer_host

ROOT = Path(__file__).parents[2]

BLOCKED = """
import pathlib, socket, subprocess, sys

def refused(*args, **kwargs):
    raise AssertionError("a connection or a process is begun")

socket.socket.connect = socket.create_connection = socket.getaddrinfo = subprocess.Popen.__init__ = refused
"""

AFTERWARDS = """
brought_in = {"torch", "monai", "pip", "fastapi", "uvicorn"} & sys.modules.keys()
assert not brought_in, f"{brought_in} imported"
"""

MODULES = """
from Testing.host.host import running

with running(pathlib.Path(sys.argv[1])) as host:
    host.load_module("CTSAM3D")
    host.load_module("SegmentEditorCTSAM3D")
    host.startup_completed()
    host.module_widget("CTSAM3D")
    import SegmentEditorCTSAM3DLib
"""

LIBRARY = """
import importlib, pkgutil
import CTSAM3DLib, CTSAM3DLib.mrml

of_torch = {"engine", "session", "models", "model", "cli", "demo"}
for package in (CTSAM3DLib, CTSAM3DLib.mrml):
    for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        if module.name.rsplit(".", 1)[1] not in of_torch:
            importlib.import_module(module.name)
from CTSAM3DLib.checkpoints.model_store import ModelStore
assert ModelStore().models()
"""


def run_blocked(code: str, *arguments: str) -> None:
    program = BLOCKED + code + AFTERWARDS
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("code", ["import torch", "import urllib.request as r; r.urlopen('http://127.0.0.1:1')"])
def test_the_block_holds(code):
    with pytest.raises(AssertionError, match=r"imported|is begun"):
        run_blocked(code)


def test_loading_the_modules_imports_no_torch_and_begins_nothing(slicer_host, tmp_path):
    """The fixture only skips where Qt cannot start; the process has a host of its own."""
    run_blocked(MODULES, str(tmp_path))


def test_the_library_lists_models_and_reaches_mrml_without_torch():
    run_blocked(LIBRARY)

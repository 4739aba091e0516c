"""What Slicer's build installs, and what a client needs."""

import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

from CTSAM3DLib import __version__
from CTSAM3DLib.remote.remote_segmenter import test_connection as look_at
from Testing.server.conftest import serving

ROOT = Path(__file__).resolve().parents[2]
SERVER = ROOT / "CTSAM3DServer"


def test_cmake_lists_every_file_of_the_server_and_no_other():
    listed = set(re.findall(r"^    (\S+\.py)$", (SERVER / "CMakeLists.txt").read_text(), re.MULTILINE))
    assert listed == {path.relative_to(SERVER).as_posix() for path in SERVER.rglob("*.py")}


def test_a_client_needs_no_pytorch_and_no_server():
    code = (
        "import sys; from CTSAM3DLib import connect;"
        "import CTSAM3DLib.remote.local_server, CTSAM3DLib.output.provenance;"
        "sys.exit(any(name in sys.modules for name in ('torch', 'monai', 'fastapi', 'uvicorn', 'qt', 'slicer')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_server_needs_no_distribution_since_in_slicer_there_is_none(monkeypatch):
    def none(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata.Distribution, "from_name", none)
    with serving() as server:
        assert look_at(server.address).version == __version__

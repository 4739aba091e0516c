"""Without the hand-written execution for CPUs everything works as before, only slower."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.model

ROOT = Path(__file__).resolve().parents[2]
CORE = ("test_session.py", "test_engine.py", "test_engine_memory.py", "test_checkpoints.py")


def test_the_core_of_the_suite_passes_without_it():
    plugin = ["-p", "Testing.support.without_cpu_execution"]
    files = [f"Testing/unit/{name}" for name in CORE]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *plugin, *files], cwd=ROOT, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
    assert "[100%]" in run.stdout


def test_it_was_really_gone():
    code = (
        "import Testing.support.without_cpu_execution; from CTSAM3DLib import Segmenter; "
        "print(Segmenter.load(device='cpu').engine.execution)"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["cpu", "float32", "plain"]

"""The tests that ctest runs inside Slicer, run on the host in a process of their own: what they call exists."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("path", sorted((ROOT / "Testing" / "Python").glob("*.py")), ids=lambda path: path.stem)
def test_passes_on_the_host(path, slicer_host):  # slicer_host skips where Qt cannot start
    command = [sys.executable, "-m", "Testing.host", str(path)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stderr
    assert "Ran 0 tests" not in result.stderr

"""Run a test that is made for Slicer on the host: `python -m Testing.host Testing/Python/CTSAM3DLogicTest.py`."""

import sys
import tempfile
import unittest
from pathlib import Path

from Testing.host.host import running
from Testing.host.loading import load_file


def main(path: Path) -> bool:
    """Load the extension's modules and run the file's tests; returns whether they passed."""
    with tempfile.TemporaryDirectory() as folder, running(Path(folder)) as host:
        host.load_module("CTSAM3D")
        host.load_module("SegmentEditorCTSAM3D")
        host.startup_completed()
        tests = unittest.defaultTestLoader.loadTestsFromModule(load_file(path.stem, path))
        return unittest.TextTestRunner(verbosity=2).run(tests).wasSuccessful()


if __name__ == "__main__":
    sys.exit(not main(Path(sys.argv[1])))

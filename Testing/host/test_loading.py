"""What `import slicer` brings on the host, and what it does not, as in Slicer."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

SCRIPT = """
import sys
from pathlib import Path
from Testing.host.host import running

with running(Path(sys.argv[1])):
    import slicer
    for name in ("packaging", "ScriptedLoadableModule", "i18n"):
        assert not hasattr(slicer, name), name
    import slicer.packaging
    assert slicer.packaging.pip_check("numpy")
    assert not hasattr(slicer, "i18n")
    from slicer.i18n import tr
    assert slicer.i18n.tr is tr

with running(Path(sys.argv[1])):
    assert slicer.packaging.pip_check("numpy")
"""


def test_a_submodule_is_there_once_somebody_imports_it_and_stays(tmp_path, slicer_host):  # which skips without Qt
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr

"""Child processes and the command take no code from the current folder, whatever lies there."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from CTSAM3DLib.remote.child_process import child_environment, module_command

HOSTILE = ("random", "torch", "runpy", "json", "typer", "numpy", "aiohttp", "sitecustomize", "usercustomize")
ASKED = """
import json, random, sys
print(json.dumps({"name": __name__, "arguments": sys.argv[1:], "path": sys.path, "random": random.__file__}))
"""


@pytest.fixture
def hostile(tmp_path):
    """A folder whose Python files tell when they are executed."""
    folder = tmp_path / "downloaded"
    folder.mkdir()
    for name in HOSTILE:
        (folder / f"{name}.py").write_text(f"open({str(folder / 'EXECUTED')!r}, 'a').write({name!r} + ' ')\n")
    yield folder
    executed = folder / "EXECUTED"
    assert not executed.exists(), executed.read_text()


def interpreters():
    """Ours, and those of other versions that are installed here."""
    yield sys.executable
    for minor in range(10, 15):
        yield f"python3.{minor}"


@pytest.mark.parametrize("before", [None, "", os.pathsep, os.pathsep + "/none"])
@pytest.mark.parametrize("python", interpreters(), ids=lambda path: Path(path).name)
def test_a_module_runs_as_the_main_one_without_the_current_folder(python, before, hostile, tmp_path):
    found = shutil.which(python)
    if found is None or subprocess.run([found, "-c", ""], capture_output=True, check=False).returncode:
        pytest.skip(f"{python} is not installed")
    (tmp_path / "asked.py").write_text(ASKED)
    ours = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment = child_environment(ours if before is None else {**ours, "PYTHONPATH": before})
    environment["PYTHONPATH"] = os.pathsep.join([str(tmp_path), *environment.get("PYTHONPATH", "").split()])
    command = module_command(found, "asked", "--option", "a b")
    done = subprocess.run(command, env=environment, cwd=hostile, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["name"], said["arguments"]) == ("__main__", ["--option", "a b"])
    assert not {"", ".", str(hostile)} & set(said["path"])


@pytest.mark.skipif(sys.version_info < (3, 11), reason="PYTHONSAFEPATH came with Python 3.11")
def test_what_such_a_process_starts_is_safe_too(hostile):
    command = [sys.executable, "-c", "import random"]
    subprocess.run(command, env=child_environment(), cwd=hostile, check=True)


@pytest.mark.parametrize(
    "arguments", [["--version"], ["models"], ["segment", "missing.nii.gz", "--output", "mask.nrrd"]]
)
def test_the_command_takes_no_code_from_the_current_folder(arguments, hostile):
    command = [Path(sys.executable).with_name("ctsam3d"), *arguments]
    done = subprocess.run(command, cwd=hostile, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    assert done.returncode in (0, 2)


def test_the_files_are_hostile(tmp_path, hostile):
    """Without care they are executed: what this file tests can fail."""
    elsewhere = shutil.copytree(hostile, tmp_path / "copy")
    command = [sys.executable, "-c", "import random"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    subprocess.run(command, cwd=elsewhere, env=environment, check=True)
    executed = hostile / "EXECUTED"
    assert "random" in executed.read_text()
    executed.unlink()

"""Child processes: no code from the current folder, whatever lies there; what is said; how they end."""

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from CTSAM3DLib.errors import Cancelled
from CTSAM3DLib.remote.child_process import ChildEndedError, ChildProcess, child_environment, module_command

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


class TestChild:
    """What a parent and its child say to one another, and how the child ends."""

    @pytest.fixture
    def start(self):
        started = []

        def start(code, **options):
            command = [sys.executable, "-c", "from CTSAM3DLib.remote.child_process import *\n" + code]
            started.append(ChildProcess(command, child_environment(), **options))
            return started[-1]

        yield start
        for child in started:
            child.kill()

    def test_it_gets_lines_and_says_objects_among_what_libraries_print(self, start):
        child = start(
            "name = first_line(); print('noise'); print('[1]'); tell_parent(status='ready', name=name); print('3');"
            "tell_parent(address='here')"
        )
        child.send("Ünïcode")
        said = []
        assert child.wait_for("address", 60, other=said.append) == "here"
        assert said == [{"status": "ready", "name": "Ünïcode"}]

    def test_its_last_words_are_told_where_it_ends_instead(self, start):
        child = start("import sys; print('error: no such model.', file=sys.stderr); sys.exit(3)")
        with pytest.raises(ChildEndedError, match=r"^no such model$"):
            child.wait_for("address", 60)
        with pytest.raises(ChildEndedError):  # and again
            child.message(0)
        assert (child.running, child.exit_code) == (False, 3)
        child.send("nobody hears")

    def test_without_words_its_exit_code_is_told(self, start):
        with pytest.raises(ChildEndedError, match="exit code 3"):
            start("raise SystemExit(3)").wait_for("address", 60)

    def test_one_that_says_nothing_is_not_waited_for_for_ever(self, start):
        child = start("import time; time.sleep(60)")
        assert child.message(0) is None
        with pytest.raises(TimeoutError):
            child.wait_for("address", 0.2)
        cancel = threading.Event()
        cancel.set()
        with pytest.raises(Cancelled):
            child.wait_for("address", 60, cancel)

    def test_it_ends_with_its_parents_input(self, start):
        child = start("import os, time; end_with_parent(lambda: os._exit(7)); tell_parent(up=1); time.sleep(60)")
        child.wait_for("up", 60)
        assert child.running
        child.stop(30)
        assert child.exit_code == 7

    def test_one_that_does_not_end_by_itself_is_ended(self, start):
        child = start("import time; tell_parent(up=1); time.sleep(60)")
        child.wait_for("up", 60)
        child.stop(0.1)
        assert not child.running

    @pytest.mark.skipif(os.name != "posix", reason="groups of processes are POSIX's")
    def test_what_it_has_started_ends_with_it(self, start):
        child = start(
            "import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']);"
            "tell_parent(pid=p.pid); p.wait()"
        )
        own_child = psutil.Process(child.wait_for("pid", 60))
        child.kill()
        assert not child.running
        psutil.wait_procs([own_child], 10)
        assert not own_child.is_running() or own_child.status() == psutil.STATUS_ZOMBIE

    def test_errors_that_are_not_kept_go_where_ours_go(self, start, capfd):
        child = start("import sys; print('seen', file=sys.stderr)", keep_errors=False)
        with pytest.raises(ChildEndedError, match="exit code 0"):
            child.wait_for("address", 60)
        assert "seen" in capfd.readouterr().err

    def test_a_command_that_does_not_run_is_the_callers_to_explain(self):
        with pytest.raises(OSError, match="No such file"):
            ChildProcess(["/no/such/python"], child_environment())

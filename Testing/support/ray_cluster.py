"""The server on Ray Serve in processes of its own, replicas on the CPU that can be killed."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

import psutil
import requests

from CTSAM3DServer.keys import KeyFile

START_S = 240


class RayCluster:
    """`serve run` with so many replicas; `folder` takes its configuration, its file of keys and its log."""

    def __init__(self, folder: Path, replicas: int = 2) -> None:
        self._replicas = replicas
        self.key = KeyFile(folder / "keys.json").add("anna")
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{port}"
        args = {
            "keys_file": str(folder / "keys.json"),
            "device": "cpu",
            "cpus": 0.5,
            "memory": 0.5,
            "least_replicas": replicas,
            "most_replicas": replicas,
        }
        app = {"name": "ctsam3d", "import_path": "CTSAM3DServer.cluster:application", "args": args}
        config = {"http_options": {"host": "127.0.0.1", "port": port}, "applications": [app]}
        (folder / "cluster.yaml").write_text(json.dumps(config))  # which is YAML too
        command = [sys.executable, "-m", "ray.serve.scripts", "run", str(folder / "cluster.yaml")]
        environment = {**os.environ, "RAY_ADDRESS": "local", "RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS": "0"}
        self._log = folder / "ray.log"
        with self._log.open("w") as log:
            self._process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)

    def __enter__(self) -> RayCluster:
        """Wait until all replicas are there. Raises RuntimeError with the log's end where they do not come."""
        try:
            self.wait()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop()

    @property
    def replicas(self) -> list[psutil.Process]:
        """The processes of the replicas."""
        found = []
        for process in psutil.Process(self._process.pid).children(recursive=True):
            try:
                if process.cmdline()[:1] and process.cmdline()[0].startswith("ray::ServeReplica:ctsam3d"):
                    found.append(process)
            except psutil.Error:  # it has just ended
                continue
        return found

    @property
    def rings(self) -> list[int]:
        """How many replicas got requests, after each change of that, by the router's own word."""
        return [int(n) for n in re.findall(r"Rebuilt consistent-hash ring .*: (\d+) replicas", self._log.read_text())]

    def wait(self) -> None:
        """Wait until all replicas get requests. Raises RuntimeError with the log's end where they do not come."""
        end = time.monotonic() + START_S
        while self.rings[-1:] != [self._replicas] or not self._answers():
            if self._process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"the cluster is not whole: {self._log.read_text()[-3000:]}")
            time.sleep(0.5)

    def kill_one(self) -> None:
        """End a replica without warning."""
        self.replicas[0].kill()

    def _answers(self) -> bool:
        try:
            return requests.get(f"{self.address}/healthz", timeout=5).json()["program"] == "ctsam3d"
        except (requests.RequestException, ValueError):
            return False

    def _stop(self) -> None:
        processes = psutil.Process(self._process.pid).children(recursive=True)
        self._process.terminate()
        self._process.wait(60)
        for process in psutil.wait_procs(processes, 20)[1]:
            process.kill()

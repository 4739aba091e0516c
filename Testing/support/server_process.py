"""`ctsam3d serve` in a process of its own, for benchmarks and tests of the server."""

from __future__ import annotations

import subprocess
import sys
import threading
from types import TracebackType

import psutil
import requests

MIB = 2**20


class ServerProcess:
    """A server on loopback and a free port, on the CPU, with more options as on the command line, which come last."""

    def __init__(self, *options: str) -> None:
        command = [sys.executable, "-m", "CTSAM3DServer", "--port=0", "--device=cpu", *options]
        self._process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        self._seen = psutil.Process(self._process.pid)
        self.defects: list[str] = []
        """What it wrote to its log as errors."""
        assert self._process.stderr is not None
        said = []
        for line in self._process.stderr:
            said.append(line)
            if line.startswith("serving at"):
                self.address = line.split()[2].rstrip(";")
                break
        else:
            raise RuntimeError(f"the server did not start: {''.join(said)}")
        threading.Thread(target=self._watch, daemon=True).start()

    def __enter__(self) -> ServerProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait(30)

    def kill(self) -> None:
        """End it without warning."""
        self._process.kill()
        self._process.wait()

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    @property
    def resident(self) -> float:
        """MiB of memory that it takes now."""
        return self._seen.memory_info().rss / MIB

    @property
    def cached(self) -> float:
        """MiB in its cache, by its own word."""
        lines = requests.get(f"{self.address}/metrics", timeout=30).text.splitlines()
        (value,) = [line.split()[1] for line in lines if line.startswith("ctsam3d_cache_bytes ")]
        return float(value) / MIB

    def _watch(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            if " ERROR " in line or "Traceback" in line:
                self.defects.append(line.strip())

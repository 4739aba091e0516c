"""`ctsam3d web` in a process of its own, and the browser that is installed."""

from __future__ import annotations

import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
WINDOW = {"width": 1280, "height": 720}
"""The smallest window that the page is made for."""


class Site:
    """A running `ctsam3d web`."""

    def __init__(
        self,
        *options: str,
        log: Path,
        port: int = 0,
        largest_file: int = resource.RLIM_INFINITY,
        folder: Path | None = None,
    ) -> None:
        """`folder` is the process's current one, our own by default."""
        self._log = log
        with log.open("w") as file:
            self.process = subprocess.Popen(
                [Path(sys.executable).with_name("ctsam3d"), "web", "--no-browser", "--port", str(port), *options],
                stderr=file,
                cwd=folder,
                preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file)),
            )
        self.address = self._printed_address()

    def said(self) -> str:
        return self._log.read_text()

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(30)
        finally:
            self.process.kill()

    def _printed_address(self) -> str:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            found = re.search(r"the page is at (\S+)", self.said())
            if found:
                return found[1]
            assert self.process.poll() is None, self.said()
            time.sleep(0.1)
        raise AssertionError(f"ctsam3d web is not ready: {self.said()}")

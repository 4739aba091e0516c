"""A server that belongs to another program on this computer, such as Slicer, and ends with it.

Its parent writes a key to its standard input and keeps that open. The server writes one JSON object a line to its
standard output: {"status": ...} while it starts, and {"address": ...} once it is ready.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from dataclasses import replace

from CTSAM3DLib.errors import CTSAM3DError
from CTSAM3DServer.keys import OneKey
from CTSAM3DServer.run import GRACE_S, Server, load_models
from CTSAM3DServer.settings import Settings

OWNER = "local"


def serve_parent(settings: Settings) -> None:
    """Serve on loopback and a free port until the parent closes our input or is gone. Raises CTSAM3DError."""
    key = sys.stdin.readline().strip()
    if not key:
        raise CTSAM3DError("A server of another program needs a key as the first line of its input.")
    local = replace(settings, host="127.0.0.1", port=0, keys_file=None, tls_cert=None, tls_key=None)
    models = load_models(settings.models, lambda status: _tell(status=status))
    server = Server(local, models, OneKey(OWNER, key))
    threading.Thread(target=_end_with_parent, args=(server,), daemon=True).start()
    _tell(address=server.address)
    server.serve()


def _end_with_parent(server: Server) -> None:
    sys.stdin.read()
    server.stop()
    time.sleep(2 * GRACE_S)  # the process is gone by then, unless it hangs
    os._exit(1)


def _tell(**what: str) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()

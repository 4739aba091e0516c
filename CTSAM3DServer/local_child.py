"""A server that belongs to another program on this computer, such as Slicer, and ends with it.

Its parent writes a key to its standard input and keeps that open. The server says {"status": ...} while it starts, and
{"address": ...} once it is ready; see `CTSAM3DLib.remote.child_process`.
"""

from __future__ import annotations

import os
import time
from dataclasses import replace

from CTSAM3DLib.errors import CTSAM3DError
from CTSAM3DLib.remote.child_process import end_with_parent, first_line, tell_parent
from CTSAM3DServer.keys import OneKey
from CTSAM3DServer.run import GRACE_S, Server, load_models
from CTSAM3DServer.settings import Settings

OWNER = "local"


def serve_parent(settings: Settings) -> None:
    """Serve on loopback and a free port until the parent closes our input or is gone. Raises CTSAM3DError."""
    key = first_line()
    if not key:
        raise CTSAM3DError("A server of another program needs a key as the first line of its input.")
    local = replace(settings, host="127.0.0.1", port=0, keys_file=None, tls_cert=None, tls_key=None)
    models = load_models(settings.models, lambda status: tell_parent(status=status))
    server = Server(local, models, OneKey(OWNER, key))
    end_with_parent(lambda: _end(server))
    tell_parent(address=server.address)
    server.serve()


def _end(server: Server) -> None:
    server.stop()
    time.sleep(2 * GRACE_S)  # the process is gone by then, unless it hangs
    os._exit(1)

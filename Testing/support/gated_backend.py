"""A backend that answers when the test lets it: it grows for ever until it is let go or cancelled."""

import threading

from CTSAM3DLib.cancel import stop_if_cancelled
from CTSAM3DLib.errors import CTSAM3DError
from CTSAM3DLib.execution.engine import Engine
from CTSAM3DLib.segmentation.session import Segmenter
from Testing.support.threshold_network import threshold_model


class GatedBackend:
    """Real sessions on the threshold network, whose answers wait for `gate`."""

    def __init__(self) -> None:
        self._segmenter = Segmenter(Engine(threshold_model(), "cpu"))
        self.gate = threading.Event()
        self.gate.set()
        self.opened = []
        self.asked = []
        self.cancelled = []
        self.error: CTSAM3DError | Exception | None = None
        """What the next answers fail with."""

    def open(self, volume):
        self.opened.append(volume)
        return _GatedSession(self, self._segmenter.open(volume))


class _GatedSession:
    def __init__(self, backend, session) -> None:
        self._backend = backend
        self._session = session

    def segment(self, clicks, reach="structure", progress=None, cancel=None):
        backend = self._backend
        backend.asked.append(tuple(clicks))
        try:
            result = self._session.segment(clicks, reach, progress, cancel)
            while not backend.gate.wait(0.01):
                stop_if_cancelled(cancel)
            stop_if_cancelled(cancel)
        except CTSAM3DError:
            backend.cancelled.append(tuple(clicks))
            raise
        if backend.error is not None:
            raise backend.error
        return result

"""Backends for tests of the effect: quick, and under the test's control."""

import functools
import threading
import time
from dataclasses import dataclass, field

from CTSAM3DLib.errors import CTSAM3DError


@dataclass(eq=False)
class ThresholdChoice:
    """The threshold network in the real engine and session; `gate` holds its answers back."""

    gate: threading.Event = field(default_factory=threading.Event)
    started: threading.Event = field(default_factory=threading.Event)
    asked: list = field(default_factory=list)
    """The clicks of every request that reached the backend."""
    failure: CTSAM3DError | None = None
    seconds_a_step: float = 0.0
    """How long every partial answer takes longer than it would."""

    def load(self):
        return _Held(_segmenter(), self)

    def progress(self):
        return "" if self.started.is_set() else "Starting…"


@functools.cache
def _segmenter():
    """One for all tests: making an engine takes longer than most of them."""
    from CTSAM3DLib.execution.engine import Engine
    from CTSAM3DLib.segmentation.session import Segmenter
    from Testing.support.threshold_network import threshold_model

    return Segmenter(Engine(threshold_model(), "cpu"))


class _Held:
    """A segmenter whose sessions wait for the choice's gate."""

    def __init__(self, segmenter, choice):
        self._segmenter, self._choice = segmenter, choice

    def open(self, volume):
        session, choice = self._segmenter.open(volume), self._choice
        answer = session.segment

        def segment(clicks, reach="structure", progress=None, cancel=None):
            choice.asked.append(tuple(clicks))
            choice.started.set()
            choice.gate.wait(20)
            if choice.failure is not None:
                raise choice.failure

            def slowly(result):
                progress(result)
                time.sleep(choice.seconds_a_step)

            return answer(clicks, reach, slowly, cancel)

        session.segment = segment
        return session


class TestBackends:
    """Stands in for CTSAM3DWidgets.Backends.Backends."""

    __test__ = False  # not a test, whatever pytest thinks of its name

    def __init__(self):
        self.choice = ThresholdChoice()
        self.choice.gate.set()
        self.refusal = None

    def choices(self):
        return [("This computer", "This computer")]

    def models(self, address):
        return ["ctsam3d-small"]

    def ready(self, address, model):
        if self.refusal is not None:
            raise self.refusal
        return self.choice

"""The interface of methods under evaluation, our own model as a method, and the methods by name.

A method opens a CT as `Segmenter.open` does; what it gives answers an ordered list of clicks as `Session.segment`
does. `Session` and its `Result` therefore fit as they are.
"""

from __future__ import annotations

from collections.abc import Sequence, Sized
from dataclasses import dataclass, field
from importlib import import_module
from typing import Protocol, cast

from CTSAM3DLib.checkpoints.checkpoint import TrainedModel
from CTSAM3DLib.clicks.click import Click
from CTSAM3DLib.clicks.simulation import Clickable
from CTSAM3DLib.errors import CTSAM3DError
from CTSAM3DLib.imaging.geometry import Geometry
from CTSAM3DLib.imaging.volume import Volume
from CTSAM3DLib.segmentation.session import Reach, Result, Segmenter, Session
from training.evaluation.comparisons.comparison import Comparison, SystemSettings
from training.evaluation.comparisons.systems import SYSTEMS

BASELINES = {"region-growing": "RegionGrowing", "random-walker": "RandomWalker", "grow-cut": "GrowCut"}
"""Name and class of the methods in `training.evaluation.baselines`, each in a file of its name."""

METHODS = ("ctsam3d", *BASELINES, *SYSTEMS)


class Answer(Protocol):
    """A mask and the clicks that led to it."""

    @property
    def clicks(self) -> Sequence[Click]:
        """All clicks so far, in their order."""

    @property
    def mask(self) -> Volume:
        """The mask, 0 or 1, on the CT's own grid."""

    @property
    def patches(self) -> Sized | None:
        """The patches used, for methods that work in patches."""

    @property
    def quality(self) -> float | None:
        """The method's own estimate of its Dice, 0..1, where it has one."""


class Method(Protocol):
    """A method that segments a CT by clicks."""

    @property
    def name(self) -> str:
        """Its name on the command line."""

    @property
    def run(self) -> str:
        """Its name with everything that its masks depend on, such as the hash of weights."""

    def open(self, volume: Volume, /) -> Clickable[Answer]:
        """The CT, ready to be clicked. Raises VolumeError."""


@dataclass(frozen=True)
class MethodChoice:
    """A method by name, with its weights, and for our own model its reach; it can be sent to another process."""

    name: str
    model: str = "ctsam3d-small"
    weights: str | None = None
    reach: Reach = "structure"
    walk: bool = True
    """Whether a model that has a random walk takes it."""
    settings: SystemSettings = field(default_factory=SystemSettings)
    """How a comparison system is installed."""

    def load(self) -> Method:
        """The method, ready for work. Raises ModelError, and CTSAM3DError where its package is not installed."""
        if self.name == "ctsam3d":
            return OwnModel(Segmenter.load(self.model, self.weights), self.reach, self.walk)
        if self.name in SYSTEMS:
            return Comparison(SYSTEMS[self.name], self.weights, self.settings)
        if self.name not in BASELINES:
            raise CTSAM3DError(f"'{self.name}' is not a method; choose one of: {', '.join(METHODS)}.")
        try:  # imported when asked for, since each needs a package that the others do not
            module = import_module(f"training.evaluation.baselines.{self.name.replace('-', '_')}")
        except ImportError as error:
            raise CTSAM3DError(
                f"{self.name} needs {error.name}, which is missing; install it by: pip install 'ctsam3d[training]'."
            ) from error
        return cast("Method", getattr(module, BASELINES[self.name])())


def run_name(model: TrainedModel, reach: Reach = "structure", walk: bool = True) -> str:
    """The run under which results of a model are filed: name, start of the file's hash, and what is unusual."""
    unusual: list[str] = [reach] if reach != "structure" else []
    if model.network.config.walk_width and not walk:
        unusual.append("without-walk")
    return "-".join((model.info.name, model.file_hash[:8], *unusual))


class OwnModel:
    """A CT-SAM3D network, bundled or from a file; where it has a random walk, with or without that."""

    name = "ctsam3d"

    def __init__(self, segmenter: Segmenter, reach: Reach = "structure", walk: bool = True) -> None:
        self.run = run_name(segmenter.engine.model, reach, walk)
        self._segmenter = segmenter
        self._reach = reach
        if not walk:
            segmenter.engine.model.network.walk = None

    def open(self, volume: Volume) -> Clickable[Result]:
        """A session with this reach. Raises VolumeError."""
        return _Reaching(self._segmenter.open(volume), self._reach)


@dataclass(frozen=True)
class _Reaching:
    session: Session
    reach: Reach

    @property
    def geometry(self) -> Geometry:
        return self.session.geometry

    def segment(self, clicks: Sequence[Click]) -> Result:
        return self.session.segment(clicks, self.reach)

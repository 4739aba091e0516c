"""JSON messages between client and server, with bounds; the binary messages are in `CTSAM3DLib.remote.protocol`."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from CTSAM3DLib.clicks.click import Click
from CTSAM3DLib.imaging.geometry import Geometry
from CTSAM3DLib.remote.protocol import MAX_CLICKS
from CTSAM3DLib.segmentation.growth import Reach
from CTSAM3DServer.volumes import MAX_AXIS

Number = Annotated[float, Field(allow_inf_nan=False, ge=-1e9, le=1e9)]
Three = Annotated[list[Number], Field(min_length=3, max_length=3)]
Lengths = Annotated[list[Annotated[float, Field(ge=1e-4, le=1e4)]], Field(min_length=3, max_length=3)]
Cosines = Annotated[list[Annotated[float, Field(ge=-2, le=2)]], Field(min_length=9, max_length=9)]
Axis = Annotated[int, Field(ge=1, le=MAX_AXIS)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class VolumeBody(_Strict):
    """The geometry of a CT, as in `CTSAM3DLib.imaging.geometry`, and the spacing of the model grid."""

    shape: Annotated[list[Axis], Field(min_length=3, max_length=3, description="Voxels along z, y, x.")]
    origin: Annotated[Three, Field(description="Centre of voxel 0 in LPS mm.")]
    spacing: Annotated[Lengths, Field(description="Voxel along i, j, k in mm.")]
    direction: Annotated[Cosines, Field(description="Row-major 3x3 matrix; its columns are the axes i, j, k in LPS.")]
    model_spacing: Annotated[float, Field(gt=0, le=100, description="Voxel of the model grid in mm.")]

    def geometry(self) -> Geometry:
        """The geometry of the CT. Raises VolumeError where the numbers make no valid grid."""
        z, y, x = self.shape
        origin, spacing = tuple(self.origin), tuple(self.spacing)
        return Geometry((z, y, x), origin, spacing, tuple(self.direction))  # type: ignore[arg-type] # lengths checked


class ClickBody(_Strict):
    """One click."""

    position: Annotated[Three, Field(description="LPS mm.")]
    positive: bool = True

    def click(self) -> Click:
        """The click as an object of the library."""
        l, p, s = self.position  # noqa: E741 - the axes' names
        return Click((l, p, s), self.positive)


class SegmentBody(_Strict):
    """A request for the mask of these clicks."""

    clicks: Annotated[list[ClickBody], Field(min_length=1, max_length=MAX_CLICKS, description="In their order.")]
    reach: Reach = "structure"
    model: Annotated[str, Field(max_length=256, description="Name or hash of one of the server's models.")]


class ModelAnswer(BaseModel):
    """A loaded model."""

    name: str
    hash: Annotated[str, Field(description="SHA-256 of its file.")]
    window: Annotated[list[float], Field(description="HU that become 0 and 1.")]
    spacing: Annotated[float, Field(description="Voxel of the model grid in mm.")]
    cross_patch: bool
    labels: list[str]
    data_hash: str
    licence: str
    card: Annotated[str, Field(description="Markdown.")]


class ServerAnswer(BaseModel):
    """The server and its models."""

    program: str = "ctsam3d"
    version: str
    protocol: int
    device: str
    models: list[ModelAnswer]


class Health(BaseModel):
    """The server is running."""

    program: str = "ctsam3d"
    status: str = "ok"


class Refusal(BaseModel):
    """The reason of a refusal, in one sentence."""

    detail: str

"""The HTTP API: register a volume, upload its tiles, segment it; models, health and metrics."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import FastAPI, Path, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException

from CTSAM3DLib import __version__
from CTSAM3DLib.errors import CTSAM3DError, MemoryForecastError
from CTSAM3DLib.remote.protocol import MEDIA_TYPE, PROTOCOL
from CTSAM3DServer.admission import Admission
from CTSAM3DServer.fair_scheduler import ClosedError
from CTSAM3DServer.keys import Keys
from CTSAM3DServer.metrics import Metrics
from CTSAM3DServer.schemas import Health, ModelAnswer, Refusal, SegmentBody, ServerAnswer, VolumeBody
from CTSAM3DServer.service import Service
from CTSAM3DServer.volumes import UnknownVolumeError

VolumeId = Annotated[str, Path(pattern="^[0-9a-f]{64}$", description="The client's hash of the volume's content.")]

_BINARY = {"schema": {"type": "string", "format": "binary"}}
_TILES_BODY = {"requestBody": {"required": True, "content": {MEDIA_TYPE: _BINARY}}}
_REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"model": Refusal, "description": "The body cannot be read."},
    401: {"model": Refusal, "description": "No key, or one that is not known."},
    403: {"model": Refusal, "description": "Not from this computer, on a server without keys."},
    408: {"model": Refusal, "description": "The body came too slowly."},
    413: {"model": Refusal, "description": "The body is too long."},
    422: {"model": Refusal, "description": "Something in the request is wrong."},
    429: {"model": Refusal, "description": "Too many requests of one user at a time."},
    503: {"model": Refusal, "description": "The server cannot do it now."},
}
_UNKNOWN: dict[int | str, dict[str, Any]] = {404: {"model": Refusal, "description": "The volume is not known."}}
_ANSWER: dict[int | str, dict[str, Any]] = {
    200: {"description": "The mask so far, and the tiles that are needed.", "content": {MEDIA_TYPE: _BINARY}}
}


def create_app(service: Service, keys: Keys | None, metrics: Metrics) -> FastAPI:
    """The ASGI application. It closes the service at shutdown. Without `keys` only this computer is served."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(service.close)

    app = FastAPI(
        title="CT-SAM3D",
        summary="Segment any structure in a CT by clicking on it. Not a medical device.",
        version=__version__,
        docs_url=None,  # those pages load scripts from elsewhere
        redoc_url=None,
        lifespan=lifespan,
    )
    app.add_middleware(Admission, keys=keys, metrics=metrics)
    _add_refusals(app)
    metrics.watch(service)

    @app.get("/healthz")
    async def health() -> Health:
        """Liveness: answers while the server runs, also during inference."""
        return Health()

    @app.get("/metrics", responses={200: {"content": {"text/plain": {}}}, **_REFUSALS}, response_class=Response)
    async def prometheus() -> Response:
        """Metrics in Prometheus' text format."""
        return Response(metrics.text(), media_type=CONTENT_TYPE_LATEST)

    @app.get("/v1/models", responses=_REFUSALS)
    async def models() -> ServerAnswer:
        """The server and its models."""
        return describe(service)

    @app.put("/v1/volumes/{id}", status_code=204, responses=_REFUSALS)
    async def put_volume(id: VolumeId, body: VolumeBody, request: Request) -> None:
        """Register a volume by its geometry. Its tiles are uploaded when `segment` asks for them."""
        service.put_volume(request.state.owner, id, body.geometry(), body.model_spacing)

    @app.put("/v1/volumes/{id}/tiles", status_code=204, responses={**_REFUSALS, **_UNKNOWN}, openapi_extra=_TILES_BODY)
    async def put_tiles(id: VolumeId, request: Request) -> None:
        """Upload tiles of the model grid."""
        message = await request.body()
        await asyncio.to_thread(service.put_tiles, request.state.owner, id, message)

    @app.post(
        "/v1/volumes/{id}/segment",
        responses={**_REFUSALS, **_UNKNOWN, **_ANSWER},
        response_class=Response,
    )
    async def segment(id: VolumeId, body: SegmentBody, request: Request) -> Response:
        """Run the next inference step for these clicks; repeat until the mask is final."""
        clicks = tuple(click.click() for click in body.clicks)
        answer = await service.segment(request.state.owner, id, body.model, body.reach, clicks)
        return Response(answer, media_type=MEDIA_TYPE)

    return app


def describe(service: Service) -> ServerAnswer:
    """The server and its models."""
    models = []
    for engine in service.engines:
        info = dataclasses.asdict(engine.model.info)
        models.append(ModelAnswer(hash=engine.model.file_hash, **info))
    return ServerAnswer(version=__version__, protocol=PROTOCOL, device=service.engines[0].device, models=models)


def _add_refusals(app: FastAPI) -> None:
    """Make every error response one sentence in JSON that repeats nothing of the request."""

    def refuse(status: int, sentence: str) -> JSONResponse:
        return JSONResponse({"detail": sentence}, status)

    @app.exception_handler(UnknownVolumeError)
    async def unknown(_: Request, error: UnknownVolumeError) -> JSONResponse:
        return refuse(404, str(error))

    @app.exception_handler(CTSAM3DError)
    async def wrong(_: Request, error: CTSAM3DError) -> JSONResponse:
        return refuse(503 if isinstance(error, (MemoryForecastError, ClosedError)) else 422, str(error))

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        # The name of an unknown field comes from the client and is left out.
        location = first["loc"][:-1] if first["type"] == "extra_forbidden" else first["loc"]
        where = ".".join(str(part) for part in location)
        return refuse(422, f"The request is wrong at {where}: {first['msg']}.")

    @app.exception_handler(HTTPException)
    async def http(_: Request, error: HTTPException) -> JSONResponse:
        sentences = {
            404: "There is nothing at this address; see /openapi.json.",
            405: "This address has another method.",
        }
        sentence = sentences.get(error.status_code, f"The request cannot be read ({error.detail}).")
        return JSONResponse({"detail": sentence}, error.status_code, error.headers)

"""Several machines: the server's app as a Ray Serve deployment, with every volume on one replica.

`serve run cluster.yaml`, with `import_path: CTSAM3DServer.cluster:application` and the fields of `ClusterSettings` as
its args. Clients name the volume in a header, and Ray's consistent hashing sends all requests of one volume to the
replica that holds it. When replicas start or stop, some volumes move; their new replica asks for the tiles again,
which costs time, never correctness. Needs the extra `cluster`.
"""

# Without `from __future__ import annotations`: Ray reads the type of the argument of `application` from its annotation.

import logging
from pathlib import Path

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field
from ray import serve
from ray.serve.config import AutoscalingConfig, RequestRouterConfig
from ray.serve.schema import LoggingConfig

from CTSAM3DServer.app import create_app
from CTSAM3DServer.keys import KeyFile
from CTSAM3DServer.metrics import Metrics
from CTSAM3DServer.run import GRACE_S, MAX_CONNECTIONS, load_models
from CTSAM3DServer.service import Service
from CTSAM3DServer.settings import Settings

logger = logging.getLogger(__name__)

ROUTER = "ray.serve.experimental.consistent_hash_router.ConsistentHashRouter"
WAITING_REQUESTS = 4
"""Mean concurrent requests of a replica above which another replica is started."""


class ClusterSettings(BaseModel):
    """Settings of the replicas; the address and TLS are Ray Serve's own `http_options`."""

    model_config = ConfigDict(extra="forbid")

    keys_file: Path
    """A file that every machine can read; a cluster always needs keys."""
    models: list[str] = Field(list(Settings.models), min_length=1)
    device: str = "cuda"
    """Device of each replica: cuda, which takes a GPU of its own, or cpu."""
    cpus: float = Field(2, gt=0)
    """Processor cores of each replica."""
    memory: float = Settings.memory / 2**30
    """GiB of each replica for its caches."""
    least_replicas: int = Field(1, ge=1)
    most_replicas: int = Field(1, ge=1)


def application(settings: ClusterSettings) -> serve.Application:
    """The application that Ray Serve runs. Raises SettingsError where something in the settings is wrong."""
    _settings(settings).check()
    deployment = serve.deployment(
        serve.ingress(lambda: _replica(settings))(),
        name="ctsam3d",
        ray_actor_options={"num_cpus": settings.cpus, "num_gpus": int(settings.device.startswith("cuda"))},
        autoscaling_config=AutoscalingConfig(
            min_replicas=settings.least_replicas,
            max_replicas=settings.most_replicas,
            target_ongoing_requests=WAITING_REQUESTS,
        ),
        max_ongoing_requests=MAX_CONNECTIONS,  # the server's own limits hold before that one
        request_router_config=RequestRouterConfig(request_router_class=ROUTER),
        graceful_shutdown_timeout_s=GRACE_S,
        logging_config=LoggingConfig(enable_access_log=False),  # it would write volume ids
    )
    return deployment.bind()


def _replica(settings: ClusterSettings) -> FastAPI:
    """The app of one replica, made on the replica's own machine."""
    chosen = _settings(settings)
    metrics = Metrics()
    models = load_models(chosen.models, logger.info)
    service = Service(models, chosen.device, chosen.memory, metrics.inference_step)
    return create_app(service, KeyFile(settings.keys_file), metrics)


def _settings(settings: ClusterSettings) -> Settings:
    return Settings(
        models=tuple(settings.models),
        device=settings.device,
        memory=int(settings.memory * 2**30),
        keys_file=settings.keys_file,
    )

"""Prometheus metrics: counts, times and bytes, without users and patients."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from CTSAM3DServer.service import Service

_REQUEST_BUCKETS = (0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)


class Metrics:
    """The metrics of one server."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "ctsam3d_requests", "Requests answered.", ("method", "route", "status"), registry=self._registry
        )
        self._seconds = Histogram(
            "ctsam3d_request_seconds",
            "Time from a request's head to the end of its answer.",
            ("route",),
            buckets=_REQUEST_BUCKETS,
            registry=self._registry,
        )
        self._received = Counter("ctsam3d_received_bytes", "Bytes of request bodies.", registry=self._registry)
        self._steps = Histogram(
            "ctsam3d_turn_seconds",
            "Time of one use of the network, a patch or a group of neighbours.",
            buckets=_REQUEST_BUCKETS,
            registry=self._registry,
        )

    def watch(self, service: Service) -> None:
        """Export the state of a service, read at every scrape."""
        for name, text, value in (
            ("ctsam3d_turns_waiting", "Uses of the network that wait.", lambda: service.waiting),
            ("ctsam3d_cache_bytes", "Bytes in the cache of tiles, features and masks.", lambda: service.cache.nbytes),
            ("ctsam3d_cache_capacity_bytes", "Bound of that cache.", lambda: service.cache.capacity),
            ("ctsam3d_cache_dropped", "Things dropped from it for want of room.", lambda: service.cache.evicted),
        ):
            Gauge(name, text, registry=self._registry).set_function(value)

    def inference_step(self, seconds: float) -> None:
        """Count one inference step."""
        self._steps.observe(seconds)

    def request(self, method: str, route: str, status: int, seconds: float, received: int) -> None:
        """Count one request; `route` is a path without ids."""
        self._requests.labels(method, route, status).inc()
        self._seconds.labels(route).observe(seconds)
        self._received.inc(received)

    def text(self) -> bytes:
        """Everything in Prometheus' text format."""
        return generate_latest(self._registry)

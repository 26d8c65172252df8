"""What is counted and timed, and the middleware that does it: by route and never by path, for paths hold names."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

AREAS = {"stac", "raster", "uploads", "lineage", "trace", "sources", "auth", "_mgmt"}
#: The route of what no route answers.
NO_ROUTE = "(none)"
_KEY = "federator.observation"
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_BYTES = (1e3, 1e4, 1e5, 1e6, 1e7, 1e8)


@dataclass(slots=True)
class Observation:
    """What is known of one request when it is over."""

    route: str = NO_ROUTE
    has_left: bool = False


class Metrics:
    """Counters of one application."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()

        def histogram(name: str, text: str, labels: tuple[str, ...], buckets: tuple[float, ...]) -> Histogram:
            return Histogram(name, text, labels, registry=self.registry, buckets=buckets)

        names = ("area", "method", "status")
        self.requests = Counter("federator_requests_total", "Requests answered", names, registry=self.registry)
        self.seconds = histogram("federator_request_seconds", "Seconds to the last byte", ("route", "method"), _SECONDS)
        self.bytes = histogram("federator_response_bytes", "Bytes of answers as they were sent", ("route",), _BYTES)
        self.plan_seconds = histogram("federator_search_plan_seconds", "Seconds to plan a search", (), _SECONDS)
        self.sql_seconds = histogram("federator_search_sql_seconds", "Seconds in the database", (), _SECONDS)
        self.hydrate_seconds = histogram(
            "federator_search_hydrate_seconds", "Seconds to make JSON of rows", (), _SECONDS
        )
        self.refusals = Counter(
            "federator_refusals_total", "Requests refused because of a quota", ("quota",), registry=self.registry
        )
        self.tiles = Counter(
            "federator_tiles_total",
            "Tiles answered: kept in memory, on disk, made, or made for an equal request at the same moment (shared); left: nobody waited",
            ("outcome",), registry=self.registry,
        )  # fmt: skip
        self.tile_bytes = Counter(
            "federator_tile_bytes_total", "Bytes of those tiles", ("outcome",), registry=self.registry
        )
        self.fallbacks = Counter(
            "federator_tile_fallbacks_total",
            "Plain tiles left to FastAPI's route because of an error that was not expected, by its kind: to be looked at in the log",
            ("error",), registry=self.registry,
        )  # fmt: skip
        self._children: dict[tuple[str, ...], tuple[Any, ...]] = {}

    def note(self, area: str, route: str, method: str, status: str, seconds: float, size: int) -> None:
        """Count one answer."""
        key = (area, route, method, status)
        children = self._children.get(key)
        if children is None:  # to look a label up takes longer than to count
            children = (
                self.requests.labels(area, method, status),
                self.seconds.labels(route, method),
                self.bytes.labels(route),
            )
            self._children[key] = children
        children[0].inc()
        children[1].observe(seconds)
        children[2].observe(size)

    def note_tile(self, outcome: str, size: int) -> None:
        """Count a tile: `memory`, `disk`, `made`, `shared`, `left`."""
        children = self._children.get((outcome,))
        if children is None:
            children = self._children[(outcome,)] = self.tiles.labels(outcome), self.tile_bytes.labels(outcome)
        children[0].inc()
        children[1].inc(size)

    def note_fallback(self, error: str) -> None:
        """Count a plain tile that could not be made quickly, by the name of the exception."""
        self.fallbacks.labels(error).inc()

    def collected(self) -> CollectorRegistry:
        """What a scrape reads: with several processes what all of them have counted (prometheus_client's multiprocess mode)."""
        if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
            return self.registry
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return registry

    def note_search(self, plan_s: float, sql_s: float, hydrate_s: float) -> None:
        """Count the parts of one search."""
        self.plan_seconds.observe(plan_s)
        self.sql_seconds.observe(sql_s)
        self.hydrate_seconds.observe(hydrate_s)


def area_of(path: str) -> str:
    """The part of the service that a path belongs to."""
    first = path.split("/", 2)[1] if "/" in path else ""
    return first if first in AREAS else "other"


class Snapshot:
    """Gauges of one moment and one caller; of no process, so that nothing of them is left for another caller's scrape."""

    def __init__(self) -> None:
        self._families: list[GaugeMetricFamily] = []

    def add(self, name: str, text: str, values: Mapping[str, float] | float, label: str = "") -> None:
        """A gauge; by the values of a label, or one alone."""
        family = GaugeMetricFamily(name, text, labels=[label] if label else None)
        for key, value in (values if isinstance(values, Mapping) else {"": values}).items():
            family.add_metric([key] if label else [], value)
        self._families.append(family)

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """As prometheus_client asks for it."""
        return self._families

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """The same: names are known without values."""
        return self._families


def observation_of(scope: Scope) -> Observation:
    """The observation of a request; one that nobody looks at for a request that is not measured."""
    found: Observation = scope.get(_KEY) or Observation()
    return found


class Measured:
    """Counts and times every request. Stands outside of everything else."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, size, begun = "500", 0, time.perf_counter()
        observation = scope[_KEY] = Observation()

        async def noted(message: Message) -> None:
            nonlocal status, size
            if message["type"] == "http.response.body":
                size += len(message.get("body", b""))
            elif message["type"] == "http.response.start":
                status = str(message["status"])
            await send(message)

        try:
            await self._app(scope, receive, noted)
        finally:
            if observation.has_left:
                status = "499"  # nginx's word for a client that went away
            method = scope["method"] if scope["method"] in _METHODS else "other"
            self._metrics.note(
                area_of(scope["path"]), observation.route, method, status, time.perf_counter() - begun, size
            )


class Routed:
    """Notes which route has answered. Stands inside of everything else, where routing writes it down."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        before = len(scope.get("root_path", ""))
        try:
            await self._app(scope, receive, send)
        finally:
            path = getattr(scope.get("route"), "path", None)
            if path is not None:
                mount = scope.get("root_path", "")[before:]
                observation_of(scope).route = path if path == mount else mount + path

"""OpenTelemetry, for who wants it: `uv sync --extra otel` and `OTEL_EXPORTER_OTLP_ENDPOINT` in the environment.

FastAPI makes the spans itself, by route; here is only where they go to. Without an endpoint nothing is imported and nothing is made. All
other settings are OpenTelemetry's own (`OTEL_SERVICE_NAME`, `OTEL_TRACES_SAMPLER`, `OTEL_EXPORTER_OTLP_HEADERS`, ...).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping

log = logging.getLogger(__name__)

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_SERVICE = "stac-federator"


def is_traced(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether the environment names where spans go."""
    return any(environment.get(name) for name in _ENDPOINTS)


def set_up(environment: Mapping[str, str] = os.environ) -> Callable[[], None] | None:
    """Send spans to the endpoint that the environment names; the function that is returned sends the last ones. None: there is none."""
    if not is_traced(environment):
        return None
    try:
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        log.warning("OTEL_EXPORTER_OTLP_ENDPOINT is set, but the extra `otel` is not installed: no traces")
        return None
    own = {} if environment.get("OTEL_SERVICE_NAME") else {"service.name": _SERVICE}
    provider = TracerProvider(resource=Resource.create(own))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    return provider.shutdown

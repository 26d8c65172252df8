"""Where the time of a search went: to the histograms, and to the log when it was long."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.requests import Request

from api.metrics import Metrics, observation_of
from api.parts import Parts

log = logging.getLogger(__name__)

#: Characters of a search that are logged.
_MOST_TEXT = 4000


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds of the parts of a search; `sql_s` holds planning too when the plan was made on the way.

    `rows` are those of the page, `partitions` those that may hold what is searched.
    """

    plan_s: float
    sql_s: float
    hydrate_s: float
    rows: int
    partitions: int


def note_search(request: Request, search: Mapping[str, Any], timings: Timings, write_s: float, size: int) -> None:
    """Count a search, and log one that took longer than `FEDERATOR_SLOW_QUERY_S`.

    What is logged are the search's parts by name, so that a program finds who filters by what. It holds what users ask for and no secret:
    tokens are none of its parts.
    """
    metrics: Metrics = request.app.state.metrics
    metrics.note_search(timings.plan_s, timings.sql_s, timings.hydrate_s + write_s)
    parts: Parts = request.app.state.parts
    total_s = timings.plan_s + timings.sql_s + timings.hydrate_s + write_s
    if total_s < parts.settings.slow_query_s:
        return
    facts = {
        "route": getattr(request.scope.get("route"), "path", observation_of(request.scope).route),
        "method": request.method,
        "search": {name: _shortened(value) for name, value in search.items()},
        "plan_ms": round(timings.plan_s * 1000, 2),
        "sql_ms": round(timings.sql_s * 1000, 2),
        "hydrate_ms": round(timings.hydrate_s * 1000, 2),
        "write_ms": round(write_s * 1000, 2),
        "rows": timings.rows,
        "partitions": timings.partitions,
        "bytes": size,
    }
    log.warning("slow query %s", orjson.dumps(facts).decode(), extra={"query": facts})


def _shortened(value: Any) -> Any:
    text = orjson.dumps(value)
    return value if len(text) <= _MOST_TEXT else f"{text[:_MOST_TEXT].decode(errors='replace')}..."

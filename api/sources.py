"""`/sources`: how the harvest of each source stands: last run, what is known to be complete, how late it is, what its upstream allows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from fastapi import APIRouter
from starlette.requests import Request

from api.access import principals_of
from api.parts import Parts, parts_of
from db.queries import sql
from ingest.model import Source

router = APIRouter(tags=["sources"])

Row = dict[str, Any]
_COUNTS = (
    "fetched", "added", "changed", "unchanged", "quarantined", "withdrawn", "total", "requests", "retries", "bytes", "unread",
)  # fmt: skip
_COVERAGE = ("expected", "held", "missing", "extra", "quarantined", "healed")
_LAGS = ("published_after_sensed_s", "indexed_after_published_s")


@router.get("/sources")
async def sources(request: Request) -> dict[str, Any]:
    """How the harvest of each source stands."""
    return {"sources": await sources_state(parts_of(request), principals_of(request))}


async def sources_state(parts: Parts, principals: Sequence[str]) -> list[Row]:
    """Each source with its upstream and those of its collections that the caller may see."""
    async with parts.pool.connection() as conn:
        hidden = {
            row["id"]
            for row in await (await conn.execute(sql("api.hidden_collections"), (list(principals),))).fetchall()
        }
        runs = {_key(row): row for row in await (await conn.execute(sql("api.sources"))).fetchall()}
        lags = {_key(row): row for row in await (await conn.execute(sql("api.lags"))).fetchall()}
        upstreams = {row["source_id"]: row for row in await (await conn.execute(sql("api.upstreams"))).fetchall()}
        months: dict[tuple[str, str], list[Row]] = defaultdict(list)
        for row in await (await conn.execute(sql("api.coverage"))).fetchall():
            months[_key(row)].append(row)
    found = []
    for source in parts.sources.values():
        collections = [
            _collection(mapping.id, runs.get(key), lags.get(key), months[key])
            for mapping in source.collections
            if mapping.id not in hidden
            for key in [(source.id, mapping.id)]
        ]
        upstream = _upstream(source, upstreams.get(source.id))
        found.append({**_facts(source), "upstream": upstream, "collections": collections})
    return found


def _key(row: Row) -> tuple[str, str]:
    return row["source_id"], row["collection_id"]


def _facts(source: Source) -> Row:
    host = urlsplit(source.url).hostname
    return {"id": source.id, "title": source.title, "protocol": source.protocol, "host": host, "rank": source.rank}


def _upstream(source: Source, row: Row | None) -> Row:
    """Pace, budget and breaker; `breaker` is closed, open (nobody asks) or half-open (the next request tries)."""
    state: Row = {"requests_per_second": source.requests_per_second, "requests_per_month": source.requests_per_month}
    if row is None:
        return {**state, "requests_this_month": 0, "failures": 0, "breaker": "closed"}
    is_open = row["open_until"] is not None and row["open_until"] > datetime.now(UTC)
    breaker = "open" if is_open else "half-open" if row["open_until"] is not None else "closed"
    return {**state, "requests_this_month": row["requests_this_month"], "failures": row["failures"], "breaker": breaker}


def _collection(collection: str, run: Row | None, lag: Row | None, months: list[Row]) -> Row:
    state: Row = {
        "id": collection,
        "status": "never run",
        "holdings": 0,
        "quarantine": 0,
        "last_run": None,
        "cursor": None,
    }
    if run is not None:
        times = {name: _text(run[name]) for name in ("started_at", "finished_at")}
        state |= {
            "status": run["status"],
            "holdings": run["holdings"],
            "quarantine": run["in_quarantine"],
            "last_run": {**times, **{name: run[name] for name in _COUNTS}},
        }
        if run["cursor_updated_at"]:
            state["cursor"] = {"position": run["position"], "updated_at": _text(run["cursor_updated_at"])}
    state["lag"] = (
        {name: dict(zip(("p50", "p90", "p99"), lag[name], strict=True)) for name in _LAGS if lag[name]} if lag else {}
    )
    state["coverage"] = [_month(row) for row in months]
    return state


def _month(row: Row) -> Row:
    period = {name: _text(row[name]) for name in ("since", "until", "as_of")}
    age_s = int((datetime.now(UTC) - row["as_of"]).total_seconds())
    return {**period, "age_s": age_s, "bbox": row["bbox"], **{name: row[name] for name in _COVERAGE}}


def _text(when: datetime | None) -> str | None:
    return when.isoformat() if when else None

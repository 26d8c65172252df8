"""`/quota`: what the caller may ask for, what he has used, what is left."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from api.access import Caller, caller_of
from api.limits.callers import Counted
from api.limits.service import Limits
from api.limits.tiers import COG_READS, CONNECTIONS, DOWNLOAD, PROCESSING, REQUESTS, Tier
from api.limits.windows import window_of
from api.parts import Parts, parts_of
from db.pools import Connection
from db.queries import sql
from ingest.sanitise import time_text
from ingest.uploads.quota import usage

router = APIRouter(tags=["quotas"])
_QUOTAS = (REQUESTS, PROCESSING, COG_READS, DOWNLOAD)


@router.get("/quota")
async def quotas(request: Request) -> Response:
    """Tier, quotas and uploads of whoever asks. Without limits, or for whom there are none, `tier` is null and the list is empty."""
    parts, caller = parts_of(request), caller_of(request)
    limits: Limits = request.app.state.limits
    who = limits.who(request) if limits.is_on else None
    async with parts.pool.connection() as conn:
        found: dict[str, Any] = {
            "caller": caller.name if caller else None,
            "limits": limits.is_on,
            "tier": limits.tiers.name_of(who.tier) if who else None,
            "quotas": await _used(conn, limits, who) if who else [],
            "uploads": await _uploads(conn, parts, caller) if caller else None,
        }
    return JSONResponse(found, headers={"Cache-Control": "no-store"})


async def _used(conn: Connection, limits: Limits, who: Counted) -> list[dict[str, Any]]:
    """Each quota, those without a limit too."""
    tier, now = limits.tiers.of(who.tier), limits.clock()
    rows = await (await conn.execute(sql("limits.used"), (who.subject,))).fetchall()
    taken = {(row["quota"], row["window_start"]): row["taken"] for row in rows}
    found = []
    for quota in _QUOTAS:
        window = window_of(quota.period, now)
        here = limits.counters.unspent(who.subject, quota, window) if limits.counters else 0
        used = max(0, taken.get((quota.name, window.start), 0) - here)
        resets = time_text(datetime.fromtimestamp(window.end, UTC))
        found.append({**_shown(quota.name, tier.limit(quota), used), "period": quota.period.value, "resets": resets})
    row = await (await conn.execute(sql("limits.places"), (who.subject,))).fetchone()
    found.append(_connections(tier, found[-1], row["places"] if row else 0))
    return found


def _shown(name: str, limit: int | None, used: int) -> dict[str, Any]:
    return {
        "quota": name, "limit": limit, "used": used, "remaining": None if limit is None else max(0, limit - used),
    }  # fmt: skip


def _connections(tier: Tier, download: dict[str, Any], used: int) -> dict[str, Any]:
    is_slow = download["remaining"] == 0
    places = tier.slow_connections if is_slow else tier.connections
    speed = tier.slow_bytes_per_second if is_slow else tier.bytes_per_second
    return {**_shown(CONNECTIONS, places, used), "bytes_per_second": speed}


async def _uploads(conn: Connection, parts: Parts, caller: Caller) -> dict[str, Any]:
    used = await usage(conn, caller.name)
    return {
        "open": _shown("open_uploads", parts.ingest.upload_open_max, used["open"]),
        "bytes": _shown("bytes", parts.ingest.upload_owner_max_bytes, used["bytes"]),
        "file_max_bytes": parts.ingest.upload_file_max_bytes,
    }

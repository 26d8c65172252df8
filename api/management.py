"""`/_mgmt`: liveness, readiness of each part, metrics."""

from __future__ import annotations

import os
import shutil
from collections.abc import Awaitable, Callable
from typing import Any

import psycopg
from fastapi import APIRouter
from prometheus_client import CollectorRegistry, generate_latest
from psycopg_pool import PoolTimeout
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from api.access import principals_of
from api.metrics import Snapshot
from api.parts import Parts, parts_of
from db.queries import sql

router = APIRouter(tags=["management"])

MIN_FREE_BYTES = 2**30


@router.get("/_mgmt/ping")
async def ping() -> dict[str, str]:
    """The process answers."""
    return {"message": "PONG"}


async def _database(parts: Parts) -> str:
    async with parts.pool.connection(timeout=2) as conn:
        await conn.execute(sql("api.ping"))
    return "answers"


async def _worker(parts: Parts) -> str:
    async with parts.pool.connection(timeout=2) as conn:
        row = await (await conn.execute(sql("api.workers"))).fetchone()
    alive = int(row["alive"]) if row else 0
    if not alive:
        raise LookupError("no worker has given a sign of life in the last 30 s")
    return f"{alive} alive"


async def _storage(parts: Parts) -> str:
    free = shutil.disk_usage(parts.settings.data_dir).free
    if not os.access(parts.settings.data_dir, os.W_OK):
        raise LookupError("the data folder is not writable")
    if free < MIN_FREE_BYTES:
        raise LookupError(f"{free // 2**20} MiB are free")
    return f"{free // 2**30} GiB free"


CHECKS: dict[str, Callable[[Parts], Awaitable[str]]] = {"database": _database, "worker": _worker, "storage": _storage}


@router.get("/_mgmt/health")
async def health(request: Request) -> Response:
    """Readiness of each part; 503 when one is down."""
    parts = parts_of(request)
    found: dict[str, Any] = {}
    for name, check in CHECKS.items():
        try:
            found[name] = {"status": "up", "detail": await check(parts)}
        except LookupError as error:
            found[name] = {"status": "down", "detail": str(error)}
        except (psycopg.Error, PoolTimeout, OSError):
            found[name] = {"status": "down", "detail": "does not answer"}
    is_up = all(part["status"] == "up" for part in found.values())
    return JSONResponse({"status": "up" if is_up else "down", "parts": found}, status_code=200 if is_up else 503)


@router.get("/_mgmt/metrics")
async def metrics(request: Request) -> Response:
    """Prometheus text; items of collections that the caller may see."""
    parts, counted = parts_of(request), request.app.state.metrics
    async with parts.pool.connection() as conn:
        collections = await (await conn.execute(sql("api.collections"), (list(principals_of(request)),))).fetchall()
        uploads = await (await conn.execute(sql("api.upload_states"))).fetchall()
        log_state = await (await conn.execute(sql("api.log_state"))).fetchone()
    now = Snapshot()
    now.add("federator_items", "Items per collection", {row["id"]: row["items"] for row in collections}, "collection")
    now.add("federator_uploads", "Uploads per state", {row["state"]: row["uploads"] for row in uploads}, "state")
    if log_state:
        now.add("federator_log_size", "Events in the log", log_state["size"])
        now.add("federator_log_waiting", "Events that wait for their number", log_state["waiting"])
    registry = CollectorRegistry()
    registry.register(now)
    text = generate_latest(counted.collected()) + generate_latest(registry)
    return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")

"""`/lineage/v1/watches/{watch_id}/webhook`: where the alerts of a watch are sent to (`ingest.alerting`)."""

from __future__ import annotations

import base64
import re
import secrets
from typing import Any
from urllib.parse import urlsplit

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from api.access import known
from api.lineage_graph import json_body, not_found
from api.lineage_watches import owner_of, watch_of
from api.parts import parts_of
from api.problems import Problem
from db.queries import sql
from lineage import graph

router = APIRouter(prefix="/lineage/v1/watches/{watch_id}/webhook", tags=["lineage"])

MAX_WEBHOOKS = 10
MAX_URL = 2000
_PRINTABLE = re.compile(r"[\x21-\x7e]+")
_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"type": "object", "required": ["url"], "properties": {"url": {"type": "string", "format": "uri"}}}
            }
        },
    }
}  # fmt: skip


def _url_of(body: dict[str, Any], *, may_be_plain: bool) -> str:
    """Where to send; its addresses are looked at when something is sent. Raises Problem: 400."""
    url = body.get("url")
    try:
        if not isinstance(url, str) or len(url) > MAX_URL or not _PRINTABLE.fullmatch(url):
            raise ValueError
        parts = urlsplit(url)
        is_good = bool(parts.hostname) and parts.username is None and parts.password is None and parts.port != 0
    except ValueError:
        raise Problem(400, "INVALID_URL", f"url is an address of at most {MAX_URL} letters", field="url") from None
    if not is_good or parts.scheme not in ("https", "http") or (parts.scheme == "http" and not may_be_plain):
        raise Problem(400, "INVALID_URL", "url begins with https:// and has neither user nor password", field="url")
    return parts.geturl()  # the scheme in small letters: it decides by which client is asked


def _shown(row: Any) -> dict[str, Any]:
    found = {name: row[name] for name in ("url", "status", "failures", "sent", "next_seq")}
    if row["last_error"]:
        found["last_error"] = row["last_error"]
    times = {name: row[name].isoformat() for name in ("sent_at", "created_at") if row[name] is not None}
    return {**found, **times}


@router.put("", status_code=200, openapi_extra=_BODY)
async def put_webhook(watch_id: str, request: Request) -> Response:
    """Have alerts sent to a URL, from now on. The answer has the secret that they are signed with, and it is shown this once.

    The same again has a new secret; one that was given up is tried again. A caller has at most 10.
    """
    caller = known(request)
    networks = parts_of(request).ingest.webhook_networks_allowed()
    url = _url_of(await json_body(request), may_be_plain=bool(networks))
    secret = secrets.token_bytes(32)
    async with parts_of(request).pool.connection() as conn:
        found = await watch_of(conn, caller, watch_id)
        size = await graph.log_size(conn)
        parameters = (found["id"], owner_of(caller), list(caller.principals), url, secret, size, MAX_WEBHOOKS)
        async with conn.transaction():
            await conn.execute(sql("webhook.lock"), (owner_of(caller),))
            row = await (await conn.execute(sql("webhook.put"), parameters)).fetchone()
    if row is None:
        raise Problem(409, "TOO_MANY_WEBHOOKS", f"at most {MAX_WEBHOOKS} webhooks", limit=MAX_WEBHOOKS)
    shown = {**_shown(row), "secret": f"whsec_{base64.b64encode(secret).decode()}"}
    return JSONResponse(shown, headers={"Cache-Control": "no-store"})


@router.get("")
async def webhook(watch_id: str, request: Request) -> dict[str, Any]:
    """Where alerts are sent to, and how that goes; without the secret."""
    caller = known(request)
    async with parts_of(request).pool.connection() as conn:
        found = await watch_of(conn, caller, watch_id)
        row = await (await conn.execute(sql("webhook.one"), (found["id"], owner_of(caller)))).fetchone()
    if row is None:
        raise not_found()
    return _shown(row)


@router.delete("", status_code=204)
async def forget_webhook(watch_id: str, request: Request) -> Response:
    """Send nothing more; the watch stays."""
    caller = known(request)
    async with parts_of(request).pool.connection() as conn:
        found = await watch_of(conn, caller, watch_id)
        row = await (await conn.execute(sql("webhook.drop"), (found["id"], owner_of(caller)))).fetchone()
    if row is None:
        raise not_found()
    return Response(status_code=204)

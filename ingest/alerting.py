"""Alerts of watches, sent to where their owners want them: signed, in order, at least once.

Headers and signature are those of the Standard Webhooks specification 1.0. An alert has one id however often it is sent; what was not taken
is sent again, later and later, and nothing after it meanwhile. Only public addresses are asked (`ingest.outside`), and redirects are
not followed: an owner may name any URL.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import httpx
import orjson

from db.pools import Pool
from db.queries import sql
from ingest.http import USER_AGENT
from ingest.outside import HostRefused, Network, PinnedBackend, pinned_transport
from lineage import graph, history, watching

log = logging.getLogger(__name__)

#: Webhooks of one round, and how many of them at once; alerts that one gets in a round; seconds until its next.
_ROUND, _AT_ONCE, _ALERTS = 20, 4, 20
_BETWEEN_S = 10.0
#: The same where all ancestors of somebody's items have to be looked up.
_MINE_S = 60.0
#: Numbers of the log that one round looks through.
_SCANNED = 10_000
#: Seconds for one answer.
POST_S = 10.0
#: Pauses after a failure: the first, the longest; and how many failures in a row end it (about two days).
_FIRST_S, _LONGEST_S, MAX_FAILURES = 10.0, 3600.0, 60
_GONE = 410


@dataclass(frozen=True, slots=True)
class Posting:
    """What alerts are sent with; `inside` for `http`, which only the operator's networks may be asked by."""

    pool: Pool
    public_url: str
    outside: httpx.AsyncClient
    inside: httpx.AsyncClient


@asynccontextmanager
async def posting(pool: Pool, public_url: str, networks: tuple[Network, ...]) -> AsyncIterator[Posting]:
    """Clients that ask public addresses, and those of `networks`."""
    backends = PinnedBackend(networks), PinnedBackend(networks, is_open=False)
    outside, inside = (
        httpx.AsyncClient(transport=pinned_transport(one, max_connections=_AT_ONCE), timeout=POST_S) for one in backends
    )
    async with outside, inside:
        yield Posting(pool, public_url.rstrip("/"), outside, inside)


def signature(secret: bytes, message_id: str, timestamp: int, body: bytes) -> str:
    """The header `webhook-signature` of a message."""
    signed = b".".join((message_id.encode(), str(timestamp).encode(), body))
    return f"v1,{base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest()).decode()}"


async def send_alerts(posting: Posting) -> int:
    """Send what is due; return how many alerts were taken. Any number of workers may do this at once."""
    async with posting.pool.connection() as conn, conn.transaction():
        rows = await (await conn.execute(sql("webhook.claim"), (_ROUND,))).fetchall()
    places = asyncio.Semaphore(_AT_ONCE)

    async def one(row: Any) -> int:
        async with places:
            return await _send(posting, row)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(row)) for row in rows]
    return sum(task.result() for task in tasks)


async def _send(posting: Posting, row: Any) -> int:
    """The alerts of one webhook, until one is not taken."""
    if row["is_somebody"] and not row["principals"]:
        await _failed(posting, row, "its owner is not here any more", for_good=True)
        return 0
    async with posting.pool.connection() as conn:
        size = await graph.log_size(conn)
        upto = min(size, row["next_seq"] + _SCANNED)
        news = await (await conn.execute(sql("webhook.has_news"), (row["next_seq"], upto))).fetchone()
        alerts = []
        if news and news["has_news"]:
            alerts = await watching.alerts(
                conn, row["entity"], row["owner"], row["principals"], row["next_seq"], upto, _ALERTS
            )
    for number, alert in enumerate(alerts):
        error, is_gone = await _post(posting, row, alert)
        if error:
            await _failed(posting, row, error, for_good=is_gone)
            return number
        await _execute(posting, "webhook.sent", row["watch_id"], alert["seq"] + 1)
    is_whole = len(alerts) < _ALERTS
    pause_s = 0.0 if is_whole and (upto < size or not alerts) else _BETWEEN_S
    if row["entity"] is None and news and news["has_news"]:
        pause_s = _MINE_S
    await _execute(posting, "webhook.rest", row["watch_id"], upto if is_whole else row["next_seq"], pause_s)
    return len(alerts)


async def _failed(posting: Posting, row: Any, error: str, *, for_good: bool) -> None:
    pause_s = min(_FIRST_S * 2 ** min(row["failures"], 20), _LONGEST_S)
    log.info("an alert was not taken", extra={"watch": str(row["watch_id"]), "reason": error})
    await _execute(posting, "webhook.failed", row["watch_id"], error, pause_s, for_good, MAX_FAILURES)


async def _execute(posting: Posting, statement: str, *parameters: Any) -> None:
    async with posting.pool.connection() as conn:
        await conn.execute(sql(statement), parameters)


async def _post(posting: Posting, row: Any, alert: Any) -> tuple[str, bool]:
    """Send one alert; (what went wrong, in words without anything of the answer's; whether it is for good)."""
    message_id, now = f"{row['watch_id']}_{alert['seq']}", datetime.now(UTC)
    body = orjson.dumps(_message(posting.public_url, row["watch_id"], alert))
    timestamp = int(now.timestamp())
    headers = {
        "Content-Type": "application/json", "User-Agent": USER_AGENT, "webhook-id": message_id, "webhook-timestamp": str(timestamp),
        "webhook-signature": signature(bytes(row["secret"]), message_id, timestamp, body),
    }  # fmt: skip
    client = posting.inside if row["url"].startswith("http://") else posting.outside
    try:
        async with (
            asyncio.timeout(2 * POST_S),
            client.stream("POST", row["url"], content=body, headers=headers) as answer,
        ):
            status = answer.status_code  # what it says besides is not read
    except HostRefused:
        return "the address is not of the public internet", False
    except (TimeoutError, httpx.TimeoutException):
        return "no answer in time", False
    except (httpx.HTTPError, httpx.InvalidURL):
        return "no connection", False
    return ("", False) if 200 <= status < 300 else (f"status {status}", status == _GONE)


def _message(public_url: str, watch_id: Any, row: Any) -> dict[str, Any]:
    """What is sent of an event: what it is about, and where the rest is."""
    event = history.shown(row)
    about = f"{public_url}/lineage/v1/collections/{quote(event['collection'], safe='')}/items/{quote(event['item_id'], safe='')}"
    data = {name: event[name] for name in ("seq", "kind", "name", "source", "collection", "recorded_at")}
    told = {name: event["body"][name] for name in ("reason", "successor") if isinstance(event["body"].get(name), str)}
    return {
        "type": f"lineage.{event['kind'].lower()}",
        "timestamp": event["recorded_at"],
        "data": {
            **data, **told, "watch": str(watch_id), "item": event["item_id"], "event": event["id"], "status": f"{about}/status",
            "proof": f"{public_url}/lineage/v1/log/proof/{event['id']}",
        },
    }  # fmt: skip

"""Lets a request through or refuses it, before anything else of the application sees it.

What is counted (docs/limits.md): each request counts in its minute, HEAD, 304 and every range too; the month counts what is delivered,
which is 2xx with a body. What fails by our own fault (5xx) is given back everywhere; what is refused was never counted.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.limits.callers import Counted
from api.limits.counters import Counters, Refused, Spent, StoreDown
from api.limits.headers import EXPOSED, of_answer, of_refusal
from api.limits.service import Limits, asks_of
from api.limits.tiers import COG_READS, PROCESSING, REQUESTS, Quota, Tier
from api.limits.windows import Period
from api.metrics import Metrics
from api.problems import answer

#: Neither counted nor refused: operators' pages, files of our own pages, and what tells how much is left.
_FREE = frozenset({"_mgmt", "quota", "favicon.ico", "static", ""})
_PROCESSING = re.compile(r"/raster/(collections|searches)/")
_FILE = re.compile(r"/uploads/[^/]+/data\.tif")
#: POSTs that change nothing.
_READING_POSTS = re.compile(r"/stac/(search|aggregate)/?|/raster/.*")
_READS = frozenset({"GET", "HEAD"})
#: Seconds after which it is worth to try again when the counters do not answer.
_TRY_AGAIN_S = 5
#: What another site's script may read of a refusal made here.
_CORS = {"Access-Control-Allow-Origin": "*", "Access-Control-Expose-Headers": ", ".join(EXPOSED)}


class Limited:
    """Counts requests by caller and tier; `parts_app` knows who a caller is (`api.access`)."""

    def __init__(self, app: ASGIApp, parts_app: object, limits: Limits, metrics: Metrics) -> None:
        self._app, self._parts_app, self._limits, self._metrics = app, parts_app, limits, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        counters = self._limits.counters
        if counters is None or scope["type"] != "http" or not _is_counted(scope):
            await self._app(scope, receive, send)
            return
        who = self._limits.who(Request({**scope, "app": self._parts_app}))
        if who is None:
            await self._app(scope, receive, send)
            return
        tier = self._limits.tiers.of(who.tier)
        asks = asks_of(tier, quotas_of(scope["path"]))
        try:
            spent = await counters.spend(who.subject, asks, may_borrow=is_read(scope)) if asks else []
        except Refused as refused:
            await self._refuse(refused, who, scope, receive, send)
        except StoreDown:
            self._metrics.refusals.labels("counters-down").inc()
            detail = "what you may still write cannot be counted now; try again"
            headers = {"Retry-After": str(_TRY_AGAIN_S), **_CORS}
            await answer(503, "LIMITS_UNAVAILABLE", detail, headers)(scope, receive, send)
        else:
            await self._let_through(_Passage(counters, who.subject, spent), who, tier, scope, receive, send)

    async def _let_through(
        self, passage: _Passage, who: Counted, tier: Tier, scope: Scope, receive: Receive, send: Send
    ) -> None:
        noted = passage.noted(send, self._limits)
        downloads = self._limits.downloads
        is_download = downloads is not None and scope["method"] == "GET" and _FILE.fullmatch(scope["path"])
        try:
            async with contextlib.AsyncExitStack() as stack:
                if downloads is not None and is_download:
                    await stack.enter_async_context(downloads.place(who.subject, tier))
                    noted = downloads.paced(noted, who.subject, tier)
                await self._app(scope, receive, noted)
        except Refused as refused:
            passage.undo()
            await self._refuse(refused, who, scope, receive, send)
        except Exception:
            passage.undo()
            raise
        else:
            passage.settle(scope["method"])

    async def _refuse(self, refused: Refused, who: Counted, scope: Scope, receive: Receive, send: Send) -> None:
        self._metrics.refusals.labels(refused.quota).inc()
        headers = {**of_refusal(refused), **_CORS}
        detail = f"the quota {refused.quota!r} of {refused.limit} is used up; try again in {refused.wait_s} s"
        facts = {
            "quota": refused.quota, "limit": refused.limit, "actual": refused.limit, "remaining": 0,
            "retry_after": refused.wait_s, "tier": self._limits.tiers.name_of(who.tier),
        }  # fmt: skip
        await answer(429, "RATE_LIMITED", detail, headers, **facts)(scope, receive, send)


class _Passage:
    """One request that was let through, until it is known whether it counts."""

    def __init__(self, counters: Counters, subject: str, spent: Sequence[Spent]) -> None:
        self._counters, self._subject, self._spent = counters, subject, spent
        self._status = 0

    def noted(self, send: Send, limits: Limits) -> Send:
        """A `send` that tells what is left."""

        async def noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._status = message["status"]
                message = {**message, "headers": [*message["headers"], *of_answer(self._spent, limits.clock())]}
            await send(message)

        return noted if self._spent else send

    def settle(self, method: str) -> None:
        """Give back what does not count."""
        if self._status >= 500:
            self.undo()
        elif method == "HEAD" or not 200 <= self._status < 300:
            self._give_back([one for one in self._spent if one.ask.quota.period is Period.MONTH])

    def undo(self) -> None:
        """Nothing of it counts."""
        self._give_back(self._spent)

    def _give_back(self, spent: Sequence[Spent]) -> None:
        self._counters.give_back(self._subject, spent)


def quotas_of(path: str) -> tuple[Quota, ...]:
    """What a request for this path uses."""
    if _PROCESSING.match(path):
        return (REQUESTS, PROCESSING)
    if _FILE.fullmatch(path):
        return (REQUESTS, COG_READS)
    return (REQUESTS,)


def is_read(scope: Scope) -> bool:
    """True for what changes nothing, which goes on when the counters are down."""
    return scope["method"] in _READS or (scope["method"] == "POST" and bool(_READING_POSTS.fullmatch(scope["path"])))


def _is_counted(scope: Scope) -> bool:
    first = scope["path"].split("/", 2)[1] if "/" in scope["path"] else ""
    return scope["method"] != "OPTIONS" and first not in _FREE

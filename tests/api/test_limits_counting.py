"""Requests are counted in PostgreSQL for all processes, by tier; what is refused, what is given back, and what happens without counters."""

from __future__ import annotations

import asyncio
import contextlib
import math
import re
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx
import psycopg
import pytest
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from api.access import CALLER, Caller
from api.limits.counters import Ask, Counters, Refused, StoreDown
from api.limits.downloads import Downloads
from api.limits.middleware import Limited
from api.limits.service import Limits
from api.limits.tiers import COG_READS, DOWNLOAD, PROCESSING, REQUESTS, Tier
from api.limits.windows import LEASE, window_of
from api.metrics import Metrics
from api.settings import ApiSettings
from db.pools import Pool, open_pool
from db.settings import DatabaseSettings
from tests.api.server import listening, serving
from tests.conftest import cloned

TIERS = """
[general]
requests_per_minute = 5
processing_per_month = 3
cog_reads_per_month = 4
connections = 2
bytes_per_second = 200_000
download_bytes_per_month = 1_000_000
slow_bytes_per_second = 20_000
[anonymous]
requests_per_minute = 7
[services]
requests_per_minute = 1000
processing_per_month = 300
"""
NOON = 1_790_000_020.0
TILE = "/raster/collections/c/items/i/tiles/WebMercatorQuad/0/0/0.png"
FILE = "/uploads/0198f7a0-0000-7000-8000-000000000000/data.tif"
#: The draft's grammar, of the items that are sent here.
RATE_LIMIT = re.compile(r'"[a-z-]+";r=\d+;t=\d+(, "[a-z-]+";r=\d+;t=\d+)*')
POLICY = re.compile(r'"[a-z-]+";q=\d+;w=\d+(, "[a-z-]+";q=\d+;w=\d+)*')


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def store(postgres: DatabaseSettings, template: str) -> Iterator[DatabaseSettings]:
    """One database for this module; tests differ by their callers."""
    with cloned(postgres, template) as settings:
        yield settings


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> ApiSettings:
    path = tmp_path_factory.mktemp("tiers") / "tiers.toml"
    path.write_text(TIERS, encoding="utf-8")
    return ApiSettings(rate_limits=True, tiers_file=path, api_token="t", trusted_proxies="10.0.0.1")


async def answering(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with the status that is asked for."""
    status = int(Request(scope).query_params.get("status", "200"))
    if status == 999:
        raise RuntimeError("on purpose")
    await Response(b"", status_code=status)(scope, receive, send)


def named(name: str, tier: str = "general") -> Caller:
    return Caller(name, (f"user:{name}",), tier=tier)


@contextlib.asynccontextmanager
async def process(
    store: DatabaseSettings, settings: ApiSettings, clock: Callable[[], float]
) -> AsyncIterator[Callable[..., httpx.AsyncClient]]:
    """One process with its counters; gives clients of callers."""
    limits, metrics = Limits(settings, clock), Metrics()
    parts_app = SimpleNamespace(
        state=SimpleNamespace(parts=SimpleNamespace(settings=settings, people=SimpleNamespace(is_open=False)))
    )
    limited = Limited(answering, parts_app, limits, metrics)
    async with contextlib.AsyncExitStack() as stack:
        pool = await stack.enter_async_context(open_pool(store, min_size=0, max_size=4))
        await stack.enter_async_context(limits.running(pool, b"k" * 32))

        def client(caller: Caller | None = None, address: str = "203.0.113.1") -> httpx.AsyncClient:
            async def app(scope: Scope, receive: Receive, send: Send) -> None:
                await limited({**scope, CALLER: caller}, receive, send)

            transport = httpx.ASGITransport(app, client=(address, 1), raise_app_exceptions=False)
            return httpx.AsyncClient(transport=transport, base_url="http://here")

        yield client


def left(answer: httpx.Response, quota: str = "default") -> tuple[int, int]:
    """(r, t) of a quota."""
    assert RATE_LIMIT.fullmatch(answer.headers["ratelimit"]), answer.headers["ratelimit"]
    found = re.search(rf'"{quota}";r=(\d+);t=(\d+)', answer.headers["ratelimit"])
    assert found
    return int(found[1]), int(found[2])


async def test_a_minute_has_so_many_requests_and_the_promised_wait_is_enough(
    store: DatabaseSettings, settings: ApiSettings
) -> None:
    clock = Clock()
    async with process(store, settings, clock) as client, client(named("ann")) as http:
        for remaining in (4, 3, 2, 1, 0):
            answer = await http.get("/stac/search")
            assert answer.status_code == 200
            assert left(answer) == (remaining, math.ceil(window_of(REQUESTS.period, clock.now).end - clock.now))
            assert answer.headers["ratelimit-policy"] == '"default";q=5;w=60'
            clock.now += 1.5
        refused = await http.get("/stac/search")
        assert refused.status_code == 429
        assert refused.headers["content-type"] == "application/problem+json"
        wait_s = int(refused.headers["retry-after"])
        problem = refused.json()
        assert (problem["code"], problem["quota"], problem["limit"], problem["tier"]) == (
            "RATE_LIMITED", "default", 5, "general",
        )  # fmt: skip
        assert left(refused) == (0, wait_s)
        assert refused.headers["ratelimit-policy"] == '"default";q=5;w=60'
        assert refused.headers["access-control-allow-origin"] == "*"
        clock.now += wait_s - 1
        assert (await http.get("/stac/search")).status_code == 429
        clock.now += 1
        assert (await http.get("/stac/search")).status_code == 200
        for path in ("/", "/quota", "/_mgmt/metrics"):
            assert "ratelimit" not in (await http.get(path)).headers
        assert (await http.options("/stac/search")).status_code == 200


async def test_processes_share_what_a_caller_has(store: DatabaseSettings, settings: ApiSettings) -> None:
    clock = Clock()
    async with process(store, settings, clock) as one, process(store, settings, clock) as other:
        for caller, limit in ((named("ben"), 5), (None, 7)):
            clients = [one(caller), other(caller)]
            answers = await asyncio.gather(*[clients[n % 2].get("/stac/search") for n in range(20)])
            assert sorted(answer.status_code for answer in answers) == [200] * limit + [429] * (20 - limit)


async def test_who_is_free_and_who_is_somebody_else(store: DatabaseSettings, settings: ApiSettings) -> None:
    async with process(store, settings, Clock()) as client:
        for caller in (Caller("token", ("role:admin",)), Caller("local")):
            answers = [await client(caller).get(TILE) for _ in range(9)]
            assert {answer.status_code for answer in answers} == {200}
            assert "ratelimit" not in answers[0].headers
        first = client(address="2001:db8:0:1::1")
        for _ in range(7):
            assert (await first.get("/stac/search")).status_code == 200
        assert (await client(address="2001:db8:0:1:ffff::9").get("/stac/search")).status_code == 429
        assert (await client(address="2001:db8:0:2::1").get("/stac/search")).status_code == 200
        behind = client(address="10.0.0.1")
        for n in range(9):
            asked = {"X-Forwarded-For": f"1.1.1.{n}, 198.51.100.{n}"}
            assert (await behind.get("/stac/search", headers=asked)).status_code == 200
        spoofed = [
            await client(address="203.0.113.9").get("/sources", headers={"X-Forwarded-For": f"1.1.1.{n}"})
            for n in range(8)
        ]
        assert spoofed[-1].status_code == 429


async def test_the_month_counts_what_is_delivered_and_nothing_else(
    store: DatabaseSettings, settings: ApiSettings
) -> None:
    clock = Clock()
    async with process(store, settings, clock) as client, client(named("cleo")) as http:

        async def asked(method: str, path: str, status: int = 200) -> httpx.Response:
            clock.now += 61  # a new minute each
            return await http.request(method, path, params={"status": status})

        assert left(await asked("GET", TILE), "processing")[0] == 2
        for method, status in (("HEAD", 200), ("GET", 304), ("GET", 404), ("GET", 503), ("GET", 999)):
            await asked(method, TILE, status)
        assert left(await asked("POST", TILE), "processing")[0] == 1
        last = await asked("GET", TILE)
        assert left(last, "processing")[0] == 0
        assert POLICY.fullmatch(last.headers["ratelimit-policy"])
        for _ in range(3):
            refused = await asked("GET", TILE)
            assert (refused.status_code, refused.json()["quota"]) == (429, "processing")
            assert left(await asked("GET", "/stac/search"))[0] == 4  # the refused one took nothing of its minute either
        month = window_of(PROCESSING.period, clock.now)
        assert int(refused.headers["retry-after"]) >= month.end - clock.now - 61
        for remaining in (3, 2, 1, 0):
            assert left(await asked("GET", FILE, 206), "cog-reads")[0] == remaining
        assert (await asked("GET", FILE)).json()["quota"] == "cog-reads"
        clock.now = month.end
        assert left(await http.get(TILE), "processing")[0] == 2


async def test_our_own_faults_are_given_back(store: DatabaseSettings, settings: ApiSettings) -> None:
    async with process(store, settings, Clock()) as client, client(named("dora")) as http:
        for status in (500, 503, 999, 500, 503, 999, 507):
            assert (await http.get("/stac/search", params={"status": status})).status_code in (500, 503, 507)
        for status in (200, 304, 404, 400):
            await http.get("/stac/search", params={"status": status})
        assert left(await http.head("/stac/search"))[0] == 0


ASK = Ask(PROCESSING, 300)


async def _until_refused(counters: Counters, subject: str, most: int = 1000) -> int:
    for passed in range(most):
        try:
            await counters.spend(subject, [ASK], may_borrow=False)
        except Refused:
            return passed
    return most


async def test_counters_survive_a_clean_end_wholly_and_a_kill_but_for_one_lease(store: DatabaseSettings) -> None:
    async with open_pool(store, min_size=0, max_size=2) as pool:
        first = Counters(pool, Clock())
        assert await _until_refused(first, "caller:clean", 7) == 7
        await first.settle(is_end=True)
        assert await _until_refused(Counters(pool, Clock()), "caller:clean") == 293
        killed = Counters(pool, Clock())
        assert await _until_refused(killed, "caller:killed", 7) == 7
        del killed
        assert 293 - LEASE <= await _until_refused(Counters(pool, Clock()), "caller:killed") < 293


async def test_what_idle_processes_have_of_the_month_goes_back(store: DatabaseSettings) -> None:
    clock = Clock()
    async with open_pool(store, min_size=0, max_size=2) as pool:
        idle = Counters(pool, clock)
        await _until_refused(idle, "caller:idle", 1)
        clock.now += 100
        await idle.settle()
        assert await _until_refused(Counters(pool, clock), "caller:idle") == 299


async def test_without_counters_reads_go_on_to_a_limit_and_writes_are_refused(store: DatabaseSettings) -> None:
    async with open_pool(store, min_size=0, max_size=1) as pool:
        await pool.close()
        counters = Counters(pool, Clock())
        with pytest.raises(StoreDown):
            await counters.spend("caller:down", [ASK], may_borrow=False)
        for _ in range(300):
            await counters.spend("caller:down", [ASK], may_borrow=True)
        with pytest.raises(Refused):
            await counters.spend("caller:down", [ASK], may_borrow=True)


async def test_a_month_that_was_used_up_while_the_counters_were_down_goes_on_when_they_are_back(
    store: DatabaseSettings,
) -> None:
    clock, ask = Clock(), Ask(PROCESSING, 3)
    async with open_pool(store, min_size=0, max_size=1) as closed, open_pool(store, min_size=0, max_size=1) as pool:
        await closed.close()
        database = SimpleNamespace(connection=closed.connection)
        counters = Counters(cast(Pool, database), clock)
        for _ in range(3):
            await counters.spend("caller:back", [ask], may_borrow=True)
        with pytest.raises(Refused):
            await counters.spend("caller:back", [ask], may_borrow=True)
        database.connection = pool.connection
        clock.now += 30
        (spent,) = await counters.spend("caller:back", [ask], may_borrow=True)
        assert spent.remaining == 2


async def test_the_middleware_without_counters(store: DatabaseSettings, settings: ApiSettings) -> None:
    limits, metrics = Limits(settings, Clock()), Metrics()
    async with open_pool(store, min_size=0, max_size=1) as pool:
        pass
    limits.counters = Counters(pool, Clock())
    app = Limited(answering, None, limits, metrics)

    async def called(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, CALLER: named("down")}, receive, send)

    async with httpx.AsyncClient(transport=httpx.ASGITransport(called), base_url="http://here") as http:
        assert (await http.get("/stac/search")).status_code == 200
        assert (await http.post("/stac/search")).status_code == 200
        limits.counters = Counters(pool, Clock())
        refused = await http.post("/stac/collections/c/items")
        assert (refused.status_code, refused.json()["code"]) == (503, "LIMITS_UNAVAILABLE")
        assert int(refused.headers["retry-after"]) > 0


FAST = Tier(connections=2, bytes_per_second=10**9, download_bytes_per_month=1_000_000, slow_bytes_per_second=10**8)


async def _can_take(downloads: Downloads, subject: str) -> bool:
    async with contextlib.AsyncExitStack() as stack:
        try:
            async with asyncio.timeout(0.3):
                await stack.enter_async_context(downloads.place(subject, FAST))
        except TimeoutError:
            return False
        return True


async def test_places_are_shared_and_those_of_a_killed_process_are_free_again(store: DatabaseSettings) -> None:
    async with open_pool(store, min_size=0, max_size=3) as pool:
        one, other = Downloads(pool), Downloads(pool)
        async with one.place("caller:e", FAST), other.place("caller:e", FAST):
            assert not await _can_take(one, "caller:e")
            assert await _can_take(one, "caller:f")
            await _age_places(pool)
            await one.settle()  # renews its own; the other is dead
            assert await _can_take(one, "caller:e")
        assert await _can_take(other, "caller:e")


async def _age_places(pool: Pool) -> None:
    async with pool.connection() as conn:
        await conn.execute("update federator.download set alive_until = now() - interval '1 second'")


async def test_beyond_the_month_s_bytes_it_is_slower_and_not_refused(store: DatabaseSettings) -> None:
    async def nowhere(message: Any) -> None:
        pass

    clock = Clock()
    async with open_pool(store, min_size=0, max_size=3) as pool:
        one, other = Downloads(pool, clock), Downloads(pool, clock)
        async with one.place("caller:g", FAST):
            send = one.paced(nowhere, "caller:g", FAST)
            begun = time.monotonic()
            for _ in range(10):
                await send({"type": "http.response.body", "body": b"x" * 100_000})
            assert time.monotonic() - begun < 0.5
            await one.settle()
            assert not await _can_take(other, "caller:g")  # now there is one place only
        async with other.place("caller:g", FAST):
            slow = other.paced(nowhere, "caller:g", FAST)
            begun = time.monotonic()
            await slow({"type": "http.response.body", "body": b"x" * 20_000_000})
            await slow({"type": "http.response.body", "body": b"x" * 1_000_000})
            assert 0.08 < time.monotonic() - begun < 5
        await other.end()
        clock.now = window_of(DOWNLOAD.period, clock.now).end
        async with one.place("caller:g", FAST):
            assert await _can_take(other, "caller:g")


def streaming(store: DatabaseSettings, settings: ApiSettings, path: Path) -> ASGIApp:
    """An application that serves one file below the limits."""
    limits = Limits(settings)

    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        await FileResponse(path)(scope, receive, send)

    limited = Limited(inner, None, limits, Metrics())

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await limited({**scope, CALLER: named("hal")}, receive, send)
            return
        await receive()
        async with open_pool(store, min_size=0, max_size=3) as pool, limits.running(pool, b"k" * 32):
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})

    return app


def test_a_connection_that_is_killed_frees_its_place(
    store: DatabaseSettings, settings: ApiSettings, tmp_path: Path
) -> None:
    path = tmp_path / "data.tif"
    path.write_bytes(b"x" * 30_000_000)
    listener, url = listening()
    request = f"GET {FILE} HTTP/1.1\r\nHost: h\r\n\r\n".encode()
    with serving(streaming(store, settings, path), listener):
        held = [socket.create_connection(("127.0.0.1", int(url.rsplit(":", 1)[1]))) for _ in range(3)]
        for one in held[:2]:
            one.sendall(request)
            assert one.recv(12) == b"HTTP/1.1 200"
        third = held[2]
        third.sendall(request)
        third.settimeout(0.3)
        with pytest.raises(TimeoutError):
            third.recv(12)
        held[0].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        held[0].close()
        third.settimeout(5)
        assert third.recv(12) == b"HTTP/1.1 200"
        for one in held[1:]:
            one.close()


def test_numbers_in_the_database_stay_within_their_window(store: DatabaseSettings) -> None:
    with psycopg.connect(store.conninfo, autocommit=True) as conn:

        def take(start: int, wanted: int) -> tuple[Any, ...]:
            values = ("caller:w", [COG_READS.name], [start], [10], [wanted])
            return conn.execute("select granted, taken from federator.take(%s, %s, %s, %s, %s)", values).fetchall()[0]

        assert take(60, 1) == (1, 1)
        assert take(120, 1) == (1, 1)  # a new window
        assert take(60, 1) == (1, 2)  # a clock that is behind
        assert take(60, -1) == (0, 2)  # nothing to give back to a window that is over
        assert take(120, -1) == (-1, 1)
        assert take(120, -5) == (-1, 0)
        assert [take(120, 20)[0] for _ in range(12)] == [1] * 10 + [0, 0]

"""A client that goes away costs no more: on a real server, by a socket that is closed; counted by what is asked of the rasters' host."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import anyio
import httpx
import pystac
import pytest
from rasterio.transform import from_origin
from rio_tiler.errors import TileOutsideBounds
from rio_tiler.mosaic.methods.defaults import FirstMethod
from starlette.types import Message, Receive, Scope, Send

from api.tiles.found import Found
from api.tiles.laying import lay
from api.tiles.leaving import LEFT, ClientLeft, carried, has_left, staying, stop_if_left
from api.tiles.single_flight import SingleFlight
from db.settings import DatabaseSettings
from tests.api.server import listening, serving
from tests.api.sharing_site import Site, item, sharing_site
from tests.api.test_remote_pixels import LOCAL, pixels, write
from tests.upstreams.range_server import Host, range_server

ITEMS = 5
MOSAIC = "/raster/collections/open/bbox/16.1,48.1,16.9,48.9/64x64.png?assets=red&pixel_selection=mean&ids=" + ",".join(
    f"m{number}" for number in range(ITEMS)
)


def come_true(check: Callable[[], Any], what: str, timeout_s: float = 60.0) -> None:
    end = time.monotonic() + timeout_s
    while not check():
        assert time.monotonic() < end, what
        time.sleep(0.02)


@contextlib.contextmanager
def asking(url: str | httpx.URL, path: str) -> Iterator[socket.socket]:
    """A request on its way; the block's end closes the socket."""
    where = httpx.URL(url)
    with socket.create_connection((where.host, where.port or 80), timeout=20) as client:
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: {where.host}:{where.port}\r\n\r\n".encode())
        yield client


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    folder = tmp_path_factory.mktemp("hosted")
    place = from_origin(16, 49, 1 / 512, 1 / 512)
    for number in range(ITEMS):
        write(
            folder / f"m{number}.tif", pixels(1, "uint8")[:, :512, :512] // 2 + number, crs="EPSG:4326", transform=place
        )
    with range_server(folder) as started:
        started.byte_s = 0.05
        yield started


@pytest.fixture(scope="module")
def site(
    postgres: DatabaseSettings, template: str, host: Host, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    sources = tmp_path_factory.mktemp("sources")
    (sources / "local.toml").write_text(
        f'id = "local"\ntitle = "Local"\nprotocol = "stac"\nurl = "https://example.org"\nasset_hosts = ["{host.name}"]\n'
        '[[collections]]\nid = "sentinel-2-l2a"\nupstream = { collection = "a" }\n'
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEDERATOR_SOURCES_DIR", str(sources))
        patch.setenv("FEDERATOR_ASSET_NETWORKS", LOCAL)
        patch.setenv("FEDERATOR_ASSET_TIMEOUT_S", "60")
        patch.setenv("FEDERATOR_MOSAIC_THREADS", "1")
        with sharing_site(postgres, template, tmp_path_factory.mktemp("site")) as started:
            for number in range(ITEMS):
                document = item(started, f"m{number}", "open")
                document["geometry"] = {
                    "type": "Polygon",
                    "coordinates": [[[16, 48], [17, 48], [17, 49], [16, 49], [16, 48]]],
                }
                document["bbox"] = [16, 48, 17, 49]
                document["assets"] = {"red": {"href": f"https://there.example/m{number}.tif", "roles": ["data"]}}
                started.done("owner", "POST", "/stac/collections/open/items", json=document)
                started.done(
                    "owner", "PUT", f"/sharing/collections/open/items/m{number}", json={"visibility": "public"}
                )
            # Nobody may write an item whose rasters are on this machine.
            change = "update pgstac.items set content = replace(content::text, 'https://there.example', %s)::jsonb where id like 'm_'"
            started.rows(change, host.url)
            yield started


def left(site: Site) -> float:
    """Requests so far whose client has gone."""
    for line in site.ask("admin", "GET", "/_mgmt/metrics").text.splitlines():
        if line.startswith('federator_tiles_total{outcome="left"}'):
            return float(line.split()[-1])
    return 0.0


@pytest.mark.parametrize("path", [MOSAIC, MOSAIC.replace(".png?", ".npy?") + "&" + "x" * 2100])
def test_a_fetch_ends_and_no_further_item_is_asked_for(site: Site, host: Host, path: str) -> None:
    """Whether the answer would be kept or, for the length of its URL, not."""
    requests, before, hung_up = host.requests, left(site), host.hung_up
    host.fault = "slow"
    try:
        with asking(site.http.base_url, path):
            come_true(lambda: host.requests > requests, "the host is asked")
        come_true(lambda: left(site) == before + 1, "the client's leaving is noted")
        come_true(lambda: host.hung_up == hung_up + 1, "the fetch ends")
    finally:
        host.fault = ""
    other = site.ask("anonymous", "GET", "/raster/collections/open/items/m4/preview.png?assets=red&max_size=33")
    assert other.status_code == 200
    assert host.requests - requests <= 4  # one for the client that left, the others for this preview
    status = [line for line in site.ask("admin", "GET", "/_mgmt/metrics").text.splitlines() if 'status="499"' in line]
    assert status


def test_who_stays_gets_the_whole_mosaic(site: Site, host: Host) -> None:
    requests = host.requests
    answer = site.ask("anonymous", "GET", MOSAIC)
    assert answer.status_code == 200, answer.text
    assert host.requests - requests >= ITEMS


def test_what_waits_for_a_thread_is_not_begun_and_what_runs_is_told() -> None:
    """One thread: the first request holds it, the second waits for it, both clients go."""
    begun: list[str] = []
    told, limiters = threading.Event(), []

    def work(path: str) -> None:
        begun.append(path)
        if path == "/first":
            come_true(has_left, "the thread is told")
            told.set()
            stop_if_left()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            limiters.append(anyio.CapacityLimiter(1))
            await _lifespan(receive, send)
            return
        async with staying(receive) as stay:
            waiting.append(scope["path"])
            await anyio.to_thread.run_sync(work, scope["path"], limiter=limiters[0])
            await _answer(stay.sending(send))
        ended.append((scope["path"], stay.has_left))

    waiting: list[str] = []
    ended: list[tuple[str, bool]] = []
    listener, url = listening()
    with serving(app, listener):
        with asking(url, "/first"):
            come_true(lambda: begun, "the first begins")
            with asking(url, "/second"):
                come_true(lambda: "/second" in waiting, "the second waits")
            come_true(lambda: ended, "the second has ended")
            assert not told.is_set()
        come_true(lambda: len(ended) == 2, "the first has ended")
        assert httpx.get(f"{url}/third").status_code == 200
    assert told.is_set()
    assert ended == [("/second", True), ("/first", True), ("/third", False)]
    assert begun == ["/first", "/third"]


async def _lifespan(receive: Receive, send: Send) -> None:
    while (message := await receive())["type"] != "lifespan.shutdown":
        await send({"type": f"{message['type']}.complete"})
    await send({"type": "lifespan.shutdown.complete"})


async def _answer(send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


async def test_shared_work_is_told_only_when_all_have_gone() -> None:
    flights: SingleFlight[str, int] = SingleFlight()
    begun, seen = asyncio.Event(), []
    loop = asyncio.get_running_loop()

    def thread() -> int:
        loop.call_soon_threadsafe(begun.set)
        come_true(has_left, "the thread is told")
        seen.append("told")
        return 1

    first, second = (asyncio.create_task(flights.do("a", lambda: anyio.to_thread.run_sync(thread))) for _ in range(2))
    await begun.wait()
    first.cancel()
    await asyncio.wait({first})
    assert not seen
    assert len(flights) == 1
    second.cancel()
    await asyncio.wait({second})
    assert len(flights) == 0
    with anyio.fail_after(20):
        while not seen:
            await asyncio.sleep(0.01)


async def test_a_body_is_passed_on_and_leaving_after_the_answer_means_nothing() -> None:
    messages: list[Message] = [
        {"type": "http.request", "body": b"a", "more_body": True},
        {"type": "http.request", "body": b"b", "more_body": False},
        {"type": "http.disconnect"},
    ]
    may_leave = asyncio.Event()

    async def receive() -> Message:
        if len(messages) == 1:
            await may_leave.wait()
        return messages.pop(0)

    async def send(message: Message) -> None:
        may_leave.set()

    async with staying(receive) as stay:
        assert [(await stay.receive())["body"] for _ in range(2)] == [b"a", b"b"]
        await _answer(stay.sending(send))
        await asyncio.sleep(0.01)  # what a background task does
        work = carried(lambda: 5)
        assert work() == 5
    assert not stay.has_left


async def test_a_thread_of_a_pool_knows_whom_it_works_for() -> None:
    begun: list[int] = []

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async with staying(receive) as stay:
        work = carried(lambda: begun.append(1))
        await asyncio.sleep(20)
    assert stay.has_left
    with pytest.raises(ClientLeft):
        await asyncio.to_thread(work)
    assert not begun


def test_a_mosaic_stops_at_the_next_item() -> None:
    read: list[str] = []
    gone = threading.Event()

    def nothing_there(one: pystac.Item) -> Any:
        read.append(one.id)
        if len(read) == 2:
            gone.set()
        raise TileOutsideBounds

    items = [Found(pystac.Item(str(number), None, None, datetime.now(UTC), {}), True) for number in range(9)]
    before = LEFT.set(gone)
    try:
        with pytest.raises(ClientLeft):
            lay(
                [items], nothing_there, FirstMethod(), until=time.monotonic() + 60, most=9, threads=1, skip=True,
                stop_when_full=False,
            )  # fmt: skip
    finally:
        LEFT.reset(before)
    assert read == ["0", "1"]

"""The adapter of static catalogues against documents on a real web server."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import orjson
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from ingest.adapters.static_stac import StaticStac
from ingest.errors import RecordRejected, SourceInvalid, UpstreamChanged, UpstreamUnavailable
from ingest.http import Patience, open_client
from ingest.model import CollectionMapping, Cursor, Page, Query, Record, Source
from tests.size import sized
from tests.upstreams.faults import Control, Faulty
from tests.upstreams.products import Product, catalogue
from tests.upstreams.server import running
from tests.upstreams.static_stac import StaticService, static_products, static_service

OFFERED = catalogue(400)
COLLECTION = "sentinel-2-l2a"
HELD = [product for product in static_products(OFFERED) if product.kind == "L2A"]
NAMES = {product.name for product in HELD}


class Archive:
    """A running archive."""

    def __init__(self, service: StaticService, control: Control, url: str) -> None:
        self.service, self.control = service, control
        self.source = Source(
            "archive", "Archive", "static-stac", f"{url}/a/catalog.json", requests_per_second=1e6, concurrency=4
        )

    def path(self, product: Product) -> str:
        return f"{COLLECTION}/{product.start:%Y-%m}/{product.stem}/{product.stem}.json"

    def adapter(self, query: Query | None = None, page_size: int = 4, **upstream: Any) -> StaticStac:
        known = {"collection": f"archive-{COLLECTION}"} | upstream
        mapping = CollectionMapping(COLLECTION, {key: value for key, value in known.items() if value is not None})
        return StaticStac(self.source, mapping, query, page_size)

    async def read(
        self, cursor: Cursor | None = None, *, query: Query | None = None, into: list[Page] | None = None, page_size: int = 4,
        attempts: int = 1, inner: httpx.AsyncBaseTransport | None = None, **upstream: Any,
    ) -> list[Page]:  # fmt: skip
        """Read to the end; `into` has the pages of a run that fails, too."""
        pages = [] if into is None else into
        async with open_client(self.source, Patience(attempts=attempts, base_s=0), inner) as http:
            async for page in self.adapter(query, page_size, **upstream).pages(http, cursor):
                pages.append(page)
        return pages

    def statuses(self) -> Counter[int]:
        """Answers since the last look."""
        found = Counter(status for _, status in self.service.sent)
        self.service.sent.clear()
        return found


@contextmanager
def serving(service: StaticService) -> Iterator[Archive]:
    control = Control()
    app = Faulty(Starlette(routes=[Mount("/a", routes=service.routes())]), control)
    with running(app) as url:
        yield Archive(service, control, url)


@pytest.fixture
def archive() -> Iterator[Archive]:
    with serving(static_service(OFFERED)) as running_archive:
        yield running_archive


def records(pages: list[Page]) -> list[Record]:
    return [record for page in pages for record in page.records]


def outcome(archive: Archive, pages: list[Page], **upstream: Any) -> tuple[list[str], Counter[str]]:
    """Names of products, and codes of refusals."""
    names, codes = [], Counter[str]()
    for record in records(pages):
        try:
            names.append(archive.adapter(**upstream).item(record).product)
        except RecordRejected as error:
            codes[error.code] += 1
    return names, codes


async def test_every_item_of_the_collection_is_read_once_and_others_are_not_asked_for(archive: Archive) -> None:
    names, codes = outcome(archive, await archive.read())
    assert (Counter(names), codes) == (Counter(NAMES), Counter())
    asked = [path for path, _ in archive.service.sent]
    assert max(Counter(asked).values()) == 1, "circles and second ways cost nothing"
    assert not [path for path in asked if "/S2" in path and "MSIL1C" in path]


async def test_without_a_collection_all_items_below_are_read(archive: Archive) -> None:
    names, _ = outcome(archive, await archive.read(collection=None), collection=None)
    assert Counter(names) == Counter(product.name for product in static_products(OFFERED))


async def test_a_collection_document_may_be_the_root(archive: Archive) -> None:
    archive.source = replace(
        archive.source, url=archive.source.url.replace("catalog.json", f"{COLLECTION}/collection.json")
    )
    names, _ = outcome(archive, await archive.read(), collection=None)
    assert Counter(names) == Counter(NAMES)


async def test_a_second_run_costs_304s_and_yields_nothing(archive: Archive) -> None:
    first = await archive.read()
    assert set(archive.statuses()) == {200}
    cursor = archive.adapter().rewound(first[-1].cursor, timedelta(hours=24), datetime.now(UTC))
    assert await archive.read(cursor) == []
    assert set(archive.statuses()) == {304}


async def test_a_changed_item_and_a_new_one_are_read_again_alone(archive: Archive) -> None:
    cursor = (await archive.read())[-1].cursor
    changed, moved = HELD[0], HELD[1]
    document = archive.service.documents[archive.path(changed)]("")
    archive.service.bodies[archive.path(changed)] = orjson.dumps(
        document | {"properties": document["properties"] | {"gsd": 10}}
    )
    month = f"{COLLECTION}/{moved.start:%Y-%m}/catalog.json"
    listed = archive.service.documents[month]("")
    listed["links"].append({"rel": "item", "href": "../new.json"})
    archive.service.bodies[month] = orjson.dumps(listed)
    archive.service.bodies[f"{COLLECTION}/new.json"] = orjson.dumps(document | {"id": changed.stem})
    pages = await archive.read(cursor)
    assert {record.id.rpartition("/")[2] for record in records(pages)} == {f"{changed.stem}.json", "new.json"}
    assert await archive.read(pages[-1].cursor) == []


async def test_without_etags_everything_is_read_again(archive: Archive) -> None:
    archive.service.etags = False
    cursor = (await archive.read())[-1].cursor
    assert len(records(await archive.read(cursor))) == len(NAMES)


async def test_everything_is_read_through_all_faults(archive: Archive) -> None:
    for number, kind in enumerate(("429", "500", "503", "html", "cut", "reset")):
        archive.control.fail(kind, after=3 * number, retry_after=0 if kind == "429" else None)
    names, codes = outcome(archive, await archive.read(attempts=8))
    assert (Counter(names), codes) == (Counter(NAMES), Counter())
    assert archive.control.state()["faults"] == []


async def test_every_cursor_is_a_place_to_resume(archive: Archive) -> None:
    pages = await archive.read()
    assert len(pages) > 3
    for number, page in enumerate(pages):
        done = [record.id for record in records(pages[: number + 1])]
        rest = [record.id for record in records(await archive.read(page.cursor))]
        assert Counter(done + rest) == Counter(record.id for record in records(pages))


async def test_a_cursor_is_json_and_not_shared(archive: Archive) -> None:
    pages = await archive.read()
    sizes = [len(orjson.dumps(page.cursor)) for page in pages]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1]


# What cannot be read


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (None, "document-missing"),
        (b"[1]", "document-broken"),
        (b'"text"', "document-broken"),
        (b"{}", "field-missing"),
        (b'{"id": 7, "properties": {}}', "field-malformed"),
        (b'{"federator:fault": {"code": []}}', "document-broken"),
    ],
)
async def test_an_item_that_is_gone_or_broken_is_counted_and_the_others_are_read(
    archive: Archive, body: bytes | None, code: str
) -> None:
    path = archive.path(HELD[3])
    if body is None:
        archive.service.gone.add(path)
    else:
        archive.service.bodies[path] = body
    pages = await archive.read()
    names, codes = outcome(archive, pages)
    assert (set(names), codes) == (NAMES - {HELD[3].name}, Counter({code: 1}))
    archive.service.gone.clear()
    archive.service.bodies.clear()
    healed, _ = outcome(archive, await archive.read(pages[-1].cursor))
    assert healed == [HELD[3].name], "under the same record id, so that it leaves the quarantine"


async def test_an_item_that_only_fails_is_counted_while_the_server_lives(archive: Archive) -> None:
    archive.control.fail("500", count=10**6, path=HELD[2].stem)
    names, codes = outcome(archive, await archive.read(attempts=2))
    assert (set(names), codes) == (NAMES - {HELD[2].name}, Counter({"document-unavailable": 1}))


async def test_a_server_that_goes_away_ends_the_run_and_the_next_goes_on(archive: Archive) -> None:
    archive.control.fail("503", count=10**6, after=40)
    pages: list[Page] = []
    with pytest.raises(UpstreamUnavailable):
        await archive.read(into=pages, attempts=2)
    assert pages
    archive.control.clear()
    rest = await archive.read(pages[-1].cursor)
    assert Counter(outcome(archive, pages + rest)[0]) == Counter(NAMES)


async def test_many_documents_that_only_fail_end_the_run(archive: Archive) -> None:
    archive.control.fail("500", count=10**6, path="/S")
    with pytest.raises(UpstreamUnavailable, match="cannot be had"):
        await archive.read(collection=None)


async def test_a_catalogue_that_is_gone_fails_the_run_at_its_end(archive: Archive) -> None:
    month = f"{HELD[0].start:%Y-%m}"
    archive.service.gone.add(f"{COLLECTION}/{month}/catalog.json")
    pages: list[Page] = []
    with pytest.raises(UpstreamChanged, match=rf"1 catalogues.*{month}/catalog.json.*document-missing"):
        await archive.read(into=pages)
    names, codes = outcome(archive, pages)
    assert set(names) == {product.name for product in HELD if f"{product.start:%Y-%m}" != month}
    assert codes == Counter({"document-missing": 1})
    archive.service.gone.clear()
    healed, _ = outcome(archive, await archive.read(pages[-1].cursor))
    assert set(names) | set(healed) == NAMES


@pytest.mark.parametrize(
    "body",
    [None, b"[]", b"{}", b'{"type": "Catalog", "links": {}}', b'{"links": null}'],
    ids=["gone", "list", "empty", "object", "null"],
)
async def test_a_root_that_is_no_catalogue_is_said_loudly(archive: Archive, body: bytes | None) -> None:
    if body is None:
        archive.service.gone.add("catalog.json")
    else:
        archive.service.bodies["catalog.json"] = body
    with pytest.raises(UpstreamChanged, match="root cannot be read"):
        await archive.read()


@pytest.mark.parametrize(
    "link",
    [7, {"rel": "item"}, {"rel": "item", "href": 5}, {"rel": "child", "href": ""}, {"rel": "item", "href": "http://[::1"},
     {"rel": "child", "href": "file:///etc/passwd"}],
)  # fmt: skip
async def test_a_link_that_cannot_be_followed_is_counted(archive: Archive, link: Any) -> None:
    document = archive.service.documents["catalog.json"](archive.source.url.removesuffix("/catalog.json"))
    archive.service.bodies["catalog.json"] = orjson.dumps(document | {"links": [link, *document["links"]]})
    names, codes = outcome(archive, await archive.read())
    assert (set(names), codes) == (NAMES, Counter({"link-broken": 1}))


async def test_other_hosts_are_not_asked_unless_they_belong(archive: Archive) -> None:
    with serving(static_service(OFFERED)) as other:
        there = other.source.url.removesuffix("/catalog.json")
        document = archive.service.documents["catalog.json"](there)
        archive.service.bodies["catalog.json"] = orjson.dumps(
            document | {"links": [{"rel": "child", "href": f"{there}/{COLLECTION}/collection.json"}]}
        )
        with pytest.raises(UpstreamChanged, match="no collection"):
            await archive.read()
        assert other.service.sent == []
        host = there.split("/")[2]
        names, codes = outcome(archive, await archive.read(hosts=[host]))
        assert (set(names), codes) == (NAMES, Counter())


async def test_a_redirect_is_followed_at_home_only(archive: Archive) -> None:
    path = archive.path(HELD[0])
    archive.service.bodies["elsewhere/x.json"] = orjson.dumps(archive.service.documents[path](""))
    archive.service.moved[path] = "/a/elsewhere/x.json"
    archive.service.moved[archive.path(HELD[1])] = "http://203.0.113.9/x.json"
    pages = await archive.read()
    names, codes = outcome(archive, pages)
    assert (set(names), codes) == (NAMES - {HELD[1].name}, Counter({"document-elsewhere": 1}))
    moved = next(record for record in records(pages) if record.id.endswith(path))
    assert archive.adapter().item(moved).item["assets"]["thumbnail"]["href"].endswith("/a/elsewhere/preview.jpg")


async def test_bounds_are_loud(archive: Archive) -> None:
    with pytest.raises(UpstreamChanged, match="more than 20 documents"):
        await archive.read(documents=20)
    with pytest.raises(UpstreamChanged, match="document-too-deep: more than 1 links"):
        await archive.read(depth=1)
    with pytest.raises(UpstreamChanged, match=r"no collection 'nobody'.*it has: archive-sentinel-1-grd"):
        await archive.read(collection="nobody")


@pytest.mark.parametrize(
    "upstream", [{"hosts": "x"}, {"hosts": [1]}, {"depth": 0}, {"documents": "many"}, {"collection": ["a"]}]
)
def test_wrong_settings_are_named(upstream: dict[str, Any]) -> None:
    source = Source("archive", "", "static-stac", "https://example.org/catalog.json")
    with pytest.raises(SourceInvalid, match=rf"upstream\.(.*\.)?{re.escape(next(iter(upstream)))}|upstream"):
        StaticStac(source, CollectionMapping("x", upstream))


async def test_what_vanished_from_the_links_is_forgotten(archive: Archive) -> None:
    cursor = (await archive.read())[-1].cursor
    month = f"{COLLECTION}/{HELD[0].start:%Y-%m}/catalog.json"
    listed = archive.service.documents[month]("")
    archive.service.bodies[month] = orjson.dumps(
        listed | {"links": [one for one in listed["links"] if one["rel"] != "item"]}
    )
    (page,) = await archive.read(cursor)
    assert page.records == ()
    assert archive.path(HELD[0]) in cursor["items"]
    assert archive.path(HELD[0]) not in page.cursor["items"]


# Limits


async def test_limits_of_time_and_place(archive: Archive) -> None:
    since, until = datetime(2025, 1, 1, tzinfo=UTC), datetime(2025, 9, 1, tzinfo=UTC)
    names, _ = outcome(archive, await archive.read(query=Query(since, until)))
    assert set(names) == {product.name for product in HELD if since <= product.published < until}
    assert 0 < len(names) < len(NAMES)
    timeless = archive.path(HELD[0])
    document = archive.service.documents[timeless]("")
    archive.service.bodies[timeless] = orjson.dumps(
        document | {"properties": {"datetime": document["properties"]["datetime"]}}
    )
    without, _ = outcome(archive, await archive.read(query=Query(datetime(2000, 1, 1, tzinfo=UTC))))
    assert set(without) == NAMES - {HELD[0].name}
    northern, _ = outcome(archive, await archive.read(query=Query(bbox=(-180.0, 10.0, 180.0, 90.0))))
    assert 0 < len(northern) < len(NAMES)
    over = [record.id for record in records(await archive.read(query=Query(bbox=(175.0, -90.0, -175.0, 90.0))))]
    assert all(
        any(abs(x) > 170 for x in _longitudes(product)) for product in HELD if any(product.stem in one for one in over)
    )


def _longitudes(product: Product) -> list[float]:
    geometry: Any = product.geometry()
    polygons = geometry["coordinates"] if geometry["type"] == "MultiPolygon" else [geometry["coordinates"]]
    return [x for polygon in polygons for x, _ in polygon[0]]


@pytest.mark.slow
async def test_a_large_archive() -> None:
    """A request for each of some thousand items: without sockets, to be quick."""
    offered = catalogue(sized(8_000, 25_000))
    service = static_service(offered)
    archive = Archive(service, Control(), "http://archive.example")
    inner = httpx.ASGITransport(app=Starlette(routes=[Mount("/a", routes=service.routes())]))
    pages = await archive.read(collection=None, documents=100_000, page_size=500, inner=inner)
    assert len(records(pages)) == len(static_products(offered)) > 900
    archive.statuses()
    assert await archive.read(pages[-1].cursor, collection=None, documents=100_000, inner=inner) == []
    assert set(archive.statuses()) == {304}

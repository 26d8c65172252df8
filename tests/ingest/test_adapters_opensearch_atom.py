"""OpenSearch in Atom: read whole in windows of sensing time, with the feed's XML distrusted; entries become items."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from shapely.geometry import box, shape

from ingest.adapters import adapter_for, atom
from ingest.adapters.opensearch import OpenSearch
from ingest.errors import RecordRejected, SourceInvalid, UpstreamChanged, UpstreamUnavailable
from ingest.http import Patience, open_client
from ingest.model import CollectionMapping, Contribution, Cursor, Query, Record, Source
from ingest.normalise.footprints import georss_geometry
from ingest.source_files import BUILT_IN, read_source
from tests.ingest.sensed_harvest import PATH, ids, read, served
from tests.shared import shared_path
from tests.size import sized
from tests.stac_schemas import faults
from tests.upstreams.mundi import MundiService, feed
from tests.upstreams.products import Product, catalogue

OFFERED = catalogue(1200)
L1C = [one for one in OFFERED if one.kind == "L1C"]
SOURCE = Source("archive", "Archive", "opensearch", f"http://127.0.0.1{PATH}/opensearch", requests_per_second=1e6)
UPSTREAM = {"dialect": "atom", "collection": "Sentinel2", "product_type": "IMAGE", "sort": "startDate"}
NOW = datetime(2026, 1, 1, tzinfo=UTC)
ROOT = "https://archive.example.org"


def adapter(query: Query | None = None, source: Source = SOURCE, **options: Any) -> OpenSearch:
    upstream = {**UPSTREAM, **options.pop("upstream", {})}
    settings = {"page_size": 20, "now": lambda: NOW} | options
    return OpenSearch(source, CollectionMapping("sentinel-2-l1c", upstream), query, **settings)


def stems(products: Sequence[Product]) -> Counter[str]:
    return Counter(one.stem for one in products)


# Searching


async def test_every_product_once_oldest_first_and_their_number() -> None:
    pages = await read(adapter(), SOURCE, service=MundiService(OFFERED))
    assert Counter(ids(pages)) == stems(L1C)
    assert pages[0].total == len(L1C)


async def test_everything_is_read_once_through_all_faults() -> None:
    with served(MundiService(OFFERED)) as (url, control):
        for number, kind in enumerate(("429", "500", "html", "cut", "reset", "503")):
            control.fail(kind, after=2 * number, retry_after=0 if kind == "429" else None)
        source = replace(SOURCE, url=f"{url}/opensearch")
        pages = await read(adapter(source=source), source)
        assert control.state()["faults"] == []
    assert Counter(ids(pages)) == stems(L1C)


async def test_the_request_is_as_the_recorded_client_sent_it() -> None:
    service = MundiService([])
    query = Query(bbox=(137.0, 13.0, 153.0, 23.0))
    await read(
        adapter(query, page_size=500, upstream={"parameters": {"processingLevel": "L1C"}}), SOURCE, service=service
    )
    polygon = "POLYGON((137.000000 13.000000,153.000000 13.000000,153.000000 23.000000,137.000000 23.000000,137.000000 13.000000))"
    assert service.asked[0] == {
        "processingLevel": "L1C", "productType": "IMAGE", "geometry": polygon, "maxRecords": "50", "startIndex": "1", "format": "atom",
        "relation": "intersects",
    }  # fmt: skip


async def test_a_run_resumes_and_a_later_one_reads_the_overlap_again() -> None:
    service = MundiService(OFFERED)
    pages = await read(adapter(), SOURCE, service=service)
    assert len(pages) > 5
    for number in (1, len(pages) // 2, len(pages)):
        cursor: Cursor = orjson.loads(orjson.dumps(pages[number - 1].cursor))
        rest = ids(await read(adapter(), SOURCE, cursor, service=service))
        assert set(ids(pages[:number])) | set(rest) == set(stems(L1C))
    newest = max(one.start for one in L1C)
    cursor = adapter().rewound(pages[-1].cursor, timedelta(days=30), NOW)
    again = set(ids(await read(adapter(), SOURCE, cursor, service=service)))
    assert again >= {one.stem for one in L1C if one.start > newest - timedelta(days=29)}
    assert len(again) < len(L1C) / 2


async def test_an_area() -> None:
    area = (-60.0, -40.0, 60.0, 40.0)
    found = ids(await read(adapter(Query(bbox=area)), SOURCE, service=MundiService(OFFERED)))
    wanted = [one for one in L1C if shape(one.geometry()).intersects(box(*area))]
    assert Counter(found) == stems(wanted)
    assert 10 < len(wanted) < len(L1C)


@pytest.mark.slow
async def test_many_products() -> None:
    offered = catalogue(sized(8_000, 25_000))
    service = MundiService(offered)
    wanted = [one for one in offered if one.kind == "L1C"]
    with served(service) as (url, control):
        for number, kind in enumerate(("429", "500", "html", "cut", "reset")):
            control.fail(kind, after=7 * number, retry_after=0 if kind == "429" else None)
        source = replace(SOURCE, url=f"{url}/opensearch")
        pages = await read(adapter(source=source, page_size=500), source)
        assert control.state()["faults"] == []
    assert Counter(ids(pages)) == stems(wanted)
    assert len(service.asked) < 4 * len(wanted) / 50


@pytest.mark.parametrize("upstream", [{"dialect": "rss"}, {"dialect": 5}, {"sort": "published"}, {"sort": "updated"}])
def test_a_mapping_that_the_dialect_cannot_ask_for_is_refused(upstream: dict[str, Any]) -> None:
    with pytest.raises(SourceInvalid, match="archive: "):
        adapter(upstream=upstream)


def test_the_template_is_a_source() -> None:
    source = read_source(BUILT_IN.parent / "source_templates" / "opensearch-atom.toml.example")
    assert [adapter_for(source, mapping) for mapping in source.collections]


# Feeds of strangers


HEAD = (
    b'<?xml version="1.0"?><feed xmlns="http://www.w3.org/2005/Atom" xmlns:os="http://a9.com/-/spec/opensearch/1.1/">'
)
LAUGHS = b"".join(b'<!ENTITY l%d "%s">' % (n, b"&l%d;" % (n - 1) * 10) for n in range(1, 12))
BOMB = b'<?xml version="1.0"?><!DOCTYPE feed [<!ENTITY l0 "ha">' + LAUGHS + b"]>" + HEAD[21:] + b"&l11;</feed>"
HOSTILE = {
    "billion laughs": BOMB,
    "billion laughs in UTF-16": b"\xff\xfe" + BOMB.decode().encode("utf-16-le"),
    "billion laughs in EBCDIC": BOMB.replace(b"?>", b' encoding="cp037"?>', 1).decode().encode("cp037"),
    "another encoding declared": HEAD.replace(b"?>", b' encoding="cp037"?>', 1) + b"<!DOCTYPE feed></feed>",
    "an external entity": b'<!DOCTYPE feed [<!ENTITY x SYSTEM "file:///etc/passwd">]>' + HEAD[21:] + b"&x;</feed>",
    "an external document type": b'<!DOCTYPE feed SYSTEM "http://127.0.0.1:1/x.dtd">' + HEAD[21:] + b"</feed>",
    "an undefined entity": HEAD + b"<title>&x;</title></feed>",
    "deep nesting": HEAD + b"<a>" * 100_000 + b"</a>" * 100_000 + b"</feed>",
    "many elements": HEAD + b"<a/>" * 300_000 + b"</feed>",
    "many bytes": HEAD + b"<!--" + b"x" * (17 * 2**20) + b"--></feed>",
    "cut": HEAD + b"<entry><id>a</id>",
    "two roots": HEAD + b"</feed><feed/>",
    "no feed": b'<?xml version="1.0"?><rss/>',
    "no namespace": b"<feed></feed>",
    "an unknown prefix": b"<feed xmlns='http://www.w3.org/2005/Atom'><x:y/></feed>",
    "NUL": HEAD + b"<title>\0</title></feed>",
    "half a character": HEAD + b"<title>\xc3</title></feed>",
    "JSON": b'{"features": []}',
    "nothing": b"",
}  # fmt: skip


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_hostile_feeds_are_refused_at_once(content: bytes) -> None:
    begun = time.process_time()
    with pytest.raises(atom.FeedRefused):
        atom.parse(content)
    assert time.process_time() - begun < 2


@pytest.mark.parametrize("name", ["billion laughs", "deep nesting", "cut", "no feed", "JSON"])
async def test_a_refused_feed_stops_the_run(name: str) -> None:
    service = MundiService(OFFERED)
    service.alter = lambda number, body: HOSTILE[name]
    with pytest.raises(UpstreamChanged, match="archive"):
        await read(adapter(), SOURCE, service=service)


@pytest.mark.parametrize(
    "body",
    [
        HEAD + b"<os:totalResults>3</os:totalResults><entry><title>a</title></entry></feed>",
        HEAD + b"<os:totalResults>3</os:totalResults><entry>text</entry></feed>",
        HEAD + b"<os:totalResults>3</os:totalResults><entry><id>a</id><id>b</id></entry></feed>",
        HEAD + b"<os:totalResults>3</os:totalResults></feed>",
        HEAD + b"<os:totalResults>300</os:totalResults></feed>",
    ],
)
async def test_a_feed_without_what_it_promises_stops_the_run(body: bytes) -> None:
    service = MundiService(OFFERED)
    service.alter = lambda number, _: body
    with pytest.raises(UpstreamChanged, match="archive"):
        await read(adapter(), SOURCE, service=service)


async def test_a_refused_question_stops_the_run() -> None:
    with pytest.raises(UpstreamChanged, match="status 400"):
        await read(adapter(upstream={"parameters": {"mood": "good"}}), SOURCE, service=MundiService(OFFERED))


async def test_a_web_page_is_maintenance_and_no_feed() -> None:
    with served(MundiService(OFFERED)) as (url, control):
        control.fail("html", count=9)
        source = replace(SOURCE, url=f"{url}/opensearch")
        async with open_client(source, Patience(attempts=2, base_s=0)) as http:
            with pytest.raises(UpstreamUnavailable, match="web page"):
                _ = [page async for page in adapter(source=source).pages(http, None)]


def test_elements_become_json_as_they_stand() -> None:
    body = (
        HEAD
        + b"""<entry xmlns:x="http://x.example/"><id>a</id><link rel="self" href="u"/><link rel="search"/><n a="1">t<m/></n>
        <x:y>z</x:y><e/></entry></feed>"""
    )
    (found,) = atom.entries(atom.parse(body))
    assert found == {
        "id": "a",
        "link": [{"rel": "self", "href": "u"}, {"rel": "search"}],
        "n": {"a": "1", "#text": "t", "m": ""},
        "{http://x.example/}y": "z",
        "e": "",
    }


# Entries


def entry_of(one: Product = L1C[0]) -> dict[str, Any]:
    (found,) = atom.entries(atom.parse(feed([one], 1, ROOT)))
    return found


def normalised(entry: dict[str, Any]) -> Contribution:
    return adapter().item(Record("a", orjson.dumps({"id": "a", "properties": entry})))


def test_the_recorded_feed_is_read_and_its_places_are_where_the_search_was() -> None:
    content = shared_path("upstreams", "recordings", "resto-family", "mundi_search.xml").read_bytes()
    root = atom.parse(content)
    found = [normalised(one) for one in atom.entries(root)]
    assert atom.total_of(root) == "47"
    assert [one.item["id"][38:44] for one in found] == ["T55PBQ", "T55PBR"]
    area = box(137.7729, 13.1342, 153.7491, 23.8860)  # longitude first, as it was asked for
    for one in found:
        item = one.item
        assert shape(item["geometry"]).intersects(area)
        assert one.warnings == ()
        assert faults(item) == []
    told = found[0].item["properties"]
    assert found[0].item["bbox"] == pytest.approx(
        [144.782186453, 13.0051676309, 145.2460125142, 13.5622621538], abs=1e-6
    )
    assert (told["sat:absolute_orbit"], told["sat:relative_orbit"], told["eo:cloud_cover"]) == (26883, 2, 34.3433)
    assert (told["order:status"], told["published"]) == ("orderable", "2020-08-15T12:20:53.000000Z")
    assert list(found[0].item["assets"]) == ["thumbnail"], "what must be ordered has no address"


def test_invented_products_are_valid_items_with_nothing_unread() -> None:
    for one in L1C[:80]:
        found = normalised(entry_of(one))
        assert (found.product, found.warnings) == (one.name, ())
        assert found.item["properties"].get("order:status") == (None if one.online else "orderable")
        assert ("Product" in found.item["assets"]) is one.online
        assert faults(found.item) == []
        assert shape(found.item["geometry"]).symmetric_difference(shape(one.geometry())).area < 1e-6


def test_a_product_online_has_its_size_and_checksum() -> None:
    one = next(one for one in L1C if one.online)
    asset = normalised(entry_of(one)).item["assets"]["Product"]
    assert (asset["file:size"], asset["file:checksum"]) == (one.size, f"d50110{one.md5}")


def test_georss_has_latitude_first() -> None:
    assert georss_geometry(["10 20 10 21 11 21 10 20"]) == {
        "type": "MultiPolygon",
        "coordinates": [[[[20.0, 10.0], [21.0, 10.0], [21.0, 11.0], [20.0, 10.0]]]],
    }
    assert georss_geometry([]) is None


@pytest.mark.parametrize("text", ["10 20 30", "a b", "10,20 x", "1 2 " * 30_000])
def test_georss_that_is_no_polygon_is_refused(text: str) -> None:
    with pytest.raises(RecordRejected) as caught:
        georss_geometry([text])
    assert caught.value.code == "geometry-invalid"


@pytest.mark.parametrize(
    ("change", "unread"),
    [
        ({"eo:orbitDirection": "SIDEWAYS"}, "eo:orbitDirection"),
        ({"DIAS:onlineStatus": "lost"}, "DIAS:onlineStatus"),
        ({"{http://x.example/}mood": "good"}, "{http://x.example/}mood"),
    ],
)
def test_words_that_we_do_not_know_are_counted_and_not_taken(change: dict[str, Any], unread: str) -> None:
    found = normalised({**entry_of(), **change})
    assert found.warnings == (f"properties.{unread}",)
    assert faults(found.item) == []


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"title": None}, "field-missing"),
        ({"title": ["a", "b"]}, "field-malformed"),
        ({"title": "something else"}, "product-name-unknown"),
        ({"published": "yesterday"}, "datetime-invalid"),
        ({"DIAS:sensingStartDate": None}, "field-missing"),
        ({"DIAS:sensingStartDate": "2999-01-01T00:00:00Z"}, "datetime-invalid"),
        ({"eo:cloudCover": "250"}, "field-malformed"),
        ({"eo:cloudCover": "NaN"}, "field-malformed"),
        ({"eo:cloudCover": {"#text": "5"}}, "field-malformed"),
        ({"georss:polygon": None}, "footprint-missing"),
        ({"georss:polygon": "95 20 95 21 96 21 95 20"}, "geometry-invalid"),
        ({"georss:polygon": {"a": "1"}}, "footprint-missing"),
    ],
)
def test_what_cannot_be_is_refused(change: dict[str, Any], code: str) -> None:
    with pytest.raises(RecordRejected) as caught:
        normalised({**entry_of(), **change})
    assert caught.value.code == code


@pytest.mark.parametrize(
    "link",
    [
        None,
        "text",
        [],
        {"rel": "enclosure"},
        {"rel": "enclosure", "href": "javascript:x"},
        {"rel": "search", "href": "http://["},
    ],
)
def test_links_that_are_no_addresses_are_left_out(link: Any) -> None:
    found = normalised({**entry_of(), "link": link, "media:group": link}).item
    assert found["assets"] == {}
    assert found["links"][0]["href"] == SOURCE.url


async def test_the_via_link_leads_back_to_the_entry() -> None:
    with served(MundiService(OFFERED)) as (url, _):
        source = replace(SOURCE, url=f"{url}/opensearch")
        pages = await read(adapter(source=source), source, stop_after=1)
        one = adapter(source=source).item(pages[0].records[0])
        async with open_client(source, Patience(attempts=1)) as http:
            answer = await http.get(one.item["links"][0]["href"], headers={"Accept": "application/atom+xml"})
    assert next(atom.entries(atom.parse(answer.content)))["id"] == one.item["id"]

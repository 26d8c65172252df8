"""Earth Engine's catalogue: crawled for its Collections, which become ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import orjson
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from ingest.collection_crawl import CollectionPage, crawl_collections
from ingest.errors import RecordRejected, UpstreamChanged, UpstreamUnavailable
from ingest.http import Patience, open_client
from ingest.model import Cursor, Source
from ingest.normalise.earth_engine import MAX_BYTES, collection_id, earth_engine_collection
from ingest.static_documents import Bounds
from tests.stac_schemas import faults
from tests.upstreams.faults import Control, Faulty
from tests.upstreams.server import running
from tests.upstreams.static_stac import PROVIDERS, StaticService, earth_engine_dataset, earth_engine_service

IDS = {f"gee-{provider.lower()}-set_v{number}" for provider, count in PROVIDERS.items() for number in range(count)}


def dataset(number: int = 0, **changes: Any) -> dict[str, Any]:
    document = earth_engine_dataset(f"INVENTED/SET_V{number}", number, "https://stac.example")
    return {name: value for name, value in (document | changes).items() if value is not None}


# One document


@pytest.mark.parametrize("number", range(6))
def test_every_dataset_is_a_valid_collection(number: int) -> None:
    made = earth_engine_collection(dataset(number))
    assert faults(made, "collection") == []
    assert (made["stac_version"], made["id"], made["gee:id"]) == (
        "1.1.0",
        f"gee-invented-set_v{number}",
        f"INVENTED/SET_V{number}",
    )
    assert made["license"] == ("other" if number % 2 else "CC-BY-4.0")
    assert made.get("deprecated") == (True if number == 4 else None)


def test_what_earth_engine_says_is_kept() -> None:
    made = earth_engine_collection(dataset())
    assert {"gee:type", "gee:interval", "gee:status", "gee:terms_of_use", "gee:categories"} <= set(made)
    assert made["summaries"]["gee:schema"][0]["name"] == "CLOUDS"
    red, cover = made["summaries"]["bands"]
    assert (red["eo:common_name"], red["eo:center_wavelength"], red["gee:scale"]) == ("red", 0.665, 0.0001)
    assert (cover["gsd"], len(cover["gee:classes"])) == (30.5, 4)
    assert "empty" not in made["summaries"]
    assert made["providers"][0]["roles"] == ["producer", "licensor"]
    assert [(link["rel"], link["href"]) for link in made["links"]] == [
        ("via", "https://stac.example/catalog/INVENTED/INVENTED_SET_V0.json"),
        ("license", "https://developers.example.org/catalog/INVENTED_SET_V0#terms-of-use"),
    ]
    assert made["assets"]["thumbnail"]["href"].endswith("_sample.png")
    assert made["extent"]["temporal"]["interval"] == [["1850-01-01T00:00:00.000000Z", None]]


def test_the_document_is_not_changed() -> None:
    document = dataset(description="x" * MAX_BYTES)
    before = orjson.dumps(document)
    with pytest.raises(RecordRejected):
        earth_engine_collection(document)
    assert orjson.dumps(document) == before


@pytest.mark.parametrize(
    ("name", "ours"),
    [("COPERNICUS/S2_SR", "gee-copernicus-s2_sr"), ("A//b c/", "gee-a-b-c"), ("USGS/3DEP/1m", "gee-usgs-3dep-1m"),
     ("x" * 500, "gee-" + "x" * 196)],
)  # fmt: skip
def test_ids_are_lower_case_slugs(name: str, ours: str) -> None:
    assert collection_id(name) == ours


def test_missing_titles_and_odd_members_do_no_harm() -> None:
    made = earth_engine_collection(
        dataset(
            title=None,
            keywords=["a", 7],
            license="see text!",
            version=3,
            **{"sci:doi": "doi:10", "sci:publications": ["x", {}]},
        )
    )
    assert made["title"] == "INVENTED/SET_V0"
    assert made["keywords"] == ["a"]
    assert made["license"] == "other"
    assert not {"version", "sci:doi", "sci:publications"} & set(made)
    assert faults(made, "collection") == []


def test_two_boxes_get_their_union_in_front() -> None:
    extent = dataset()["extent"] | {"spatial": {"bbox": [[0, 0, 10, 10], [-5, -5, 2, 2]]}}
    made = earth_engine_collection(dataset(extent=extent))
    assert made["extent"]["spatial"]["bbox"] == [[-5, -5, 10, 10], [0, 0, 10, 10], [-5, -5, 2, 2]]


def test_a_large_document_loses_its_luxuries_first() -> None:
    summaries = dataset()["summaries"]
    many = [{"display_name": "x" * 1000}] * 300
    made = earth_engine_collection(dataset(summaries=summaries | {"gee:visualizations": many}))
    assert len(orjson.dumps(made)) <= MAX_BYTES
    assert "gee:visualizations" not in made["summaries"]
    assert "gee:schema" in made["summaries"]
    assert made["summaries"]["bands"][1]["gee:classes"]
    bands = [{"name": f"b{n}", "gee:classes": [{"value": 1, "description": "y" * 1000}]} for n in range(300)]
    made = earth_engine_collection(dataset(summaries=summaries | {"eo:bands": bands}))
    assert len(made["summaries"]["bands"]) == 300
    assert len(orjson.dumps(made)) <= MAX_BYTES


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"type": "Catalog"}, "record-malformed"), ({"id": None}, "field-missing"), ({"id": "a b"}, "field-malformed"),
        ({"id": "a\u0000"}, "field-malformed"), ({"description": None}, "field-missing"), ({"extent": None}, "field-missing"),
        ({"extent": {"spatial": {}, "temporal": {"interval": [[None, None]]}}}, "field-missing"),
        ({"extent": {"spatial": {"bbox": [[1, 2]]}, "temporal": {"interval": [[None, None]]}}}, "field-malformed"),
        ({"extent": {"spatial": {"bbox": [[1, 2, 3, 4]]}, "temporal": {"interval": [["now"]]}}}, "field-malformed"),
        ({"extent": {"spatial": {"bbox": [[1, 2, 3, 4]]}, "temporal": {"interval": [["now", None]]}}}, "datetime-invalid"),
        ({"description": "half \ud800"}, "content-invalid"), ({"keywords": "x"}, "field-malformed"), ({"summaries": []}, "field-malformed"),
        ({"description": "x" * MAX_BYTES}, "too-large"), ({"gee:interval": 2**60}, "content-invalid"),
    ],
)  # fmt: skip
def test_what_makes_no_collection_is_refused_with_a_stable_code(changes: dict[str, Any], code: str) -> None:
    document = dataset() | {name: value for name, value in changes.items() if value is not None}
    document = {name: value for name, value in document.items() if changes.get(name, ...) is not None}
    with pytest.raises(RecordRejected) as caught:
        earth_engine_collection(document)
    assert caught.value.code == code


# The crawl


class EarthEngine:
    """A running catalogue."""

    def __init__(self, service: StaticService, control: Control, url: str) -> None:
        self.service, self.control = service, control
        address = f"{url}/e/catalog/catalog.json"
        self.source = Source(
            "earth-engine", "Earth Engine", "static-stac", address, requests_per_second=1e6, offers="collections"
        )

    async def crawl(
        self,
        cursor: Cursor | None = None,
        *,
        into: list[CollectionPage] | None = None,
        attempts: int = 1,
        **options: Any,
    ) -> list[CollectionPage]:
        pages = [] if into is None else into
        async with open_client(self.source, Patience(attempts=attempts, base_s=0)) as http:
            async for page in crawl_collections(http, self.source, cursor, **{"page_size": 10} | options):
                pages.append(page)
        return pages


@contextmanager
def serving() -> Iterator[EarthEngine]:
    service, control = earth_engine_service(), Control()
    with running(Faulty(Starlette(routes=[Mount("/e", routes=service.routes())]), control)) as url:
        yield EarthEngine(service, control, url)


@pytest.fixture
def engine() -> Iterator[EarthEngine]:
    with serving() as found:
        yield found


def ids(pages: list[CollectionPage]) -> list[str]:
    return [made["id"] for page in pages for made in page.collections]


async def test_every_dataset_is_found_once(engine: EarthEngine) -> None:
    pages = await engine.crawl()
    assert sorted(ids(pages)) == sorted(IDS)
    assert [page.is_last for page in pages] == [False] * (len(pages) - 1) + [True]
    assert all(page.refused == page.gone == () for page in pages)


async def test_a_day_without_news_costs_304s(engine: EarthEngine) -> None:
    cursor = (await engine.crawl())[-1].cursor
    engine.service.sent.clear()
    (page,) = await engine.crawl(cursor)
    assert (page.collections, page.is_last, page.cursor) == ((), True, cursor)
    assert {status for _, status in engine.service.sent} == {304}


async def test_changes_and_departures_are_told(engine: EarthEngine) -> None:
    cursor = (await engine.crawl())[-1].cursor
    changed = "catalog/DEMO/DEMO_SET_V3.json"
    engine.service.bodies[changed] = orjson.dumps(
        earth_engine_dataset("DEMO/SET_V3", 3, "https://x.example") | {"title": "News"}
    )
    listed = engine.service.documents["catalog/SAMPLE/catalog.json"](
        engine.source.url.removesuffix("/catalog/catalog.json")
    )
    listed["links"] = [link for link in listed["links"] if not link["href"].endswith("SAMPLE_SET_V1.json")]
    engine.service.bodies["catalog/SAMPLE/catalog.json"] = orjson.dumps(listed)
    (page,) = await engine.crawl(cursor)
    assert [made["title"] for made in page.collections] == ["News"]
    assert page.gone == ("gee-sample-set_v1",)
    (page,) = await engine.crawl(page.cursor)
    assert (page.collections, page.gone) == ((), ())


async def test_every_cursor_is_a_place_to_resume(engine: EarthEngine) -> None:
    pages = await engine.crawl(page_size=4)
    for number, page in enumerate(pages):
        rest = await engine.crawl(page.cursor, page_size=4)
        assert sorted(ids(pages[: number + 1]) + ids(rest)) == sorted(IDS)


async def test_everything_is_found_through_all_faults(engine: EarthEngine) -> None:
    for number, kind in enumerate(("429", "500", "html", "cut", "reset")):
        engine.control.fail(kind, after=2 * number, retry_after=0 if kind == "429" else None)
    assert sorted(ids(await engine.crawl(attempts=6))) == sorted(IDS)


async def test_documents_that_make_no_collection_are_told_and_the_others_are_found(engine: EarthEngine) -> None:
    engine.service.bodies["catalog/DEMO/DEMO_SET_V3.json"] = orjson.dumps(dataset(id="DEMO/SET_V3", extent={}))
    engine.service.bodies["catalog/DEMO/DEMO_SET_V4.json"] = orjson.dumps(dataset(id="Demo/Set_V5"))
    pages = await engine.crawl()
    refused = {one.url.rpartition("/")[2]: one.code for page in pages for one in page.refused}
    assert refused == {"DEMO_SET_V3.json": "field-missing", "DEMO_SET_V5.json": "id-taken"}
    assert len(ids(pages)) == len(IDS) - 2


async def test_a_dataset_or_provider_that_cannot_be_read_fails_the_crawl_at_its_end(engine: EarthEngine) -> None:
    engine.service.gone.add("catalog/DEMO/catalog.json")
    engine.service.gone.add("catalog/SAMPLE/SAMPLE_SET_V1.json")
    pages: list[CollectionPage] = []
    with pytest.raises(UpstreamChanged, match=r"2 catalogues.*DEMO/catalog.json"):
        await engine.crawl(into=pages)
    assert not any(page.is_last for page in pages)
    assert set(ids(pages)) == {one for one in IDS if "demo" not in one} - {"gee-sample-set_v1"}
    engine.service.gone.clear()
    assert set(ids(await engine.crawl(pages[-1].cursor))) == IDS - set(ids(pages))


async def test_a_server_that_is_away_is_said_so(engine: EarthEngine) -> None:
    engine.control.fail("503", count=10**6)
    with pytest.raises(UpstreamUnavailable):
        await engine.crawl(attempts=2)


async def test_bounds_are_loud(engine: EarthEngine) -> None:
    bounds = Bounds.of(engine.source, {})
    with pytest.raises(UpstreamChanged, match="more than 10 documents"):
        await engine.crawl(bounds=replace(bounds, documents=10))
    with pytest.raises(UpstreamChanged, match="document-too-deep"):
        await engine.crawl(bounds=replace(bounds, depth=1))

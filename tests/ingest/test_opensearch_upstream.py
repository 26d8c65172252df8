"""The invented resto services over HTTP: they keep the limits of real ones, and are read whole through all faults."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route

from ingest.adapters import adapter_for
from ingest.http import Patience, open_client
from ingest.model import Auth, CollectionMapping, Query, Source
from ingest.source_files import BUILT_IN, read_source
from tests.size import sized
from tests.upstreams import Upstreams, serve, source_files
from tests.upstreams.opensearch import RESTO2, RestoService
from tests.upstreams.products import catalogue
from tests.upstreams.server import OPENSEARCH_PATH, RESTO2_PATH, running

OFFERED = catalogue(1000)
L1C = [one for one in OFFERED if one.kind == "L1C"]
GRD = [one for one in OFFERED if one.kind == "GRD"]


@pytest.fixture(scope="module")
def served() -> Iterator[Upstreams]:
    with serve(products=1000) as upstreams:
        yield upstreams


@pytest.fixture
def upstreams(served: Upstreams) -> Upstreams:
    served.control.clear()
    return served


def ask(upstreams: Upstreams, path: str, status: int = 200, **parameters: Any) -> dict[str, Any]:
    answer = httpx.get(f"{upstreams.url}{path}", params=parameters)
    assert answer.status_code == status, answer.text
    return dict(answer.json())


S2 = f"{OPENSEARCH_PATH}/api/collections/Sentinel2/search.json"
S2ST = f"{RESTO2_PATH}/api/collections/S2ST/search.json"


def test_copernicus_pages_and_promises(upstreams: Upstreams) -> None:
    first = ask(upstreams, S2)
    assert len(first["features"]) == 20
    about = first["properties"]
    assert (about["totalResults"], about["exactCount"], about["itemsPerPage"]) == (None, 0, 20)
    starts = [one["properties"]["startDate"] for one in first["features"]]
    assert starts == sorted(starts, reverse=True)
    counted = ask(upstreams, S2, maxRecords=1500, exactCount=1, page=2)
    assert counted["features"] == []
    assert counted["properties"] == {
        **about, "totalResults": 500, "exactCount": 1, "itemsPerPage": 1500, "startIndex": 1001, "links": about["links"][:1],
    }  # fmt: skip
    assert [link["rel"] for link in about["links"]] == ["search", "next", "last"]
    assert httpx.get(about["links"][1]["href"]).json()["features"][0] not in first["features"]
    one = first["features"][0]
    assert httpx.get(one["properties"]["links"][0]["href"]).json() == one


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"productsType": "GRD"}, "Unknown query parameter(s)."),
        ({"maxRecords": 2001}, "Validation error."),
        ({"maxRecords": "many"}, "Validation error."),
        ({"page": 11, "maxRecords": 1000}, "Validation error."),
        ({"index": 10_001}, "Validation error."),
        ({"publishedAfter": "yesterday"}, "Validation error."),
        ({"sortParam": "beauty"}, "Validation error."),
    ],
)
def test_copernicus_refuses(upstreams: Upstreams, parameters: dict[str, Any], message: str) -> None:
    detail = ask(upstreams, S2, 400, **parameters)["detail"]
    assert (detail["ErrorMessage"], detail["ErrorCode"]) == (message, 400)
    assert {"ErrorDetail", "RequestID"} <= set(detail)


def test_a_mirror_ignores_cuts_and_estimates(upstreams: Upstreams) -> None:
    found = ask(upstreams, S2ST, maxRecords=1000, sortParam="published", nonsense="x")
    about = found["properties"]
    assert (len(found["features"]), about["itemsPerPage"], about["totalItemsPerPage"]) == (500, 500, "500")
    assert (about["totalResults"], about["exactCount"]) == (450, False)
    few = ask(upstreams, S2ST, startDate="2025-01-01", completionDate="2025-02-01T00:00:00Z")
    assert few["properties"]["exactCount"] is True
    assert all("2025-01" in one["properties"]["startDate"] for one in few["features"])
    assert not any(one["properties"]["title"].endswith(".SAFE") for one in few["features"])
    assert {one["properties"]["storage"]["mode"] for one in found["features"]} == {"disk", "tape"}


def test_unknown_collections_are_404(upstreams: Upstreams) -> None:
    for path in (OPENSEARCH_PATH, RESTO2_PATH):
        for name in ("search.json", "describe.xml"):
            ask(upstreams, f"{path}/api/collections/SENTINEL-9/{name}", 404)
        ask(upstreams, f"{path}/collections/S1/none.json", 404)


def source(upstreams: Upstreams, folder: Path, name: str) -> Source:
    (folder / name).write_text(source_files(upstreams.url)[name], encoding="utf-8")
    return read_source(folder / name)


@pytest.mark.parametrize(
    ("name", "collection", "offered"),
    [
        ("demo-opensearch.toml", "sentinel-2-l1c", L1C),
        ("demo-opensearch.toml", "sentinel-1-grd", GRD),
        ("demo-resto2.toml", "sentinel-2-l1c", L1C),
        ("demo-resto2.toml", "sentinel-1-grd", GRD),
    ],
)
async def test_all_products_through_all_faults(
    upstreams: Upstreams, tmp_path: Path, name: str, collection: str, offered: list[Any]
) -> None:
    known = source(upstreams, tmp_path, name)
    mapping = next(one for one in known.collections if one.id == collection)
    for number, kind in enumerate(("429", "500", "503", "html", "cut", "reset")):
        upstreams.control.fail(kind, after=number, retry_after=0 if kind == "429" else None)
    adapter = adapter_for(known, mapping, Query(), 30)
    read: list[str] = []
    async with open_client(known, Patience(attempts=9, base_s=0)) as http:
        async for page in adapter.pages(http, None):
            for record in page.records:
                item = adapter.item(record)
                assert item.warnings == ()
                read.append(item.product)
    assert upstreams.control.state()["faults"] == []
    assert set(read) == {one.name for one in offered}
    assert len(read) < 1.05 * len(offered)


async def test_a_token_that_ends_on_the_way_is_renewed(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = 0
    answered: Counter[int] = Counter()

    async def login(request: Request) -> Response:
        nonlocal tokens
        tokens += 1
        return Response(f'{{"access_token": "t{tokens}", "expires_in": 3600}}', media_type="application/json")

    class Guarded(RestoService):
        async def search(self, request: Request) -> Response:
            if request.headers.get("authorization") != f"Bearer t{tokens}" or answered[tokens] == 3:
                return Response('{"detail": "token ended"}', 401, media_type="application/json")
            answered[tokens] += 1
            return await super().search(request)

    monkeypatch.setenv("EXAMPLE_ID", "id")
    monkeypatch.setenv("EXAMPLE_SECRET", "secret")
    app = Starlette(
        routes=[Route("/token", login, methods=["POST"]), Mount("/resto", routes=Guarded(OFFERED).routes())]
    )
    with running(app) as url:
        auth = Auth("oauth2-client-credentials", f"{url}/token", "EXAMPLE_ID", "EXAMPLE_SECRET")
        known = Source("example", "Example", "opensearch", f"{url}/resto", requests_per_second=1e6, auth=auth)
        mapping = CollectionMapping("sentinel-2-l1c", {"collection": "SENTINEL-2", "product_type": "S2MSI1C"})
        async with open_client(known, Patience(attempts=1)) as http:
            pages = [page async for page in adapter_for(known, mapping, None, 30).pages(http, None)]
    assert {record.id for page in pages for record in page.records} == {one.id for one in L1C}
    assert tokens > 2


@pytest.mark.slow
@pytest.mark.parametrize("dialect", ["copernicus", "resto2"])
async def test_many_products(dialect: str) -> None:
    offered = catalogue(sized(8_000, 25_000))
    if dialect == "resto2":
        service, upstream = RestoService(offered, RESTO2, digits=3), {"collection": "S2ST", "sort": "updated"}
    else:
        service, upstream = RestoService(offered), {"collection": "SENTINEL-2"}
    begun = time.monotonic()
    with running(Starlette(routes=[Mount("/resto", routes=service.routes())])) as url:
        known = Source("example", "Example", "opensearch", f"{url}/resto", requests_per_second=1e6)
        adapter = adapter_for(known, CollectionMapping("any", upstream))
        read: list[str] = []
        async with open_client(known, Patience(attempts=1)) as http:
            async for page in adapter.pages(http, None):
                assert len(page.records) <= 500
                read += [record.id for record in page.records]
    assert set(read) == {one.id for one in offered if one.collection == "SENTINEL-2"}
    assert len(read) < 1.02 * len(set(read))
    assert len(service.questions) < 150
    assert time.monotonic() - begun < 60


def test_the_template_is_a_source() -> None:
    known = read_source(BUILT_IN.parent / "source_templates" / "resto-mirror.toml.example")
    assert [adapter_for(known, mapping) for mapping in known.collections]
    assert {mapping.upstream["sort"] for mapping in known.collections} == {"updated", "startDate"}

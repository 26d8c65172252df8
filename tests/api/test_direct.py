"""Searches that are answered before FastAPI are answered as FastAPI answers them; the condition made for them is pgstac's."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.main import Application, create_app
from api.settings import ApiSettings
from api.stac.app import create_stac_app
from api.stac.direct import Direct
from db.settings import DatabaseSettings
from tests.api.corpus import COLLECTIONS, L1C, fill
from tests.api.server import listening, running
from tests.conftest import cloned

#: An unknown parameter changes nothing, and FastAPI answers it.
UNKNOWN = "unknown=1"
BOX, YEAR = "-120,-60,120,60", "2025-01-01T00:00:00Z/2025-12-31T00:00:00Z"


@dataclass(frozen=True, slots=True)
class Site:
    """The application, its database, and the paths that came to FastAPI."""

    http: httpx.Client
    database: DatabaseSettings
    routed: list[str]


@pytest.fixture(scope="module")
def site(postgres: DatabaseSettings, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    routed: list[str] = []
    before = Application.routed

    async def noted(app: Application, scope: Any, receive: Any, send: Any) -> None:
        routed.append(scope.get("path", ""))
        await before(app, scope, receive, send)

    listener, url = listening()
    with cloned(postgres, template) as database, pytest.MonkeyPatch.context() as patch:
        patch.setattr(Application, "routed", noted)
        asyncio.run(fill(database, 60))
        started = ApiSettings(data_dir=tmp_path_factory.mktemp("direct"), public_url=url)
        with running(started, database, listener), httpx.Client(base_url=url, timeout=30) as http:
            yield Site(http, database, routed)


def told(answer: httpx.Response) -> tuple[int, dict[str, str], Any]:
    """Status, headers and body, without what differs by time, and without the parameter that nobody knows."""
    names = ("content-type", "cache-control", "vary", "etag", "content-encoding", "access-control-allow-origin")
    found = json.loads(answer.text.replace(f"&{UNKNOWN}", "").replace(f"{UNKNOWN}&", ""))
    for link in found.get("links", ()):
        link.get("body", {}).pop("token", None)
        link["href"] = link["href"].partition("token=")[0]
    return answer.status_code, {name: answer.headers[name] for name in names if name in answer.headers}, found


@pytest.mark.parametrize(
    "query",
    [
        "limit=3",
        f"collections={L1C}&limit=5",
        f"collections={','.join(COLLECTIONS)}&bbox={BOX}&datetime={YEAR}&limit=4",
        f"bbox={BOX.replace(',', '%2C')}&datetime={YEAR.replace(':', '%3A')}",
        "bbox=170,-60,-100,60&limit=99999",
        "ids=item-0001,item-0002,item-0001",
        "datetime=2025-06-01T00:00:00Z/..",
    ],
)
def test_a_get_with_plain_parameters(site: Site, query: str) -> None:
    before = len(site.routed)
    headers = {"Accept-Encoding": "gzip", "Origin": "https://map.example"}
    direct = site.http.get(f"/stac/search?{query}", headers=headers)
    assert len(site.routed) == before, "FastAPI is not asked"
    assert told(direct) == told(site.http.get(f"/stac/search?{query}&{UNKNOWN}", headers=headers))
    assert direct.status_code == 200
    assert direct.json()["features"]
    known = {"If-None-Match": direct.headers["etag"]}
    assert site.http.get(f"/stac/search?{query}", headers=known).status_code == 304


def test_a_walk_by_plain_parameters(site: Site) -> None:
    page, seen, before = site.http.get("/stac/search?limit=17&datetime=../2025-12-31T00:00:00Z").json(), [], 0
    before = len(site.routed)
    while True:
        seen += [(item["collection"], item["id"]) for item in page["features"]]
        link = next((one for one in page["links"] if one["rel"] == "next"), None)
        if link is None:
            break
        page = site.http.get(link["href"]).json()
    whole = site.http.get(f"/stac/search?limit=500&datetime=../2025-12-31T00:00:00Z&{UNKNOWN}").json()["features"]
    assert seen == [(item["collection"], item["id"]) for item in whole]
    assert len(site.routed) == before + 1


@pytest.mark.parametrize(
    "query",
    [
        "limit=0", "limit=-1", "limit=1_0", "limit=ten", f"limit={'9' * 5000}", "limit=%C2%B2", "bbox=1,2", "bbox=1,2,x,4",
        "bbox=0,10,10,0", "datetime=yesterday", "datetime=2025-01-01", "datetime=2025-02-01T00:00:00Z/2025-01-01T00:00:00Z",
        "token=no-token", "token=%00", f"ids={'a,' * 20000}", "ids=a%00", "collections=%ED%A0%80", "limit=1&limit=2", "bbox=",
        "datetime=&limit=2", "datetime=2025-01-01T00:00:00.000/2025-12-31T00:00:00.000&limit=2", "filter=gsd%3E5&limit=2",
        "sortby=id&limit=2", "fields=id&limit=2",
    ],
)  # fmt: skip
def test_what_is_not_plain_or_not_right_goes_to_fastapi(site: Site, query: str) -> None:
    assert told(site.http.get(f"/stac/search?{query}")) == told(site.http.get(f"/stac/search?{query}&{UNKNOWN}"))


@pytest.mark.parametrize(
    ("body", "is_direct"),
    [
        ({"limit": 2}, True),
        ({"collections": [L1C], "bbox": [-120, -60, 120, 60], "datetime": YEAR, "limit": 4}, True),
        ({"filter": {"op": ">", "args": [{"property": "gsd"}, 1]}, "sortby": [{"field": "id", "direction": "asc"}]}, True),
        ({"fields": {"include": ["id"]}, "collections": L1C, "limit": 2}, True),
        ({"query": {"gsd": {"gt": 1}}, "limit": 2, "conf": {}}, True),
        ({"limit": 2, "token": "no-token"}, True),
        ({"limit": None, "bbox": None}, True),
        ({"limit": 0}, False),
        ({"limit": "x"}, False),
        ({"bbox": [1, 2]}, False),
        ({"ids": 5}, False),
        ({"fields": None}, False),
        ({"datetime": "2025-01-01T00:00:00.000/2025-12-31T00:00:00.000", "limit": 2}, False),
        ({"filter": {"op": "no-such", "args": [1]}}, True),
        ([], False),
        ("text", False),
    ],
)  # fmt: skip
def test_a_post(site: Site, body: Any, is_direct: bool) -> None:
    before = len(site.routed)
    direct = site.http.post("/stac/search", content=json.dumps(body), headers={"Content-Type": "application/json"})
    assert (len(site.routed) == before) == is_direct
    routed = site.http.post("/stac/search", content=json.dumps(body), headers={"Content-Type": "application/x+json"})
    assert told(direct) == told(routed)
    assert direct.status_code < 500


@pytest.mark.parametrize(
    ("content", "headers", "status"),
    [
        (b"{", {"Content-Type": "application/json"}, 400),
        (b"", {"Content-Type": "application/json"}, 200),
        (b" " * 2_000_000, {"Content-Type": "application/json"}, 413),
        (b"{}", {}, 200),
        (b"{}", {"Content-Type": "text/plain"}, 415),
    ],
)
def test_bodies_that_are_no_document(site: Site, content: bytes, headers: dict[str, str], status: int) -> None:
    assert site.http.post("/stac/search", content=content, headers=headers).status_code == status


NAMES = st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=6), max_size=3)
TIMES = st.datetimes().map(lambda when: f"{when.isoformat()}Z")
BOXES = st.tuples(st.floats(-180, 180), st.floats(-90, 0), st.floats(-180, 180), st.floats(0, 90)).map(list)
SEARCHES = st.fixed_dictionaries(
    {},
    optional={
        "ids": NAMES, "collections": NAMES, "bbox": BOXES | st.just([0, 0, 0, 1, 1, 5]),
        "intersects": st.just({"type": "Point", "coordinates": [1, 2]}),
        "datetime": TIMES | TIMES.map(lambda one: f"{one}/..") | TIMES.map(lambda one: f"../{one}")
        | st.tuples(TIMES, TIMES).map(lambda ones: "/".join(sorted(ones))),
        "filter": st.just({"op": "=", "args": [{"property": "platform"}, "a"]}),
    },
)  # fmt: skip


@pytest.fixture(scope="module")
def conn(site: Site) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(site.database.conninfo, options="-c search_path=pgstac,public") as opened:
        yield opened


@settings(max_examples=100, deadline=None)
@given(SEARCHES)
def test_the_condition_is_pgstacs(conn: psycopg.Connection[Any], search: dict[str, Any]) -> None:
    text = json.dumps(search)
    query = "select federator.condition(s), pgstac.stac_search_to_where(s) from (select %s::jsonb as s) as asked"
    row = conn.execute(query, (text,)).fetchone()
    assert row is not None
    assert row[0] == row[1]


async def test_a_client_that_goes_away_in_its_body_is_no_error(tmp_path: Path) -> None:
    settings = ApiSettings(data_dir=tmp_path)
    direct = Direct(create_app(settings), create_stac_app(settings), settings)
    scope: dict[str, Any] = {
        "type": "http", "method": "POST", "path": "/stac/search", "query_string": b"",
        "headers": [(b"content-type", b"application/json"), (b"content-length", b"20")],
    }  # fmt: skip
    coming = [{"type": "http.request", "body": b'{"limit"', "more_body": True}, {"type": "http.disconnect"}]
    sent: list[Any] = []

    async def receive() -> Any:
        return coming.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    await direct(scope, receive, send)
    assert sent[0]["status"] == 400

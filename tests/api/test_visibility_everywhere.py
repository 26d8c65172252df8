"""Every GET route that the three descriptions name is asked by nobody for what nobody may see, and does not tell of it."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import psycopg
import pytest

from api.settings import ApiSettings
from db.pools import open_pool
from db.settings import DatabaseSettings
from ingest.store import put_item
from lineage.keys import load_signer
from lineage.sequencer import sequence
from lineage.settings import LineageSettings
from tests.api.corpus import GRD, L2A, fill, odd_item
from tests.api.samples import creation
from tests.api.server import running
from tests.conftest import cloned

TOKEN = "a-token-for-the-test"
ADMIN = {"Authorization": f"Bearer {TOKEN}"}
#: Of a private collection, and a private one of a public collection.
SECRETS = {GRD: "secret-of-grd", L2A: "secret-of-l2a"}
DIGEST = "ab" * 16
DESCRIPTIONS = {"": "/api", "/stac": "/stac/api", "/raster": "/raster/api"}
#: What is put in the place of a path's parameter; one that is not here fails the test: say what it may tell first.
PLACES = {
    "source_id": "demo", "format": "png", "tileMatrixSetId": "WebMercatorQuad", "z": "0", "x": "0", "y": "0", "minx": "0", "miny": "0",
    "maxx": "1", "maxy": "1", "lon": "0", "lat": "0", "width": "8", "height": "8", "colorMapId": "viridis", "scale": "1",
    "upload_id": "0198f7a0-0000-7000-8000-000000000000", "digest": DIGEST, "tileMatrix": "0", "tileCol": "0", "tileRow": "0",
    "user_name": "ann", "group_name": "team",
}  # fmt: skip
ASKED = {"aggregations": "total_count", "ids": ",".join(SECRETS.values()), "assets": "own", "limit": "1000"}


@dataclass(frozen=True, slots=True)
class Site:
    """The application with two secrets, and the events of these."""

    http: httpx.Client
    events: dict[str, str]


async def _secrets(database: DatabaseSettings, settings: ApiSettings) -> None:
    await asyncio.sleep(0)
    async with open_pool(database) as pool:
        for number, (collection, name) in enumerate(SECRETS.items()):
            document = {**odd_item(number), "id": name, "collection": collection}
            async with pool.connection() as conn, conn.transaction():
                await put_item(conn, document, creation(document))
        await sequence(pool, load_signer(LineageSettings(data_dir=settings.data_dir)))


@pytest.fixture(scope="module")
def site(postgres: DatabaseSettings, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    settings = ApiSettings(data_dir=tmp_path_factory.mktemp("everywhere"), public_url=url, api_token=TOKEN)
    with cloned(postgres, template) as database:
        asyncio.run(fill(database, 12))
        asyncio.run(_secrets(database, settings))
        with psycopg.connect(database.conninfo, autocommit=True) as conn:
            conn.execute(
                "insert into federator.collection_access (collection_id, visibility, owner) values (%s, 'private', 'user:o')",
                (GRD,),
            )
            conn.execute('update pgstac.items set private = \'{"readers": ["user:o"]}\' where id = %s', (SECRETS[L2A],))
            events = dict(conn.execute("select item_id, id::text from lineage.event").fetchall())
        with running(settings, database, listener), httpx.Client(base_url=url, timeout=60) as http:
            yield Site(http, events)


#: In the place of each secret: (collection, item, event) that are not there.
ABSENT = {GRD: ("no-such-collection", "no-such-item"), L2A: (L2A, "no-such-item")}
NO_EVENT = PLACES["upload_id"]


def _templates(site: Site) -> list[str]:
    """Every GET path of the service."""
    found = []
    for mount, description in DESCRIPTIONS.items():
        for template, methods in site.http.get(description, headers=ADMIN).json()["paths"].items():
            if "get" in methods:
                found.append(template if template.startswith(mount) else mount + template)
    return found


def _filled(template: str, collection: str, item: str, event: str) -> str:
    own = {
        "collection_id": collection,
        "collectionId": collection,
        "collection": collection,
        "item_id": item,
        "item": item,
    }
    known = {**PLACES, **own, "event_id": event, "trace_id": event, "name": f"{item}.SAFE"}
    return re.sub(r"{([^}:]+)(?::[^}]*)?}", lambda found: known[found[1]], template)


def _asked(site: Site, template: str, collection: str, item: str, event: str) -> tuple[int, str]:
    """The answer, without what was asked for."""
    answer = site.http.get(_filled(template, collection, item, event), params={**ASKED, "ids": item})
    assert answer.status_code < 500, (template, answer.text[:300])
    text = answer.text
    for word in (event, item, *([collection] if collection != L2A else [])):
        text = text.replace(word, "*")
    return answer.status_code, text


def test_no_route_tells_of_what_the_caller_may_not_see(site: Site) -> None:
    templates = _templates(site)
    assert len(templates) > 60
    for template in templates:
        for collection, item in SECRETS.items():
            if "{" in template:
                hidden = _asked(site, template, collection, item, site.events[item])
                absent = _asked(site, template, *ABSENT[collection], NO_EVENT)
                assert hidden == absent, (template, collection)
            else:
                text = site.http.get(template, params=ASKED).text
                assert not any(word in text for word in (site.events[item], f"{item}.SAFE", f'/{item}"')), template
                assert GRD not in text or template in DESCRIPTIONS.values(), template


def test_their_owner_s_operator_sees_them_there(site: Site) -> None:
    for collection, item in SECRETS.items():
        for path in (
            f"/stac/collections/{collection}/items/{item}", f"/lineage/v1/collections/{collection}/items/{item}/events",
            f"/trace/api/v1/traces/name/{item}.SAFE", f"/lineage/v1/log/proof/{site.events[item]}",
            f"/trace/api/v1/traces/{site.events[item]}",
            "/lineage/v1/events", f"/raster/collections/{collection}/items/{item}/assets",
        ):  # fmt: skip
            answer = site.http.get(path, headers=ADMIN)
            assert answer.status_code == 200, path
        assert site.http.get(f"/lineage/v1/collections/{collection}/items/{item}/events", headers=ADMIN).json()[
            "events"
        ]


def test_what_is_hidden_answers_as_what_is_not_there(site: Site) -> None:
    for collection, item in SECRETS.items():
        pairs = [
            (f"/raster/collections/{collection}/items/{item}/assets", f"/raster/collections/{L2A}/items/no-such/assets"),
            (f"/lineage/v1/log/proof/{site.events[item]}", f"/lineage/v1/log/proof/{PLACES['upload_id']}"),
            (f"/trace/api/v1/traces/{site.events[item]}", f"/trace/api/v1/traces/{PLACES['upload_id']}"),
            (f"/trace/api/v1/traces/name/{item}.SAFE", "/trace/api/v1/traces/name/no-such.SAFE"),
        ]  # fmt: skip
        for hidden, absent in pairs:
            answers = [site.http.get(path) for path in (hidden, absent)]
            assert answers[0].status_code == answers[1].status_code, hidden
            assert answers[0].content == answers[1].content, hidden


def test_the_start_page_does_not_name_them(site: Site) -> None:
    page = site.http.get("/", headers={"Accept": "text/html"}).text
    assert GRD not in page
    assert not any(item in page for item in SECRETS.values())
    assert GRD in site.http.get("/", headers={"Accept": "text/html", **ADMIN}).text


def test_what_is_gone_stays_hidden(site: Site) -> None:
    path = f"/lineage/v1/collections/{L2A}/items/{SECRETS[L2A]}/events"
    deleted = site.http.delete(f"/stac/collections/{L2A}/items/{SECRETS[L2A]}", headers=ADMIN)
    assert deleted.status_code in (204, 409)
    assert site.http.get(path).json()["events"] == []
    assert site.http.get(path, headers=ADMIN).json()["events"]

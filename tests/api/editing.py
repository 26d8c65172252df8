"""A running application whose token's holder may write, for the tests of the transaction extensions."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psycopg

from api.settings import ApiSettings
from db.pools import open_pool
from db.settings import DatabaseSettings
from ingest.collection_files import ensure_collections
from tests.api.server import listening, running
from tests.conftest import cloned

TOKEN = "a-token-for-the-test"
ADMIN = {"Authorization": f"Bearer {TOKEN}"}
OWN = "own-products"
#: Codings change tags; `test_etags` and `test_encoding` look at that.
PLAIN = {"Accept-Encoding": "identity"}


@dataclass(frozen=True)
class Editor:
    """A client that sends the token, one that does not, both below `/stac`; and the database behind them."""

    client: httpx.Client
    nobody: httpx.Client
    database: DatabaseSettings
    url: str

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.database.conninfo, autocommit=True) as conn:
            return conn.execute(query.encode(), values).fetchall()

    def events(self, collection: str, item_id: str | None) -> list[tuple[str, str]]:
        """(kind, actor) of what has happened to an item, or with None to the collection, oldest first."""
        return self.rows(  # type: ignore[return-value]
            "select kind, actor_id from lineage.event_outbox where collection = %s and item_id is not distinct from %s order by position",
            collection, item_id,
        )  # fmt: skip


async def _fill(database: DatabaseSettings) -> None:
    async with open_pool(database) as pool:
        await ensure_collections(pool)


@contextlib.contextmanager
def editor_on(postgres: DatabaseSettings, template: str, folder: Path, **settings: Any) -> Iterator[Editor]:
    """Start the application with a token on a database of its own, with the collection `OWN`."""
    listener, url = listening()
    chosen = ApiSettings(**{"data_dir": folder, "public_url": url, "api_token": TOKEN, **settings})
    with cloned(postgres, template) as database:
        asyncio.run(_fill(database))
        with (
            running(chosen, database, listener),
            httpx.Client(base_url=f"{url}/stac", timeout=60, headers={**ADMIN, **PLAIN}) as client,
            httpx.Client(base_url=f"{url}/stac", timeout=60, headers=PLAIN) as nobody,
        ):
            if chosen.transactions:
                assert client.post("/collections", json=collection(OWN)).status_code == 201
            yield Editor(client, nobody, database, url)


def collection(name: str, **members: Any) -> dict[str, Any]:
    """A small valid collection."""
    return {
        "type": "Collection", "stac_version": "1.1.0", "id": name, "title": "Own products", "description": "For tests.",
        "license": "CC-BY-4.0", "links": [],
        "extent": {"spatial": {"bbox": [[-180, -90, 180, 90]]}, "temporal": {"interval": [["2020-01-01T00:00:00Z", None]]}},
        **members,
    }  # fmt: skip


def item(name: str, within: str = OWN, *, assets: int = 1, **properties: Any) -> dict[str, Any]:
    """A small valid item; with many assets it is kept packed."""
    ring = [[16.0, 48.0], [17.0, 48.0], [17.0, 49.0], [16.0, 49.0], [16.0, 48.0]]
    return {
        "type": "Feature", "stac_version": "1.1.0", "stac_extensions": [], "id": name, "collection": within,
        "geometry": {"type": "Polygon", "coordinates": [ring]}, "bbox": [16.0, 48.0, 17.0, 49.0],
        "properties": {"datetime": "2026-05-01T10:00:00Z", "eo:cloud_cover": 10.5, **properties},
        "links": [{"rel": "via", "href": "https://example.org/about"}],
        "assets": {
            f"band-{number}": {"href": f"https://example.org/{name}/{number}.tif", "roles": ["data"], "title": "A band of an item"}
            for number in range(assets)
        },
    }  # fmt: skip


def is_problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """Check that an answer is that problem; returns it."""
    assert (answer.status_code, answer.json().get("code")) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    return body

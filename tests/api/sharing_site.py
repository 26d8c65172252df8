"""The real application with what is private, shared and public: three collections of a person, and three items of his in an open one."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import numpy as np
import psycopg
from rasterio.transform import from_origin

from api.access import SCOPES
from api.settings import ApiSettings
from db.pools import open_pool
from db.settings import DatabaseSettings
from ingest.summary_making import rebuild_all
from lineage import log as lineage_log
from lineage.events import Event, Kind
from lineage.ids import uuid7
from lineage.keys import load_signer
from lineage.projector import project
from lineage.sequencer import sequence
from lineage.settings import LineageSettings
from tests.api import editing
from tests.api.server import listening, running
from tests.api.visibility_table import VISIBILITIES
from tests.conftest import cloned
from tests.ingest.uploads.rasters import write

TOKEN = "a-token-for-the-test"
#: Persons that the matrix names, and an administrator who is a person.
PEOPLE = {"other": "bob", "shared": "cal", "owner": "ann", "root": "root"}
OPEN = "open"
SOURCE = "earth-search"
#: Item: its collection and its visibility, alone or by its collection.
ITEMS = {f"of-c-{one}": (f"c-{one}", one) for one in VISIBILITIES} | {f"i-{one}": (OPEN, one) for one in VISIBILITIES}
COLLECTIONS = {f"c-{one}": one for one in VISIBILITIES}
READERS = ["group:surveyors"]


@dataclass(frozen=True)
class Site:
    """A client that sends no token, the database behind it, and for each item its upload and an event."""

    http: httpx.Client
    database: DatabaseSettings
    data_dir: Path
    uploads: dict[str, str]
    events: dict[str, str]
    keys: dict[str, str]

    def ask(self, who: str, method: str, path: str, **given: Any) -> httpx.Response:
        """Ask as "anonymous", "admin" or one of `PEOPLE`; a redirect is an answer."""
        known = {"Authorization": f"Bearer {self.keys[who]}"} if who in self.keys else {}
        headers = {**known, **given.pop("headers", {})}
        return self.http.request(method, path, headers=headers, **given)

    def done(self, who: str, method: str, path: str, **given: Any) -> Any:
        """The same, of what must succeed; returns the JSON."""
        answer = self.ask(who, method, path, **given)
        assert answer.is_success, (method, path, answer.status_code, answer.text)
        return answer.json() if answer.content else None

    def rows(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.database.conninfo, autocommit=True) as conn:
            cursor = conn.execute(statement.encode(), values)
            return cursor.fetchall() if cursor.description else []

    def found(self, who: str, **search: Any) -> list[str]:
        """Ids of items that a search finds."""
        return [one["id"] for one in self.done(who, "POST", "/stac/search", json={"limit": 1000, **search})["features"]]


def digest_of(item_id: str) -> str:
    """A hash that an event of the item names."""
    return hashlib.sha256(item_id.encode()).hexdigest()


def item(site: Site, item_id: str, collection: str, upload: str | None = None) -> dict[str, Any]:
    """An item; with an upload, its file is its raster."""
    named = {"platform": f"platform-{item_id}", "federation:backends": [SOURCE]}
    document = editing.item(item_id, collection, **named)
    if upload:
        document["assets"] = {"data": {"href": f"{site.http.base_url}/uploads/{upload}/data.tif", "roles": ["data"]}}
    return document


def upload_of(site: Site, owner: str, collection: str, item_id: str, raster: Path) -> str:
    """A ready upload with its raster."""
    upload = str(uuid4())
    site.rows(
        "insert into federator.upload (id, owner, collection_id, title, datetime, state, item_id, length)"
        " values (%s, %s, %s, %s, now(), 'ready', %s, 1)",
        upload, owner, collection, f"title of {item_id}", item_id,
    )  # fmt: skip
    shutil.copyfile(raster, site.data_dir / "cogs" / f"{upload}.tif")
    return upload


@contextlib.contextmanager
def sharing_site(postgres: DatabaseSettings, template: str, folder: Path) -> Iterator[Site]:
    """The application with its collections and items, each made and shared by its owner through the API."""
    listener, url = listening()
    settings = ApiSettings(data_dir=folder, public_url=url, api_token=TOKEN)
    (folder / "cogs").mkdir()
    with (
        cloned(postgres, template) as database,
        running(settings, database, listener),
        httpx.Client(base_url=url, timeout=60) as http,
    ):
        site = Site(http, database, folder, {}, {}, {"admin": TOKEN})
        _make_people(site)
        _fill(site, folder / "raster.tif")
        asyncio.run(_settle(site))
        yield site


def _make_people(site: Site) -> None:
    may = [scope for scope in SCOPES if scope != "admin"]
    for who, name in PEOPLE.items():
        person = {"name": name, "scopes": may, "is_admin": who == "root"}
        site.done("admin", "POST", "/auth/users", json=person)
        scopes = list(SCOPES) if who == "root" else may
        site.keys[who] = site.done("admin", "POST", "/auth/keys", json={"person": name, "scopes": scopes})["key"]
    site.done("admin", "POST", "/auth/groups", json={"name": "surveyors", "members": ["cal"]})


def _fill(site: Site, raster: Path) -> None:
    pixels = (np.arange(64 * 64) % 200 + 1).astype("uint8").reshape(1, 64, 64)
    write(raster, pixels, crs="EPSG:4326", transform=from_origin(0, 1, 1 / 64, 1 / 64))
    for name, visibility in {**COLLECTIONS, OPEN: "public"}.items():
        site.done("owner", "POST", "/stac/collections", json=editing.collection(name))
        site.done("owner", "PUT", f"/sharing/collections/{name}", json=wish(visibility))
        site.rows(
            "insert into federator.harvest_run (source_id, collection_id, status, finished_at) values (%s, %s, 'done', now())",
            SOURCE, name,
        )  # fmt: skip
    for item_id, (collection, visibility) in ITEMS.items():
        site.uploads[item_id] = upload_of(site, "ann", collection, item_id, raster)
        document = item(site, item_id, collection, site.uploads[item_id])
        site.done("owner", "POST", f"/stac/collections/{collection}/items", json=document)
        if collection == OPEN:
            site.done("owner", "PUT", f"/sharing/collections/{OPEN}/items/{item_id}", json=wish(visibility))


def wish(visibility: str) -> dict[str, Any]:
    """The body of a PUT."""
    return {"visibility": visibility, "readers": READERS if visibility == "shared" else []}


async def _settle(site: Site) -> None:
    """What workers do: summaries, and the log's numbers."""
    async with open_pool(site.database) as pool:
        for item_id, (collection, _) in ITEMS.items():
            event = uuid7()
            site.events[item_id] = str(event)
            body = {"hashes": [{"alg": "SHA256", "digest": digest_of(item_id)}]}
            name = f"{item_id}.SAFE"
            async with pool.connection() as conn, conn.transaction():
                await lineage_log.append(
                    conn,
                    Event(
                        event, Kind.REGISTER, name, "demo", collection, item_id, "harvest:demo", datetime.now(UTC), body
                    ),
                )
        await sequence(pool, load_signer(LineageSettings(data_dir=site.data_dir)))
        await project(pool)
        await rebuild_all(pool)


async def tell(site: Site, *events: Event) -> None:
    """Append events, and do what workers do with them."""
    async with open_pool(site.database) as pool:
        async with pool.connection() as conn, conn.transaction():
            await lineage_log.append(conn, *events)
        await sequence(pool, load_signer(LineageSettings(data_dir=site.data_dir)))
        await project(pool)

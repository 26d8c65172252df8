"""A client walks through 20,000 items while others insert, update, move and delete them, the pages' last items too."""

from __future__ import annotations

import asyncio
import contextlib
import json
import multiprocessing
import random
import socket
import time
from collections.abc import Iterator
from datetime import timedelta
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from api.settings import ApiSettings
from db.pools import open_pool
from db.settings import DatabaseSettings
from tests.api.corpus import COLLECTIONS, START, fill, odd_item, store, text
from tests.api.server import running
from tests.conftest import cloned
from tests.size import sized

NUMBER = sized(2_000, 20_000)
#: Items of a page: eighty pages at least.
LIMIT = NUMBER // 80
#: Items with these last digits are never touched.
UNTOUCHED = frozenset("02468")


@pytest.fixture(scope="module")
def service(
    postgres: DatabaseSettings, template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, DatabaseSettings]]:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    settings = ApiSettings(
        data_dir=tmp_path_factory.mktemp("walk"), public_url=f"http://127.0.0.1:{listener.getsockname()[1]}"
    )
    with cloned(postgres, template) as database:
        asyncio.run(fill(database, NUMBER))
        with running(settings, database, listener) as url:
            yield url, database


def is_touchable(item_id: str) -> bool:
    return item_id[-1] not in UNTOUCHED


def moved(number: int, rng: random.Random) -> dict[str, Any]:
    """The item at another time, and other in itself."""
    item = odd_item(number)
    when = text(START + timedelta(days=rng.randrange(400), seconds=rng.randrange(86_400)))
    item["properties"] = {**item["properties"], "datetime": when, "gsd": rng.randrange(100)}
    item["properties"].pop("start_datetime", None)
    item["properties"].pop("end_datetime", None)
    return item


async def change(database: DatabaseSettings, stop: Event, seed: int) -> None:
    rng = random.Random(seed)
    numbers = [n for n in range(NUMBER) if is_touchable(odd_id(n))]
    async with open_pool(database, max_size=1) as pool:
        extra = 0
        while not stop.is_set():
            await store(pool, [moved(n, rng) for n in rng.sample(numbers, 20)])
            with contextlib.suppress(psycopg.errors.DeadlockDetected):
                async with pool.connection() as conn:
                    gone = [odd_id(n) for n in rng.sample(numbers, 5)]
                    await conn.execute("delete from pgstac.items where id = any($1::text[])", (gone,))
                    new = {**moved(1, rng), "id": f"new-{seed}-{extra}-1", "collection": rng.choice(COLLECTIONS)}
                    await conn.execute("select pgstac.upsert_item($1::text::jsonb)", (json.dumps(new),))
            extra += 1


def odd_id(number: int) -> str:
    return f"item-{number // 2:04}"


def changing(database: DatabaseSettings, stop: Event) -> None:
    asyncio.run(change(database, stop, 7))


def hit_anchor(database: DatabaseSettings, collection: str, item_id: str, rng: random.Random) -> None:
    """What a page's token was made of is deleted, or moves. Writers by pgstac's functions deadlock now and then."""
    with (
        contextlib.suppress(psycopg.errors.DeadlockDetected),
        psycopg.connect(database.conninfo, autocommit=True) as conn,
    ):
        conn.execute("set search_path = pgstac, public")
        if rng.random() < 0.5:
            conn.execute("delete from pgstac.items where collection = %s and id = %s", (collection, item_id))
            return
        document = conn.execute("select get_item(%s, %s)", (item_id, collection)).fetchone()
        if document and document[0]:
            when = text(START + timedelta(days=rng.randrange(400)))
            document[0]["properties"] = {**document[0]["properties"], "datetime": when}
            conn.execute("select upsert_item(%s::jsonb)", (json.dumps(document[0]),))


def untouched(database: DatabaseSettings) -> set[tuple[str, str]]:
    with psycopg.connect(database.conninfo) as conn:
        rows = conn.execute("select collection, id from pgstac.items").fetchall()
    return {
        (collection, item_id)
        for collection, item_id in rows
        if item_id.startswith("item-") and not is_touchable(item_id)
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "sortby"), [("POST", None), ("GET", None), ("POST", [{"field": "datetime", "direction": "asc"}])]
)
def test_no_item_twice_and_no_untouched_item_missed(
    service: tuple[str, DatabaseSettings], method: str, sortby: Any, tmp_path: Path
) -> None:
    url, database = service
    rng = random.Random(3)
    expected = untouched(database)
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    other = context.Process(target=changing, args=(database, stop))
    other.start()
    seen: list[tuple[str, str]] = []
    statuses: list[int] = []
    try:
        with httpx.Client(timeout=60) as client:
            asked: dict[str, Any] = {
                "limit": LIMIT,
                "fields": {"include": ["id", "collection"]},
                **({"sortby": sortby} if sortby else {}),
            }
            answer = (
                client.post(f"{url}/stac/search", json=asked) if method == "POST"
                else client.get(f"{url}/stac/search", params={"limit": LIMIT, "fields": "id,collection"})
            )  # fmt: skip
            while True:
                statuses.append(answer.status_code)
                assert answer.status_code == 200, answer.text
                page = answer.json()
                keys = [(one["collection"], one["id"]) for one in page["features"]]
                seen += keys
                link = next((one for one in page["links"] if one["rel"] == "next"), None)
                if link is None:
                    break
                if is_touchable(keys[-1][1]):
                    hit_anchor(database, *keys[-1], rng)
                time.sleep(0.02)  # let the others have their turn
                answer = client.post(link["href"], json=link["body"]) if method == "POST" else client.get(link["href"])
    finally:
        stop.set()
        other.join(timeout=60)
    assert other.exitcode == 0
    assert len(seen) == len(set(seen)), "an item came twice"
    assert expected <= set(seen), f"{len(expected - set(seen))} items that nobody touched were missed"
    assert len(statuses) > 60

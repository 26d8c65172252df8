"""Answers that change with the collections alone are kept as bytes, and are new with the change, whoever made it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import psycopg
import pytest

from api.settings import ApiSettings
from db.settings import DatabaseSettings
from tests.api.corpus import GRD, L1C, fill
from tests.api.server import listening, running
from tests.conftest import cloned


@pytest.fixture
def service(
    postgres: DatabaseSettings, template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[httpx.Client, DatabaseSettings]]:
    listener, url = listening()
    with cloned(postgres, template) as database:
        asyncio.run(fill(database, 12))
        settings = ApiSettings(data_dir=tmp_path_factory.mktemp("documents"), public_url=url)
        with running(settings, database, listener), httpx.Client(base_url=f"{url}/stac", timeout=30) as client:
            yield client, database


def execute(database: DatabaseSettings, statement: str, *parameters: Any) -> None:
    """As another program on another host would."""
    with psycopg.connect(database.conninfo, autocommit=True) as conn:
        conn.execute("set search_path = pgstac, public")
        conn.execute(statement.encode(), parameters)


def soon(claim: Callable[[], bool], seconds: float = 5.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if claim():
            return True
        time.sleep(0.02)
    return False


def test_a_collection_that_another_program_changes_is_new_at_once(
    service: tuple[httpx.Client, DatabaseSettings],
) -> None:
    client, database = service
    for path in ("/collections", f"/collections/{L1C}"):
        assert client.get(path).content == client.get(path).content
    execute(
        database, "update collections set content = jsonb_set(content, '{title}', '\"A new title\"') where id = %s", L1C
    )
    for path in ("/collections", f"/collections/{L1C}"):
        assert soon(lambda path=path: "A new title" in client.get(path).text), path  # type: ignore[misc]


def test_a_kept_answer_that_was_compressed_for_one_is_plain_for_another(
    service: tuple[httpx.Client, DatabaseSettings],
) -> None:
    client, _ = service
    answers = [client.get("/", headers={"Accept-Encoding": coding}) for coding in ("gzip", "identity", "gzip")]
    assert [answer.headers.get("content-encoding") for answer in answers] == ["gzip", None, "gzip"]
    assert len({answer.content for answer in answers}) == 1


def test_a_new_queryable_is_there_and_filters_by_it_are_planned_anew(
    service: tuple[httpx.Client, DatabaseSettings],
) -> None:
    client, database = service
    asked = {"filter": "my:number > 9", "filter-lang": "cql2-text"}
    assert "my:number" not in client.get("/queryables").text
    client.get("/search", params=asked)
    execute(
        database,
        "select upsert_queryable(name => 'my:number', definition => '{\"type\": \"number\"}', property_wrapper => 'to_float')",
    )
    assert soon(lambda: "my:number" in client.get("/queryables").text)
    execute(
        database, "update items set content = jsonb_set(content, '{properties,my:number}', '10') where id = 'item-0003'"
    )
    assert {one["id"] for one in client.get("/search", params=asked).json()["features"]} == {"item-0003"}, (
        "10 > 9 as numbers"
    )


def test_a_collection_made_private_is_gone_from_every_answer(service: tuple[httpx.Client, DatabaseSettings]) -> None:
    client, database = service
    paths = (f"/collections/{GRD}", f"/collections/{GRD}/queryables", f"/collections/{GRD}/items")
    assert all(client.get(path).status_code == 200 for path in paths)
    assert GRD in client.get("/collections").text
    execute(database, "insert into federator.collection_access (collection_id, visibility) values (%s, 'private')", GRD)
    assert client.post("/search", json={"collections": [GRD]}).json()["features"] == []
    assert soon(lambda: all(client.get(path).status_code == 404 for path in paths))
    assert soon(lambda: GRD not in client.get("/collections").text)


def test_what_changes_while_no_news_come_is_not_kept(service: tuple[httpx.Client, DatabaseSettings]) -> None:
    """The listening connection is cut: nothing old is told meanwhile or afterwards."""
    client, database = service
    assert GRD in client.get("/collections").text
    listeners = "from pg_stat_activity where application_name = 'federator listener' and datname = current_database()"
    execute(database, f"select pg_terminate_backend(pid) {listeners}")
    execute(database, "delete from collections where id = %s", GRD)
    assert soon(lambda: GRD not in client.get("/collections").text, 15)


def test_answers_differ_by_query(service: tuple[httpx.Client, DatabaseSettings]) -> None:
    client, _ = service
    for _ in range(2):
        assert client.get("/collections?limit=1").json()["numberReturned"] == 1
        assert client.get("/collections?limit=2").json()["numberReturned"] == 2
        assert client.get("/collections?limit=0").status_code == 400

"""ETag, 304, Cache-Control and Vary on what is read."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Iterator

import httpx
import pytest
from pydantic import SecretStr

from api.settings import ApiSettings
from api.stac.caching import weak_tag
from api.stac.etags import etag_of, names_tag
from db.settings import DatabaseSettings
from tests.api.corpus import GRD, L1C, fill
from tests.api.server import listening, running
from tests.api.test_documents import execute, soon
from tests.api.test_encoding import UNPACK
from tests.conftest import cloned

TOKEN = "a-token-for-tests"
DOCUMENTS = (
    "",
    "/",
    "/conformance",
    "/collections",
    f"/collections/{L1C}",
    "/queryables",
    f"/collections/{L1C}/queryables",
    "/api",
)
SEARCHES = (
    "/search?limit=5",
    f"/collections/{L1C}/items?limit=5",
    "/search?ids=item-0001",
    "/search?limit=3&fields=id",
)


@pytest.fixture(scope="module")
def database(postgres: DatabaseSettings, template: str) -> Iterator[DatabaseSettings]:
    with cloned(postgres, template) as settings:
        asyncio.run(fill(settings, 60))
        yield settings


@pytest.fixture(scope="module")
def http(database: DatabaseSettings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    listener, url = listening()
    settings = ApiSettings(data_dir=tmp_path_factory.mktemp("caching"), public_url=url, api_token=SecretStr(TOKEN))
    client = httpx.Client(base_url=f"{url}/stac", timeout=30, headers={"Accept-Encoding": "identity"})
    with running(settings, database, listener), client:
        yield client


@pytest.mark.parametrize("path", DOCUMENTS + SEARCHES)
def test_who_has_it_is_told_so(http: httpx.Client, path: str) -> None:
    first = http.get(path)
    assert first.status_code == 200
    assert first.headers["cache-control"] == "public, no-cache"
    assert {"Authorization", "Accept-Encoding"} <= {name.strip() for name in first.headers["vary"].split(",")}
    for known in (
        first.headers["etag"],
        f'"x", {first.headers["etag"]}',
        "*",
        first.headers["etag"].removeprefix("W/"),
    ):
        again = http.get(path, headers={"If-None-Match": known})
        assert (again.status_code, again.content) == (304, b""), known
        assert again.headers["etag"] == first.headers["etag"]
        assert "content-type" not in again.headers
    assert http.get(path, headers={"If-None-Match": '"another", W/"one"'}).status_code == 200


def test_documents_have_strong_tags_of_their_bytes_and_searches_weak_ones(http: httpx.Client) -> None:
    answer = http.get("/collections")
    assert answer.headers["etag"] == etag_of(answer.content)
    assert http.get("/search").headers["etag"].startswith('W/"')


def test_a_page_keeps_its_tag_while_its_tokens_differ(http: httpx.Client) -> None:
    first = http.get("/search?limit=5")
    assert soon(lambda: http.get("/search?limit=5").content != first.content), "the token tells when the walk began"
    assert http.get("/search?limit=5").headers["etag"] == first.headers["etag"]


def test_each_coding_of_a_kept_answer_is_its_own(http: httpx.Client) -> None:
    """A client that wants gzip must not change what the next one gets: it did, once."""
    plain = http.get("/").content
    tags = set()
    for coding, unpack in UNPACK.items():
        with http.stream("GET", "/", headers={"Accept-Encoding": coding}) as answer:
            raw = b"".join(answer.iter_raw())
        assert answer.headers["content-encoding"] == coding
        assert unpack(raw) == plain
        tags.add(answer.headers["etag"])
        assert (
            http.get("/", headers={"Accept-Encoding": coding, "If-None-Match": answer.headers["etag"]}).status_code
            == 304
        )
        assert http.get("/", headers={"If-None-Match": answer.headers["etag"]}).status_code == 200
        assert http.get("/").content == plain
    assert len(tags) == len(UNPACK)


def test_a_page_of_a_search_is_packed(http: httpx.Client) -> None:
    wanted = http.get("/search?limit=5").json()
    with http.stream("GET", "/search?limit=5", headers={"Accept-Encoding": "gzip"}) as answer:
        raw = b"".join(answer.iter_raw())
    assert answer.headers["content-encoding"] == "gzip"
    assert httpx.Response(200, content=gzip.decompress(raw)).json()["features"] == wanted["features"]
    assert answer.headers["etag"] == http.get("/search?limit=5").headers["etag"]


def test_any_origin_may_read(http: httpx.Client) -> None:
    for path in ("/", "/collections/nowhere", "/search?limit=1"):
        answer = http.get(path, headers={"Origin": "https://map.example.org"})
        assert answer.headers["access-control-allow-origin"] == "*", path


def test_a_post_has_no_tag(http: httpx.Client) -> None:
    answer = http.post("/search", json={"limit": 5}, headers={"If-None-Match": "*"})
    assert answer.status_code == 200
    assert "etag" not in answer.headers


@pytest.mark.parametrize("path", ["/", "/collections", "/search?limit=5"])
def test_what_a_caller_gets_is_his_own(http: httpx.Client, path: str) -> None:
    answer = http.get(path, headers={"Authorization": f"Bearer {TOKEN}"})
    assert answer.headers["cache-control"] == "private, no-store"
    assert "Authorization" in answer.headers["vary"]
    assert http.get(path, headers={"Authorization": "Bearer wrong"}).headers["cache-control"] == "no-store"
    assert http.get(path).headers["cache-control"] == "public, no-cache"


def test_what_is_hidden_from_one_is_kept_for_another(http: httpx.Client, database: DatabaseSettings) -> None:
    execute(database, "insert into federator.collection_access (collection_id, visibility) values (%s, 'private')", GRD)
    try:
        admin = {"Authorization": f"Bearer {TOKEN}"}
        assert soon(lambda: GRD not in http.get("/collections").text)
        for _ in range(2):
            assert GRD in http.get("/collections", headers=admin).text
            assert GRD not in http.get("/collections").text
            assert GRD not in http.get("/collections", headers={"Authorization": "Bearer wrong"}).text
        assert http.get("/collections").headers["etag"] != http.get("/collections", headers=admin).headers["etag"]
    finally:
        execute(database, "delete from federator.collection_access")


def test_a_change_changes_the_tag(http: httpx.Client, database: DatabaseSettings) -> None:
    known = http.get(f"/collections/{L1C}").headers["etag"]
    page = http.get("/search?ids=item-0003").headers["etag"]
    execute(database, 'update collections set content = content || \'{"title": "Other"}\' where id = %s', L1C)
    assert soon(lambda: http.get(f"/collections/{L1C}", headers={"If-None-Match": known}).status_code == 200)
    execute(database, "update items set content = jsonb_set(content, '{properties,gsd}', '77') where id = 'item-0003'")
    assert http.get("/search?ids=item-0003", headers={"If-None-Match": page}).status_code == 200


def test_tags_of_parts_tell_where_parts_end() -> None:
    assert weak_tag([b"ab", b"c"]) != weak_tag([b"a", b"bc"])
    assert not names_tag("", '"a"', weakly=True)

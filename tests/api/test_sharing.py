"""Sharing by its owner: what he says holds at once and everywhere; what another may write; what hrefs may lead to."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import psycopg
import pytest

from db.pools import open_pool
from db.settings import DatabaseSettings
from ingest.settings import IngestSettings
from ingest.summary_making import rebuild_all
from ingest.uploads.model import State, from_row
from ingest.uploads.placing import Own, entered, place
from tests.api import editing
from tests.api.editing import is_problem
from tests.api.sharing_site import COLLECTIONS, OPEN, Site, item, sharing_site, upload_of, wish
from tests.api.tus_site import VERSION, metadata
from tests.ingest.uploads.rasters import write

WHEN = "2026-05-01T00:00:00Z"
FIELD = "/sharing/collections/c-public"


@pytest.fixture(scope="module")
def site(postgres: DatabaseSettings, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with sharing_site(postgres, template, tmp_path_factory.mktemp("sharing")) as started:
        yield started


@pytest.fixture(scope="module")
def raster(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("raster") / "own.tif"
    write(path, np.ones((1, 16, 16), dtype="uint8"))
    return path


def make(site: Site, name: str, who: str = "owner", **sharing: Any) -> None:
    site.done(who, "POST", "/stac/collections", json=editing.collection(name))
    if sharing:
        site.done(who, "PUT", f"/sharing/collections/{name}", json=sharing)


def put(site: Site, collection: str, *names: str, who: str = "owner") -> None:
    for name in names:
        site.done(who, "POST", f"/stac/collections/{collection}/items", json=editing.item(name, collection))


def test_what_a_person_makes_is_his_and_private_and_what_an_administrator_makes_is_public(site: Site) -> None:
    make(site, "first")
    make(site, "of-the-operator", who="admin")
    make(site, "of-root", who="root")
    shown = site.done("owner", "GET", "/sharing/collections/first")
    assert (shown["owner"], shown["visibility"], shown["readers"], shown["writers"]) == ("user:ann", "private", [], [])
    assert site.ask("other", "GET", "/stac/collections/first").status_code == 404
    assert site.ask("anonymous", "GET", "/stac/collections/of-the-operator").status_code == 200
    is_problem(
        site.ask("other", "POST", "/stac/collections/of-the-operator/items", json=editing.item("x", "of-the-operator")),
        403,
        "NOT_ALLOWED",
    )
    shown = site.done("admin", "GET", "/sharing/collections/of-root")
    assert (shown["owner"], shown["visibility"]) == ("user:root", "public")
    shown = site.done("admin", "GET", "/sharing/collections/of-the-operator")
    assert (shown["owner"], shown["visibility"]) == (None, "public")


def test_writers_write_items_and_nothing_else(site: Site) -> None:
    make(site, "team", visibility="shared", writers=["user:bob"], readers=["group:surveyors"])
    put(site, "team", "by-bob", who="other")
    path = "/stac/collections/team/items/by-bob"
    assert site.ask("other", "PATCH", path, json={"properties": {"title": "new"}}).status_code == 204
    for method, where in (("GET", "/sharing/collections/team"), ("DELETE", "/stac/collections/team")):
        is_problem(site.ask("other", method, where), 403, "NOT_ALLOWED")
    is_problem(site.ask("shared", "DELETE", path), 403, "NOT_ALLOWED")
    is_problem(site.ask("shared", "DELETE", "/stac/collections/team/items/no-such"), 404, "NOT_FOUND")
    assert site.ask("other", "DELETE", path).status_code == 204
    events = site.rows("select kind, actor_id from lineage.event_outbox where item_id = 'by-bob' order by position")
    assert events == [("CREATE", "user:bob"), ("UPDATE", "user:bob"), ("DELETE", "user:bob")]


def test_sharing_is_changed_on_condition_and_is_an_event(site: Site) -> None:
    make(site, "told", visibility="public")
    first = site.ask("owner", "GET", "/sharing/collections/told")
    body = {"visibility": "shared", "readers": ["user:cal", "group:surveyors", "user:cal"]}
    is_problem(
        site.ask("owner", "PUT", "/sharing/collections/told", json=body, headers={"If-Match": '"old"'}),
        412,
        "PRECONDITION_FAILED",
    )
    changed = site.ask(
        "owner", "PUT", "/sharing/collections/told", json=body, headers={"If-Match": first.headers["etag"]}
    )
    assert changed.json()["readers"] == ["group:surveyors", "user:cal"]
    assert (
        changed.headers["etag"]
        == site.ask("owner", "GET", "/sharing/collections/told").headers["etag"]
        != first.headers["etag"]
    )
    site.done("owner", "PUT", "/sharing/collections/told", json=changed.json())  # as it was read: no change, no event
    events = site.rows(
        "select body::jsonb, actor_id from lineage.event_outbox where name = 'told' and kind = 'UPDATE' order by position"
    )
    last, actor = events[-1]
    assert len(events) == 2
    assert actor == "user:ann"
    assert last["visibility"] == {"from": "public", "to": "shared"}
    assert not any(name in str(last) for name in body["readers"])  # the log is for ever, and names nobody


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "visibility"),
        ({"visibility": "secret"}, "visibility"),
        ({"visibility": "shared", "readers": ["ann"]}, "readers"),
        ({"visibility": "shared", "readers": ["role:admin"]}, "readers"),
        ({"visibility": "shared", "readers": "user:ann"}, "readers"),
        ({"visibility": "shared", "readers": ["user:a\u0000"]}, "readers"),
        ({"visibility": "shared", "readers": [f"user:{n}" for n in range(101)]}, "readers"),
        ({"visibility": "public", "readers": ["user:ann"]}, "readers"),
        ({"visibility": "private", "writers": ["user:ann"]}, "writers"),
    ],
)
def test_what_is_no_sharing_is_refused(site: Site, body: dict[str, Any], field: str) -> None:
    problem = is_problem(site.ask("owner", "PUT", FIELD, json=body), 400, "INVALID_FIELD")
    assert problem["field"] == field
    if body.get("writers"):
        return
    path = f"/sharing/collections/{OPEN}/items/i-public"
    assert is_problem(site.ask("owner", "PUT", path, json=body), 400, "INVALID_FIELD")["field"] == field


def test_bodies_that_are_none_are_refused(site: Site) -> None:
    for content in (b"[]", b"{", b"", b"null"):
        is_problem(site.ask("owner", "PUT", FIELD, content=content), 400, "INVALID_BODY")
    is_problem(site.ask("owner", "PUT", FIELD, content=b'{"a": "' + b"x" * 2**20 + b'"}'), 413, "BODY_TOO_LARGE")
    is_problem(site.ask("owner", "PUT", "/sharing/collections/%00", json=wish("public")), 400, "INVALID_PARAMETER")


def test_private_while_a_reader_pages(site: Site) -> None:
    """S07: later pages are clean, by a token of before, and so is everything else at the next request."""
    make(site, "paged", visibility="public")
    names = [f"page-{number}" for number in range(6)]
    put(site, "paged", *names)
    body = {"collections": ["paged", *COLLECTIONS], "limit": 2, "sortby": [{"field": "id", "direction": "desc"}]}
    page = site.done("other", "POST", "/stac/search", json=body)
    assert [one["id"] for one in page["features"]] == names[:3:-1]
    before = {path: site.ask("other", "GET", path) for path in (
        "/stac/collections/paged", "/stac/collections/paged/items/page-5", "/stac/search?collections=paged",
        "/stac/collections/paged/items",
    )}  # fmt: skip
    site.done("owner", "PUT", "/sharing/collections/paged/items/page-3", json=wish("private"))
    following = next(one for one in page["links"] if one["rel"] == "next")
    page = site.done("other", "POST", "/stac/search", json=following["body"])
    assert [one["id"] for one in page["features"]] == names[2:0:-1]
    assert site.done("other", "GET", "/stac/search?collections=paged")["numberMatched"] == 5
    site.done("owner", "PUT", "/sharing/collections/paged", json=wish("private"))
    following = next(one for one in page["links"] if one["rel"] == "next")
    page = site.done("other", "POST", "/stac/search", json=following["body"])
    assert not [one for one in page["features"] if one["id"] in names]
    for path, known in before.items():
        answer = site.ask("other", "GET", path, headers={"If-None-Match": known.headers["etag"]})
        assert answer.status_code == 404 or answer.json()["features"] == [], path
        assert "page-" not in answer.text, path


def test_values_and_extents_of_what_turns_private_are_gone_at_once(site: Site) -> None:
    """Before a worker has read the collection anew; afterwards they are those of the others."""
    make(site, "values", visibility="public")
    far = editing.item("far", "values", platform="unheard-of", datetime="2031-01-01T00:00:00Z")
    near = editing.item("near", "values", platform="well-known")
    for document in (far, near):
        site.done("owner", "POST", "/stac/collections/values/items", json=document)
    places = ("/stac/collections/values", "/stac/collections/values/queryables", "/stac/queryables")
    assert all("unheard-of" in site.ask("other", "GET", path).text for path in places)
    site.done("owner", "PUT", "/sharing/collections/values/items/far", json=wish("private"))
    assert not any("unheard-of" in site.ask("other", "GET", path).text for path in places)
    asyncio.run(_rebuilt(site))
    text = site.ask("other", "GET", places[0]).text
    assert "well-known" in text
    assert "unheard-of" not in text
    site.done("owner", "PUT", "/sharing/collections/values/items/far", json=wish("public"))
    assert "far" in site.found("other", collections=["values"])
    assert site.rows("select true from federator.unpacked_item where collection = 'values' and id = 'far'")


async def _rebuilt(site: Site) -> None:
    async with open_pool(site.database) as pool:
        await rebuild_all(pool, ["values"])


def test_an_item_moves_to_no_other_collection(site: Site) -> None:
    """S15: a body that names another collection than the path is refused, whatever the caller may do in either."""
    make(site, "there", visibility="public")
    moved = editing.item("of-c-private", "there")
    path = "/stac/collections/c-private/items/of-c-private"
    for who in ("owner", "other"):
        is_problem(site.ask(who, "PUT", path, json=moved), 400, "COLLECTION_MISMATCH")
    is_problem(site.ask("other", "PUT", path, json=editing.item("of-c-private", "c-private")), 404, "NOT_FOUND")
    is_problem(
        site.ask("other", "POST", "/stac/collections/there/items", json=editing.item("of-c-private", "there")),
        403,
        "NOT_ALLOWED",
    )


@pytest.mark.parametrize(
    "href",
    [
        "/vsicurl/https://example.org/a.tif", "/vsizip//etc/a.zip", "/etc/passwd", "../a.tif", "a.tif", "C:\\a.tif", "\\\\host\\a.tif",
        "file:///etc/passwd", "FILE://localhost/etc/passwd", "javascript:alert(1)", "data:image/png;base64,AAAA", 'NETCDF:"/a.nc":t',
        "GTIFF_DIR:1:/a.tif", "zip+file:///a.zip", "http://127.0.0.1/a.tif", "http://localhost:9000/a.tif", "https://a.localhost/a.tif",
        "http://[::1]/a.tif", "http://[::ffff:127.0.0.1]/a.tif", "http://2130706433/a.tif", "http://0x7f.1/a.tif", "http://0177.0.0.1/a.tif",
        "http://0/a.tif", "http://169.254.169.254/latest", "http://user@127.0.0.1/a.tif", "http:///a.tif", "//example.org/a.tif", "http://[::1",
        "http://%31%32%37.0.0.1/a.tif", "http://127\u30020\u30020\u30021/a.tif",
        "http://[64:ff9b::127.0.0.1]/a.tif", "http://[::127.0.0.1]/a.tif",
    ],
)  # fmt: skip
def test_hrefs_lead_to_the_web_alone(site: Site, href: str) -> None:
    """S14."""
    document = editing.item("leading", OPEN)
    plain = document["assets"]["band-0"]
    for asset in ({**plain, "href": href}, {**plain, "alternate": {"one": {"href": href}}}):
        changed = {**document, "assets": {"a": asset}}
        problem = is_problem(
            site.ask("owner", "POST", f"/stac/collections/{OPEN}/items", json=changed), 400, "HREF_REFUSED"
        )
        assert problem["place"].startswith("/assets/a/")
    body = {"items": {"leading": {**document, "assets": {"a": {**plain, "href": href}}}}}
    is_problem(site.ask("owner", "POST", f"/stac/collections/{OPEN}/bulk_items", json=body), 400, "INVALID_ITEMS")


def test_hrefs_that_are_good(site: Site) -> None:
    hrefs = (
        "https://example.org/a.tif",
        "s3://bucket/a b.tif".replace(" ", "+"),
        "gs://b/a.tif",
        "http://10.0.0.7/a.tif",
        "https://example.org:8443/a?b=c",
    )
    document = editing.item("good-hrefs", OPEN)
    document["assets"] = {f"a{number}": {"href": href} for number, href in enumerate(hrefs)}
    document["links"] = [
        {"rel": "related", "href": "collections/other"},
        {"rel": "about", "href": "https://example.org"},
    ]
    site.done("owner", "POST", f"/stac/collections/{OPEN}/items", json=document)
    document["links"] = [{"rel": "related", "href": "file:///etc/passwd"}]
    is_problem(
        site.ask("owner", "PUT", f"/stac/collections/{OPEN}/items/good-hrefs", json=document), 400, "HREF_REFUSED"
    )


def test_no_item_shows_the_raster_of_another(site: Site, raster: Path) -> None:
    """S14: neither when it is written, nor when it was written before that raster became private."""
    make(site, "of-bob", who="other", visibility="public")
    private = site.uploads["i-private"]
    stolen = item(site, "stolen", "of-bob", private)
    for upload in (private, str(uuid4())):
        refused = item(site, "stolen", "of-bob", upload)
        is_problem(site.ask("other", "POST", "/stac/collections/of-bob/items", json=refused), 400, "HREF_REFUSED")
    stolen = item(site, "stolen", "of-bob", site.uploads["i-public"])
    site.done("other", "POST", "/stac/collections/of-bob/items", json=stolen)
    info = "/raster/collections/of-bob/items/stolen/info?assets=data"
    assert site.ask("other", "GET", info).status_code == 200
    site.done("owner", "PUT", f"/sharing/collections/{OPEN}/items/i-public", json=wish("private"))
    try:
        assert site.ask("other", "GET", info).status_code == 400
        assert site.ask("other", "GET", f"/uploads/{site.uploads['i-public']}/data.tif").status_code == 404
    finally:
        site.done("owner", "PUT", f"/sharing/collections/{OPEN}/items/i-public", json=wish("public"))


def test_answers_to_a_caller_are_kept_by_no_cache(site: Site) -> None:
    """S12."""
    tile = f"/raster/collections/{OPEN}/items/i-%s/tiles/WebMercatorQuad/0/0/0.png?assets=data"
    assert site.ask("owner", "GET", tile % "private").headers["cache-control"] == "private, no-store"
    assert site.ask("anonymous", "GET", tile % "public").headers["cache-control"] == "no-cache"
    data = f"/uploads/{site.uploads['i-private']}/data.tif"
    assert site.ask("shared", "GET", data).status_code == 404
    assert (
        site.ask("owner", "GET", data, headers={"Range": "bytes=0-3"}).headers["cache-control"] == "private, no-store"
    )


def form(collection: str | None, **more: Any) -> dict[str, Any]:
    named = {} if collection is None else {"collection": collection}
    return {"title": "A field", "datetime": WHEN, **named, **more}


def test_uploads_go_where_one_may_write(site: Site) -> None:
    make(site, "fields", visibility="shared", readers=["group:surveyors"], writers=["user:bob"])
    for who, collection, status, code in (
        ("other", "c-private", 404, "COLLECTION_UNKNOWN"), ("other", "no-such", 404, "COLLECTION_UNKNOWN"),
        ("shared", "fields", 403, "NOT_ALLOWED"), ("other", "c-public", 403, "NOT_ALLOWED"),
        ("other", "sentinel-2-l2a", 403, "COLLECTION_NOT_WRITABLE"),
    ):  # fmt: skip
        is_problem(site.ask(who, "POST", "/uploads", json=form(collection)), status, code)
    own = site.done("other", "POST", "/uploads", json=form("fields"))
    assert (own["visibility"], own["readers"]) == (None, [])  # as the collection
    common = site.done("other", "POST", "/uploads", json=form(None))
    assert common["visibility"] == "private"
    assert site.done("admin", "POST", "/uploads", json=form(None))["visibility"] is None
    for one in (own, common):
        assert site.ask("shared", "GET", f"/uploads/{one['id']}").status_code == 404
        site.done("admin", "GET", f"/uploads/{one['id']}")
        site.rows("update federator.upload set state = 'rejected', error_code = 'DELETED' where id = %s", one["id"])


def test_an_upload_says_who_sees_its_item(site: Site) -> None:
    made = site.done("other", "POST", "/uploads", json=form(None, visibility="shared", readers=["user:ann"]))
    assert (made["visibility"], made["readers"]) == ("shared", ["user:ann"])
    text = metadata(title="t", datetime=WHEN, readers="group:surveyors,user:cal")
    answer = site.ask("other", "POST", "/uploads", headers={**VERSION, "Upload-Length": "9", "Upload-Metadata": text})
    told = site.done("other", "GET", answer.headers["location"])
    assert (told["visibility"], told["readers"]) == ("shared", ["group:surveyors", "user:cal"])
    for wrong in (
        {"visibility": "hidden"},
        {"visibility": "public", "readers": ["user:a"]},
        {"readers": ["a"]},
        {"visibility": 1},
    ):
        is_problem(site.ask("other", "POST", "/uploads", json=form(None, **wrong)), 422, "INVALID_FIELD")


def test_an_upload_s_item_is_private_from_its_first_moment(site: Site, raster: Path) -> None:
    """And stays as its owner has decided when the full resolution comes."""
    upload = upload_of(site, "bob", "uploads", "soon", raster)
    site.rows(
        "update federator.upload set visibility = 'private', state = 'registering', item_id = null, target_item = 'soon-of-bob'"
        " where id = %s",
        upload,
    )
    path = f"/stac/collections/uploads/items/{asyncio.run(_registered(site, upload))}"
    assert site.ask("other", "GET", path).status_code == 200
    assert [site.ask(who, "GET", path).status_code for who in ("anonymous", "shared", "owner")] == [404, 404, 404]
    assert "only-of-soon" not in site.ask("anonymous", "GET", "/stac/queryables").text
    shown = site.done("other", "GET", f"/sharing{path.removeprefix('/stac')}")
    assert (shown["owner"], shown["visibility"]) == ("user:bob", "private")
    site.done("other", "PUT", f"/sharing{path.removeprefix('/stac')}", json=wish("shared"))
    asyncio.run(_registered(site, upload))
    assert [site.ask(who, "GET", path).status_code for who in ("anonymous", "shared", "owner")] == [404, 200, 404]
    assert (
        site.ask("other", "PATCH", path, json={"properties": {"title": "mine"}}).status_code == 204
    )  # uploaded by him
    is_problem(site.ask("shared", "PATCH", path, json={"properties": {"title": "not mine"}}), 403, "NOT_ALLOWED")


async def _registered(site: Site, upload_id: str) -> str:
    """Put the upload's item into the catalogue as a worker does; returns its id."""
    settings = IngestSettings(data_dir=site.data_dir, public_url=str(site.http.base_url).rstrip("/"))
    async with open_pool(site.database) as pool:
        async with pool.connection() as conn:
            row = await (
                await conn.execute("select * from federator.upload where id = $1", (UUID(upload_id),))
            ).fetchone()
        assert row is not None
        document = item(site, "soon-of-bob", "uploads", upload_id)
        document["properties"] |= {"platform": "only-of-soon", "renders": {"default": {"assets": ["data"]}}}
        async with pool.connection() as conn, conn.transaction():
            upload = await entered(conn, from_row(row), State.REGISTERING)
            await place(conn, settings, upload, lambda _: Own(document, []), {})
    return "soon-of-bob"


def test_the_state_of_an_upload_is_told_to_its_sender_alone(site: Site) -> None:
    made = site.done("other", "POST", "/uploads", json=form(None, title="On its way"))
    pending = site.rows("select id::text from lineage.event_outbox where name = %s", f"upload/{made['id']}")
    proof = f"/lineage/v1/log/proof/{pending[0][0]}"
    assert site.ask("other", "GET", proof).json()["code"] == "PROOF_PENDING"
    assert site.ask("shared", "GET", proof).json()["code"] == "NOT_FOUND"
    start = {
        who: site.ask(who, "GET", "/", headers={"Accept": "text/html"}).text for who in ("other", "shared", "admin")
    }
    assert ["On its way" in text for text in start.values()] == [True, False, True]


def test_a_hidden_id_answers_as_one_that_is_not_there(site: Site) -> None:
    """S16: bodies and headers; statements are the same, so that the time is too."""
    for method, body in (
        ("GET", None),
        ("PUT", editing.item("i-private", OPEN)),
        ("PATCH", {"id": "i-private"}),
        ("DELETE", None),
    ):
        answers = []
        for name in ("i-private", "i-missing"):
            given = {"json": {**body, "id": name}} if body else {}
            answer = site.ask("other", method, f"/stac/collections/{OPEN}/items/{name}", **given)
            kept = {key: value for key, value in answer.headers.items() if key != "date"}
            answers.append((answer.status_code, answer.content, kept))
        assert answers[0] == answers[1], method
        assert answers[0][0] == 404


def test_the_map_of_a_private_upload_opens_in_a_browser_that_has_no_key(site: Site) -> None:
    def map_of(item_id: str) -> str:
        links = site.done("owner", "GET", f"/uploads/{site.uploads[item_id]}")["links"]
        return str(next(link["href"] for link in links if link["rel"] == "map"))

    signed, plain = map_of("i-private"), map_of("i-public")
    assert "sig=" not in plain
    assert site.ask("anonymous", "GET", signed.partition("?")[0]).status_code == 404
    page = site.ask("anonymous", "GET", signed, follow_redirects=True)
    assert (page.status_code, signed.partition("?")[2] in page.text) == (200, True)


@pytest.mark.parametrize("host", ["-1", "0x-1", "1_0", "0x", "1.-1", "999999999999999999999"])
def test_hosts_that_look_like_numbers_are_no_server_error(site: Site, host: str) -> None:
    document = editing.item("odd-host", OPEN)
    document["assets"] = {"a": {"href": f"http://{host}/a.tif"}}
    answer = site.ask("owner", "POST", f"/stac/collections/{OPEN}/items", json=document)
    assert answer.status_code in (201, 400, 409), answer.text


def test_urls_that_were_signed_with_a_key_end_with_the_key(site: Site) -> None:
    key = site.done("admin", "POST", "/auth/keys", json={"person": "ann", "scopes": ["upload"]})
    by_key, path = {"Authorization": f"Bearer {key['key']}"}, f"/raster/collections/{OPEN}/items/i-private/info"
    wanted = {"collection": OPEN, "item": "i-private"}
    made = site.http.post("/raster/signed", json=wanted, headers=by_key).json()
    other = site.done("owner", "POST", "/raster/signed", json=wanted)
    parameters = [{"assets": "data", "sig": one["signature"]["value"]} for one in (made, other)]
    assert [site.http.get(path, params=one).status_code for one in parameters] == [200, 200]
    site.done("admin", "DELETE", f"/auth/keys/{key['id']}")
    assert [site.http.get(path, params=one).status_code for one in parameters] == [404, 200]


def test_urls_that_were_signed_in_a_session_end_with_the_session(site: Site) -> None:
    session = str(uuid4())
    site.rows(
        "insert into federator.session (id, person_name, scopes, expires_at) values (%s, 'ann', '{}', now())", session
    )
    worth = "select federator.present_principals(%s)"
    signer = ["user:ann", f"session:{session}", "group:none", "given:group:geo"]
    assert site.rows(worth, signer) == [(["user:ann", "group:geo"],)]
    site.rows("update federator.session set ended_at = now() where id = %s", session)
    assert site.rows(worth, signer) == [([],)]


def test_looking_who_may_see_what_waits_for_nobody_who_changes_it(site: Site) -> None:
    statements = (
        "select 1 from pgstac.collections where id = 'c-public' for update",
        "select 1 from pgstac.items where id = 'of-c-public' for update",
    )
    with psycopg.connect(site.database.conninfo) as conn:
        for statement in statements:
            conn.execute(statement.encode())
        for path in (FIELD, f"{FIELD}/items/of-c-public"):
            assert site.ask("owner", "GET", path, timeout=10).status_code == 200


def test_an_upload_whose_item_was_deleted_says_so_is_served_no_more_and_can_be_deleted(
    site: Site, raster: Path
) -> None:
    make(site, "editors", visibility="public", writers=["user:cal"])
    upload = upload_of(site, "ann", "editors", "soon-gone", raster)
    for name in ("soon-gone", "names-its-file"):
        document = item(site, name, "editors", upload)
        site.done("owner", "POST", "/stac/collections/editors/items", json=document)
    here, pixels = f"/uploads/{upload}", "/raster/collections/editors/items/names-its-file/info?assets=data"
    assert site.ask("owner", "GET", pixels).status_code == 200
    site.done("shared", "DELETE", "/stac/collections/editors/items/soon-gone")
    state = site.done("owner", "GET", here)
    assert (state["state"], state["item_id"], state["item"]) == ("detached", None, None)
    assert [link["rel"] for link in state["links"]] == ["self", "content"]
    is_problem(site.ask("owner", "GET", f"{here}/data.tif"), 410, "ITEM_DELETED")
    is_problem(site.ask("owner", "GET", "/stac/collections/editors/items/soon-gone"), 410, "ITEM_DELETED")
    assert site.ask("other", "GET", f"{here}/data.tif").status_code == 404
    assert 400 <= site.ask("owner", "GET", pixels).status_code < 500
    again = item(site, "once-more", "editors", upload)
    is_problem(site.ask("owner", "POST", "/stac/collections/editors/items", json=again), 400, "HREF_REFUSED")
    assert site.rows(
        "select actor_id, body::jsonb ->> 'to' from lineage.event_outbox where name = %s", here[1:].replace("s/", "/")
    ) == [("user:cal", "detached")]
    assert site.ask("owner", "DELETE", here, headers=VERSION).status_code == 204
    assert site.done("owner", "GET", here)["state"] == "deleted"
    assert not (site.data_dir / "cogs" / f"{upload}.tif").exists()


def test_uploads_of_a_collection_that_was_deleted_are_detached_and_those_under_way_taken_back(
    site: Site, raster: Path
) -> None:
    make(site, "whole")
    uploads = [upload_of(site, "ann", "whole", name, raster) for name in ("one", "two")]
    for name, upload in zip(("one", "two"), uploads, strict=True):
        site.done("owner", "POST", "/stac/collections/whole/items", json=item(site, name, "whole", upload))
    site.rows("update federator.upload set state = 'converting' where id = %s", uploads[1])
    site.done("owner", "DELETE", "/stac/collections/whole")
    found = [site.done("owner", "GET", f"/uploads/{one}") for one in uploads]
    assert [one["state"] for one in found] == ["detached", "rejected"]
    assert found[1]["error"]["code"] == "DELETED"


def test_a_version_between_others_that_is_deleted_leaves_them_linked_and_a_stranger_as_he_is(site: Site) -> None:
    make(site, "versions", visibility="public")
    links = {
        "x": {"predecessor-version": "x~v2"},
        "x~v2": {"predecessor-version": "x~v1", "successor-version": "x", "latest-version": "x"},
        "x~v1": {"successor-version": "x~v2", "latest-version": "x"},
        "stranger": {"successor-version": "x", "latest-version": "x"},
    }

    def rels(name: str) -> dict[str, str]:
        document = site.done("owner", "GET", f"/stac/collections/versions/items/{name}")
        return {
            one["rel"]: one["href"].rpartition("/")[2] for one in document["links"] if one["rel"].endswith("-version")
        }

    for name, targets in links.items():
        document = editing.item(name, "versions")
        document["links"] = [{"rel": rel, "href": f"collections/versions/items/{to}"} for rel, to in targets.items()]
        site.done("owner", "POST", "/stac/collections/versions/items", json=document)
    assert {name: rels(name) for name in links} == links
    site.done("owner", "DELETE", "/stac/collections/versions/items/x~v2")
    assert rels("x") == {"predecessor-version": "x~v1"}
    assert rels("x~v1") == {"successor-version": "x", "latest-version": "x"}
    site.done("owner", "DELETE", "/stac/collections/versions/items/x")
    assert rels("x~v1") == {}
    assert rels("stranger") == links["stranger"]


def test_the_same_bytes_of_another_are_told_to_nobody(site: Site, raster: Path) -> None:
    make(site, "twins", visibility="public")
    uploads = {who: upload_of(site, who, "twins", f"twin-{who}-{n}", raster) for n, who in enumerate(("ann", "bob"))}
    site.rows("update federator.upload set sha256 = sha256('twins') where collection_id = 'twins'")
    assert site.done("other", "GET", f"/uploads/{uploads['bob']}")["same_as"] is None
    again = upload_of(site, "bob", "twins", "twin-bob-again", raster)
    site.rows("update federator.upload set sha256 = sha256('twins') where collection_id = 'twins'")
    assert site.done("other", "GET", f"/uploads/{again}")["same_as"]["upload"].endswith(uploads["bob"])


def test_a_writer_does_not_write_over_what_he_may_not_see(site: Site) -> None:
    make(site, "both-write", visibility="public", writers=["user:cal"])
    offered = [
        who for who in ("owner", "shared", "other") if "<option>both-write<" in site.ask(who, "GET", "/upload").text
    ]
    assert offered == ["owner", "shared"], "the upload page"
    put(site, "both-write", "secret")
    site.done("owner", "PUT", "/sharing/collections/both-write/items/secret", json={"visibility": "private"})
    before = site.done("owner", "GET", "/stac/collections/both-write/items/secret")
    body = {"items": {"secret": editing.item("secret", "both-write", platform="another")}, "method": "upsert"}
    refused = site.ask("shared", "POST", "/stac/collections/both-write/bulk_items", json=body)
    is_problem(refused, 409, "ITEM_EXISTS")
    missing = [site.ask("shared", "DELETE", f"/stac/collections/both-write/items/{one}") for one in ("secret", "none")]
    assert [one.status_code for one in missing] == [204, 204], "both as if they had gone before"
    assert site.done("owner", "GET", "/stac/collections/both-write/items/secret") == before

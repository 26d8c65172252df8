"""Registered searches over the running application: they belong to who made them, and show each caller what he may see."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.api.editing import is_problem
from tests.api.sharing_site import Site
from tests.api.tile_site import FIELDS, INSIDE, SECRET, values

BOX = "bbox/0,0,1,1/64x64.npy"
BOTH = {"collections": [FIELDS, SECRET]}


@pytest.fixture(scope="module")
def site(tiles: Site) -> Site:
    return tiles


def _registered(site: Site, who: str, search: dict[str, Any], **metadata: Any) -> str:
    return str(site.done(who, "POST", "/raster/searches/register", json={**search, "metadata": metadata})["id"])


def test_a_person_s_search_is_his_alone_unless_he_says_so(site: Site) -> None:
    own = _registered(site, "owner", BOTH, name="mine")
    assert values(site.ask("owner", "GET", f"/raster/searches/{own}/{BOX}?assets=data")) == {99}
    for who in ("anonymous", "other"):
        for path in (
            "info",
            BOX,
            "WebMercatorQuad/tilejson.json",
            "WMTSCapabilities.xml",
            "wms?request=GetCapabilities",
        ):
            there = site.ask(who, "GET", f"/raster/searches/{own}/{path}")
            absent = site.ask(who, "GET", f"/raster/searches/{'0' * 32}/{path}")
            assert (there.status_code, there.content) == (404, absent.content), (who, path)
    shared = _registered(site, "owner", BOTH, name="all", visibility="public")
    for who, expected in {"anonymous": {30, 20, 10}, "other": {30, 20, 10}, "owner": {99}, "admin": {99}}.items():
        assert values(site.ask(who, "GET", f"/raster/searches/{shared}/{BOX}?assets=data")) == expected, who


def test_ids_tell_nothing_and_the_same_search_has_one(site: Site) -> None:
    first = _registered(site, "owner", {"collections": [FIELDS]})
    assert _registered(site, "owner", {"collections": [FIELDS]}) == first
    assert _registered(site, "other", {"collections": [FIELDS]}) != first
    nobody = _registered(site, "anonymous", {"collections": [FIELDS]})
    assert nobody not in (
        first,
        _registered(
            site, "anonymous", {"collections": [FIELDS], "sortby": [{"field": "datetime", "direction": "asc"}]}
        ),
    )
    assert values(site.ask("other", "GET", f"/raster/searches/{nobody}/{BOX}?assets=data")) == {30, 20, 10}


def test_lists_show_the_caller_s_and_what_persons_made_public(site: Site) -> None:
    own = _registered(site, "other", {"collections": [FIELDS], "ids": ["old"]}, name="of bob")
    unlisted = _registered(site, "anonymous", {"ids": ["left"]})
    assert _registered(site, "other", {"ids": ["low"]}) != own
    found = {
        who: site.done(who, "GET", "/raster/searches/list?limit=1000")
        for who in ("anonymous", "owner", "other", "admin")
    }
    listed = {who: {one["search"]["id"] for one in page["searches"]} for who, page in found.items()}
    assert own in listed["other"]
    assert own in listed["admin"]
    assert not {own, unlisted} & (listed["anonymous"] | listed["owner"])
    assert unlisted in listed["admin"]
    named = site.done("other", "GET", "/raster/searches/", params={"name": "of bob"})
    assert [one["search"]["id"] for one in named["searches"]] == [own]
    assert named["context"] == {"returned": 1, "limit": 10, "matched": 1}
    page = site.done("admin", "GET", "/raster/searches/list?limit=1&offset=1")
    assert {one["rel"] for one in page["links"]} == {"self", "next", "prev"}


def test_it_is_removed_by_whom_it_belongs_to(site: Site) -> None:
    public = _registered(site, "owner", {"ids": ["old"]}, visibility="public")
    assert site.ask("anonymous", "DELETE", f"/raster/searches/{public}").status_code == 403
    assert site.ask("other", "DELETE", f"/raster/searches/{public}").status_code == 403
    assert site.ask("owner", "DELETE", f"/raster/searches/{public}").status_code == 204
    is_problem(site.ask("owner", "DELETE", f"/raster/searches/{public}"), 404, "NOT_FOUND")


def test_a_key_that_only_reads_removes_no_search(site: Site) -> None:
    own = _registered(site, "owner", {"ids": ["old"]}, name="kept")
    for who, scopes in {"reader": [], "uploader": ["upload"], "remover": ["stac:item:delete"]}.items():
        site.keys[who] = site.done("admin", "POST", "/auth/keys", json={"person": "ann", "scopes": scopes})["key"]
    for who in ("reader", "uploader"):
        assert site.ask(who, "GET", f"/raster/searches/{own}/info").is_success
        is_problem(site.ask(who, "DELETE", f"/raster/searches/{own}"), 403, "INSUFFICIENT_SCOPE")
    assert site.ask("remover", "DELETE", f"/raster/searches/{own}").status_code == 204
    left = _registered(site, "reader", {"ids": ["old"]}, name="anybody may register")
    assert site.ask("admin", "DELETE", f"/raster/searches/{left}").status_code == 204


@pytest.mark.parametrize("box", ["0,0,0.4,0.4", ["0", "0", "0.4", "0.4"], [0, 0, 0, 0.4, 0.4, 9]])
def test_a_box_that_is_a_text_is_stored_as_numbers(site: Site, box: Any) -> None:
    own = _registered(site, "other", {"collections": [FIELDS], "bbox": box})
    assert site.done("other", "GET", f"/raster/searches/{own}/info")["search"]["search"]["bbox"] == [0, 0, 0.4, 0.4]
    assert site.done("other", "GET", f"/raster/searches/{own}/WebMercatorQuad/tilejson.json")["bounds"] == [
        0,
        0,
        0.4,
        0.4,
    ]


def test_pages_of_a_list_keep_its_name_and_its_number(site: Site) -> None:
    for item in ("old", "left", "low"):
        _registered(site, "other", {"ids": [item]}, name="a & b")
    page = site.done("other", "GET", "/raster/searches/list", params={"name": "a & b", "limit": 1, "offset": 1})
    found = {one["rel"]: httpx.URL(one["href"]) for one in page["links"]}
    assert {rel: dict(url.params) for rel, url in found.items()} == {
        rel: {"limit": "1", "offset": str(offset), "name": "a & b"}
        for rel, offset in {"self": 1, "next": 2, "prev": 0}.items()
    }
    beyond = site.done("other", "GET", "/raster/searches/list", params={"name": "a & b", "offset": 50})
    assert beyond["context"] == {"returned": 0, "limit": 10, "matched": 3}
    assert {one["rel"] for one in beyond["links"]} == {"self", "prev"}


def test_it_finds_what_was_meant(site: Site) -> None:
    asked = [
        ({"ids": ["left"]}, {20}),
        ({"bbox": [0, 0, 0.4, 0.4], "sortby": [{"field": "datetime", "direction": "asc"}]}, {10}),
        ({"bbox": [0, 0, 0, 1, 1, 10]}, {30, 20, 10}),
        ({"filter": {"op": "<", "args": [{"property": "eo:cloud_cover"}, 60]}}, {20, 10}),
        ({"filter": "eo:cloud_cover > 60", "filter-lang": "cql2-text"}, {30}),
        ({"query": {"eo:cloud_cover": {"lt": 10}}}, {10}),
        ({"datetime": "2026-02-01T00:00:00Z"}, {20}),
        ({"intersects": {"type": "Point", "coordinates": [0.5, 0.5]}}, {30, 20, 10}),
    ]
    for search, expected in asked:
        own = _registered(site, "other", search)
        assert values(site.ask("other", "GET", f"/raster/searches/{own}/{BOX}?assets=data")) == expected, search
    own = _registered(
        site,
        "other",
        {"collections": [FIELDS]},
        minzoom=3,
        maxzoom=12,
        bounds=[0, 0, 1, 1],
        defaults={"x": {"assets": ["data"]}},
    )
    document = site.done("other", "GET", f"/raster/searches/{own}/WebMercatorQuad/tilejson.json")
    assert (document["minzoom"], document["maxzoom"], document["bounds"]) == (3, 12, [0, 0, 1, 1])
    assert set(document["raster_layers"]) == {"x"}
    info = site.done("other", "GET", f"/raster/searches/{own}/info")
    assert info["search"]["search"] == {"collections": [FIELDS]}
    assert info["search"]["metadata"]["minzoom"] == 3


def test_a_signature_opens_a_search_for_a_map(site: Site) -> None:
    own = _registered(site, "owner", {"collections": [SECRET]}, name="for a map")
    signed = site.done("owner", "POST", "/raster/signed", json={"search": own, "assets": ["data"]})
    answer = site.http.get(signed["tiles"].format(z=9, x=256, y=255).replace(".png", ".npy"))
    assert values(answer) == {10}
    assert "no-store" in answer.headers["cache-control"]
    other = _registered(site, "owner", {"ids": ["old"]})
    assert site.http.get(signed["tiles"].format(z=9, x=256, y=255).replace(own, other)).status_code == 403
    assert site.ask("other", "POST", "/raster/signed", json={"search": own}).status_code == 404
    assert site.ask("other", "POST", "/raster/signed", json={"search": own, "collection": FIELDS}).status_code == 400


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[]", b"{", b'{"bbox": [1, 2]}', b'{"ids": "\\u0000"}', b'{"datetime": "yesterday"}',
        b'{"unknown": 1}', b'{"metadata": 5}', b'{"metadata": {"bounds": [5, 5, 1, 1]}}', b'{"metadata": {"visibility": "all"}}',
        b'{"metadata": {"minzoom": -1}}', b'{"metadata": {"name": "\\u0000"}}', b'{"sortby": [{"field": "datetime", "direction": "up"}]}',
        b'{"sortby": [{"field": "geometry", "direction": "asc"}]}', b'{"filter": "eo:cloud_cover <"}', b"[" * 5000,
        b'{"bbox": [0, 0, 1, 1], "intersects": {"type": "Point", "coordinates": [0, 0]}}', b'{"collections": {"a": 1}}',
        b'{"intersects": {"type": "Nothing", "coordinates": [0, 0]}}', b'{"metadata": {"name": 5}}', b'{"ids": [5]}', b'{"query": []}',
    ],
)  # fmt: skip
def test_what_is_not_a_search_is_refused(site: Site, body: bytes) -> None:
    answer = site.ask("anonymous", "POST", "/raster/searches/register", content=body)
    if answer.status_code == 200:  # the database is the first to see that it is no geometry
        answer = site.ask("anonymous", "GET", f"/raster/searches/{answer.json()['id']}/tiles/{INSIDE}.png?assets=data")
    assert answer.status_code == 400, answer.text
    assert answer.json()["code"]


def test_the_oldest_of_too_many_goes(site: Site) -> None:
    """The last test: it pushes out."""
    first = _registered(site, "anonymous", {"ids": ["first"]})
    for number in range(20):
        _registered(site, "anonymous", {"ids": [f"number-{number}"]})
    is_problem(site.ask("anonymous", "GET", f"/raster/searches/{first}/info"), 404, "NOT_FOUND")

"""`/trace/api`: the log in the shape of the Copernicus service, over HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import jsonschema
import pytest

from db.settings import DatabaseSettings
from lineage.events import Kind
from tests.api.trace_site import V1, Traced, event, hashed, schema, summary, trace_site
from tests.shared import SHARED


@pytest.fixture(scope="module")
def site(postgres: DatabaseSettings, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traced]:
    with trace_site(postgres, template, tmp_path_factory.mktemp("traces")) as started:
        yield started


def test_members_stand_as_in_the_real_service(site: Traced) -> None:
    site.log(event(Kind.CREATE, "ordered", **hashed(1, inputs=[{"name": "a.tif", "hash": "ab" * 32}])))
    text = site.http.get(f"{V1}/name/ordered").text
    (trace,) = json.loads(text)
    assert text == json.dumps([trace], separators=(",", ":"), ensure_ascii=False)
    assert list(trace) == [
        "product",
        "event",
        "obsolescence",
        "hash_algorithm",
        "signature",
        "timestamp",
        "origin",
        "id",
    ]
    assert list(trace["product"]) == ["name", "hash", "size", "contents", "inputs"]
    assert list(trace["signature"]) == ["signature", "algorithm", "certificate", "message"]
    assert (trace["obsolescence"], trace["product"]["contents"]) == (None, None)
    datetime.strptime(trace["timestamp"], "%Y-%m-%dT%H:%M:%S.%fZ")
    if (SHARED / "lineage").exists():
        jsonschema.validate([trace], schema())


def test_a_replaced_product_is_obsolete_and_created_anew(site: Traced) -> None:
    site.log(event(Kind.CREATE, "replaced", **hashed(10)), event(Kind.UPDATE, "replaced"))
    site.log(event(Kind.REPLACE, "replaced", **hashed(11)))
    traces = site.found("/name/replaced")
    assert summary(traces) == [("CREATE", 10), ("OBSOLETE", 10), ("CREATE", 11)]
    assert len({one["id"] for one in traces}) == 3
    assert [bool(one["signature"]["signature"]) for one in traces] == [True, False, True]
    assert [bool(one["obsolescence"]) for one in traces] == [False, True, False]
    for one in traces:
        assert site.http.get(f"{V1}/{one['id']}").json() == one
    assert summary(site.found(f"/hash/{10:064x}")) == [("CREATE", 10), ("OBSOLETE", 10)]
    assert summary(site.found(f"/hash/{11:064x}")) == [("CREATE", 11)]
    assert [one["id"] for one in site.found("/obsolete", name_prefix="repl")] == [traces[1]["id"]]


def test_of_an_item_of_several_files_the_replaced_one_is_obsolete(site: Traced) -> None:
    site.log(
        event(Kind.CREATE, "several", **hashed(15, upload="u1")),
        event(Kind.UPDATE, "several", **hashed(16, upload="u2", asset="second")),
        event(Kind.REPLACE, "several", **hashed(17, upload="u3", replaced="u2")),
    )
    assert summary(site.found("/name/several")) == [("CREATE", 15), ("OBSOLETE", 16), ("CREATE", 17)]
    assert summary(site.found(f"/hash/{15:064x}")) == [("CREATE", 15)]
    assert summary(site.found(f"/hash/{16:064x}")) == [("OBSOLETE", 16)]
    site.log(event(Kind.REPLACE, "several", **hashed(18, upload="u4", predecessor="several~v1")))
    for number in (15, 17):
        assert summary(site.found(f"/hash/{number:064x}"))[-1] == ("OBSOLETE", number)
    assert len(site.found(f"/hash/{16:064x}")) == 1


def test_a_source_that_replaces_holds_a_copy(site: Traced) -> None:
    site.log(event(Kind.REGISTER, "recalculated", "demo", **hashed(12)))
    site.log(event(Kind.REPLACE, "recalculated", "demo", **hashed(13)))
    assert summary(site.found("/name/recalculated")) == [("COPY", 12), ("OBSOLETE", 12), ("COPY", 13)]


def test_what_ends_a_product_is_found_by_its_hash(site: Traced) -> None:
    site.log(event(Kind.REGISTER, "ended", "demo", **hashed(20)), event(Kind.COPY, "ended", "other", **hashed(21)))
    site.log(event(Kind.WITHDRAW, "ended", "demo", reason="Corrupted"))
    for number in (20, 21):
        assert summary(site.found(f"/hash/{number:064x}")) == [("COPY", number), ("OBSOLETE", number)]
    assert site.found(f"/hash/{20:064x}")[1]["obsolescence"] == "Corrupted"
    site.log(event(Kind.RESTORE, "ended", "demo"))
    assert summary(site.found("/name/ended"))[-1][0] == "COPY"
    site.log(event(Kind.CREATE, "deleted", **hashed(22)), event(Kind.DELETE, "deleted"))
    assert summary(site.found(f"/hash/{22:064x}")) == [("CREATE", 22), ("DELETE", 22)]


def test_pages_follow_each_other(site: Traced) -> None:
    site.log(*(event(Kind.REPLACE, "long", **hashed(1000 + number)) for number in range(27)))
    whole = site.found("/name/long", limit=1000)
    assert len(whole) == 53
    assert len(site.found("/name/long")) == 50
    for limit in (1, 2, 7, 50, 53):
        found, url = [], f"{V1}/name/long?limit={limit}"
        while url:
            answer = site.http.get(url)
            found += answer.json()
            assert len(answer.json()) <= limit
            url = answer.links.get("next", {}).get("url", "")
            if limit < 7 and len(found) > 10:
                break
        assert found == whole[: len(found)], limit
        assert len(found) > 10


def test_names_are_decoded_once(site: Traced) -> None:
    for name in ("a/b c", "100%25", "name", "x&y=<z>"):
        site.log(event(Kind.CREATE, name, **hashed(30)))
    for path, name in (("a/b%20c", "a/b c"), ("100%2525", "100%25"), ("name", "name"), ("x%26y=%3Cz%3E", "x&y=<z>")):
        assert [one["product"]["name"] for one in site.found(f"/name/{path}")] == [name]
    assert site.found("/name/100%25") == []
    (trace,) = site.found("/name/x%26y=%3Cz%3E")
    assert '"name":"x\\u0026y=\\u003cz\\u003e"' in trace["signature"]["message"]


def test_validation_by_name_and_hash(site: Traced) -> None:
    site.log(event(Kind.CREATE, "judged/one", **hashed(40)))
    for path, given in (
        ("/judged/one/validate", {"filehash": f"{40:064X}"}),
        ("/validate", {"product_name": "judged/one", "hash": f"{40:064x}"}),
    ):
        answer = site.http.get(V1 + path, params=given)
        assert answer.json() == {"success": True, "message": "the hash is in a trace of this product"}
    wrong = site.http.get(f"{V1}/judged/one/validate", params={"filehash": f"{41:064x}"})
    assert (wrong.status_code, wrong.json()["success"]) == (200, False)
    site.log(event(Kind.REPLACE, "judged/one", **hashed(41)))
    old = site.http.get(f"{V1}/judged/one/validate", params={"filehash": f"{40:064x}"}).json()
    assert old == {"success": False, "message": "the product of this hash was replaced by a newer one"}
    assert site.http.get(f"{V1}/nobody/validate", params={"filehash": "00"}).json()["success"] is False


def test_obsolete_by_prefix_and_time(site: Traced) -> None:
    before = datetime.now(UTC)
    site.log(
        event(Kind.REGISTER, "S9_OLD", "demo", **hashed(50)), event(Kind.OBSOLETE, "S9_OLD", "demo", successor="S9_NEW")
    )
    after = datetime.now(UTC) + timedelta(seconds=1)
    assert summary(site.found("/obsolete", name_prefix="S9_")) == [("OBSOLETE", 50)]
    within = {"name_prefix": "S9_", "start": before.isoformat(), "end": after.isoformat()}
    assert len(site.found("/obsolete", **within)) == 1
    assert site.found("/obsolete", name_prefix="S9_", start=after.isoformat()) == []
    assert site.found("/obsolete", name_prefix="S9_", end=before.isoformat()) == []
    assert site.found("/obsolete", name_prefix="S9%") == []


@pytest.mark.parametrize(
    "path",
    [
        "/hash/xyz", "/hash/abc", "/hash/" + "0" * 130, "/name/a?limit=0", "/name/a?limit=1001", "/name/a?after=x", "/name/" + "n" * 513,
        "/name/%00", "/validate", "/validate?product_name=a", "/a/validate", "/a/validate?filehash=zz", "/obsolete?start=yesterday",
        f"/name/a?after={'9' * 5000}",
    ],
)  # fmt: skip
def test_wrong_questions_are_422(site: Traced, path: str) -> None:
    answer = site.http.get(V1 + path)
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json"), answer.text


def test_only_an_id_is_404(site: Traced) -> None:
    for path in ("/unknown", "/7374c9be-84c5-4ea4-8b2b-b1e9b1a539d7", "/%00", "/" + "x" * 300):
        assert site.http.get(V1 + path).status_code == 404
    assert site.found("/name/unknown") == site.found("/hash/00") == site.found("/obsolete", name_prefix="unknown") == []

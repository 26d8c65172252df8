"""Traces of others: registered, passed on, judged; over HTTP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jsonschema
import psycopg
import pytest

from db.pools import open_pool
from db.settings import DatabaseSettings
from lineage.audit import audit
from lineage.audit_traces import trace_faults
from lineage.events import Kind
from tests.api import editing
from tests.api.editing import is_problem
from tests.api.trace_site import V1, Traced, changed, event, hashed, schema, trace_site
from tests.lineage.trace_making import ann, answered, holder, made, product
from tests.shared import SHARED, shared_path


@pytest.fixture(scope="module")
def site(postgres: DatabaseSettings, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traced]:
    with trace_site(postgres, template, tmp_path_factory.mktemp("traces")) as started:
        yield started


def test_a_registered_trace_is_shown_as_it_was_signed(site: Traced) -> None:
    described = product(100, contents=[{"path": "a/<b>&.tif", "hash": "cd" * 32}], inputs=[])
    described["contents"][0]["path"] = "a/b.tif"
    trace = made(ann(), described)
    answer = site.put([trace])
    assert answer.status_code == 201, answer.text
    assert answer.json() == {
        "success": 1, "error": 0, "traces": [{"success": True, "message": f"queued: {described['name']}"}],
    }  # fmt: skip
    assert site.found(f"/hash/{100:064x}") == []  # queued
    site.log()
    (shown,) = site.found(f"/hash/{100:064x}")
    assert shown["origin"] == f"ann@{urlsplit(str(site.http.base_url)).hostname}"
    assert {name: shown[name] for name in ("event", "hash_algorithm", "signature")} == {
        name: trace[name] for name in ("event", "hash_algorithm", "signature")
    }
    assert shown["product"] == described  # an empty list stays one
    assert site.found("/name/PRODUCT_100") == [shown] == site.found(f"/hash/{'cd' * 32}")
    assert site.http.get(f"{V1}/{shown['id']}").json() == shown
    ((kind, actor, body),) = site.rows(f"select kind, actor_id, body from lineage.event where id = '{shown['id']}'")
    assert (kind, actor) == ("CREATE", "user:ann")
    ((sha256,),) = site.rows(
        f"select encode(sha256(convert_to(raw, 'UTF8')), 'hex') from lineage.foreign_trace where event_id = '{shown['id']}'"
    )
    assert json.loads(body)["trace_sha256"] == sha256
    if (SHARED / "lineage").exists():
        jsonschema.validate([shown], schema())
    verdict = site.http.get(f"/lineage/v1/traces/{shown['id']}/verdict").json()
    assert (verdict["signature"], verdict["certificate"], verdict["log"]) == ("ok", "self_signed", "included")


def test_a_call_is_all_or_nothing(site: Traced) -> None:
    before = site.rows("select count(*) from lineage.foreign_trace")
    good, other = made(ann(), product(200)), made(ann(), product(201))
    many = [made(ann(), product(300 + number)) for number in range(51)]
    cases: list[tuple[Any, str]] = [
        ([], "NO_TRACES"),
        (many, "INVALID_TRACE"),
        ({"traces": [good]}, "INVALID_TRACE"),
        (good, "INVALID_TRACE"),
        ([good, made(ann(), product(202), "COPY")], "EVENTS_DIFFER"),
        ([good, other, good], "TRACE_TWICE"),
        ([good, made(None, product(203))], "UNSIGNED"),
        ([good, changed(other, "product/size", 5)], "SIGNATURE_REFUSED"),
        ([good, changed(other, "signature/signature", good["signature"]["signature"])], "SIGNATURE_REFUSED"),
        ([good, changed(other, "signature/signature", "!!")], "SIGNATURE_REFUSED"),
        ([good, changed(other, "signature/certificate", "AAAA")], "SIGNATURE_REFUSED"),
        ([good, changed(other, "event", "EXPLODE")], "INVALID_TRACE"),
        ([good, changed(other, "hash_algorithm", "MD5")], "UNKNOWN_ALGORITHM"),
        ([good, changed(other, "product/hash", "AB" * 32)], "INVALID_TRACE"),
        ([good, changed(other, "product/hash", "ab")], "INVALID_HASH"),
        ([good, changed(other, "product/size", -1)], "INVALID_TRACE"),
        ([good, changed(other, "product/size", 2**63)], "INVALID_TRACE"),
        ([good, changed(other, "product/size", True)], "INVALID_TRACE"),
        ([good, changed(other, "product/name", "n" * 513)], "INVALID_TRACE"),
        ([good, changed(other, "product/name", "a\0b")], "INVALID_TRACE"),
        ([good, None], "INVALID_TRACE"),
        ([good, made(holder("ann", ends=datetime.now(UTC) - timedelta(days=1)), product(204))], "CERTIFICATE_REFUSED"),
    ]
    for body, code in cases:
        is_problem(site.put(body), 422, code)
    for text in (b"", b"[", b"[1", b'["\xff"]', b"[" * 100_000, b'[{"event":"CREATE","event":"COPY"}]', b'["\\ud800"]'):
        is_problem(site.ask("ann", "PUT", V1, content=text), 422, "INVALID_TRACE")
    is_problem(site.ask("ann", "PUT", V1, content=b" " * (8 * 2**20 + 1)), 413, "BODY_TOO_LARGE")
    assert site.rows("select count(*) from lineage.foreign_trace") == before
    assert site.put(many[:50]).json()["success"] == 50


def test_who_may_register(site: Traced) -> None:
    trace = made(ann(), product(400))
    assert site.put([trace], "nobody").status_code == 401
    is_problem(site.put([trace], "reader"), 403, "INSUFFICIENT_SCOPE")
    is_problem(site.put([trace], "bob"), 403, "IDENTITY_DIFFERS")
    is_problem(site.put([trace], "operator"), 403, "IDENTITY_DIFFERS")  # an operator signs for nobody else
    host = urlsplit(str(site.http.base_url)).hostname
    assert site.put([made(holder("B. Obbs", email=f"bob@{host}"), product(401))], "bob").status_code == 201
    is_problem(
        site.put([made(holder("B. Obbs", email="bob@example.org"), product(402))], "bob"), 403, "IDENTITY_DIFFERS"
    )


def test_trace_cli_without_a_token_is_nobody_in_particular(site: Traced) -> None:
    """It sends `Authorization: Bearer` without a token on every request (main.go: CreateClient)."""
    empty = {"Authorization": "Bearer"}
    assert site.http.get(f"{V1}/hash/00", headers=empty).json() == []
    assert site.http.get("/trace/api/status", headers=empty).json()["status"] in ("running", "degraded")
    assert site.http.put(V1, headers=empty, json=[made(ann(), product(405))]).status_code == 401
    assert site.http.get(f"{V1}/hash/00", headers={"Authorization": "Bearer x"}).status_code == 401
    assert site.http.get("/stac", headers=empty).status_code == 401


def test_a_registered_key_is_enough(site: Traced, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    strange = holder("trace.example.org", kind="rsa")
    is_problem(site.put([made(strange, product(410))], "bob"), 403, "IDENTITY_DIFFERS")
    for which, content in (("key.pem", strange.public_pem), ("certificate.pem", strange.pem)):
        (tmp_path / which).write_bytes(content)
    assert command(site, monkeypatch, "add", "bob", str(tmp_path / "key.pem"), "--title", "his").startswith("bob")
    assert site.put([made(strange, product(410))], "bob").status_code == 201
    is_problem(site.put([made(strange, product(411))], "ann"), 403, "IDENTITY_DIFFERS")
    assert "is bob's" in command(site, monkeypatch, "add", "ann", str(tmp_path / "certificate.pem"), fails=True)
    (listed,) = json.loads(command(site, monkeypatch, "list", "--json"))
    assert (listed["owner"], listed["kind"], listed["revoked"]) == ("bob", "RSA-2048", None)
    site.log()
    (shown,) = site.found(f"/hash/{410:064x}")
    verdict = site.http.get(f"/lineage/v1/traces/{shown['id']}/verdict").json()
    assert (verdict["certificate"], verdict["overall"]) == ("valid", "good")
    command(site, monkeypatch, "revoke", listed["id"])
    is_problem(site.put([made(strange, product(412))], "bob"), 403, "IDENTITY_DIFFERS")


def command(site: Traced, monkeypatch: pytest.MonkeyPatch, *words: str, fails: bool = False) -> str:
    """Run `python -m api trace-keys ...` on the site's database; what it says."""
    from typer.testing import CliRunner

    from api.__main__ import app

    monkeypatch.setenv("PGHOST", site.database.pghost)
    monkeypatch.setenv("PGPORT", str(site.database.pgport))
    monkeypatch.setenv("PGDATABASE", site.database.pgdatabase)
    monkeypatch.setenv("PGUSER", site.database.pguser)
    monkeypatch.setenv("PGPASSWORD", site.database.pgpassword.get_secret_value())
    done = CliRunner().invoke(app, ["trace-keys", *words])
    assert (done.exit_code != 0) == fails, done.output
    return done.output


def test_what_was_signed_is_registered_once(site: Traced) -> None:
    trace = made(ann(), product(420))
    assert site.put([trace]).status_code == 201
    is_problem(site.put([trace]), 422, "TRACE_REPLAYED")
    again = made(ann(), product(420))  # signed anew: the same words
    is_problem(site.put([made(ann(), product(421)), again]), 422, "TRACE_REPLAYED")
    site.log()
    assert site.found(f"/hash/{421:064x}") == []
    assert site.put([made(ann(), product(420), "DELETE")]).status_code == 201


def test_of_two_at_once_one_is_a_replay(site: Traced) -> None:
    trace = made(ann(), product(425))
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda _: site.put([made(ann(), product(426)), trace]).status_code, range(4)))
    assert sorted(answers) == [201, 422, 422, 422]


def test_a_log_with_witnesses_is_unwitnessed_until_one_has_seen_it(site: Traced) -> None:
    site.log(event(Kind.CREATE, "witnessed", **hashed(427)))
    (trace,) = site.found("/name/witnessed")
    verdict = f"/lineage/v1/traces/{trace['id']}/verdict"
    site.app.state.has_witnesses = True
    try:
        assert site.http.get(verdict).json()["log"] == "unwitnessed"
        size = "select max(size), 'witness+00000000', E'\\u2014 witness AAAA\\n' from lineage.checkpoint"
        site.rows(f"insert into lineage.cosignature (size, witness, line) {size} returning size")
        assert site.http.get(verdict).json()["log"] == "included"
    finally:
        site.app.state.has_witnesses = False


def test_an_operator_passes_on_the_traces_of_another_service(site: Traced) -> None:
    trace = answered(made(holder("trace.example.org"), product(430)), 430)
    text = json.dumps([trace], indent=1)
    is_problem(site.ask("ann", "PUT", V1, content=text), 403, "IDENTITY_DIFFERS")
    assert site.ask("operator", "PUT", V1, content=text).status_code == 201
    is_problem(site.ask("operator", "PUT", V1, content=text), 422, "TRACE_REPLAYED")
    site.log()
    answer = site.http.get(f"{V1}/{trace['id']}")
    assert answer.json() == trace
    assert json.dumps(trace, indent=1).replace("\n", "\n ") in f" {answer.text}"  # word for word
    assert answer.links["describedby"]["url"].endswith(f"/lineage/v1/traces/{trace['id']}/verdict")
    verdict = site.http.get(answer.links["describedby"]["url"]).json()
    assert (verdict["signature"], verdict["certificate"], verdict["overall"]) == ("ok", "self_signed", "doubtful")
    assert verdict["log"] == "included"


def test_the_real_sample_is_signed_by_what_had_expired(site: Traced) -> None:
    sample = shared_path("lineage", "cdse-trace", "trace_S2A_MSIL1C_20230420T100021_T33UVP_create.json").read_bytes()
    (trace,) = json.loads(sample)
    judged = site.http.post("/lineage/v1/verify", content=sample)
    assert judged.status_code == 200, judged.text
    (verdict,) = judged.json()["verdicts"]
    assert (verdict["signature"], verdict["certificate"]) == ("ok", "expired_at_trace_time")
    assert (verdict["content"], verdict["log"], verdict["overall"]) == (None, "absent", "doubtful")
    assert site.ask("operator", "PUT", V1, content=sample).status_code == 201
    site.log()
    assert site.found(f"/hash/{trace['product']['hash']}") == [trace]
    assert site.found("/name/S2A_MSIL1C_20230420T100021_N0509_R122_T33UVP_20230420T120027.SAFE") == [trace]
    verdict = site.http.get(f"/lineage/v1/traces/{trace['id']}/verdict").json()
    assert (verdict["signature"], verdict["certificate"], verdict["log"]) == ("ok", "expired_at_trace_time", "included")
    assert site.http.post("/lineage/v1/verify", json=trace).json()["log"] == "included"


def test_a_verdict_names_every_fault_by_itself(site: Traced) -> None:
    good = answered(made(ann(), product(500, contents=[{"path": "P/a", "hash": "ee" * 32}])))

    def asked(trace: Any, **more: Any) -> dict[str, Any]:
        answer = site.http.post("/lineage/v1/verify", json={"trace": trace, **more} if more else trace)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    whole = {"hashes": {"BLAKE3": f"{500:064x}"}}
    assert asked(good, content=whole, policy=["signature", "content"])["overall"] == "good"
    assert asked(good, content={"hashes": {"BLAKE3": "00" * 32}})["content"] == "mismatch"
    assert asked(good, content={"hashes": {"BLAKE3": "ee" * 32}})["content"] == "partial"
    assert asked(good, content={"hashes": {"SHA256": "ee" * 32}})["content"] == "wrong_algorithm"
    assert (
        asked(good, content={"contents": [{"path": "P/b", "hashes": {"BLAKE3": "ee" * 32}}]})["content"] == "not_listed"
    )
    wrong = asked(changed(good, "product/size", 1))
    assert (wrong["signature"], wrong["reasons"][0]["code"], wrong["overall"]) == ("bad", "MESSAGE_DIFFERS", "bad")
    assert asked(changed(good, "origin", "somebody@else"))["signature"] == "ok"  # nobody signs the origin
    assert "origin" in wrong["not_signed"]
    ended = made(ann(), product(501)), answered(made(ann(), product(501)))
    assert site.put([ended[0]]).status_code == 201
    assert site.put([made(ann(), product(501), "OBSOLETE", obsolescence="wrong")]).status_code == 201
    site.log()
    assert asked(ended[1])["status"] == "obsolete"
    other = answered(made(holder("bob"), product(501)))
    assert asked(other)["status"] == "unknown"  # another's word does not count
    for body in (
        b"{}",
        b"[]",
        b'{"trace":{}}',
        b'{"trace":1,"traces":2}',
        b'{"traces":[],"policy":["all"]}',
        b"\xff",
        b"1",
    ):
        is_problem(site.http.post("/lineage/v1/verify", content=body), 422, "INVALID_TRACE")


def test_traces_told_of_an_item(site: Traced) -> None:
    assert site.ask("ann", "POST", "/stac/collections", json=editing.collection("anns")).status_code == 201
    shared = {"visibility": "public", "readers": []}
    assert site.ask("operator", "PUT", "/sharing/collections/anns", json=shared).status_code == 200
    name = "S2A_TOLD"
    assert site.ask("ann", "POST", "/stac/collections/anns/items", json=editing.item(name, "anns")).status_code == 201
    url = f"/lineage/v1/collections/anns/items/{name}/traces"
    forged = answered(made(holder("ESA"), product(600, name=f"{name}.SAFE.zip"), "OBSOLETE", obsolescence="a lie"), 600)
    is_problem(site.ask("bob", "POST", url, json=forged), 403, "NOT_ALLOWED")
    is_problem(site.ask("ann", "POST", url, json=answered(made(ann(), product(601)), 601)), 422, "TRACE_OF_ANOTHER")
    told = site.ask("ann", "POST", url, json=forged)
    assert (told.status_code, told.json()["verdict"]["certificate"]) == (201, "self_signed")
    again = site.ask("ann", "POST", url, json=forged)
    assert (again.status_code, again.json()) == (200, told.json())
    (kept,) = site.http.get(url).json()
    assert (kept["trace"], kept["verdict"], kept["is_passed_on"]) == (forged, told.json()["verdict"], False)
    site.log()
    # Whoever writes an item may not speak through the façade in another's name; an operator may pass on.
    assert site.found(f"/hash/{600:064x}") == []
    trusted = answered(made(holder("ESA"), product(602, name=f"{name}.SAFE.zip")), 602)
    assert site.ask("operator", "POST", url, json=trusted).status_code == 201
    site.log()
    assert site.found(f"/hash/{602:064x}") == [trusted]
    assert [one["trace"] for one in site.http.get(url).json()] == [forged, trusted]
    assert site.http.get("/lineage/v1/collections/anns/items/none/traces").json() == []


def test_the_audit_finds_what_was_done_to_foreign_traces(site: Traced) -> None:
    """The last but one test: it changes what may not be changed."""
    assert site.put([made(ann(), product(800 + number)) for number in range(3)]).status_code == 201
    site.log(event(Kind.CREATE, "audited", **hashed(810)), event(Kind.REPLACE, "audited", **hashed(811)))

    async def work() -> list[str]:
        async with open_pool(site.database) as pool, pool.connection() as conn:
            return [fault.code for fault in await audit(conn, checks=[trace_faults])]

    async def after(change: str) -> list[str]:
        async with open_pool(site.database) as pool, pool.connection() as conn, conn.transaction(force_rollback=True):
            await conn.execute("set local session_replication_role = replica")
            await conn.execute(change.encode())
            return [fault.code async for fault in trace_faults(conn)]

    assert asyncio.run(work()) == []
    columns = (
        "origin = 'eve'",
        "trace_id = 'x'",
        "product_name = 'x'",
        "event = 'DELETE'",
        "verdict = '{}'",
        "item_id = 'x', collection = 'x'",
    )
    which = "event_id = (select min(event_id::text)::uuid from lineage.foreign_trace where key_sha256 is not null)"
    for change in (
        *(f"update lineage.foreign_trace set {column} where {which}" for column in columns),
        f"update lineage.foreign_trace set key_sha256 = null where {which}",
        f"delete from lineage.foreign_trace_hash where {which}",
        f"insert into lineage.foreign_trace_hash select sha256('x'), event_id from lineage.foreign_trace where {which}",
    ):
        assert asyncio.run(after(change)) == ["trace-differs"], change
    with psycopg.connect(site.database.conninfo) as conn:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            conn.execute("update lineage.foreign_trace set raw = raw")
        conn.rollback()
        conn.execute("set session_replication_role = replica")  # as the owner of the database can
        where = "where product_name = 'PRODUCT_80%s.SAFE.zip'"
        conn.execute(f"update lineage.foreign_trace set raw = raw || ' ' {where % 0}".encode())
        conn.execute(f"delete from lineage.foreign_trace {where % 1}".encode())
        columns = "origin_kind, is_passed_on, event, product_name, raw, raw_sha256, verdict"
        conn.execute(
            f"insert into lineage.foreign_trace (event_id, {columns}) select gen_random_uuid(), 'upstream', true, event, product_name, raw,"
            f" raw_sha256, verdict from lineage.foreign_trace {where % 2}".encode()
        )
    assert sorted(asyncio.run(work())) == ["trace-added", "trace-differs", "trace-missing"]


def test_the_facade_signs_as_an_authority_that_is_known(site: Traced) -> None:
    site.log(event(Kind.CREATE, "ours", **hashed(700)))
    (trace,) = site.found("/name/ours")
    verdict = site.http.get(f"/lineage/v1/traces/{trace['id']}/verdict").json()
    assert (verdict["signature"], verdict["certificate"], verdict["status"], verdict["overall"]) == (
        "ok", "valid", "current", "good",
    )  # fmt: skip


def test_long_traces_of_others_do_not_fill_the_memory(site: Traced, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"{number:064x}" for number in range(900, 905)]
    for digest in names:
        registered = made(ann(), changed(product(900), "hash", digest))
        assert site.put([registered]).status_code == 201
    site.log()
    whole = site.found("/name/PRODUCT_900")
    assert [one["product"]["hash"] for one in whole] == names
    monkeypatch.setattr("lineage.trace._MOST_CHARACTERS", len(json.dumps(whole[0])))
    monkeypatch.setattr("lineage.trace._ROWS", 2)
    walked, path = [], f"{V1}/name/PRODUCT_900"
    while path:
        answer = site.http.get(path)
        assert 1 <= len(answer.json()) <= 2
        walked += answer.json()
        path = answer.links.get("next", {}).get("url", "")
    assert walked == whole
    validated = site.http.get(f"{V1}/validate", params={"product_name": "PRODUCT_900", "hash": names[-1]}).json()
    assert validated["success"]

"""`/trace/api` and what traces are worth, over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import jsonschema
import psycopg
import pytest

from api.main import create_app
from api.settings import ApiSettings
from db.pools import open_pool
from db.settings import DatabaseSettings
from lineage import log
from lineage.audit import audit
from lineage.audit_traces import trace_faults
from lineage.events import Event, Kind
from lineage.ids import uuid7
from lineage.keys import Signer, load_signer
from lineage.sequencer import sequence
from lineage.settings import LineageSettings
from tests.api import editing
from tests.api.editing import is_problem
from tests.api.server import listening, serving
from tests.conftest import cloned
from tests.lineage.trace_making import ann, answered, holder, made, product
from tests.shared import SHARED, shared_path

TOKEN = "a-token-for-the-test"
V1 = "/trace/api/v1/traces"


@dataclass
class Traced:
    """The application, callers' credentials, and its log."""

    http: httpx.Client
    database: DatabaseSettings
    signer: Signer
    keys: dict[str, str]
    app: Any

    def ask(self, who: str, method: str, path: str, **given: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.keys[who]}"} if who in self.keys else {}
        return self.http.request(method, path, headers=headers, **given)

    def put(self, traces: Any, who: str = "ann") -> httpx.Response:
        return self.ask(who, "PUT", V1, json=traces)

    def log(self, *events: Event) -> None:
        """Let things happen, and give what waits its numbers."""

        async def work() -> None:
            async with open_pool(self.database) as pool:
                async with pool.connection() as conn, conn.transaction():
                    await log.append(conn, *events)
                await sequence(pool, self.signer)

        asyncio.run(work())

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.database.conninfo, autocommit=True) as conn:
            return conn.execute(query.encode()).fetchall()

    def found(self, path: str, **parameters: Any) -> list[dict[str, Any]]:
        answer = self.http.get(V1 + path, params=parameters)
        assert answer.status_code == 200, answer.text
        found: list[dict[str, Any]] = answer.json()
        return found


@pytest.fixture(scope="module")
def site(postgres: DatabaseSettings, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traced]:
    folder = tmp_path_factory.mktemp("traces")
    listener, url = listening()
    with contextlib.ExitStack() as stack:
        database = stack.enter_context(cloned(postgres, template))
        app = create_app(ApiSettings(data_dir=folder, public_url=url, api_token=TOKEN), database)
        stack.enter_context(serving(app, listener))
        http = stack.enter_context(httpx.Client(base_url=url, timeout=60))
        signer = load_signer(LineageSettings(data_dir=folder))
        site = Traced(http, database, signer, {"operator": TOKEN}, app)
        for name in ("ann", "bob"):
            may = ["trace:register", "stac:item:update", "stac:item:create", "stac:collection:create"]
            made = site.ask("operator", "POST", "/auth/users", json={"name": name, "scopes": may})
            assert made.status_code == 201, made.text
            key = site.ask("operator", "POST", "/auth/keys", json={"person": name, "scopes": may})
            site.keys[name] = key.json()["key"]
        reader = site.ask("operator", "POST", "/auth/keys", json={"person": "bob", "scopes": []})
        site.keys["reader"] = reader.json()["key"]
        yield site


def event(kind: Kind, name: str, source: str = "own", **body: Any) -> Event:
    return Event(uuid7(), kind, name, source, "things", f"item-{name}", "tester", datetime.now(UTC), body)


def hashed(number: int, **more: Any) -> dict[str, Any]:
    return {"size": 10, "hashes": [{"alg": "BLAKE3", "digest": f"{number:064x}"}], **more}


def schema() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(shared_path("lineage", "cdse-trace", "trace.schema.json").read_text())
    return loaded


def summary(traces: list[dict[str, Any]]) -> list[tuple[str, int]]:
    return [(one["event"], int(one["product"]["hash"] or "0", 16)) for one in traces]


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


def changed(trace: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """The trace with another value somewhere."""
    copy = json.loads(json.dumps(trace))
    *places, last = path.split("/")
    where = copy
    for place in places:
        where = where[place]
    where[last] = value
    return copy


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
        size = "select max(size), 'witness+00000000', 'a line' from lineage.checkpoint"
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

    assert asyncio.run(work()) == []
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

"""Traces and documents of harvested products are fetched where the source's file says so, judged, kept word for word, and never trusted."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx
import orjson
import pytest

from db.pools import Pool
from ingest.collection_files import ensure_collections
from ingest.errors import SourceInvalid
from ingest.harvest import Order, Tools, harvest
from ingest.http import Patience
from ingest.model import Provenance, Signing, Source
from ingest.outside import HostRefused, PinnedBackend, is_public, pinned_transport
from ingest.source_files import read_source
from ingest.upstream_lineage import Asking, ask, names_to_ask
from lineage import trace
from lineage.keys import Signer, load_signer
from lineage.projector import project
from lineage.sequencer import sequence
from lineage.settings import LineageSettings
from tests.ingest.bench import FIRST, L1C, MAPPING, Bench
from tests.ingest.odata_server import ODataServer, s2_product
from tests.lineage.trace_making import answered, holder, made

PATIENCE = Patience(attempts=1, base_s=0)
TRACES = "https://trace.example.org/api"
BOMB = b'<!DOCTYPE a [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]><a><L1C_TILE_ID>&b;</L1C_TILE_ID></a>'
XXE = b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a><L1C_TILE_ID>&x;</L1C_TILE_ID></a>'


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    return load_signer(LineageSettings(data_dir=tmp_path_factory.mktemp("keys")))


@pytest.fixture
async def bench(pool: Pool) -> Bench:
    await ensure_collections(pool)
    return Bench(pool)


def name(number: int) -> str:
    return str(s2_product(number)["Name"])


def signed(number: int, by: str = "trace.example.org", **changes: Any) -> dict[str, Any]:
    product = {"name": f"{name(number)}.zip", "size": 5, "hash": f"{number:064x}", **changes}
    return answered(made(holder(by), product), number)


class Upstream:
    """The catalogue, its traceability service and its files; notes what was asked beside the catalogue."""

    def __init__(self, products: int = 1) -> None:
        self.catalogue = ODataServer([s2_product(number) for number in range(products)])
        self.traces: dict[str, Any] = {}
        self.document: Callable[[httpx.Request], httpx.Response] = lambda request: httpx.Response(404)
        self.asked: list[str] = []
        self.is_down = False

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path = unquote(request.url.path)
        if request.url.host == "trace.example.org":
            self.asked.append(path.rpartition("/")[2])
            assert "authorization" not in request.headers
            if self.is_down:
                return httpx.Response(503)
            body = self.traces.get(path.rpartition("/")[2], [])
            return body if isinstance(body, httpx.Response) else httpx.Response(200, json=body)
        if path.endswith("$value") or request.url.host != "first.example.org":
            self.asked.append(str(request.url))
            return self.document(request)
        return self.catalogue(request)

    async def run(self, bench: Bench, provenance: Provenance | None, **changes: Any) -> None:
        source = replace(FIRST, provenance=provenance, asset_hosts=("first.example.org",), **changes)
        tools = Tools(bench.pool, {"first": source}, 10, PATIENCE, inner=httpx.MockTransport(self))
        assert (await harvest(Order(source, MAPPING), tools)).status == "done"


WITH_TRACES = Provenance(traces=TRACES, requests_per_second=1e6)
WITH_DOCUMENTS = Provenance(documents=("Product", "no-such-asset"), requests_per_second=1e6)


async def waiting(bench: Bench) -> int:
    (number,) = await bench.column("select count(*) from federator.lineage_due")
    return int(number)


async def kept(bench: Bench) -> list[dict[str, Any]]:
    rows = await bench.rows(
        "select raw, verdict, is_passed_on, origin_kind from lineage.foreign_trace order by created_at, event_id"
    )
    return [{**row, "raw": orjson.loads(row["raw"]), "verdict": orjson.loads(row["verdict"])} for row in rows]


async def test_nobody_is_asked_unless_the_source_says_so(bench: Bench) -> None:
    upstream = Upstream(3)
    await upstream.run(bench, None)
    assert (upstream.asked, await waiting(bench)) == ([], 0)


async def test_traces_are_kept_word_for_word_with_their_verdict_and_passed_on(bench: Bench, keys: Signer) -> None:
    upstream = Upstream(3)
    good, forged = signed(0), {**signed(1), "event": "OBSOLETE", "obsolescence": "a lie"}
    unsigned = answered(made(None, {"name": f"{name(1)}.zip", "size": 5, "hash": f"{8:064x}"}), 8)
    upstream.traces = {f"{name(0)}.zip": [good], f"{name(1)}.zip": [forged, unsigned]}
    await upstream.run(bench, WITH_TRACES)
    assert upstream.asked == [f"{name(0)}.zip", f"{name(1)}.zip", f"{name(2)}.zip", name(2)]
    found = await kept(bench)
    assert [one["raw"] for one in found] == [good, forged, unsigned]
    assert [(one["verdict"]["signature"], one["is_passed_on"], one["origin_kind"]) for one in found] == [
        ("ok", True, "upstream"), ("bad", False, "upstream"), ("none", False, "upstream"),
    ]  # fmt: skip
    assert await bench.events() == {"REGISTER": 3, "VERIFY": 3}
    assert await bench.column("select distinct actor_id || ' ' || source from lineage.event_outbox") == [
        "harvest:first first"
    ]
    assert await bench.column(
        "select item_id from federator.lineage_due where tries = 1 and due_at > now() + interval '23 hours'"
    ) == [name(2).removesuffix(".SAFE")]
    await sequence(bench.pool, keys)
    async with bench.pool.connection() as conn:
        page = await trace.traces_by_hash(conn, f"{0:064x}")
        assert [one.document() for one in page.traces] == [good]
    upstream.asked.clear()
    await upstream.run(bench, WITH_TRACES)
    assert upstream.asked == [], "nothing is due and nothing has changed"


async def test_parents_that_a_signed_trace_names_by_hash_are_explicit(bench: Bench, keys: Signer) -> None:
    upstream = Upstream(2)
    parents = [{"name": "S2B_OPER_MSI_L0__PARENT.SAFE", "hash": "ab" * 32}, {"name": "ITS_OWN_TILE", "hash": ""}]
    forged = {**signed(1, inputs=parents), "event": "COPY"}
    upstream.traces = {f"{name(0)}.zip": [signed(0, inputs=parents)], f"{name(1)}.zip": [forged]}
    await upstream.run(bench, WITH_TRACES)
    await sequence(bench.pool, keys)
    await project(bench.pool)
    edges = await bench.rows(
        "select c.name as child, p.name as parent, e.rule, e.assertion from lineage.edge as e "
        "join lineage.entity as c on c.id = e.child join lineage.entity as p on p.id = e.parent"
    )
    child = name(0).removesuffix(".SAFE")
    assert edges == [{"child": child, "parent": "S2B_OPER_MSI_L0__PARENT", "rule": "R1/1", "assertion": "explicit"}]


async def test_a_service_that_is_down_spoils_no_harvest_and_is_asked_again(bench: Bench) -> None:
    upstream = Upstream(2)
    upstream.is_down = True
    await upstream.run(bench, WITH_TRACES)
    assert (len(upstream.asked), await waiting(bench)) == (1, 2)
    upstream.is_down = False
    upstream.traces = {f"{name(number)}.zip": [signed(number)] for number in range(2)}
    await upstream.run(bench, WITH_TRACES)
    assert (await waiting(bench), len(await kept(bench))) == (0, 2)


async def test_a_run_asks_about_no_more_products_than_it_may(bench: Bench) -> None:
    upstream = Upstream(4)
    await upstream.run(bench, replace(WITH_TRACES, per_run=1))
    assert set(upstream.asked) == {name(0), f"{name(0)}.zip"}
    await upstream.run(bench, replace(WITH_TRACES, requests_per_month=3))
    assert len(upstream.asked) == 3, "two of this month were asked before"


async def test_one_product_does_not_keep_others_from_being_asked_about(bench: Bench) -> None:
    upstream = Upstream(3)
    upstream.traces = {f"{name(0)}.zip": httpx.Response(500), f"{name(1)}.zip": httpx.Response(400)}
    upstream.traces[f"{name(2)}.zip"] = [signed(2)]
    await upstream.run(bench, WITH_TRACES)
    assert upstream.asked == [f"{name(0)}.zip"]
    await upstream.run(bench, WITH_TRACES)
    assert upstream.asked[1:] == [f"{name(1)}.zip", f"{name(2)}.zip", f"{name(0)}.zip"]
    assert (len(await kept(bench)), await waiting(bench)) == (1, 2)


@pytest.mark.parametrize(
    "answer",
    [
        [signed(5)],  # of another product
        [{"product": 1}],
        httpx.Response(200, content=b"[" * 5000, headers={"content-type": "text/plain"}),
        [signed(0) for _ in range(51)],
    ],
    ids=["another product", "no trace", "deep", "too many"],
)
async def test_answers_that_are_none_are_left_out(bench: Bench, answer: Any) -> None:
    upstream = Upstream()
    upstream.traces = {f"{name(0)}.zip": answer}
    await upstream.run(bench, WITH_TRACES)
    assert (await kept(bench), await waiting(bench)) == ([], 0)
    assert await bench.events() == {"REGISTER": 1}


async def test_redirects_are_not_followed(bench: Bench) -> None:
    upstream = Upstream()
    upstream.traces = {
        f"{name(0)}.zip": httpx.Response(302, headers={"location": "https://first.example.org/secret/$value"})
    }
    await upstream.run(bench, WITH_TRACES)
    assert upstream.asked == [f"{name(0)}.zip"]
    assert await waiting(bench) == 1


async def test_a_document_at_the_source_declares_parents(bench: Bench) -> None:
    upstream = Upstream()
    manifest = b'<a><processing><resource name="S2B_OPER_MSI_L0__DS_PARENT_1" role="L0"/></processing></a>'
    upstream.document = lambda request: httpx.Response(
        200, content=manifest, headers={"content-type": "application/xml"}
    )
    await upstream.run(bench, WITH_DOCUMENTS)
    assert len(upstream.asked) == 1
    (body,) = await bench.column("select body::jsonb from lineage.event_outbox where kind = 'CORRECT'")
    assert [one["name"] for one in body["inputs"]] == ["S2B_OPER_MSI_L0__DS_PARENT_1"]
    assert body["source"] == "first"
    assert await bench.column("select count(*) from lineage.upstream_claim") == [1]
    assert await waiting(bench) == 0


@pytest.mark.parametrize("content", [BOMB, XXE, b"<a/>", b"<a><b></a>", b"plain"])
async def test_hostile_documents_are_left_out(bench: Bench, content: bytes) -> None:
    upstream = Upstream()
    upstream.document = lambda request: httpx.Response(
        200, content=content, headers={"content-type": "application/xml"}
    )
    await upstream.run(bench, WITH_DOCUMENTS)
    assert len(upstream.asked) == 1
    assert await bench.events() == {"REGISTER": 1}
    assert await waiting(bench) == 0


async def test_a_document_is_signed_for_and_read_at_the_sources_hosts_alone(bench: Bench) -> None:
    upstream = Upstream()
    signing = Signing("s", ("first.example.org",), "https://sign.example.org/sign", frozenset({"sig"}))

    def elsewhere(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"href": "https://internal.example.net/secret"})

    upstream.document = elsewhere
    await upstream.run(bench, WITH_DOCUMENTS, signing=signing)
    assert [httpx.URL(one).host for one in upstream.asked] == ["sign.example.org"]
    assert await waiting(bench) == 0


async def test_what_was_withdrawn_meanwhile_is_told_nothing_of(bench: Bench) -> None:
    upstream = Upstream()
    upstream.is_down = True
    await upstream.run(bench, WITH_TRACES)
    async with bench.pool.connection() as conn:
        await conn.execute("update federator.harvested_item set withdrawn_at = now()")
    upstream.is_down, upstream.traces = False, {f"{name(0)}.zip": [signed(0)]}
    source = replace(FIRST, provenance=WITH_TRACES)
    await ask(source, L1C, Asking(bench.pool, PATIENCE, inner=httpx.MockTransport(upstream)))
    assert (await kept(bench), await waiting(bench)) == ([], 0)


@contextmanager
def file_host() -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "4")
            self.end_headers()
            self.wfile.write(b"here")

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


async def test_names_that_lead_inside_are_refused_and_resolved_once() -> None:
    answers = iter([["127.0.0.1"], ["93.184.216.34", "10.0.0.1"], [], ["127.0.0.1"]])
    asked: list[str] = []

    async def resolver(host: str, port: int) -> list[str]:
        asked.append(host)
        return next(answers)

    with file_host() as port:
        url = f"http://rebinding.example.org:{port}/"
        async with httpx.AsyncClient(transport=pinned_transport(PinnedBackend((), resolver))) as http:
            for _ in range(3):
                with pytest.raises(HostRefused):
                    await http.get(url)
        allowed = PinnedBackend((ip_network("127.0.0.0/8"),), resolver)
        async with httpx.AsyncClient(transport=pinned_transport(allowed)) as http:
            assert (await http.get(url)).text == "here"
    assert len(asked) == 4
    for address in ("::ffff:10.0.0.1", "169.254.169.254", "2002:0a00:0001::", "fe80::1%eth0", "224.0.0.1", "0.0.0.0"):
        assert not is_public(address)


def test_names_as_services_have_them() -> None:
    assert names_to_ask("S2A_X.SAFE") == ["S2A_X.SAFE.zip", "S2A_X.SAFE"]
    assert names_to_ask("S5P_X.nc") == ["S5P_X.nc", "S5P_X.nc.zip"]
    assert names_to_ask(name(1).removesuffix(".SAFE"))[0] == f"{name(1)}.zip"


@pytest.mark.parametrize(
    ("table", "fault"),
    [
        ("", "neither"),
        ('traces = "ftp://x"', "http"),
        ('documents = ["a b"]\n', "cannot stand"),
        ('documents = ["manifest"]', "asset_hosts"),
        ('traces = "https://x.example.org"\nper_run = 20000', "at most"),
        ('traces = "https://x.example.org"\nsecret = 1', "unknown key"),
    ],
)
def test_what_a_source_file_may_not_say(tmp_path: Path, table: str, fault: str) -> None:
    file = tmp_path / "one.toml"
    file.write_text(
        'id = "one"\ntitle = "One"\nprotocol = "odata"\nurl = "https://one.example.org"\n'
        f'[lineage]\n{table}\n[[collections]]\nid = "{L1C}"\nupstream = {json.dumps({"collection": "A"}).replace(":", " =")}\n'
    )
    with pytest.raises(SourceInvalid, match=fault):
        read_source(file)
    file.write_text(file.read_text().replace(f"[lineage]\n{table}", f'[lineage]\ntraces = "{TRACES}/"'))
    if "\n[lineage]" in file.read_text():
        source: Source = read_source(file)
        assert source.provenance == Provenance(traces=TRACES)

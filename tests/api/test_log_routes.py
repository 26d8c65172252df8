"""The log over HTTP: tiles as C2SP asks, consistency, the verifier as a file, the feed as a stream."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aics_tlog
import httpx
import psycopg
import pytest

from api.main import create_app
from api.settings import ApiSettings
from db.pools import open_pool
from db.settings import DatabaseSettings
from lineage import history, log, verify
from lineage.cosigning import Cosigning, cosigners, witness_vkeys
from lineage.events import Event
from lineage.export import export
from lineage.keys import Signer
from lineage.sequencer import sequence
from lineage.tree import leaf_hash
from tests.api.editing import is_problem
from tests.api.server import listening, running, serving
from tests.conftest import cloned
from tests.lineage.samples import event, signer

TOKEN = "a-token-for-the-test"
ADMIN = {"Authorization": f"Bearer {TOKEN}"}
LOG = "/lineage/v1/log"


@dataclass(frozen=True)
class Site:
    app: Any
    http: httpx.Client
    database: DatabaseSettings
    keys: Signer

    def log(self, *events: Event) -> None:
        """Append and number events."""
        asyncio.run(_logged(self.database, self.keys, events))

    def get(self, path: str, **given: Any) -> httpx.Response:
        return self.http.get(LOG + path, **given)


async def _logged(database: DatabaseSettings, keys: Signer, events: tuple[Event, ...]) -> None:
    async with open_pool(database, min_size=0, max_size=1) as pool:
        async with pool.connection() as conn, conn.transaction():
            await log.append(conn, *events)
        await sequence(pool, keys)


@pytest.fixture(scope="module")
def site(postgres: DatabaseSettings, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("log")
    listener, url = listening()
    with (
        cloned(postgres, template) as database,
        httpx.Client(base_url=url, timeout=60) as http,
        contextlib.ExitStack() as stack,
    ):
        app = create_app(ApiSettings(data_dir=folder, public_url=url, api_token=TOKEN), database)
        stack.enter_context(serving(app, listener))
        made = Site(app, http, database, signer(folder))
        made.log(*map(event, range(1, 300)))  # with the log's beginning 300
        made.log(*map(event, range(300, 310)))
        with psycopg.connect(database.conninfo, autocommit=True) as conn:
            private = '{"owner": "user:ann", "visibility": "private"}'
            conn.execute("insert into federator.private_item values ('things', 'item-299', %s)", (private,))
        yield made


def test_tiles_are_those_of_the_tree_and_may_be_kept(site: Site) -> None:
    bundle = site.get("/tile/entries/000")
    leaves = list(verify.split_entries(bundle.content, 256))
    full = site.get("/tile/0/000")
    assert full.content == b"".join(map(leaf_hash, leaves))
    assert full.headers["content-type"] == "application/octet-stream"
    assert full.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert bundle.headers["cache-control"] == "private, max-age=31536000, immutable"
    checkpoint = site.get("/checkpoint")
    assert checkpoint.headers["cache-control"] == "max-age=1"
    assert checkpoint.headers["content-type"] == "text/plain; charset=utf-8"
    assert verify.parse_checkpoint(checkpoint.text).size == 310
    assert len(site.get("/tile/0/001.p/44").content) == 44 * 32
    assert site.get("/tile/1/000.p/1").content == aics_tlog.MerkleTree(leaves).root()


@pytest.mark.parametrize(
    "path",
    [
        "0/000.p/0", "0/000.p/256", "0/000.p/7", "0/001", "0/001.p/45", "0/001.p/044", "0/002", "00/000", "64/000", "9/000", "0/0",
        "0/x000/001", "0/001/001", "0/000.p", "0/000.p/", "x/000", "entries/000.p/0", "entries/001.p/300", "entries/002", "entries/x",
        "0/x999/x999/x999/x999/x999/999", "0/x999/x999/x999/x999/999", "entries/x999/x999/x999/x999/999", "0/%00",
    ],
)  # fmt: skip
def test_what_is_no_tile_is_not_there(site: Site, path: str) -> None:
    answer = site.get(f"/tile/{path}", headers=ADMIN)
    assert (answer.status_code, answer.json()["code"]) == (404, "NOT_FOUND")


def test_entries_are_for_who_may_see_every_event_in_them(site: Site) -> None:
    """The second block names an item that is private."""
    hidden, absent = site.get("/tile/entries/001.p/54"), site.get("/tile/entries/007.p/54")
    assert hidden.status_code == absent.status_code == 404
    assert hidden.json()["detail"] == absent.json()["detail"]
    seen = site.get("/tile/entries/001.p/54", headers=ADMIN)
    assert len(list(verify.split_entries(seen.content, 54))) == 54
    assert site.get("/tile/0/001.p/54").status_code == 200, "hashes tell nothing"


def test_consistency_is_judged_offline(site: Site, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    with psycopg.connect(site.database.conninfo) as conn:
        row = conn.execute("select note from lineage.checkpoint where size = 300").fetchone()
    assert row is not None
    kept.write_text(row[0], encoding="utf-8")
    proof, newest = tmp_path / "consistency.json", tmp_path / "newest"
    proof.write_bytes(site.get("/consistency?from=300").content)
    newest.write_text(site.get("/checkpoint").text, encoding="utf-8")
    said: list[str] = []
    options = ["--kept", str(kept), "--key", site.keys.log_vkey, "--json"]
    assert verify.main([str(proof), str(newest), *options], said.append) == 0, said
    assert [json.loads(line)["log"] for line in said] == ["consistent", "consistent"]
    said.clear()
    assert verify.main([str(newest), *options], said.append) == 0
    assert json.loads(said[0])["log"] == "unproven"
    proof.write_bytes(site.get("/consistency?from=300&to=300").content)
    assert verify.main([str(kept), "--kept", str(newest), "--json"], said.append) == 1
    assert json.loads(said[-1])["log"] == "shrunk"


@pytest.mark.parametrize("query", ["from=299", "from=300&to=299", "from=310&to=300", "from=999999"])
def test_there_is_no_consistency_of_sizes_that_never_were(site: Site, query: str) -> None:
    assert site.get(f"/consistency?{query}").status_code == 404


@pytest.mark.parametrize("query", ["", "from=0", "from=x", "from=1&to=0", "from=99999999999999999999"])
def test_sizes_are_numbers(site: Site, query: str) -> None:
    assert site.get(f"/consistency?{query}").status_code == 400


def test_the_verifier_needs_nothing_but_cryptography(site: Site, tmp_path: Path) -> None:
    """As one file in an empty folder, without any package of ours; the same verdict on a proof and on a whole log."""
    program = tmp_path / "verify.py"
    program.write_bytes(site.get("/verify.py").content)
    feed = site.http.get("/lineage/v1/events?from_seq=20&limit=1").json()
    (tmp_path / "proof.json").write_bytes(site.get(f"/proof/{feed['events'][0]['id']}").content)
    asyncio.run(_exported(site.database, tmp_path / "whole"))
    alone = (
        "import sys, runpy; sys.path[:] = [p for p in sys.path if 'site-packages' not in p] + [sys.argv.pop(1)]; "
        "runpy.run_path(sys.argv.pop(1), run_name='__main__')"
    )
    packages = tmp_path / "packages"
    packages.mkdir()
    for name in ("cryptography", "cffi", "pycparser"):
        found = Path(aics_tlog.__file__).parents[1] / name
        if found.exists():
            (packages / name).symlink_to(found)
    for extension in Path(aics_tlog.__file__).parents[1].glob("_cffi_backend*"):
        (packages / extension.name).symlink_to(extension)
    words = [sys.executable, "-I", "-c", alone, str(packages), str(program), "proof.json", "whole"]
    words += ["--key", site.keys.log_vkey, "--json"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    proof, whole = (json.loads(line) for line in done.stdout.splitlines())
    assert (proof["log"], proof["content"], proof["checkpoint"], proof["key"]) == ("included", "match", "ok", "pinned")
    assert (whole["ok"], whole["log"], whole["facts"]["size"]) == (True, "included", 310)
    assert proof == {"file": "proof.json", **json.loads(json.dumps(_verdict(tmp_path / "proof.json", site)))}


def _verdict(path: Path, site: Site) -> dict[str, Any]:
    said: list[str] = []
    verify.main([str(path), "--key", site.keys.log_vkey, "--json"], said.append)
    return {name: value for name, value in json.loads(said[0]).items() if name != "file"}


async def _exported(database: DatabaseSettings, folder: Path) -> None:
    async with open_pool(database, min_size=0, max_size=1) as pool, pool.connection() as conn:
        await export(conn, folder)


@contextlib.contextmanager
def _witness(folder: Path, *words: str) -> Iterator[tuple[str, str]]:
    """A witness as a process of its own, with an ML-DSA-44 key alone; its verifier key and address."""
    words = (sys.executable, "-m", "lineage", "witness", "serve", "--dir", str(folder), "--port", "0", *words)
    with subprocess.Popen(words, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip(), process.stdout.readline().split()[-1]
        finally:
            process.terminate()


async def _asked(database: DatabaseSettings, setting: str) -> int:
    async with open_pool(database, min_size=0, max_size=1) as pool, httpx.AsyncClient(timeout=60) as http:
        return await Cosigning(cosigners(setting.split()), http).ask(pool)


def test_the_script_confirms_a_proof_that_a_witness_with_ml_dsa_alone_has_cosigned(site: Site, tmp_path: Path) -> None:
    with _witness(tmp_path / "w", "--keys", "ml-dsa-44", "--log", site.keys.log_vkey) as (vkey, url):
        assert verify.parse_vkey(vkey).kind == b"\x06"
        assert asyncio.run(_asked(site.database, f"{url}={vkey}")) == 1
    site.app.state.witnesses = witness_vkeys(f"{url}={vkey}")
    identity = site.http.get("/lineage/v1/events?from_seq=20&limit=1").json()["events"][0]["id"]
    for name, path in {
        "verify.py": "/verify.py", "proof.json": f"/proof/{identity}?cosigned=true", "bare.json": f"/proof/{identity}",
        "grown.json": "/consistency?from=300&cosigned=true", "newest": "/checkpoint",
    }.items():  # fmt: skip
        (tmp_path / name).write_bytes(site.get(path).content)
    assert site.get(f"/proof/{identity}?cosigned=true&format=tlog-proof").text.count("localhost/witness") == 1

    def run(*words: str) -> tuple[int, list[dict[str, Any]]]:
        command = [sys.executable, *words, "--key", site.keys.log_vkey, "--witness", vkey, "--json"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
        assert not done.stderr, done.stderr
        return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]

    status, good = run("verify.py", "proof.json", "grown.json", "newest")
    assert (status, [one["witness"] for one in good]) == (0, ["cosigned"] * 3), good
    assert (good[0]["log"], good[0]["content"], good[1]["log"]) == ("included", "match", "consistent")
    old = "import runpy, sys; sys.modules['cryptography.hazmat.primitives.asymmetric.mldsa'] = None; "
    old += "runpy.run_path('verify.py', run_name='__main__')"
    status, unjudged = run("-c", old, "proof.json", "bare.json")
    assert (status, [one["witness"] for one in unjudged]) == (1, ["unjudged", "missing"])
    assert "has no ML-DSA-44" in unjudged[0]["notes"][0]


def _messages(answer: httpx.Response) -> Iterator[tuple[int, dict[str, Any]]]:
    number = -1
    for line in answer.iter_lines():
        if line.startswith("id: "):
            number = int(line[4:])
        elif line.startswith("data: "):
            yield number, json.loads(line[6:])


STREAM = {"Accept": "text/event-stream"}


def test_a_stream_goes_on_where_the_client_left_and_hides_what_is_hidden(site: Site) -> None:
    with site.http.stream("GET", "/lineage/v1/events?from_seq=297", headers=STREAM) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        messages = _messages(answer)
        assert [next(messages)[0] for _ in range(3)] == [297, 298, 300], "299 is private"
    with site.http.stream("GET", "/lineage/v1/events", headers={**STREAM, **ADMIN, "Last-Event-ID": "298"}) as answer:
        messages = _messages(answer)
        assert [next(messages)[0] for _ in range(11)] == list(range(299, 310))
        threading.Thread(target=site.log, args=(event(311),)).start()
        number, told = next(messages)
        assert (number, told["seq"], told["item_id"]) == (310, 310, "item-311")


def test_a_stream_looks_once_at_what_its_reader_may_not_see(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    look = history.events_from

    async def noted(conn: Any, seq: int, *rest: Any) -> Any:
        asked.append(seq)
        return await look(conn, seq, *rest)

    monkeypatch.setattr("api.feed.history.events_from", noted)
    site.log(event(299))  # private
    size = verify.parse_checkpoint(site.get("/checkpoint").text).size
    with site.http.stream("GET", f"/lineage/v1/events?from_seq={size - 1}", headers=STREAM) as answer:
        messages, until = _messages(answer), time.monotonic() + 20
        while size not in asked:
            assert time.monotonic() < until
            time.sleep(0.05)
        site.log(event(312))
        assert next(messages)[0] == size
    assert asked[0] == size - 1


def test_a_last_event_id_that_is_no_number_is_refused(site: Site) -> None:
    answer = site.http.get("/lineage/v1/events", headers={**STREAM, "Last-Event-ID": "x"})
    assert (answer.status_code, answer.json()["code"]) == (400, "INVALID_PARAMETER")


def test_streams_are_limited_and_end_with_the_server(
    postgres: DatabaseSettings, template: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.feed.MAX_STREAMS", 1)
    listener, url = listening()
    with (
        cloned(postgres, template) as database,
        httpx.Client(base_url=url, timeout=60) as http,
    ):
        with running(ApiSettings(data_dir=tmp_path, public_url=url), database, listener):
            answer = http.send(http.build_request("GET", "/lineage/v1/events", headers=STREAM), stream=True)
            lines = answer.iter_lines()
            assert next(lines).startswith("retry")
            refused = http.get("/lineage/v1/events", headers=STREAM)
            assert (refused.status_code, refused.json()["code"]) == (503, "TOO_MANY_STREAMS")
            assert http.get("/lineage/v1/events").status_code == 200
        assert list(lines) == [""], "the server ended it"
        answer.close()


def test_stamps_are_listed_newest_first_with_their_checkpoints(site: Site) -> None:
    assert site.get("/stamps").json() == {"stamps": [], "links": []}
    for number in range(3):
        site.log(event(7000 + number))
    with psycopg.connect(site.database.conninfo, autocommit=True) as conn:
        conn.execute(
            "insert into lineage.checkpoint_stamp select size, 'http://tsa', now(), 'x' from lineage.checkpoint"
        )
        notes = {row[0]: row[1] for row in conn.execute("select size, note from lineage.checkpoint order by size desc")}
    found, page = [], site.get("/stamps", params={"limit": 2}).json()
    while found.extend(page["stamps"]) or page["links"]:
        page = site.http.get(page["links"][0]["href"]).json()
    assert [one["size"] for one in found] == list(notes)
    for one in found[:2]:
        stamp, checkpoint = (site.http.get(link["href"]) for link in one["links"])
        assert (stamp.content, stamp.headers["content-type"]) == (b"x", "application/timestamp-reply")
        assert checkpoint.text == notes[one["size"]]
    for size in ("0", "-1", "01", "x", "9" * 30, "999999"):
        is_problem(site.get(f"/stamps/{size}"), 404, "NOT_FOUND")

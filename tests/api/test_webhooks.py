"""Alerts are sent to webhooks: signed, in order, at least once, to nobody inside, and only what their owner may see."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import psycopg
import pytest

from db.pools import open_pool
from db.queries import sql
from db.settings import DatabaseSettings
from ingest.alerting import MAX_FAILURES, posting, send_alerts
from lineage.events import Event, Kind
from lineage.ids import uuid7
from tests.api.editing import ADMIN, editor_on, is_problem
from tests.api.test_lineage_graph import NOW, Site, registered

LOOPBACK = (ip_network("127.0.0.0/8"),)


class Receiver:
    """A server that answers what it is told to, and notes what it got."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/hook?x=1"
        self.statuses: list[int] = []
        self.got: list[tuple[dict[str, str], bytes]] = []

    @property
    def names(self) -> list[str]:
        return [json.loads(body)["data"]["name"] for _, body in self.got]


@contextmanager
def receiving() -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            receiver.got.append(({name.lower(): value for name, value in self.headers.items()}, body))
            status = receiver.statuses.pop(0) if receiver.statuses else 204
            self.send_response(status)
            if status == 302:
                self.send_header("Location", receiver.url)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_POST

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    receiver = Receiver(server.server_port)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def site(postgres: DatabaseSettings, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("webhooks")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEDERATOR_WEBHOOK_NETWORKS", "127.0.0.0/8")
        with editor_on(postgres, template, folder) as editor:
            made = Site(editor, folder)
            made.settle(registered("FIRST_ONE"))
            yield made
            made.http.close()


@pytest.fixture
def receiver(site: Site) -> Iterator[Receiver]:
    with receiving() as found:
        yield found
    change(site, "delete from lineage.watch")


def change(site: Site, statement: str) -> None:
    with psycopg.connect(site.editor.database.conninfo, autocommit=True) as conn:
        conn.execute(statement.encode())


def send(site: Site, networks: Any = LOOPBACK, workers: int = 1) -> int:
    async def work() -> int:
        async with open_pool(site.editor.database) as pool, posting(pool, site.editor.url, networks) as post:
            return sum(await asyncio.gather(*(send_alerts(post) for _ in range(workers))))

    return asyncio.run(work())


def due(site: Site) -> None:
    """Time goes by."""
    change(site, "update lineage.webhook set due_at = now() where due_at < now() + interval '70 minutes'")


def withdrawn(name: str, kind: Kind = Kind.WITHDRAW, collection: str = "s2") -> Event:
    return Event(
        uuid7(), kind, f"{name}.SAFE", "demo", collection, name, "harvest:demo", NOW, {"reason": "Corrupted product"}
    )


def watched(site: Site, product: str, url: str, headers: dict[str, str] = ADMIN) -> tuple[str, bytes]:
    """(URL of the webhook, its secret) of a new watch."""
    watch = site.http.post("/watches", json={"product": product}, headers=headers)
    assert watch.status_code == 201, watch.text
    here = next(link["href"] for link in watch.json()["links"] if link["rel"] == "webhook")
    made = site.http.put(here, json={"url": url}, headers=headers)
    assert made.status_code == 200, made.text
    assert made.headers["Cache-Control"].endswith("no-store")
    return here, base64.b64decode(made.json()["secret"].removeprefix("whsec_"))


def state(site: Site, here: str) -> dict[str, Any]:
    answer = site.http.get(here, headers=ADMIN)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    assert "secret" not in found
    return found


def test_an_alert_is_sent_once_signed_with_what_the_receiver_needs(site: Site, receiver: Receiver) -> None:
    here, secret = watched(site, "ONE_A.SAFE", receiver.url)
    assert send(site) == 0
    site.settle(registered("ONE_A"), withdrawn("ONE_A"), registered("ONE_B"), withdrawn("ONE_B"))
    due(site)
    assert send(site) == 1
    ((headers, body),) = receiver.got
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    told = json.loads(body)
    assert (told["type"], told["data"]["kind"], told["data"]["item"], told["data"]["reason"]) == (
        "lineage.withdraw", "WITHDRAW", "ONE_A", "Corrupted product",
    )  # fmt: skip
    assert headers["webhook-id"] == f"{told['data']['watch']}_{told['data']['seq']}"
    assert site.http.get(told["data"]["proof"]).status_code == 200
    due(site)
    assert send(site) == 0
    assert (state(site, here)["sent"], state(site, here)["status"]) == (1, "active")


def test_the_receiver_of_the_docs_takes_it_and_nothing_else(site: Site, receiver: Receiver) -> None:
    page = (Path(__file__).parents[2] / "docs" / "lineage.md").read_text()
    code = page.partition("```python\n")[2].partition("```")[0]
    there: dict[str, Any] = {"__name__": "copied"}
    exec(compile(code, "docs/lineage.md", "exec"), there)
    _, secret = watched(site, "NINE", receiver.url)
    site.settle(registered("NINE"), withdrawn("NINE"))
    assert send(site) == 1
    ((headers, body),) = receiver.got
    text = f"whsec_{base64.b64encode(secret).decode()}"
    assert there["alert_of"](headers, body, text)["data"]["name"] == "NINE.SAFE"
    assert there["alert_of"](headers, body + b" ", text) is None
    assert there["alert_of"](headers | {"webhook-timestamp": "1"}, body, text) is None
    assert there["alert_of"](headers, body, "whsec_AAAA") is None


def test_what_is_not_taken_is_sent_again_with_its_id_before_anything_else(site: Site, receiver: Receiver) -> None:
    here, _ = watched(site, "TWO_A", receiver.url)
    receiver.statuses = [204, 500, 302, 204, 204]
    site.settle(registered("TWO_A"), withdrawn("TWO_A"), withdrawn("TWO_A", Kind.RESTORE), withdrawn("TWO_A"))
    assert [send(site), send(site)] == [1, 0], "after a failure there is a pause"
    found = state(site, here)
    assert (found["failures"], found["last_error"]) == (1, "status 500")
    due(site)
    assert send(site) == 0
    assert state(site, here)["last_error"] == "status 302"
    due(site)
    assert send(site) == 2
    ids = [headers["webhook-id"] for headers, _ in receiver.got]
    assert len(ids) == 5
    assert ids[1] == ids[2] == ids[3]
    assert len({*ids}) == 3
    assert (state(site, here)["failures"], state(site, here)["sent"]) == (0, 3)


def test_two_workers_send_nothing_twice(site: Site, receiver: Receiver) -> None:
    for number in range(3):
        watched(site, f"THREE_{number}", receiver.url)
    site.settle(
        *(event for number in range(3) for event in (registered(f"THREE_{number}"), withdrawn(f"THREE_{number}")))
    )
    assert send(site, workers=3) == 3
    assert sorted(receiver.names) == [f"THREE_{number}.SAFE" for number in range(3)]


def test_nobody_inside_is_asked(site: Site, receiver: Receiver) -> None:
    here, _ = watched(site, "FOUR", receiver.url)
    site.settle(registered("FOUR"), withdrawn("FOUR"))
    assert send(site, networks=()) == 0
    assert state(site, here)["last_error"] == "the address is not of the public internet"
    change(site, f"update lineage.webhook set url = '{receiver.url.replace('http:', 'https:')}', due_at = now()")
    assert send(site, networks=()) == 0
    assert receiver.got == []
    # Over http the operator's networks alone are asked, whatever else is public.
    change(site, "update lineage.webhook set url = 'http://93.184.216.34/', due_at = now()")
    assert send(site) == 0
    assert state(site, here)["last_error"] == "the address is not of the public internet"


def test_a_receiver_that_is_gone_or_never_answers_is_given_up(site: Site, receiver: Receiver) -> None:
    here, _ = watched(site, "FIVE", receiver.url)
    receiver.statuses = [410]
    site.settle(registered("FIVE"), withdrawn("FIVE"))
    assert send(site) == 0
    assert state(site, here)["status"] == "disabled"
    due(site)
    assert (send(site), len(receiver.got)) == (0, 1)
    again = site.http.put(here, json={"url": receiver.url}, headers=ADMIN)
    assert again.json()["status"] == "active"
    change(site, f"update lineage.webhook set failures = {MAX_FAILURES - 1}")
    receiver.statuses = [503]
    assert (send(site), state(site, here)["status"]) == (0, "disabled")
    site.http.put(here, json={"url": receiver.url}, headers=ADMIN)
    assert send(site) == 1, "what was not taken is not lost"


def test_only_what_its_owner_may_see_is_sent(site: Site, receiver: Receiver) -> None:
    made = site.editor.client.post(
        f"{site.editor.url}/auth/users", json={"name": "ann", "scopes": ["stac:item:update"]}
    )
    assert made.status_code == 201, made.text
    key = site.editor.client.post(
        f"{site.editor.url}/auth/keys", json={"person": "ann", "scopes": ["stac:item:update"]}
    )
    ann = {"Authorization": f"Bearer {key.json()['key']}"}
    here, _ = watched(site, "SIX", receiver.url, ann)
    is_problem(site.http.get(here, headers=ADMIN), 404, "NOT_FOUND")
    change(site, 'insert into pgstac.collections (content) values (\'{"id": "closed", "type": "Collection"}\')')
    change(
        site,
        "insert into federator.collection_access (collection_id, visibility, owner) values ('closed', 'private', 'bob')",
    )
    site.settle(withdrawn("SIX", collection="closed"), registered("SIX"), withdrawn("SIX"))
    assert send(site) == 1
    assert [json.loads(body)["data"]["collection"] for _, body in receiver.got] == ["s2"]
    change(site, "update federator.person set disabled_at = now() where name = 'ann'")
    site.settle(withdrawn("SIX", Kind.RESTORE))
    due(site)
    assert send(site) == 0
    with psycopg.connect(site.editor.database.conninfo) as conn:
        row = conn.execute("select status, last_error from lineage.webhook").fetchone()
    assert row == ("disabled", "its owner is not here any more")


@pytest.mark.parametrize(
    "url",
    ["ftp://x.example.org/", "https://", "https://u:p@x.example.org/", "https://x.example.org/a b", "x", 7, None, "https://x" + "y" * 2000,
     "https://x.example.org:0/", "https://x.example.org:99999/", "https://ü.example.org/"],
)  # fmt: skip
def test_addresses_that_are_none_are_refused(site: Site, url: Any) -> None:
    watch = site.http.post("/watches", json={"product": "SEVEN"}, headers=ADMIN).json()
    here = f"/watches/{watch['id']}/webhook"
    is_problem(site.http.put(here, json={"url": url}, headers=ADMIN), 400, "INVALID_URL")
    is_problem(site.http.get(here, headers=ADMIN), 404, "NOT_FOUND")
    is_problem(site.http.put(here, json={"url": "https://x.example.org/"}), 401, "TOKEN_REQUIRED")
    assert site.http.delete(f"/watches/{watch['id']}", headers=ADMIN).status_code == 204


def test_a_scheme_in_capitals_is_the_same_scheme(site: Site) -> None:
    watch = site.http.post("/watches", json={"product": "EIGHT"}, headers=ADMIN).json()
    here = f"/watches/{watch['id']}/webhook"
    put = site.http.put(here, json={"url": "HTTP://x.example.org/a"}, headers=ADMIN)
    assert put.json()["url"] == "http://x.example.org/a"  # only the operator's networks are asked so
    assert site.http.delete(f"/watches/{watch['id']}", headers=ADMIN).status_code == 204


def test_a_caller_has_so_many_and_they_go_with_their_watch(site: Site, receiver: Receiver) -> None:
    hooks = [watched(site, f"EIGHT_{number}", "https://x.example.org/")[0] for number in range(10)]
    watch = site.http.post("/watches", json={"product": "EIGHT"}, headers=ADMIN).json()
    put = site.http.put(f"/watches/{watch['id']}/webhook", json={"url": "https://x.example.org/"}, headers=ADMIN)
    is_problem(put, 409, "TOO_MANY_WEBHOOKS")
    assert site.http.delete(hooks.pop(), headers=ADMIN).status_code == 204
    first, second = (
        site.http.post("/watches", json={"product": f"NINE_{n}"}, headers=ADMIN).json()["id"] for n in "12"
    )
    _put_while_another_is(site, first, second)
    assert site.http.put(hooks[0], json={"url": "https://x.example.org/other"}, headers=ADMIN).status_code == 200
    assert site.http.delete(hooks[0], headers=ADMIN).status_code == 204
    is_problem(site.http.delete(hooks[0], headers=ADMIN), 404, "NOT_FOUND")
    assert site.http.delete(hooks[1].removesuffix("/webhook"), headers=ADMIN).status_code == 204
    assert site.editor.rows("select count(*) from lineage.webhook") == [(8,)]


def _put_while_another_is(site: Site, first: str, second: str) -> None:
    """Two requests at once made eleven: the second counts when the first is stored."""
    row = "select $1, owner, principals, url, secret, next_seq from lineage.webhook limit 1"
    waits = "select count(*) from pg_locks where not granted and locktype = 'advisory'"
    with (
        psycopg.connect(site.editor.database.conninfo, cursor_factory=psycopg.RawCursor) as conn,
        ThreadPoolExecutor(1) as thread,
    ):
        conn.execute(sql("webhook.lock"), ("user:token",))
        conn.execute(
            f"insert into lineage.webhook (watch_id, owner, principals, url, secret, next_seq) {row}".encode(), (first,)
        )
        asked = {"json": {"url": "https://x.example.org/"}, "headers": ADMIN}
        put = thread.submit(site.http.put, f"/watches/{second}/webhook", **asked)
        while not put.done() and site.editor.rows(waits) == [(0,)]:
            time.sleep(0.01)
        conn.commit()
        is_problem(put.result(), 409, "TOO_MANY_WEBHOOKS")

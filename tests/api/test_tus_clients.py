"""Unmodified clients against the real server, which is killed and cut off meanwhile; and the reference server as an oracle."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from db.settings import DatabaseSettings
from tests.api.tus_site import BODY, VERSION, TusSite, metadata, serving
from tests.conftest import cloned
from tests.demo import free_port
from tests.size import sized
from tests.tus_clients import environment
from tests.tus_clients.recorder import recording
from tests.uploads_torture import CLIENTS, Plan, make_file, sha256_of, torture, under

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
SIZE = sized(16, 24) * 2**20


@pytest.fixture(scope="module")
def javascript() -> Path:
    try:
        return environment.folder()
    except environment.NotHere as error:
        pytest.skip(str(error))


@pytest.mark.parametrize(("client", "chunk_bytes"), [("tuspy", 2**21), ("uppy", 2**30)])
def test_cuts_and_kills_change_no_byte(
    postgres: DatabaseSettings, template: str, tmp_path: Path, client: str, chunk_bytes: int,
    request: pytest.FixtureRequest,
) -> None:  # fmt: skip
    if client != "tuspy":
        request.getfixturevalue("javascript")
    plan = Plan(SIZE, cuts=2, kills=sized(1, 3), bytes_per_s=6 * 2**20, chunk_bytes=chunk_bytes, seed=chunk_bytes % 97)
    make_file(tmp_path / "sent.tif", SIZE, plan.seed)
    with cloned(postgres, template) as database, under(database, tmp_path, plan.bytes_per_s) as (server, wire):
        found = torture(server, wire, client, tmp_path / "sent.tif", plan)
    assert found["state"]["length"] == SIZE
    assert found["state"]["sha256"] == found["sha256"] == sha256_of(tmp_path / "sent.tif")
    assert found["kills"] >= 1


@contextlib.contextmanager
def oracle(home: Path, folder: Path) -> Iterator[str]:
    """@tus/server."""
    port = free_port(0)
    command = ["node", "oracle.mjs", str(folder), str(port)]
    process = subprocess.Popen(command, cwd=home, stdout=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 20
        while time.monotonic() < until:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


Step = tuple[str, dict[str, str], bytes]
GIVEN = metadata(title="t", datetime="2026-05-01T12:00:00Z")
CREATE: Step = ("POST", {**VERSION, "Upload-Length": "10", "Upload-Metadata": GIVEN}, b"")
HEAD: Step = ("HEAD", VERSION, b"")


def patch(offset: str, content: bytes, **change: str) -> Step:
    headers = {**BODY, "Upload-Offset": offset, **change}
    return ("PATCH", {name: value for name, value in headers.items() if value}, content)


#: Conversations: the first step is sent to the endpoint, the others to what it created.
CONVERSATIONS: dict[str, list[Step]] = {
    "a file in two pieces": [CREATE, HEAD, patch("0", b"01234"), HEAD, patch("5", b"56789"), HEAD],
    "at a wrong offset": [CREATE, patch("5", b"56789"), HEAD, patch("0", b"01234"), patch("0", b"01234"), HEAD],
    "without an offset": [CREATE, ("PATCH", BODY, b"01234"), HEAD],
    "of another type": [CREATE, patch("0", b"01", **{"Content-Type": "text/plain"}), HEAD],
    "of no version": [CREATE, patch("0", b"01", **{"Tus-Resumable": ""}), HEAD],
    "of another version": [CREATE, patch("0", b"01", **{"Tus-Resumable": "0.2.2"}), ("HEAD", {}, b""), HEAD],
    "nothing at the end": [CREATE, patch("0", b"0123456789"), HEAD],
    "taken back": [CREATE, patch("0", b"01"), ("DELETE", VERSION, b"")],
    "no length": [("POST", VERSION, b"")],
    "a length that is none": [("POST", {**VERSION, "Upload-Length": "-1", "Upload-Metadata": GIVEN}, b"")],
    "too large": [("POST", {**VERSION, "Upload-Length": str(2**31), "Upload-Metadata": GIVEN}, b"")],
    "with its creation": [("POST", {**BODY, "Upload-Length": "10", "Upload-Metadata": GIVEN}, b"0123456789"), HEAD],
    "a part with its creation": [
        ("POST", {**BODY, "Upload-Length": "10", "Upload-Metadata": GIVEN}, b"012"), HEAD, patch("3", b"3456789"), HEAD,
    ],
}  # fmt: skip
#: Where we differ, by the number of the answer: (theirs, ours). The protocol's text says 415 and 412; of the first it says nothing.
OURS = {"without an offset": {1: (403, 400)}, "of another type": {1: (400, 415)}, "of another version": {1: (400, 412)}}
COMPARED = ("upload-offset", "upload-length", "upload-metadata", "tus-resumable", "cache-control")


def answers(base: str, steps: list[Step]) -> list[dict[str, Any]]:
    """What a server answers, as far as the protocol says it."""
    found, url = [], f"{base}/uploads"
    with httpx.Client(timeout=30) as http:
        for method, headers, content in steps:
            answer = http.request(method, url, headers=headers, content=content or None)
            kept = {name: answer.headers.get(name) for name in COMPARED if method == "HEAD" or name != "cache-control"}
            if answer.status_code >= 300:
                kept = {}  # what a refusal tells besides is free
            found.append({"step": method, "status": answer.status_code, **kept})
            url = answer.headers.get("location", url)
    return found


@pytest.mark.parametrize("what", CONVERSATIONS)
def test_we_answer_as_the_reference_server(running: tuple[str, TusSite], what: str) -> None:
    theirs, site = running
    site.clear()
    reference = answers(theirs, CONVERSATIONS[what])
    for number, (status, ours) in OURS.get(what, {}).items():
        assert reference[number]["status"] == status
        reference[number]["status"] = ours
    assert answers(str(site.http.base_url).rstrip("/"), CONVERSATIONS[what]) == reference


@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_hears_the_same_of_us_and_of_the_reference_server(
    running: tuple[str, TusSite], client: str, tmp_path: Path
) -> None:
    theirs, site = running
    site.clear()
    make_file(tmp_path / "sent.tif", 5 * 2**20, seed=3)
    heard = []
    for base in (theirs, str(site.http.base_url).rstrip("/")):
        with recording(base) as (proxy, said):
            CLIENTS[client](tmp_path / "sent.tif", f"{proxy}/uploads", 2**21)
        heard.append(said)
    assert [step["method"] for step in heard[0]].count("PATCH") == 3
    assert heard[1] == heard[0]


@pytest.fixture(scope="module")
def running(
    javascript: Path, postgres: DatabaseSettings, template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, TusSite]]:
    folder = tmp_path_factory.mktemp("oracle")
    limit = {"FEDERATOR_UPLOAD_FILE_MAX_BYTES": str(2**30)}
    with oracle(javascript, folder / "theirs") as theirs, serving(postgres, template, folder, **limit) as site:
        yield theirs, site

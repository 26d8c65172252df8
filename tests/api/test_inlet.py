"""Large bodies are read past the HTTP parser: nobody may notice it, neither in the bytes nor in what the connection does next."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import socket
import time
from base64 import b64encode
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest

from db.settings import DatabaseSettings
from tests.api.tus_site import BODY, VERSION, TusSite, eventually, serving

CONTENT = os.urandom(5 * 2**20 + 12_345)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(scope="module")
def site(postgres: DatabaseSettings, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TusSite]:
    folder: Path = tmp_path_factory.mktemp("inlet")
    with serving(postgres, template, folder, FEDERATOR_UPLOAD_SILENCE_S="1.5") as site:
        yield site


@contextlib.contextmanager
def wire(site: TusSite) -> Iterator[socket.socket]:
    """A bare connection."""
    with socket.create_connection(("127.0.0.1", site.port), timeout=20) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield connection


def head_of(path: str, offset: int, length: int, **more: str) -> bytes:
    headers = {"Host": "x", **BODY, "Upload-Offset": str(offset), "Content-Length": str(length), **more}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"PATCH {path} HTTP/1.1\r\n{lines}\r\n".encode()


def answers(connection: socket.socket, count: int) -> list[int]:
    """Status codes of the next answers without bodies (204, or to HEAD)."""
    text = b""
    while text.count(b"\r\n\r\n") < count:
        more = connection.recv(65_536)
        assert more, text
        text += more
    return [int(part.split(b" ", 2)[1]) for part in text.split(b"\r\n\r\n")[:count]]


def received(site: TusSite, path: str) -> bool:
    return bool(site.state(path)["sha256"] == SHA256) and site.file(path).read_bytes() == CONTENT


def test_a_connection_goes_on_after_a_body_whose_successors_came_with_it(site: TusSite) -> None:
    first, second = site.made(len(CONTENT)), site.made(len(CONTENT))
    look = f"HEAD {first} HTTP/1.1\r\nHost: x\r\nTus-Resumable: 1.0.0\r\n\r\n".encode()
    with wire(site) as connection:
        both = [head_of(path, 0, len(CONTENT)) + CONTENT for path in (first, second)]
        connection.sendall(both[0] + look + both[1] + look)
        assert answers(connection, 4) == [204, 200, 204, 200]
    assert received(site, first)
    assert received(site, second)


def test_pieces_of_all_sizes_and_pauses(site: TusSite) -> None:
    """The sender is quick, then slow: what it sent is on disk soon, though the kernel waited for more; then quick again."""
    path = site.made(len(CONTENT))
    with wire(site) as connection:
        connection.sendall(head_of(path, 0, len(CONTENT)) + CONTENT[: 2**22 + 2**18])  # a piece and some more
        eventually(lambda: site.file(path).stat().st_size >= 2**22 + 2**18)
        sent = 2**22 + 2**18
        for size in (1, 1000, 70_000):
            time.sleep(0.2)
            connection.sendall(CONTENT[sent : sent + size])
            sent += size
        eventually(lambda: site.file(path).stat().st_size >= sent)
        connection.sendall(CONTENT[sent:])
        assert answers(connection, 1) == [204]
    assert received(site, path)


def test_who_sends_little_is_not_silent(site: TusSite) -> None:
    path = site.made(len(CONTENT))
    with wire(site) as connection:
        connection.sendall(head_of(path, 0, len(CONTENT)))
        for number in range(4):
            time.sleep(0.5)
            connection.sendall(CONTENT[number : number + 1])
        connection.sendall(CONTENT[4:])
        assert answers(connection, 1) == [204]
    assert received(site, path)


def test_a_silent_one_is_told_so_and_its_bytes_are_kept(site: TusSite) -> None:
    path = site.made(len(CONTENT))
    slow = site.slow_patch(path, 0, len(CONTENT), CONTENT[:300_000])
    answer = slow.answer()
    assert (answer.status, answer.headers["connection"]) == (408, "close")
    assert site.offset(path) == 300_000
    assert site.patch(path, 300_000, CONTENT[300_000:]).status_code == 204
    assert received(site, path)


def test_one_that_goes_away_leaves_its_bytes(site: TusSite) -> None:
    path = site.made(len(CONTENT))
    with wire(site) as connection:
        connection.sendall(head_of(path, 0, len(CONTENT)) + CONTENT[: 3 * 2**20])
    file = site.file(path)  # to ask for the offset before it is there would stop it
    eventually(lambda: file.exists() and file.stat().st_size == 3 * 2**20)
    assert site.offset(path) == 3 * 2**20
    assert site.patch(path, 3 * 2**20, CONTENT[3 * 2**20 :]).status_code == 204
    assert received(site, path)


def test_a_look_stops_it(site: TusSite) -> None:
    path = site.made(len(CONTENT))
    slow = site.slow_patch(path, 0, len(CONTENT), CONTENT[: 2**20])
    eventually(lambda: site.file(path).exists())
    offset = site.offset(path)
    assert slow.answer().status == 409
    assert site.patch(path, offset, CONTENT[offset:]).status_code == 204
    assert received(site, path)


def test_a_refusal_in_the_middle_keeps_the_connection_in_step(site: TusSite) -> None:
    """Who has not been told to go skips the rest of the body, and what follows is a request again."""
    path = site.made(len(CONTENT))
    digest = b64encode(hashlib.sha256(b"another").digest()).decode()
    connection = HTTPConnection("127.0.0.1", site.port, timeout=20)
    with contextlib.closing(connection):
        for headers, status in (
            ({"Upload-Checksum": f"sha256 {digest}"}, 460),
            ({"Upload-Offset": "7"}, 409),
            ({}, 204),
        ):
            connection.request("PATCH", path, CONTENT, {**BODY, "Upload-Offset": "0", **headers})
            answer = connection.getresponse()
            answer.read()
            assert answer.status == status
        connection.request("HEAD", path, headers=VERSION)
        assert connection.getresponse().headers["Upload-Offset"] == str(len(CONTENT))
    assert received(site, path)


def test_a_full_disk_in_the_middle_keeps_the_connection_and_what_is_there(
    site: TusSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, pwrite = site.made(len(CONTENT)), os.pwrite

    def full(descriptor: int, data: bytes, offset: int) -> int:
        if offset < 2**20:
            return pwrite(descriptor, data[: 2**20], offset)
        raise OSError(errno.ENOSPC, "full")

    connection = HTTPConnection("127.0.0.1", site.port, timeout=20)
    with contextlib.closing(connection):
        with monkeypatch.context() as disk:
            disk.setattr(os, "pwrite", full)
            connection.request("PATCH", path, CONTENT, {**BODY, "Upload-Offset": "0"})
            answer = connection.getresponse()
            assert (answer.status, b"STORAGE_FULL" in answer.read()) == (507, True)
        connection.request("HEAD", path, headers=VERSION)
        answer = connection.getresponse()
        answer.read()
        offset = int(answer.headers["Upload-Offset"])
        assert 0 < offset < len(CONTENT)
        connection.request("PATCH", path, CONTENT[offset:], {**BODY, "Upload-Offset": str(offset)})
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 204
    assert received(site, path)


@pytest.mark.parametrize("algorithm", ["sha256", "sha1"])
def test_a_checksum_of_the_whole_and_of_a_part(site: TusSite, algorithm: str) -> None:
    path, half = site.made(len(CONTENT)), 2**21
    for start, piece in ((0, CONTENT[:half]), (half, CONTENT[half:])):
        digest = b64encode(hashlib.new(algorithm, piece).digest()).decode()
        answer = site.patch(path, start, piece, **{"Upload-Checksum": f"{algorithm} {digest}"})
        assert answer.status_code == 204, answer.text
    assert received(site, path)


def test_one_that_waits_for_a_go_gets_it_first(site: TusSite) -> None:
    path = site.made(len(CONTENT))
    with wire(site) as connection:
        connection.sendall(head_of(path, 0, len(CONTENT), Expect="100-continue"))
        assert answers(connection, 1) == [100]
        connection.sendall(CONTENT)
        assert answers(connection, 1) == [204]
    assert received(site, path)


def test_a_put_and_a_body_of_unknown_length(site: TusSite) -> None:
    """The first is read from the connection, the second comes by ASGI."""
    path = site.made(len(CONTENT))
    digest = b64encode(hashlib.sha256(CONTENT).digest()).decode()
    answer = site.http.put(f"{path}/content", content=CONTENT, headers={"Content-Digest": f"sha-256=:{digest}:"})
    assert answer.status_code == 202, answer.text
    assert received(site, path)
    path = site.made(len(CONTENT))
    assert site.patch(path, 0, iter([CONTENT[:1_000_000], CONTENT[1_000_000:]])).status_code == 204
    assert received(site, path)

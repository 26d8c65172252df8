"""tus 1.0.0 over real HTTP: what is right, what is wrong, and what happens meanwhile."""

from __future__ import annotations

import contextlib
import hashlib
import random
import socket
import statistics
import subprocess
import time
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from db.settings import DatabaseSettings
from tests.api.test_stac import assert_problem
from tests.api.tus_site import BODY, VERSION, TusSite, eventually, measuring, metadata, serving

SILENCE = "1.5"


@pytest.fixture(scope="module")
def running_site(
    postgres: DatabaseSettings, template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TusSite]:
    folder = tmp_path_factory.mktemp("tus")
    limits = {"FEDERATOR_UPLOAD_FILE_MAX_BYTES": str(2**30), "FEDERATOR_UPLOAD_OWNER_MAX_BYTES": str(2**31)}
    with serving(postgres, template, folder, FEDERATOR_UPLOAD_SILENCE_S=SILENCE, **limits) as site:
        yield site


@pytest.fixture
def site(running_site: TusSite) -> TusSite:
    running_site.clear()
    return running_site


def base64_of(algorithm: str, content: bytes) -> str:
    return b64encode(hashlib.new(algorithm, content).digest()).decode()


def test_what_is_offered(site: TusSite) -> None:
    answer = site.http.options("/uploads")
    assert site.http.options("/uploads/").headers["tus-version"] == "1.0.0"
    assert answer.status_code == 204
    assert answer.headers["tus-version"] == "1.0.0"
    assert set(answer.headers["tus-extension"].split(",")) == {
        "creation", "creation-with-upload", "expiration", "checksum", "termination",
    }  # fmt: skip
    assert int(answer.headers["tus-max-size"]) == 2**30
    assert answer.headers["tus-checksum-algorithm"] == "sha1,sha256"


def test_a_file_in_pieces(site: TusSite) -> None:
    content = bytes(range(256)) * 1000
    path = site.made(len(content), filename="../ü\u202e.tif", sha256=hashlib.sha256(content).hexdigest())
    head = site.http.head(path, headers=VERSION)
    assert (head.headers["upload-offset"], head.headers["upload-length"]) == ("0", str(len(content)))
    assert head.headers["upload-metadata"].startswith("title dA==,")
    assert head.headers["cache-control"] == "no-store"
    assert head.headers["tus-resumable"] == "1.0.0"
    sent = 0
    for size in (1, 70_000, 0, len(content) - 70_001):
        answer = site.patch(path, sent, content[sent : sent + size])
        sent += size
        assert (answer.status_code, int(answer.headers["upload-offset"])) == (204, sent), answer.text
        assert ("upload-expires" in answer.headers) == (sent < len(content))
        assert site.offset(path) == sent
    state = site.state(path)
    assert (state["state"], state["sha256"]) == ("received", hashlib.sha256(content).hexdigest())
    assert state["file_name"] == "ü.tif"
    assert site.file(path).read_bytes() == content
    again = site.patch(path, sent, b"")
    assert (again.status_code, again.headers["upload-offset"]) == (204, str(sent))
    more = site.patch(path, sent, b"x")
    assert (more.status_code, more.json()["code"]) == (409, "ALREADY_RECEIVED")
    jobs = site.rows("select count(*) as n from procrastinate_jobs where args ->> 'upload_id' = %s", state["id"])
    assert jobs[0]["n"] == 1


def test_the_location_is_made_of_the_public_url(site: TusSite) -> None:
    headers = {**VERSION, "Upload-Length": "5", "Upload-Metadata": metadata(title="t", datetime="2026-05-01T00:00:00Z")}
    evil = {"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https", "Forwarded": "host=evil.example"}
    answer = site.http.post("/uploads", headers={**headers, **evil})
    assert answer.headers["location"].startswith(f"{site.http.base_url}/uploads/".replace("//uploads", "/uploads"))


CREATIONS = [
    ({"Tus-Resumable": "0.2.2", "Upload-Length": "5"}, 412, "TUS_VERSION"),
    ({"Upload-Length": "5"}, 412, "TUS_VERSION"),
    ({**VERSION}, 400, "HEADER_MISSING"),
    ({**VERSION, "Upload-Length": "-5"}, 400, "INVALID_HEADER"),
    ({**VERSION, "Upload-Length": "5e3"}, 400, "INVALID_HEADER"),
    ({**VERSION, "Upload-Length": "9" * 40}, 400, "INVALID_HEADER"),
    ({**VERSION, "Upload-Length": "1000000000000"}, 413, "TOO_LARGE"),
    ({**VERSION, "Upload-Length": "0"}, 422, "EMPTY_FILE"),
    ({**VERSION, "Upload-Defer-Length": "1"}, 400, "EXTENSION_UNSUPPORTED"),
    ({**VERSION, "Upload-Length": "5", "Upload-Concat": "partial"}, 400, "EXTENSION_UNSUPPORTED"),
    ({**VERSION, "Upload-Length": "5", "Upload-Metadata": "title ???"}, 400, "INVALID_METADATA"),
    ({**VERSION, "Upload-Length": "5", "Upload-Metadata": b"filename \xe9"}, 400, "INVALID_METADATA"),
    ({**VERSION, "Upload-Length": "5", "Upload-Metadata": b"filename aGk=" + b"\xa0" * 5000}, 400, "INVALID_METADATA"),
    ({**VERSION, "Upload-Length": "5", "Upload-Metadata": "a YQ==,a YQ=="}, 400, "INVALID_METADATA"),
    ({**VERSION, "Upload-Length": "5", "Upload-Metadata": "a " + "A" * 9000}, 400, "METADATA_TOO_LARGE"),
    (
        {**VERSION, "Upload-Length": "5", "Upload-Metadata": metadata(title="t", datetime="now")},
        422,
        "DATETIME_INVALID",
    ),
    ({**VERSION, "Upload-Length": "5", "Upload-Metadata": metadata(title="t", sha256="ab")}, 422, "INVALID_FIELD"),
]


@pytest.mark.parametrize(("headers", "status", "code"), CREATIONS)
def test_wrong_creations(site: TusSite, headers: dict[str, str], status: int, code: str) -> None:
    if "Upload-Metadata" not in headers:
        headers = {**headers, "Upload-Metadata": metadata(title="t", datetime="2026-05-01T00:00:00Z")}
    answer = site.http.post("/uploads", headers=headers)
    assert_problem(answer)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["tus-resumable"] == "1.0.0"


PATCHES = [
    ({"Tus-Resumable": ""}, 412),
    ({"Tus-Resumable": "2.0.0"}, 412),
    ({"Content-Type": "text/plain"}, 415),
    ({"Content-Type": ""}, 415),
    ({"Upload-Offset": ""}, 400),
    ({"Upload-Offset": "-1"}, 400),
    ({"Upload-Offset": "x"}, 400),
    ({"Upload-Offset": "3"}, 409),
    ({"Upload-Offset": "100"}, 409),
    ({"Upload-Checksum": "md5 1B2M2Y8AsgTpgAmY7PhCfg=="}, 400),
    ({"Upload-Checksum": "sha256 AAAA"}, 400),
    ({"Upload-Checksum": "sha1"}, 400),
]


@pytest.mark.parametrize(("change", "status"), PATCHES)
def test_wrong_patches_leave_no_byte(site: TusSite, change: dict[str, str], status: int) -> None:
    path = site.made(100)
    assert site.patch(path, 0, b"12").status_code == 204
    headers = {name: value for name, value in {**BODY, "Upload-Offset": "2", **change}.items() if value}
    answer = site.http.patch(path, content=b"x" * 50, headers=headers)
    assert_problem(answer)
    assert answer.status_code == status
    if status == 409:
        assert answer.headers["upload-offset"] == "2"
    assert site.offset(path) == 2
    assert site.file(path).read_bytes() == b"12"


def test_more_bytes_than_promised_leave_no_trace(site: TusSite) -> None:
    path = site.made(200_000)
    refused = site.patch(path, 0, b"x" * 328_000)
    assert (refused.status_code, refused.json()["limit"]) == (413, 200_000)
    chunked = site.patch(path, 0, iter([b"x" * 128_000] * 3))
    assert chunked.status_code == 413
    assert site.offset(path) == 0
    content = bytes(200_000)
    assert site.patch(path, 0, iter([content[:150_000], content[150_000:]])).status_code == 204
    assert site.file(path).read_bytes() == content


@pytest.mark.parametrize("algorithm", ["sha1", "sha256"])
def test_checksums(site: TusSite, algorithm: str) -> None:
    content = b"0123456789" * 1000
    path = site.made(len(content))
    assert site.patch(path, 0, content[:10]).status_code == 204
    wrong = site.patch(path, 10, content[10:5000], **{"Upload-Checksum": f"{algorithm} {base64_of(algorithm, b'')}"})
    assert (wrong.status_code, wrong.json()["code"]) == (460, "CHECKSUM_MISMATCH")
    assert site.offset(path) == 10
    right = f"{algorithm} {base64_of(algorithm, content[10:])}"
    assert site.patch(path, 10, content[10:], **{"Upload-Checksum": right}).status_code == 204
    assert site.state(path)["sha256"] == hashlib.sha256(content).hexdigest()


def test_half_of_a_body_with_a_checksum_is_not_kept(site: TusSite) -> None:
    path = site.made(1000)
    slow = site.slow_patch(path, 0, 1000, b"x" * 500, **{"Upload-Checksum": f"sha1 {base64_of('sha1', b'')}"})
    eventually(lambda: site.file(path).exists())
    slow.drop()
    eventually(lambda: site.http.patch(path, headers={**BODY, "Upload-Offset": "9"}).status_code == 409)
    assert site.offset(path) == 0


def test_another_file_than_promised_is_rejected(site: TusSite) -> None:
    path = site.made(5, sha256="00" * 32)
    answer = site.patch(path, 0, b"12345")
    assert (answer.status_code, answer.json()["code"]) == (460, "CHECKSUM_MISMATCH")
    assert site.state(path)["error"]["code"] == "CHECKSUM_MISMATCH"
    assert not site.rows("select 1 from procrastinate_jobs where args ->> 'upload_id' = %s", path.rsplit("/", 1)[-1])


def test_two_at_once_one_is_refused_at_once_and_nobody_waits(site: TusSite) -> None:
    path = site.made(2_000_000)
    slow = site.slow_patch(path, 0, 2_000_000, b"a" * 1_000_000)
    eventually(lambda: site.file(path).exists())
    with measuring(site) as seconds:
        refused, until = 0, time.monotonic() + 20
        while refused < 10 or (len(seconds) < 3 and time.monotonic() < until):
            begun = time.monotonic()
            second = site.patch(path, 0, b"b" * 2_000_000)
            assert (second.status_code, second.json()["code"]) == (423, "LOCKED")
            assert second.headers["retry-after"] == "1"
            assert time.monotonic() - begun < 1
            refused += 1
    slow.send(b"a" * 1_000_000)
    assert slow.answer().status == 204
    assert site.file(path).read_bytes() == b"a" * 2_000_000
    assert statistics.median(seconds) < 0.1


def test_a_look_stops_the_sender_and_tells_what_is_durable(site: TusSite) -> None:
    path = site.made(1000)
    slow = site.slow_patch(path, 0, 1000, b"x" * 400)
    eventually(lambda: site.file(path).exists())
    begun = time.monotonic()
    assert site.offset(path) == 400
    assert time.monotonic() - begun < 5
    answer = slow.answer()
    assert answer.status == 409
    assert answer.headers["tus-resumable"] == "1.0.0"
    assert site.patch(path, 400, b"y" * 600).status_code == 204


def test_a_silent_sender_loses_the_lock_and_keeps_its_bytes(site: TusSite) -> None:
    path = site.made(1000)
    slow = site.slow_patch(path, 0, 1000, b"x" * 400)
    assert slow.answer().status == 408
    assert site.patch(path, 400, b"y" * 600).status_code == 204


def test_a_sender_that_goes_away_leaves_its_bytes(site: TusSite) -> None:
    path = site.made(1000)
    slow = site.slow_patch(path, 0, 1000, b"x" * 400)
    time.sleep(1)  # a reset takes with it what the server has not read yet
    slow.drop()
    eventually(lambda: site.http.patch(path, headers={**BODY, "Upload-Offset": "9"}).status_code == 409, 5)
    assert site.offset(path) == 400


def test_taking_back_while_bytes_come(site: TusSite) -> None:
    path = site.made(1000)
    slow = site.slow_patch(path, 0, 1000, b"x" * 400)
    eventually(lambda: site.file(path).exists())
    assert site.http.delete(path, headers=VERSION).status_code == 204
    assert slow.answer().status == 410
    assert not site.file(path).parent.exists()
    assert site.http.head(path, headers=VERSION).status_code == 410
    assert site.patch(path, 0, b"x").status_code == 410
    assert site.http.delete(path, headers=VERSION).status_code == 410
    assert not site.file(path).parent.exists()
    assert site.state(path)["error"]["code"] == "DELETED"


@pytest.mark.parametrize(
    "name", ["x", "x.info", ".locks", "%2e%2e%2f", "..%2f..%2fetc", "01890000-0000-7000-8000-000000000000", "%00"]
)
def test_names_that_are_none(site: TusSite, name: str) -> None:
    for method in ("HEAD", "PATCH", "DELETE"):
        answer = site.http.request(method, f"/uploads/{name}", headers={**BODY, "Upload-Offset": "0"})
        assert answer.status_code == 404, method
    path = site.made(9)
    for suffix in (".info", "/", "%20"):
        assert site.http.delete(path + suffix, headers=VERSION).status_code == 404
    assert site.http.delete(path.upper().replace("UPLOADS", "uploads"), headers=VERSION).status_code == 404
    assert site.offset(path) == 0


def test_another_owners_upload_does_not_exist(site: TusSite, monkeypatch: pytest.MonkeyPatch) -> None:
    path = site.made(9)
    nothing = site.http.get("/uploads/01890000-0000-7000-8000-000000000000").json()
    monkeypatch.setattr("api.upload_forms.owns", lambda request, owner: False)
    assert site.http.get(path).json() == nothing
    assert site.patch(path, 0, b"123").status_code == 404
    assert site.http.head(path, headers=VERSION).status_code == 404
    assert site.http.delete(path, headers=VERSION).status_code == 404
    assert site.http.put(f"{path}/content", content=b"123456789").status_code == 404
    monkeypatch.undo()
    assert site.offset(path) == 0
    assert not site.file(path).exists()


def test_expired_ones_are_gone(site: TusSite) -> None:
    path = site.made(9)
    site.patch(path, 0, b"123")
    site.rows("update federator.upload set expires_at = now() - interval '1 s' where id = %s", path.rsplit("/", 1)[-1])
    for answer in (
        site.http.head(path, headers=VERSION),
        site.patch(path, 3, b"456"),
        site.http.put(f"{path}/content", content=b"123456789"),
    ):
        assert answer.status_code == 410
    assert site.file(path).read_bytes() == b"123"


def test_open_uploads_are_counted(site: TusSite) -> None:
    paths = [site.made(9) for _ in range(10)]
    headers = {**VERSION, "Upload-Length": "9", "Upload-Metadata": metadata(title="t", datetime="2026-05-01T00:00:00Z")}
    answer = site.http.post("/uploads", headers=headers)
    assert_problem(answer)
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (403, "QUOTA_EXCEEDED")
    assert (problem["quota"], problem["limit"], problem["actual"]) == ("open_uploads", 10, 10)
    assert site.http.delete(paths[0], headers=VERSION).status_code == 204
    assert site.http.post("/uploads", headers=headers).status_code == 201


def test_bytes_are_counted_from_the_promise_on(site: TusSite) -> None:
    paths = [site.made(2**30) for _ in range(2)]
    headers = {**VERSION, "Upload-Length": "1", "Upload-Metadata": metadata(title="t", datetime="2026-05-01T00:00:00Z")}
    problem = site.http.post("/uploads", headers=headers).json()
    assert (problem["code"], problem["quota"], problem["limit"]) == ("QUOTA_EXCEEDED", "bytes", 2**31)
    assert (problem["actual"], problem["requested"]) == (2**31, 1)
    site.http.delete(paths[0], headers=VERSION)
    assert site.http.post("/uploads", headers=headers).status_code == 201


def test_a_creation_may_bring_a_mebibyte(site: TusSite) -> None:
    content = bytes(2**20)
    given = metadata(title="t", datetime="2026-05-01T00:00:00Z")
    headers = {**BODY, "Upload-Length": str(len(content)), "Upload-Metadata": given}
    whole = site.http.post("/uploads", content=content, headers=headers)
    assert (whole.status_code, whole.headers["upload-offset"]) == (201, str(len(content)))
    assert site.state(whole.headers["location"])["state"] == "received"
    before = site.rows("select count(*) as n from federator.upload")
    large = {**headers, "Upload-Length": str(2**21)}
    assert site.http.post("/uploads", content=bytes(2**20 + 1), headers=large).status_code == 413
    assert site.http.post("/uploads", content=iter([bytes(2**20), b"x"]), headers=large).status_code == 413
    assert site.http.post("/uploads", content=b"123456", headers={**headers, "Upload-Length": "5"}).status_code == 413
    assert site.http.post("/uploads", content=b"1", headers={**headers, "Content-Type": "a/b"}).status_code == 415
    assert site.rows("select count(*) as n from federator.upload") == before


def test_methods_in_a_header(site: TusSite) -> None:
    path = site.made(3)
    headers = {**BODY, "Upload-Offset": "0", "X-HTTP-Method-Override": "PATCH"}
    assert site.http.post(path, content=b"123", headers=headers).status_code == 204
    assert site.http.post(path, content=b"123", headers={**headers, "X-HTTP-Method-Override": "PUT"}).status_code == 405


def test_browsers_of_other_origins_may_send_and_read_the_headers(site: TusSite) -> None:
    asked = "authorization,content-type,tus-resumable,upload-checksum,upload-length,upload-metadata,upload-offset"
    preflight = {"Origin": "https://maps.example", "Access-Control-Request-Headers": asked}
    for method in ("POST", "HEAD", "PATCH", "DELETE"):
        answer = site.http.options("/uploads/x", headers={**preflight, "Access-Control-Request-Method": method})
        assert answer.status_code == 200
        assert method in answer.headers["access-control-allow-methods"]
        assert set(asked.split(",")) <= set(answer.headers["access-control-allow-headers"].replace(" ", "").split(","))
    answer = site.http.head(site.made(3), headers={**VERSION, "Origin": "https://maps.example"})
    exposed = answer.headers["access-control-expose-headers"]
    assert {"Location", "Upload-Offset", "Upload-Length", "Tus-Resumable"} <= set(exposed.split(", "))


def test_who_waits_for_a_go_is_refused_without_one(site: TusSite) -> None:
    path = site.made(100)
    for offset, first in (("7", b"HTTP/1.1 409"), ("0", b"HTTP/1.1 100")):
        with socket.create_connection(("127.0.0.1", site.port), timeout=10) as sock:
            lines = {**BODY, "Host": "x", "Upload-Offset": offset, "Content-Length": "100", "Expect": "100-continue"}
            head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
            sock.sendall(f"PATCH {path} HTTP/1.1\r\n{head}\r\n".encode())
            assert sock.recv(12) == first
    with socket.create_connection(("127.0.0.1", site.port), timeout=10) as sock:
        eventually(lambda: site.http.patch(path, headers={**BODY, "Upload-Offset": "9"}).status_code == 409)
        lines = {**BODY, "Upload-Offset": "0", "Content-Length": "3"}
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        sock.sendall(f"PATCH {path} HTTP/1.0\r\n{head}\r\nabc".encode())
        assert b" 204 " in sock.recv(200)


@pytest.mark.slow
def test_fifty_slow_clients(postgres: DatabaseSettings, template: str, tmp_path: Path) -> None:
    with serving(postgres, template, tmp_path, FEDERATOR_UPLOAD_OPEN_MAX="100") as site:
        paths = [site.made(1000) for _ in range(50)]
        slow = [site.slow_patch(path, 0, 1000, b"0") for path in paths]
        with measuring(site) as seconds:
            for _ in range(3):
                time.sleep(0.5)
                for one in slow:
                    one.send(b"0")
            fast = site.made(8_000_000)
            assert site.patch(fast, 0, bytes(8_000_000)).status_code == 204
        assert statistics.median(seconds) < 0.1
        for one in slow:
            one.send(bytes(996))
        assert {one.answer().status for one in slow} == {204}
        assert all(site.file(path).stat().st_size == 1000 for path in paths)


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A file system of 8 MiB."""
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip("this user may not mount a small file system")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_keeps_what_is_there_and_the_upload_goes_on(
    postgres: DatabaseSettings, template: str, tmp_path: Path
) -> None:
    content = random.Random(1).randbytes(6_000_000)
    with small_disk(tmp_path / "disk") as folder, serving(postgres, template, folder) as site:
        ballast = folder / "ballast"
        ballast.write_bytes(bytes(5_000_000))
        path = site.made(len(content))
        full = site.patch(path, 0, content)
        assert (full.status_code, full.json()["code"]) == (507, "STORAGE_FULL")
        assert "retry-after" in full.headers
        there = site.offset(path)
        assert 0 < there < len(content)
        ballast.unlink()
        assert site.patch(path, there, content[there:]).status_code == 204
        assert site.file(path).read_bytes() == content
        assert site.state(path)["sha256"] == hashlib.sha256(content).hexdigest()


def test_a_put_with_its_digest(site: TusSite) -> None:
    content = b"some bytes" * 100
    path = site.made(len(content))
    wrong = {"Content-Digest": f"sha-256=:{base64_of('sha256', b'')}:"}
    answer = site.http.put(f"{path}/content", content=content, headers=wrong)
    assert (answer.status_code, answer.json()["code"]) == (422, "CHECKSUM_MISMATCH")
    assert site.offset(path) == 0
    for header in ("md5=:1B2M2Y8AsgTpgAmY7PhCfg==:", "sha-256=abc", "sha-256=:AAAA:", "sha-256"):
        refused = site.http.put(f"{path}/content", content=content, headers={"Content-Digest": header})
        assert refused.status_code == 400, header
    short = site.http.put(f"{path}/content", content=content[1:])
    assert (short.status_code, short.json()["code"]) == (400, "LENGTH_MISMATCH")
    right = {"Repr-Digest": f"sha-512=:{base64_of('sha512', content)}:, other=:AAAA:"}
    assert site.http.put(f"{path}/content", content=content, headers=right).status_code == 202
    assert site.state(path)["sha256"] == hashlib.sha256(content).hexdigest()


def test_a_crash_between_the_last_byte_and_its_arrow_is_made_good_by_a_look(site: TusSite) -> None:
    path = site.made(6)
    site.patch(path, 0, b"123")
    with site.file(path).open("ab") as file:
        file.write(b"456")
    assert site.offset(path) == 6
    state = site.state(path)
    assert (state["state"], state["sha256"]) == ("received", hashlib.sha256(b"123456").hexdigest())


def test_the_hashes_are_right_when_the_file_was_changed_behind_our_back(site: TusSite) -> None:
    path = site.made(6)
    site.patch(path, 0, b"123")
    site.file(path).write_bytes(b"12x")
    assert site.patch(path, 3, b"456").status_code == 204
    assert site.state(path)["sha256"] == hashlib.sha256(b"12x456").hexdigest()


def test_writes_from_other_sites_pages_need_a_token(site: TusSite) -> None:
    answer = httpx.post(f"{site.http.base_url}/uploads", json={}, headers={"Origin": "https://evil.example"})
    assert answer.status_code == 403

"""Originals in a bucket, and clients that send to it themselves, with a real S3 server that checks signatures."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest

from db.pools import open_pool
from db.settings import DatabaseSettings
from ingest.settings import IngestSettings
from ingest.uploads import originals, processing, removal
from ingest.uploads.sigv4 import Account, presign
from tests.api.test_stac import assert_problem
from tests.api.tus_site import VERSION, TusSite, serving
from tests.doc_examples import examples, run_python
from tests.ingest.uploads.rasters import write
from tests.ingest.uploads.s3_server import Bucket, s3_server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
MIB = 2**20


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bucket]:
    with s3_server(tmp_path_factory.mktemp("s3")) as running:
        yield running


@pytest.fixture(scope="module")
def site(
    bucket: Bucket, postgres: DatabaseSettings, template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TusSite]:
    with serving(postgres, template, tmp_path_factory.mktemp("parts"), **bucket.settings) as running:
        yield running


@pytest.fixture(autouse=True)
def _environment(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in bucket.settings.items():
        monkeypatch.setenv(name, value)


def made(site: TusSite, content: bytes, **form: Any) -> dict[str, Any]:
    """An upload that is sent in parts."""
    body = {"title": "t", "datetime": "2026-05-01T12:00:00Z", "transfer": "parts", "length": len(content), **form}
    answer = site.http.post("/uploads", json=body)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def links(site: TusSite, upload: dict[str, Any], *numbers: int) -> list[dict[str, Any]]:
    answer = site.http.post(f"/uploads/{upload['id']}/parts", json={"numbers": list(numbers)})
    assert answer.status_code == 200, answer.text
    return list(answer.json()["parts"])


def work(site: TusSite, upload_id: str) -> None:
    """What a worker does, on a machine that has no file of the API's."""

    async def run() -> None:
        settings = IngestSettings(data_dir=site.data_dir / "worker", public_url=str(site.http.base_url))
        async with open_pool(site.database) as pool:
            await processing.process(pool, settings, upload_id)
            await removal.sweep(pool, settings)

    asyncio.run(run())


def size_in_bucket(site: TusSite, upload_id: str) -> int | None:
    return asyncio.run(originals.size_in_bucket(site.ingest, UUID(upload_id)))


def test_the_signature_is_that_of_the_documentation() -> None:
    """AWS, "Authenticating Requests: Using Query Parameters", the example of GET /test.txt."""
    account = Account("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "us-east-1")
    url = presign(
        account, "GET", "https://examplebucket.s3.amazonaws.com/test.txt", at=datetime(2013, 5, 24, tzinfo=UTC),
        expires_s=86400,
    )  # fmt: skip
    assert url.endswith("X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404")


def test_parts_become_one_file(site: TusSite) -> None:
    content = random.Random(1).randbytes(5 * MIB) * 2 + b"the end"
    upload = made(site, content, sha256=hashlib.sha256(content).hexdigest())
    assert upload["part_bytes"] == 5 * MIB
    base = f"/uploads/{upload['id']}"
    pieces = {number: content[(number - 1) * 5 * MIB : number * 5 * MIB] for number in (1, 2, 3)}
    for part in links(site, upload, 3, 1):
        assert httpx.put(part["url"], content=pieces[part["number"]]).status_code == 200
    there = site.http.get(f"{base}/parts").json()
    assert there["parts"] == [{"number": 1, "size": 5 * MIB}, {"number": 3, "size": 7}]
    assert there["missing"] == [2]
    early = site.http.post(f"{base}/complete")
    assert_problem(early)
    assert (early.status_code, early.json()["code"], early.json()["missing"]) == (409, "PARTS_INCOMPLETE", [2])
    (second,) = links(site, upload, 2)
    assert httpx.put(second["url"], content=pieces[2]).status_code == 200
    done = site.http.post(f"{base}/complete")
    assert (done.status_code, done.json()["state"]) == (202, "received")
    again = site.http.post(f"{base}/complete")
    assert (again.status_code, again.json()["code"]) == (409, "ALREADY_RECEIVED")
    work(site, upload["id"])
    state = site.state(base)
    assert state["sha256"] == hashlib.sha256(content).hexdigest()
    assert state["error"]["code"] == "NOT_A_TIFF"
    assert size_in_bucket(site, upload["id"]) is None, "refused originals go"


def test_a_url_is_for_its_part_and_length_alone(site: TusSite) -> None:
    upload = made(site, bytes(6 * MIB))
    first, last = links(site, upload, 1, 2)
    assert httpx.put(last["url"], content=bytes(MIB - 1)).status_code == 403
    assert httpx.put(last["url"], content=bytes(MIB + 1)).status_code == 403
    other_number = last["url"].replace("partNumber=2", "partNumber=1")
    assert httpx.put(other_number, content=bytes(MIB)).status_code == 403
    assert httpx.get(first["url"]).status_code == 403
    assert site.http.get(f"/uploads/{upload['id']}/parts").json()["parts"] == []
    beyond = site.http.post(f"/uploads/{upload['id']}/parts", json={"numbers": [3]})
    assert (beyond.status_code, beyond.json()["code"]) == (422, "PART_UNKNOWN")
    for form in ({}, {"numbers": "1"}, {"numbers": [True]}, {"numbers": list(range(2000))}):
        assert site.http.post(f"/uploads/{upload['id']}/parts", json=form).status_code == 422


def test_parts_and_tus_do_not_mix(site: TusSite) -> None:
    upload = made(site, bytes(6 * MIB))
    assert site.patch(f"/uploads/{upload['id']}", 0, b"x").json()["code"] == "SENT_IN_PARTS"
    assert site.http.post(f"{site.made(9)}/parts", json={"numbers": [1]}).json()["code"] == "NOT_IN_PARTS"


def test_another_file_than_promised_is_rejected_by_the_worker(site: TusSite) -> None:
    upload = made(site, b"12345", sha256="00" * 32)
    (only,) = links(site, upload, 1)
    assert httpx.put(only["url"], content=b"12345").status_code == 200
    assert site.http.post(f"/uploads/{upload['id']}/complete").status_code == 202
    work(site, upload["id"])
    assert site.state(f"/uploads/{upload['id']}")["error"]["code"] == "CHECKSUM_MISMATCH"


def test_taking_back_lets_the_bucket_forget_the_parts(site: TusSite) -> None:
    upload = made(site, bytes(6 * MIB))
    first, second = links(site, upload, 1, 2)
    assert httpx.put(first["url"], content=bytes(5 * MIB)).status_code == 200
    assert site.http.delete(f"/uploads/{upload['id']}", headers=VERSION).status_code == 204
    assert httpx.put(second["url"], content=bytes(MIB)).status_code in (403, 404)
    assert site.http.get(f"/uploads/{upload['id']}/parts").status_code == 410


def test_a_raster_by_tus_is_kept_in_the_bucket_and_becomes_an_item(site: TusSite, tmp_path: Path) -> None:
    write(tmp_path / "a.tif")
    content = (tmp_path / "a.tif").read_bytes()
    path = site.made(len(content))
    assert site.patch(path, 0, content).status_code == 204
    upload_id = path.rsplit("/", 1)[-1]
    assert size_in_bucket(site, upload_id) == len(content)
    work(site, upload_id)
    state = site.state(path)
    assert state["state"] == "ready", state
    assert size_in_bucket(site, upload_id) == len(content), "kept by default"
    item = f"/stac/collections/uploads/items/{state['item_id']}"
    assert site.http.get(item).status_code == 200
    assert site.http.delete(path, headers=VERSION).status_code == 204
    gone = site.http.get(item)
    assert_problem(gone)
    assert (gone.status_code, gone.json()["code"]) == (410, "ITEM_DELETED")
    assert gone.json()["sha256"] == [hashlib.sha256(content).hexdigest()]
    assert site.http.get(f"{path}/data.tif").status_code == 410
    assert size_in_bucket(site, upload_id) is None


def test_without_a_bucket_there_are_no_parts(
    postgres: DatabaseSettings, template: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDERATOR_UPLOAD_STORE_URL", "")
    with serving(postgres, template, tmp_path) as plain:
        form = {"title": "t", "datetime": "2026-05-01T12:00:00Z", "transfer": "parts", "length": 5}
        answer = plain.http.post("/uploads", json=form)
        assert (answer.status_code, answer.json()["code"]) == (400, "PARTS_UNAVAILABLE")
        without_length = plain.http.post("/uploads", json={**form, "length": None})
        assert without_length.status_code == 422


def test_the_documentations_example(site: TusSite, tmp_path: Path) -> None:
    content = random.Random(8).randbytes(100_000)
    (tmp_path / "field.tif").write_bytes(content)
    (code,) = examples("uploads.md", "Parts to the object store", "python", str(site.http.base_url).rstrip("/"))
    run_python(code, tmp_path)
    (row,) = site.rows("select state, length from federator.upload order by id desc limit 1")
    assert row == {"state": "received", "length": len(content)}

"""Wrong input on purpose: a clear problem or message each, never a 500, never a traceback."""

from __future__ import annotations

import json
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
import rasterio

from tests.e2e.system import System

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(400)]

SEARCHES = [
    ("bbox with three numbers", {"bbox": "1,2,3"}),
    ("bbox with words", {"bbox": "a,b,c,d"}),
    ("bbox with NaN", {"bbox": "nan,0,1,1"}),
    ("bbox south of itself", {"bbox": "0,10,1,5"}),
    ("datetime in words", {"datetime": "yesterday"}),
    ("datetime backwards", {"datetime": "2025-01-02T00:00:00Z/2025-01-01T00:00:00Z"}),
    ("CQL2 that does not parse", {"filter": "eo:cloud_cover << 3"}),
    ("CQL2 of 3,000 brackets", {"filter": "(" * 3000 + "1=1" + ")" * 3000}),
    ("CQL2 of 3,000 NOTs", {"filter": "NOT " * 3000 + "1=1"}),
    ("negative limit", {"limit": "-1"}),
    ("limit in words", {"limit": "many"}),
    ("token of nobody", {"token": "next:nobody:nothing"}),
]


def assert_problem(answer: httpx.Response) -> None:
    assert 400 <= answer.status_code < 500, (answer.status_code, answer.text[:500])
    assert answer.headers["content-type"].startswith("application/problem+json")
    problem = answer.json()
    assert {"type", "title", "status", "detail", "code"} <= set(problem)
    assert problem["status"] == answer.status_code
    assert "Traceback" not in answer.text


@pytest.mark.parametrize(("what", "parameters"), SEARCHES, ids=[what for what, _ in SEARCHES])
def test_bad_search(demo: System, what: str, parameters: dict[str, str]) -> None:
    assert_problem(httpx.get(f"{demo.url}/stac/search", params=parameters))


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"bbox": "here"}', b'{"filter": {"op": "nonsense"}}', b"\xff\xfe"])
def test_bad_post_search(demo: System, body: bytes) -> None:
    answer = httpx.post(f"{demo.url}/stac/search", content=body, headers={"Content-Type": "application/json"})
    assert_problem(answer)


@pytest.mark.parametrize(
    "path",
    [
        "/stac/collections/unknown",
        "/stac/collections/unknown/items",
        "/stac/collections/uploads/items/unknown",
        "/raster/collections/unknown/items/unknown/info",
        "/raster/collections/uploads/items/unknown/tiles/WebMercatorQuad/0/0/0.png",
        "/uploads/unknown",
        "/uploads/01890000-0000-7000-8000-000000000000",
        "/lineage/v1/log/proof/unknown",
        "/nowhere",
    ],
)
def test_what_does_not_exist(demo: System, path: str) -> None:
    assert_problem(httpx.get(demo.url + path))


def send(demo: System, content: bytes, **form: str) -> dict[str, object]:
    """Create an upload, send `content`, wait for its end; return the last state or problem."""
    body = {"collection": "uploads", "datetime": "2026-05-01T12:00:00Z", "title": "wrong", **form}
    created = httpx.post(f"{demo.url}/uploads", json=body)
    if created.status_code != 201:
        assert_problem(created)
        return dict(created.json())
    url = created.headers["location"]
    answer = httpx.put(f"{url}/content", content=content)
    if answer.is_error:
        assert_problem(answer)
        return dict(answer.json())
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        state = httpx.get(url).json()
        if state["state"] in {"ready", "rejected", "failed"}:
            return dict(state)
        time.sleep(0.2)
    raise AssertionError(state)


def test_zero_bytes(demo: System) -> None:
    assert "EMPTY_FILE" in json.dumps(send(demo, b""))


def test_text_named_tif(demo: System) -> None:
    assert "NOT_A_TIFF" in json.dumps(send(demo, b"this is no raster\n" * 100))


def test_no_crs(demo: System, tmp_path: Path) -> None:
    path = tmp_path / "nocrs.tif"
    with rasterio.open(
        path, "w", driver="GTiff", width=64, height=64, count=1, dtype="uint8",
        transform=rasterio.transform.from_origin(500_000, 5_000_000, 10, 10),
    ) as target:  # fmt: skip
        target.write(np.ones((1, 64, 64), "uint8"))
    assert "NO_CRS" in json.dumps(send(demo, path.read_bytes()))


def test_upload_into_an_unknown_collection(demo: System) -> None:
    assert "COLLECTION_UNKNOWN" in json.dumps(send(demo, b"x", collection="nowhere"))


def test_upload_with_a_wrong_datetime(demo: System) -> None:
    assert_problem(
        httpx.post(f"{demo.url}/uploads", json={"collection": "uploads", "datetime": "yesterday", "title": "t"})
    )


def assert_message(answer: object, *words: str) -> None:
    assert getattr(answer, "returncode") not in (0, None)  # noqa: B009 - the type is subprocess's
    text = getattr(answer, "stdout") + getattr(answer, "stderr")  # noqa: B009
    assert "Traceback" not in text
    assert all(word in text for word in words), text


def test_unknown_source(demo: System) -> None:
    assert_message(demo.run("-m", "ingest", "harvest", "no-such-source"), "no-such-source")


def test_unreachable_upstream(demo: System, tmp_path: Path) -> None:
    (tmp_path / "dead.toml").write_text(
        'id = "dead"\ntitle = "Nobody listens"\nprotocol = "odata"\nurl = "http://127.0.0.1:9/odata/v1"\n'
        '[[collections]]\nid = "sentinel-2-l2a"\nupstream = { collection = "SENTINEL-2", product_type = "S2MSI2A" }\n',
        encoding="utf-8",
    )
    demo.extra_env["FEDERATOR_SOURCES_DIR"] = str(tmp_path)
    try:
        assert_message(demo.run("-m", "ingest", "harvest", "dead"), "dead")
    finally:
        del demo.extra_env["FEDERATOR_SOURCES_DIR"]


@pytest.mark.parametrize(
    "env",
    [
        {"PGHOST": "127.0.0.1", "PGPORT": "9"},
        {"PGHOST": "no-such-host.invalid"},
        {"PGHOST": "127.0.0.1", "PGPORT": "many"},
    ],
)
def test_wrong_database_settings(demo: System, env: dict[str, str]) -> None:
    demo.extra_env.update(env)
    try:
        for command in (("-m", "db", "migrate"), ("-m", "api", "serve"), ("-m", "ingest", "harvest", "cdse-odata")):
            assert_message(demo.run(*command))
    finally:
        for name in env:
            del demo.extra_env[name]

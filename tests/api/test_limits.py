"""Requests made to hurt are refused with their code, fast, before the database hears of them."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Never

import httpx
import orjson
import pytest

from api.settings import ApiSettings
from api.stac.app import create_stac_app

#: Seconds of computing that a refusal may cost.
MOST = 0.2

#: Deeper than the parser of JSON goes.
DEEP = b'{"filter": ' + b'{"op":"not","args":[' * 3000 + b"true" + b"]}" * 3000 + b"}"
RING = b"[[" + b",".join(b"[%d,%d]" % (n % 180, n % 90) for n in range(10_000)) + b",[0,0]]]"
POSTED: dict[str, tuple[bytes, int, str]] = {
    "a hundred thousand ids": (orjson.dumps({"ids": [f"{n:x}" for n in range(100_000)]}), 400, "TOO_MANY"),
    "a filter 3,000 deep": (DEEP, 400, "INVALID_BODY"),
    "a filter 200 deep": (b'{"filter": ' + b'{"op":"not","args":[' * 200 + b"true" + b"]}" * 200 + b"}", 400, "FILTER_TOO_DEEP"),
    "fifty megabytes": (b'{"ids": ["' + b"a" * 50_000_000 + b'"]}', 413, "BODY_TOO_LARGE"),
    "ten thousand vertices": (b'{"intersects": {"type": "Polygon", "coordinates": ' + RING + b"}}", 400, "GEOMETRY_TOO_LARGE"),
    "a long in": (
        orjson.dumps({"filter": {"op": "in", "args": [{"property": "id"}, [str(n) for n in range(50_000)]]}}), 400, "FILTER_TOO_LONG",
    ),
    "a token of another kind": (b'{"token": "next:sentinel-2-l2a:S2A"}', 400, "INVALID_TOKEN"),
    "a token that is long": (b'{"token": "' + b"A" * 500_000 + b'"}', 400, "INVALID_TOKEN"),
    "NUL in an id": (b'{"ids": ["a\\u0000"]}', 400, "INVALID_TEXT"),
    "half a character in an id": (b'{"ids": ["\\ud800"]}', 400, "INVALID_BODY"),
    "half a character in a filter": (b'{"filter": {"op": "=", "args": [{"property": "id"}, "\\udfff"]}}', 400, "INVALID_BODY"),
    "lists within lists": (b'{"ids": ' + b"[" * 3000 + b"]" * 3000 + b"}", 400, ""),
    "a limit of many digits": (b'{"limit": ' + b"9" * 5000 + b"}", 400, ""),
}  # fmt: skip
ASKED: dict[str, tuple[dict[str, str], str]] = {
    "ten thousand ids": ({"ids": "a," * 9_999 + "a"}, "TOO_MANY"),
    "brackets 3,000 deep": ({"filter": "(" * 3000 + "a=1" + ")" * 3000, "filter-lang": "cql2-text"}, "FILTER_TOO_DEEP"),
    "NOT 3,000 times": ({"filter": "NOT " * 3000 + "a=1", "filter-lang": "cql2-text"}, "FILTER_TOO_DEEP"),
    "a token of another kind": ({"token": "next:sentinel-2-l2a:S2A"}, "INVALID_TOKEN"),
    "NUL in a collection": ({"collections": "a\0b"}, "INVALID_TEXT"),
    "NUL in a filter": ({"filter": "a = '\0'", "filter-lang": "cql2-text"}, "INVALID_TEXT"),
    "a limit of many digits": ({"limit": "9" * 5000}, "INVALID_LIMIT"),
}


class Untouchable:
    """A database that fails the test that asks it."""

    def __getattr__(self, name: str) -> Never:
        raise AssertionError(f"the database was asked: {name}")


@pytest.fixture
async def stac(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    app = create_stac_app(ApiSettings(data_dir=tmp_path))
    app.state.readpool = app.state.searcher = Untouchable()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client:
        yield client


async def _refused(client: httpx.AsyncClient, request: httpx.Request, status: int, code: str) -> None:
    tries = []
    for _ in range(3):  # the first one of all warms up, and the whole process' time is measured
        begun = time.process_time()
        answer = await client.send(request)
        tries.append(time.process_time() - begun)
    assert answer.status_code == status, answer.text[:300]
    problem: dict[str, Any] = answer.json()
    assert problem["code"] == code if code else problem["code"]
    assert len(answer.content) < 1000
    assert min(tries) < MOST


@pytest.mark.parametrize("name", POSTED)
async def test_a_body_made_to_hurt_is_refused_before_the_database(stac: httpx.AsyncClient, name: str) -> None:
    body, status, code = POSTED[name]
    request = stac.build_request("POST", "/search", content=body, headers={"Content-Type": "application/json"})
    await _refused(stac, request, status, code)


@pytest.mark.parametrize("name", ASKED)
@pytest.mark.parametrize("path", ["/search", "/collections/sentinel-2-l2a/items"])
async def test_parameters_made_to_hurt_are_refused_before_the_database(
    stac: httpx.AsyncClient, name: str, path: str
) -> None:
    parameters, code = ASKED[name]
    await _refused(stac, stac.build_request("GET", path, params=parameters), 400, code)

"""Logins by JSON, pauses in milliseconds, monthly budgets: what some sources need besides their protocol."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from ingest.errors import SourceInvalid, UpstreamChanged, UpstreamUnavailable
from ingest.http import Patience, fetch_object, open_client, retry_after_s
from ingest.model import Auth, Source
from ingest.source_files import find_source, load_sources, read_source
from tests.ingest.sensed_harvest import served
from tests.upstreams.hda import HdaService
from tests.upstreams.login import CLIENT, Login
from tests.upstreams.sentinelhub import SentinelHubService

SEARCH: dict[str, Any] = {
    "collections": ["sentinel-2-l2a"],
    "datetime": "2024-08-01T00:00:00Z/2024-08-02T00:00:00Z",
}


@pytest.fixture(autouse=True)
def _secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEMO_USER", CLIENT[0])
    monkeypatch.setenv("DEMO_PASSWORD", CLIENT[1])


def source(url: str, token_url: str, kind: str = "oauth2-client-credentials", **more: Any) -> Source:
    auth = Auth(kind, token_url, "DEMO_USER", "DEMO_PASSWORD")
    return Source("hub", "Hub", "sentinelhub", url, requests_per_second=1e6, auth=auth, **more)


def patience(pauses: list[float], base_s: float = 1.0) -> Patience:
    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    return Patience(base_s=base_s, sleep=sleep)


@pytest.mark.parametrize(("unit", "header", "seconds"), [("ms", 398, 0.398), ("s", 1, 1.0)])
async def test_a_pause_is_counted_in_the_sources_unit(unit: str, header: int, seconds: float) -> None:
    pauses: list[float] = []
    with served(SentinelHubService([], login=Login())) as (url, control):
        control.fail("429", path="/search", retry_after=header)
        hub = source(url, f"{url}/token", retry_after_unit=unit)
        async with open_client(hub, patience(pauses)) as http:
            await fetch_object(http, "hub", "POST", f"{url}/search", json=SEARCH)
    assert len(pauses) == 1
    assert seconds <= pauses[0] <= seconds + 1


async def test_where_we_log_in_counts_in_seconds_all_the_same() -> None:
    pauses: list[float] = []
    with served(SentinelHubService([], login=Login())) as (url, control):
        control.fail("429", path="/token", retry_after=1)
        hub = source(url, f"{url.replace('127.0.0.1', 'localhost')}/token", retry_after_unit="ms")
        async with open_client(hub, patience(pauses)) as http:
            await fetch_object(http, "hub", "POST", f"{url}/search", json=SEARCH)
    assert 1 <= pauses[0] <= 2


async def test_a_pause_of_no_time_is_not_shorter_than_none_at_all() -> None:
    """A gateway that means seconds says "2" to a client that reads milliseconds: the tries must not be used up at once."""
    pauses: list[float] = []
    with served(SentinelHubService([], login=Login())) as (url, control):
        control.fail("429", count=6, path="/search", retry_after=2)
        async with open_client(source(url, f"{url}/token", retry_after_unit="ms"), patience(pauses, 60.0)) as http:
            with pytest.raises(UpstreamUnavailable):
                await fetch_object(http, "hub", "POST", f"{url}/search", json=SEARCH)
    assert len(pauses) == 5
    assert max(pauses) > 1.5, "our own backoff of up to a minute, not two milliseconds and up to a second"


def test_a_date_has_no_unit() -> None:
    assert retry_after_s("3398", unit="ms") == 3.398
    assert (retry_after_s("Thu, 01 Jan 2099 12:01:30 GMT", unit="ms") or 0) > 1e6


@pytest.mark.parametrize("refused_with", [401, 403])
async def test_a_token_by_json_is_renewed_when_it_ends(refused_with: int) -> None:
    login = Login(uses=2)
    service = HdaService([], login)
    service.refused_with = refused_with
    body = {"dataset_id": "EO:ESA:DAT:SENTINEL-2", "productType": "S2MSI2A", "itemsPerPage": 1, "startIndex": 0,
            "startdate": "2024-08-01T00:00:00Z", "enddate": "2024-08-02T00:00:00Z"}  # fmt: skip
    with served(service) as (url, _):
        async with open_client(source(url, f"{url}/gettoken", "token-json"), Patience(base_s=0)) as http:
            for _ in range(6):
                await fetch_object(http, "hub", "POST", f"{url}/api/v1/dataaccess/search", json=body)
    assert login.issued == 3


async def test_tokens_that_end_at_once_are_renewed_before_each_request() -> None:
    login = Login(lifetime_s=10)
    with served(SentinelHubService([], login=login)) as (url, _):
        async with open_client(source(url, f"{url}/token"), Patience(base_s=0)) as http:
            for _ in range(3):
                await fetch_object(http, "hub", "POST", f"{url}/search", json=SEARCH)
    assert login.issued == 3


async def test_many_requests_whose_token_ends_together_renew_it_once() -> None:
    issued = 0
    waiting = asyncio.Event()

    async def answer(request: httpx.Request) -> httpx.Response:
        nonlocal issued
        if request.url.path == "/token":
            issued += 1
            return httpx.Response(200, json={"access_token": f"token-{issued}", "expires_in": 3600})
        token = request.headers["authorization"]
        if token == "Bearer token-1":
            if request.url.path == "/late":  # refused only after the others have a new token already
                await waiting.wait()
            return httpx.Response(401)
        waiting.set()
        return httpx.Response(200, json={})

    hub = source("https://hub.example.org", "https://hub.example.org/token")
    async with open_client(hub, Patience(base_s=0), httpx.MockTransport(answer)) as http:
        paths = ["late", "a", "b"]
        await asyncio.gather(*(fetch_object(http, "hub", "GET", f"https://hub.example.org/{one}") for one in paths))
    assert issued == 2


@pytest.mark.parametrize("kind", ["oauth2-client-credentials", "token-json"])
async def test_a_wrong_password_stops_the_run_and_is_in_no_message(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setenv("DEMO_PASSWORD", "swordfish")
    is_json = kind == "token-json"
    service: Any = HdaService([], Login()) if is_json else SentinelHubService([], login=Login())
    with served(service) as (url, _):
        hub = source(url, f"{url}/{'gettoken' if is_json else 'token'}", kind)
        async with open_client(hub, Patience(base_s=0)) as http:
            with pytest.raises(UpstreamChanged, match="login was refused") as caught:
                await fetch_object(http, "hub", "POST", f"{url}/search", json=SEARCH)
    assert "swordfish" not in str(caught.value)


@pytest.mark.parametrize(
    "body", [{}, {"access_token": 7}, {"access_token": "t", "expires_in": "soon"}, {"error": "no"}]
)
async def test_an_answer_without_a_token_stops_the_run(body: Any) -> None:
    transport = httpx.MockTransport(lambda request: httpx.Response(200, json=body))
    hub = source("https://hub.example.org", "https://hub.example.org/gettoken", "token-json")
    async with open_client(hub, Patience(attempts=1), transport) as http:
        with pytest.raises(UpstreamChanged, match="no access_token"):
            await fetch_object(http, "hub", "GET", "https://hub.example.org/")


FILE = """
id = "hub"
title = "Hub"
protocol = "sentinelhub"
url = "https://hub.example.org/api"
requests_per_month = 10000
retry_after_unit = "ms"
[auth]
type = "token-json"
token_url = "https://hub.example.org/gettoken"
client_id_env = "DEMO_USER"
client_secret_env = "DEMO_PASSWORD"
[[collections]]
id = "sentinel-2-l2a"
upstream = { collection = "sentinel-2-l2a", start = 2015-06-27 }
"""


def read(folder: Path, text: str) -> Source:
    file = folder / "hub.toml"
    file.write_text(text, encoding="utf-8")
    return read_source(file)


def test_a_source_file_may_say_a_budget_and_a_unit(tmp_path: Path) -> None:
    found = read(tmp_path, FILE)
    assert (found.requests_per_month, found.retry_after_unit, found.auth.type) == (10_000, "ms", "token-json")
    plain = read(tmp_path, FILE.replace("requests_per_month = 10000\n", "").replace('retry_after_unit = "ms"\n', ""))
    assert (plain.requests_per_month, plain.retry_after_unit) == (None, "s")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("10000", "0"), "requests_per_month: 0 must be above 0"),
        (("10000", "-5"), "must be above 0"),
        (("10000", '"many"'), "requests_per_month = 'many' has the wrong type"),
        (("10000", "true"), "wrong type"),
        (('"ms"', '"min"'), "retry_after_unit = 'min' is none of: s, ms"),
        (('client_id_env = "DEMO_USER"\n', ""), "needs client_id_env"),
        (('token_url = "https://hub.example.org/gettoken"\n', ""), "needs token_url"),
        ((", start = 2015-06-27", ""), "upstream.start is missing"),
        (("start =", "begin ="), "unknown key 'upstream.begin'"),
    ],
)
def test_what_is_wrong_in_a_source_file_is_named(tmp_path: Path, change: tuple[str, str], words: str) -> None:
    with pytest.raises(SourceInvalid) as caught:
        read(tmp_path, FILE.replace(*change))
    assert words in str(caught.value)


def test_the_built_in_sources_that_need_a_login_name_their_variables() -> None:
    known = load_sources()
    named = {
        one: (find_source(known, one).auth.client_id_env, find_source(known, one).auth.client_secret_env)
        for one in ("cdse-sentinelhub", "sentinelhub-aws", "wekeo")
    }
    assert named == {
        "cdse-sentinelhub": ("CDSE_SH_CLIENT_ID", "CDSE_SH_CLIENT_SECRET"),
        "sentinelhub-aws": ("SH_CLIENT_ID", "SH_CLIENT_SECRET"),
        "wekeo": ("WEKEO_USERNAME", "WEKEO_PASSWORD"),
    }
    assert find_source(known, "cdse-sentinelhub").requests_per_month == 10_000
    assert {known[one].retry_after_unit for one in ("cdse-sentinelhub", "sentinelhub-aws")} == {"ms"}

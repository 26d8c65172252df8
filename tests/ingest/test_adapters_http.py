"""The client: patience with what passes, none with what does not, and no secret in any message."""

from __future__ import annotations

import asyncio
import gzip
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from ingest.errors import SourceInvalid, UpstreamChanged, UpstreamUnavailable
from ingest.http import Patience, fetch_object, open_client, retry_after_s
from ingest.model import Auth, Source

URL = "https://catalogue.example.org/odata/v1"


def source(**changes: Any) -> Source:
    return Source(
        **{"id": "example", "title": "", "protocol": "odata", "url": URL, "requests_per_second": 1e6} | changes
    )


class Answers:
    """Answers in turn, the last one for ever; remembers requests and the pauses between them."""

    def __init__(self, *answers: httpx.Response | Exception | Callable[[httpx.Request], httpx.Response]) -> None:
        self._answers = list(answers)
        self.requests: list[httpx.Request] = []
        self.pauses: list[float] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer(request) if callable(answer) else answer

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)

    def client(self, *, of: Source | None = None, **patience: Any) -> httpx.AsyncClient:
        settings = Patience(**{"base_s": 1.0, "sleep": self.sleep} | patience)
        return open_client(of or source(), settings, httpx.MockTransport(self))

    async def ask(self, **patience: Any) -> Any:
        async with self.client(**patience) as http:
            return await fetch_object(http, "example", "GET", f"{URL}/Products?token=hidden")


def good() -> httpx.Response:
    return httpx.Response(200, json={"value": []})


def status(code: int, **headers: str) -> httpx.Response:
    return httpx.Response(code, headers={name.replace("_", "-"): value for name, value in headers.items()}, text="no")


async def test_retry_after_in_seconds_is_waited_for() -> None:
    answers = Answers(status(429, retry_after="7"), good())
    assert await answers.ask() == {"value": []}
    assert 7 <= answers.pauses[0] <= 8


async def test_retry_after_as_a_date_is_waited_for() -> None:
    now = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
    assert retry_after_s("Thu, 01 Jan 2026 12:01:30 GMT", now) == 90
    assert retry_after_s("Thu, 01 Jan 2026 11:00:00 GMT", now) == 0
    assert retry_after_s("soon") is None
    assert retry_after_s(None) is None


async def test_retry_after_beyond_our_patience_ends_at_once() -> None:
    answers = Answers(status(503, retry_after="7200"))
    with pytest.raises(UpstreamUnavailable) as error:
        await answers.ask()
    assert error.value.retry_after_s == 7200
    assert len(answers.requests) == 1


@pytest.mark.parametrize(
    "passing",
    [
        status(500),
        status(502),
        status(503),
        status(429),
        httpx.ReadTimeout("slow"),
        httpx.ReadError("reset"),
        httpx.RemoteProtocolError("cut body"),
        httpx.Response(200, html="<html>maintenance</html>"),
        httpx.Response(200, headers={"content-type": "application/json"}, content=b'{"value": ['),
        lambda request: httpx.Response(
            200, headers={"content-encoding": "gzip"}, stream=httpx.ByteStream(b"not gzip at all")
        ),
    ],
)
async def test_what_may_pass_is_tried_again(passing: httpx.Response | Exception) -> None:
    answers = Answers(passing, passing, good())
    assert await answers.ask() == {"value": []}
    assert len(answers.requests) == 3


async def test_patience_ends_with_a_message_without_the_query() -> None:
    answers = Answers(status(500))
    with pytest.raises(UpstreamUnavailable) as error:
        await answers.ask()
    assert len(answers.requests) == 6
    assert "status 500" in str(error.value)
    assert "hidden" not in str(error.value)
    for number, pause in enumerate(answers.pauses):
        assert 0 <= pause <= 2**number


async def test_a_refused_connection_is_given_up_sooner() -> None:
    answers = Answers(httpx.ConnectError("refused"))
    with pytest.raises(UpstreamUnavailable, match="no connection"):
        await answers.ask()
    assert len(answers.requests) == 4
    assert sum(answers.pauses) <= 7


@pytest.mark.parametrize("code", [400, 401, 403, 404, 410, 422])
async def test_other_4xx_are_never_tried_again(code: int) -> None:
    answers = Answers(httpx.Response(code, json={"detail": [{"loc": ["query", "$skip"], "msg": "too much"}]}))
    with pytest.raises(UpstreamChanged) as error:
        await answers.ask()
    assert len(answers.requests) == 1
    assert str(code) in str(error.value)


@pytest.mark.parametrize("body", [b"[]", b'"text"', b"plain text"])
async def test_another_shape_is_a_change(body: bytes) -> None:
    with pytest.raises(UpstreamChanged):
        await Answers(httpx.Response(200, content=body)).ask()


async def test_an_answer_too_large_is_refused_even_when_packed() -> None:
    packed = gzip.compress(b"0" * 5_000_000)
    answer = httpx.Response(200, headers={"content-encoding": "gzip"}, stream=httpx.ByteStream(packed))
    with pytest.raises(UpstreamChanged, match="more than 1000000 bytes"):
        await Answers(answer).ask(max_answer_bytes=1_000_000)


async def test_requests_keep_the_pace_of_the_source() -> None:
    answers = Answers(lambda request: good())
    async with answers.client(of=source(requests_per_second=50)) as http:
        begun = time.monotonic()
        await asyncio.gather(*(http.get(URL) for _ in range(11)))
    assert time.monotonic() - begun >= 0.2


async def test_no_more_requests_at_once_than_the_source_allows() -> None:
    running = highest = 0

    async def slow(request: httpx.Request) -> httpx.Response:
        nonlocal running, highest
        running += 1
        highest = max(highest, running)
        await asyncio.sleep(0.01)
        running -= 1
        return good()

    async with open_client(source(concurrency=3), Patience(), httpx.MockTransport(slow)) as http:
        await asyncio.gather(*(http.get(URL) for _ in range(12)))
    assert highest == 3


OAUTH = Auth("oauth2-client-credentials", "https://login.example.org/token", "EXAMPLE_ID", "EXAMPLE_SECRET")


async def test_a_token_is_fetched_once_and_renewed_when_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXAMPLE_ID", "me")
    monkeypatch.setenv("EXAMPLE_SECRET", "swordfish")
    tokens: list[str] = []

    def handle(request: httpx.Request) -> httpx.Response:
        if request.url.host == "login.example.org":
            assert b"client_secret=swordfish" in request.content
            tokens.append(f"token-{len(tokens) + 1}")
            return httpx.Response(200, json={"access_token": tokens[-1], "expires_in": 600})
        is_good = request.headers["authorization"] == "Bearer token-2"
        return good() if is_good else status(401)

    async with open_client(source(auth=OAUTH), Patience(), httpx.MockTransport(handle)) as http:
        for _ in range(3):
            assert (await http.get(URL)).status_code == 200
    assert tokens == ["token-1", "token-2"]


async def test_a_login_refused_twice_is_no_endless_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXAMPLE_ID", "me")
    monkeypatch.setenv("EXAMPLE_SECRET", "swordfish")

    def handle(request: httpx.Request) -> httpx.Response:
        if request.url.host == "login.example.org":
            return httpx.Response(200, json={"access_token": "t"})
        return status(401)

    async with open_client(source(auth=OAUTH), Patience(), httpx.MockTransport(handle)) as http:
        with pytest.raises(UpstreamChanged, match="login was refused"):
            await fetch_object(http, "example", "GET", URL)


async def test_a_missing_secret_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EXAMPLE_SECRET", raising=False)
    with pytest.raises(SourceInvalid, match="EXAMPLE_SECRET"):
        open_client(source(auth=Auth("bearer", client_secret_env="EXAMPLE_SECRET")))


async def test_a_token_does_not_follow_a_redirect_to_another_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXAMPLE_SECRET", "swordfish")
    seen: list[str | None] = []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers.get("authorization"))
        if request.url.host == "catalogue.example.org":
            return httpx.Response(302, headers={"location": "https://other.example.net/"})
        return good()

    of = source(auth=Auth("bearer", client_secret_env="EXAMPLE_SECRET"))
    async with open_client(of, Patience(), httpx.MockTransport(handle)) as http:
        await fetch_object(http, "example", "GET", URL)
    assert seen == ["Bearer swordfish", None]

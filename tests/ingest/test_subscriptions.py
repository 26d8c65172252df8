"""Subscriptions in source files, their logins, the command and the worker."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs

import httpx
import pytest

from db.settings import DatabaseSettings
from ingest.adapters.odata_feed import ODataFeed
from ingest.errors import SourceInvalid, UpstreamChanged
from ingest.http import Patience
from ingest.logins import login_of
from ingest.model import Auth, Source, Subscription
from ingest.settings import IngestSettings
from ingest.source_files import load_sources, read_source
from ingest.subscription import followed, open_feed_client
from ingest.worker import create_worker_app
from tests.ingest.commands import Commands
from tests.ingest.feed_server import SUBSCRIPTION, FeedServer
from tests.ingest.odata_server import over_http, s2_product, source_toml
from tests.ingest.test_sources import GOOD, write
from tests.shared import shared_path

BEARER = '\n[subscription]\nid_env = "FEED_ID"\nauth = { type = "bearer", client_secret_env = "FEED_TOKEN" }\n'
USER = Auth("oauth2-password", "https://login.example.org/token", "FEED_USER", "FEED_PASSWORD", "public-client")


def test_a_subscription_has_a_login_of_its_own_or_the_sources(tmp_path: Path) -> None:
    own = read_source(write(tmp_path, GOOD + BEARER))
    assert own.subscription == Subscription("FEED_ID", Auth("bearer", client_secret_env="FEED_TOKEN"))
    assert own.auth == Auth(), "the search needs none"
    login = '[auth]\ntype = "bearer"\nclient_secret_env = "X"\n[subscription]\nid_env = "FEED_ID"\n[[collections]]'
    of_source = read_source(write(tmp_path, GOOD.replace("[[collections]]", login)))
    assert of_source.subscription == Subscription("FEED_ID", of_source.auth)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[subscription]\nid_env = "FEED_ID"\n', "needs a login: the source's [auth], or [subscription.auth]"),
        ("[subscription]\n", "[subscription]: id_env is missing"),
        ('[subscription]\nid_env = "991c4730-cf6f"\n', "the name of an environment variable"),
        (f'{BEARER}secret = "x"\n', "unknown key 'secret'"),
        (
            BEARER.replace('"bearer"', '"oauth2-password"'),
            "[subscription.auth]: type 'oauth2-password' needs token_url",
        ),
        (BEARER.replace("type =", 'client_id = "x", type ='), "client_id is for type 'oauth2-password'"),
        ('[auth]\ntype = "oauth2-password"\n', "none of: none, bearer"),
    ],
)
def test_a_wrong_subscription_is_named_with_its_key(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(SourceInvalid) as error:
        read_source(write(tmp_path, f"{GOOD}\n{text}"))
    assert words in str(error.value)
    assert "991c4730" not in str(error.value)


def test_a_protocol_without_a_feed_has_no_subscriptions(tmp_path: Path) -> None:
    text = GOOD.replace('"odata"', '"stac"').replace(', product_type = "S2MSI2A"', "") + BEARER
    with pytest.raises(SourceInvalid, match="'stac' has no subscriptions"):
        read_source(write(tmp_path, text))


def test_the_data_space_is_followed_when_the_operator_names_a_subscription(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CDSE_SUBSCRIPTION_ID", raising=False)
    sources = load_sources()
    assert followed(sources.values()) == []
    monkeypatch.setenv("CDSE_SUBSCRIPTION_ID", SUBSCRIPTION)
    assert followed(sources.values()) == [sources["cdse-odata"]]


def test_the_worker_looks_for_notifications_only_when_there_is_a_subscription(
    database: DatabaseSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def planned(cron: str) -> list[str]:
        app = create_worker_app(IngestSettings(follow_cron=cron), database, load_sources())
        return [task.cron for task in app.periodic_registry.periodic_tasks.values()]

    monkeypatch.delenv("CDSE_SUBSCRIPTION_ID", raising=False)
    assert planned("* * * * *") == []
    monkeypatch.setenv("CDSE_SUBSCRIPTION_ID", SUBSCRIPTION)
    assert planned("* * * * *") == ["* * * * *"]
    assert planned("") == []


async def test_a_user_logs_in_through_the_public_client_and_again_when_the_token_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FEED_USER", "someone@example.org")
    monkeypatch.setenv("FEED_PASSWORD", "pass & word")
    forms: list[dict[str, list[str]]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.host == "login.example.org":
            forms.append(parse_qs(request.content.decode()))
            return httpx.Response(200, json={"access_token": f"token-{len(forms)}", "expires_in": 600})
        is_good = request.headers.get("authorization") == "Bearer token-2"
        return httpx.Response(200 if is_good else 401, json={"Status": "running"})

    source = Source(
        "s",
        "S",
        "odata",
        "https://catalogue.example.org",
        requests_per_second=1e6,
        subscription=Subscription("X", USER),
    )
    async with open_feed_client(source, Patience(attempts=1), httpx.MockTransport(answer)) as http:
        await ODataFeed(source, SUBSCRIPTION).check(http)
    expected = {
        "grant_type": ["password"],
        "client_id": ["public-client"],
        "username": ["someone@example.org"],
        "password": ["pass & word"],
    }
    assert forms == [expected, expected]


@pytest.mark.parametrize("missing", ["FEED_USER", "FEED_PASSWORD"])
def test_a_missing_secret_is_named(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    monkeypatch.setenv("FEED_USER", "someone")
    monkeypatch.setenv("FEED_PASSWORD", "secret")
    monkeypatch.delenv(missing)
    with pytest.raises(SourceInvalid, match=missing):
        login_of(USER)


async def test_documented_answers_are_read() -> None:
    def example(number: str) -> httpx.Response:
        path = shared_path("upstreams", "recordings", "cdse-odata", f"documented_{number}.json")
        return httpx.Response(
            int(number.split("_")[-2]), content=path.read_bytes(), headers={"content-type": "application/json"}
        )

    answers = {
        "running": example("subscription_200_28"),
        "paused": example("subscription_200_29"),
        "gone": example("subscription_404_22"),
    }
    source = Source("s", "S", "odata", "https://catalogue.example.org", requests_per_second=1e6)
    feed = ODataFeed(source, SUBSCRIPTION)

    def serve(response: httpx.Response) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.MockTransport(lambda request: response))

    await feed.check(serve(answers["running"]))
    for state, words in (("paused", "is 'paused'"), ("gone", "it was cancelled")):
        with pytest.raises(SourceInvalid, match=words):
            await feed.check(serve(answers[state]))
    with pytest.raises(SourceInvalid, match="it was cancelled"):
        await feed.acknowledge(serve(example("subscription_404_24")), "x")
    assert await feed.acknowledge(serve(example("response_200_23")), "x")
    first, second = await feed.read(serve(example("subscription_200_21")))
    assert (first.event, first.record_id, first.record, first.name) == (
        "created",
        "d2ff986b-9454-43d6-95e0-1a0ae27019d7",
        None,
        "",
    )
    assert first.ack != second.ack
    assert first.at.isoformat() == "2024-03-13T13:39:59+00:00"
    with pytest.raises(UpstreamChanged, match="no list"):
        await feed.read(serve(example("response_200_23")))


@pytest.fixture
def commands(database: DatabaseSettings, tmp_path: Path) -> Commands:
    quick = {
        "FEDERATOR_WORKER_HEARTBEAT_S": "0.5",
        "FEDERATOR_WORKER_STALLED_S": "2",
        "FEDERATOR_FOLLOW_PAUSE_S": "0.1",
    }
    return Commands(database, tmp_path, {**quick, "FEED_ID": SUBSCRIPTION, "FEED_TOKEN": "secret"})


@pytest.fixture
def server(commands: Commands) -> Iterator[FeedServer]:
    server = FeedServer([])
    server.token = "secret"
    with over_http(server) as url:
        folder = commands.folder / "sources"
        folder.mkdir(exist_ok=True)
        (folder / "test-odata.toml").write_text(source_toml(url) + BEARER, encoding="utf-8")
        yield server


@pytest.mark.slow
def test_the_command_says_what_it_did(commands: Commands, server: FeedServer) -> None:
    server.publish(*(s2_product(n) for n in range(25)))
    answer = commands.run("follow", "test-odata", "--once", "--json")
    assert answer.returncode == 0, answer.stderr
    told = json.loads(answer.stdout)
    assert (told["ok"], told["notifications"], told["added"], told["unmapped"]) == (True, 25, 25, 0)
    commands.assert_whole(server)
    assert commands.column("select count(*) from lineage.event_outbox") == [0], "numbered without a worker"
    server.publish(s2_product(99, Name="nonsense.SAFE"))
    plain = commands.run("follow", "test-odata", "--once")
    assert plain.returncode == 1
    assert "test-odata notifications: 1, 0 of no mapped collection, 0 outdated" in plain.stdout
    assert "quarantine list" in plain.stderr
    server.status = "cancelled"
    gone = commands.run("follow", "test-odata", "--once")
    assert gone.returncode == 1
    assert "the subscription is not there: it was cancelled" in gone.stderr
    nobody = commands.run("follow", "cdse-odata", "--once")
    assert nobody.returncode == 1
    assert "CDSE_SUBSCRIPTION_ID does not hold the id of a subscription" in nobody.stderr


@pytest.mark.slow
def test_a_command_that_stays_stores_what_comes_and_ends_with_ctrl_c(commands: Commands, server: FeedServer) -> None:
    process = commands.start("follow", "test-odata")
    for number in range(3):
        server.publish(s2_product(number))
        deadline = time.monotonic() + 40
        while commands.count_items() <= number:
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in out + err
    assert "goes on" in err
    assert commands.column("select status from federator.harvest_run") == ["interrupted"]
    assert commands.run("follow", "test-odata", "--once").returncode == 0
    commands.assert_whole(server)


@pytest.mark.slow
def test_kill_9_between_storing_and_acknowledging_repeats_and_loses_nothing(
    commands: Commands, server: FeedServer
) -> None:
    server.publish(*(s2_product(n) for n in range(30)))
    asked = server.hold_from(3)  # check, read; what is asked after the commit waits
    process = commands.start("follow", "test-odata", "--once")
    deadline = time.monotonic() + 40
    while commands.count_items() < 20:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.kill()
    process.communicate()
    server.before_answer = lambda number: None
    queue = len(server.queue)
    asked.set()
    assert queue == 30
    assert commands.run("follow", "test-odata", "--once").returncode == 0
    commands.assert_whole(server)
    assert server.queue == []
    assert commands.column("select status from federator.harvest_run order by id") == ["interrupted", "done"]


@pytest.mark.slow
def test_a_worker_follows_by_itself(commands: Commands, server: FeedServer) -> None:
    commands.extra_env["FEDERATOR_FOLLOW_CRON"] = "* * * * * */1"
    server.publish(*(s2_product(n) for n in range(25)))
    process = commands.start("worker")
    try:
        deadline = time.monotonic() + 60
        while server.queue:
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=30)
    assert "Traceback" not in err, err
    commands.assert_whole(server)

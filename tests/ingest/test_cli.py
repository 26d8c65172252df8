"""`python -m ingest` as a process: messages, exit statuses, and a state from which the same command goes on."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from db import cluster
from db.settings import DatabaseSettings
from tests.ingest.commands import Commands
from tests.ingest.odata_server import ODataServer, over_http, s2_product
from tests.size import sized

pytestmark = pytest.mark.slow  # each test starts processes


@pytest.fixture
def commands(database: DatabaseSettings, tmp_path: Path) -> Commands:
    return Commands(database, tmp_path)


@pytest.fixture
def upstream(commands: Commands) -> Iterator[ODataServer]:
    """An OData server over HTTP with 60 products, known as the source `test-odata`."""
    server = ODataServer([s2_product(n) for n in range(60)])
    with over_http(server) as url:
        commands.add_source(url)
        yield server


def slow_down(server: ODataServer, seconds: float) -> None:
    server.before_answer = lambda number: time.sleep(seconds)


def wait_for_items(commands: Commands, at_least: int, process: subprocess.Popen[str]) -> None:
    """Return when so many items are stored, or the process has ended."""
    deadline = time.monotonic() + 40
    while commands.count_items() < at_least and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_sources_lists_built_in_and_own(commands: Commands, upstream: ODataServer) -> None:
    answer = commands.run("sources", "--json")
    assert answer.returncode == 0
    found = {source["id"]: source for source in json.loads(answer.stdout)["sources"]}
    assert {"cdse-odata", "cdse-stac", "earth-search", "test-odata"} <= set(found)
    assert "cdse-odata" in commands.run("sources").stdout


def test_harvest_says_what_it_did_and_stores_it(commands: Commands, upstream: ODataServer) -> None:
    answer = commands.run("harvest", "test-odata")
    assert answer.returncode == 0, answer.stderr
    assert "60 records: 60 new, 0 changed, 0 unchanged, 0 refused" in answer.stdout
    commands.assert_whole(upstream)
    assert commands.column("select count(*) from lineage.event_outbox") == [0]  # numbered without a worker
    again = json.loads(commands.run("harvest", "test-odata", "--json").stdout)
    assert again["ok"] is True
    (result,) = again["collections"]
    assert (result["collection"], result["status"], result["unchanged"]) == ("sentinel-2-l1c", "done", 60)
    commands.assert_whole(upstream)


def test_refused_records_make_exit_status_1_and_can_be_listed(commands: Commands, upstream: ODataServer) -> None:
    upstream.products[7]["Name"] = "nonsense.SAFE"
    answer = commands.run("harvest", "test-odata")
    assert answer.returncode == 1
    assert "1 refused" in answer.stdout
    assert "quarantine list" in answer.stderr
    listed = json.loads(commands.run("quarantine", "list", "--json").stdout)["records"]
    assert [row["record_id"] for row in listed] == [s2_product(7)["Id"]]
    assert s2_product(7)["Id"] in commands.run("quarantine", "list").stdout
    assert "nothing" in commands.run("quarantine", "list", "--source", "nobody").stderr


def test_limits_are_understood(commands: Commands, upstream: ODataServer) -> None:
    limited = ("harvest", "test-odata", "--json", "--since", "2026-01-01T00:00:10Z", "--until", "2026-01-01T00:00:20")
    assert json.loads(commands.run(*limited).stdout)["collections"][0]["added"] == 10
    most = commands.run("harvest", "test-odata", "--json", "--max-items", "5", "--collection", "sentinel-2-l1c")
    assert json.loads(most.stdout)["collections"][0]["fetched"] == 5
    assert commands.run("harvest", "test-odata", "--bbox", "170,-10,-170,10", "--max-items", "1").returncode == 0
    assert upstream.queries[-1]["$filter"][0].count("Intersects") == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nobody",), "there is no source 'nobody'"),
        (("test-odata", "--collection", "nothing"), "no collection 'nothing'"),
        (("test-odata", "--since", "yesterday"), "yesterday"),
        (("test-odata", "--since", "2026-02-01", "--until", "2026-01-01"), "before"),
        (("test-odata", "--bbox", "1,2,3"), "west,south,east,north"),
        (("test-odata", "--bbox", "1,2,nan,4"), "globe"),
        (("test-odata", "--bbox", "0,10,1,5"), "globe"),
        (("test-odata", "--max-items", "0"), "equal to 1"),
        (("test-odata", "--queue", "--max-items", "5"), "--queue"),
    ],
)
def test_a_wrong_command_is_status_2_and_says_why(
    commands: Commands, upstream: ODataServer, arguments: tuple[str, ...], words: str
) -> None:
    answer = commands.run_here("harvest", *arguments)
    assert answer.exit_code == 2
    assert words in answer.stderr


def test_an_unreachable_upstream_is_status_1_and_said_soon(commands: Commands) -> None:
    commands.add_source("http://127.0.0.1:9/odata/v1", "dead")
    begun = time.monotonic()
    answer = commands.run("harvest", "dead")
    assert time.monotonic() - begun < 20
    assert answer.returncode == 1
    assert "dead" in answer.stderr
    assert "no connection" in answer.stderr
    assert commands.run("check", "dead").returncode == 1


def test_a_wrong_source_file_is_named(commands: Commands) -> None:
    commands.add_source("http://127.0.0.1:9/odata/v1", "odd")
    file = commands.folder / "sources" / "odd.toml"
    file.write_text(file.read_text().replace("rank", "rang"), encoding="utf-8")
    answer = commands.run("sources")
    assert answer.returncode == 1
    assert "odd.toml" in answer.stderr
    assert "'rang'" in answer.stderr


@pytest.mark.parametrize(
    "env", [{"PGPORT": "9"}, {"PGPORT": "many"}, {"PGDATABASE": "no_such_database"}, {"PGHOST": "no-such-host.invalid"}]
)
def test_wrong_database_settings_are_status_1(commands: Commands, upstream: ODataServer, env: dict[str, str]) -> None:
    commands.extra_env = env
    answer = commands.run("harvest", "test-odata")
    assert answer.returncode == 1
    assert answer.stderr.strip()
    assert commands.database.pgpassword.get_secret_value() not in answer.stderr


def test_a_database_without_our_tables_says_what_to_do(empty_database: DatabaseSettings, tmp_path: Path) -> None:
    commands = Commands(empty_database, tmp_path)
    commands.add_source("http://127.0.0.1:9/odata/v1", "dead")
    answer = commands.run("harvest", "dead")
    assert answer.returncode == 1
    assert "python -m db migrate" in answer.stderr


def test_a_private_database_whose_first_command_was_killed_before_it_migrated_is_migrated_by_the_next() -> None:
    with tempfile.TemporaryDirectory(prefix="federator-test-") as folder:
        Path(folder).chmod(0o755)
        settings = DatabaseSettings(data_dir=Path(folder) / "data", pghost="", pgdatabase="")
        try:
            cluster.start(settings)
            answer = Commands(settings, Path(folder)).run("quarantine", "list")
        finally:
            cluster.stop(settings)
        assert answer.returncode == 0, answer.stderr


def test_check_asks_each_collection_once_and_stores_nothing(commands: Commands, upstream: ODataServer) -> None:
    answer = commands.run("check", "test-odata", "--json")
    assert answer.returncode == 0
    (result,) = json.loads(answer.stdout)["collections"]
    assert result["ok"] is True
    assert s2_product(0)["Name"] in result["detail"]
    assert len(upstream.queries) == 1
    assert commands.count_items() == 0
    upstream.before_answer = lambda number: httpx.Response(404, json={"detail": "gone"})
    broken = commands.run("check", "test-odata")
    assert broken.returncode == 1
    assert "404" in broken.stdout


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 130)])
def test_a_signal_leaves_a_state_from_which_the_same_command_goes_on(
    commands: Commands, upstream: ODataServer, number: signal.Signals, status: int
) -> None:
    may_go = upstream.hold_from(4)
    process = commands.start("harvest", "test-odata")
    wait_for_items(commands, 20, process)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    may_go.set()
    assert process.returncode == status
    assert "Traceback" not in out + err
    assert "goes on" in err
    assert commands.column("select status from federator.harvest_run") == ["interrupted"]
    slow_down(upstream, 0)
    assert commands.run("harvest", "test-odata").returncode == 0
    commands.assert_whole(upstream)


def test_two_harvests_at_once_the_second_says_so(commands: Commands, upstream: ODataServer) -> None:
    may_go = upstream.hold_from(4)
    first = commands.start("harvest", "test-odata")
    wait_for_items(commands, 1, first)
    second = commands.run("harvest", "test-odata")
    may_go.set()
    assert second.returncode == 1
    assert "another run" in second.stderr
    first.communicate(timeout=40)
    assert first.returncode == 0
    commands.assert_whole(upstream)


def test_progress_lines_go_to_standard_error_and_json_stays_alone(commands: Commands, upstream: ODataServer) -> None:
    plain = commands.run("harvest", "test-odata")
    assert "of about 60 records" in plain.stderr
    answer = commands.run("harvest", "test-odata", "--json")
    parsed: dict[str, Any] = json.loads(answer.stdout)
    assert parsed["source"] == "test-odata"
    assert answer.stderr == ""


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_kill_9_at_any_moment_loses_and_doubles_nothing(commands: Commands, upstream: ODataServer) -> None:
    """Kills between start-up and end; then one run to the end: exactly the products, one event each."""
    attempts = sized(6, 12)
    upstream.products = [s2_product(n, published_s=n // 3) for n in range(600)]  # three share each instant
    slow_down(upstream, 0.03)
    rng = random.Random(4)
    kills = 0
    for _ in range(attempts):
        process = commands.start("harvest", "test-odata")
        at_least = min(commands.count_items() + rng.choice([0, 1, 20, 21, 60]), 560)
        wait_for_items(commands, at_least, process)
        time.sleep(rng.random() * 0.1)
        kills += process.poll() is None
        process.kill()
        process.communicate()
    assert kills >= attempts / 2
    assert commands.run("harvest", "test-odata").returncode == 0
    commands.assert_whole(upstream)
    statuses = commands.column("select status from federator.harvest_run order by id")
    assert statuses[-1] == "done"
    assert "running" not in statuses

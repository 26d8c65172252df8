"""The examples of docs/uploads.md do what they say, as they stand there."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from db.settings import DatabaseSettings
from tests.api.tus_site import TusSite, serving
from tests.doc_examples import examples, run_bash, run_node, run_python
from tests.tus_clients import environment

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
CONTENT = random.Random(5).randbytes(700_000)
RECEIVED = ("received", hashlib.sha256(CONTENT).hexdigest(), None)


@pytest.fixture(scope="module")
def site(postgres: DatabaseSettings, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TusSite]:
    with serving(postgres, template, tmp_path_factory.mktemp("examples")) as running:
        yield running


@pytest.fixture
def folder(site: TusSite, tmp_path: Path) -> Path:
    site.clear()
    (tmp_path / "field.tif").write_bytes(CONTENT)
    return tmp_path


@pytest.fixture(scope="module")
def packages() -> Path:
    try:
        return environment.folder()
    except environment.NotHere as error:
        pytest.skip(str(error))


def base_of(site: TusSite) -> str:
    return str(site.http.base_url).rstrip("/")


def made(site: TusSite) -> list[tuple[str, str | None, str | None]]:
    """(state, SHA-256, code) of what the example made, in order."""
    rows = site.rows(
        "select state, encode(sha256, 'hex') as sha256, error_code from federator.upload where state <> 'deleted' order by id"
    )
    return [(row["state"], row["sha256"], row["error_code"]) for row in rows]


def test_curl(site: TusSite, folder: Path) -> None:
    one_put, by_tus, take_back = examples("uploads.md", "curl", "bash", base_of(site))
    assert '"state":"received"' in run_bash(one_put, folder)
    assert made(site) == [RECEIVED]
    run_bash(by_tus, folder)
    assert made(site) == [RECEIVED, RECEIVED]
    run_bash(by_tus + take_back, folder)
    assert [code for _, _, code in made(site)] == [None, None, "DELETED"]


@pytest.mark.parametrize("number", [0, 1])
def test_python(site: TusSite, folder: Path, number: int) -> None:
    blocks = examples("uploads.md", "Python", "python", base_of(site))
    assert len(blocks) == 2
    said = run_python(blocks[number], folder)
    assert "received" in said or "/uploads/" in said
    assert made(site) == [RECEIVED]


def test_tus_js_client_in_node(site: TusSite, folder: Path, packages: Path) -> None:
    in_a_page, in_node = examples("uploads.md", "tus-js-client", "js", base_of(site))
    assert "/uploads/" in run_node(in_node, packages, folder)
    assert made(site) == [RECEIVED]
    assert "findPreviousUploads" in in_a_page  # run by tests/e2e/test_upload_page.py


def test_uppy(site: TusSite, folder: Path, packages: Path) -> None:
    anywhere, in_node = examples("uploads.md", "Uppy", "js", base_of(site))
    assert "/uploads/" in run_node(anywhere + in_node, packages, folder)
    assert made(site) == [RECEIVED]


def test_every_example_is_run() -> None:
    """A new one needs its place here, or in the tests of parts and of the page."""
    counts = {"curl": 3, "Python": 2, "tus-js-client": 2, "Uppy": 2, "Parts to the object store": 1}
    found = {
        heading: len([one for kind in ("bash", "python", "js") for one in examples("uploads.md", heading, kind, "")])
        for heading in counts
    }
    assert found == counts

"""One application and database for the tests that only look."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from api.settings import ApiSettings
from db.pools import open_pool
from db.settings import DatabaseSettings
from ingest.collection_files import ensure_collections
from ingest.store import put_item
from lineage.keys import load_signer
from lineage.sequencer import sequence
from lineage.settings import LineageSettings
from tests.api.editing import Editor, editor_on
from tests.api.samples import creation, item
from tests.api.server import listening, running
from tests.api.sharing_site import Site
from tests.api.tile_site import tile_site
from tests.conftest import cloned

ITEMS = 57


async def fill(database: DatabaseSettings, data_dir: Path) -> None:
    """Collections, items with events, and a sequenced log."""
    async with open_pool(database) as pool:
        await ensure_collections(pool)
        async with pool.connection() as conn:
            for number in range(ITEMS):
                async with conn.transaction():
                    await put_item(conn, item(number), creation(item(number)))
        await sequence(pool, load_signer(LineageSettings(data_dir=data_dir)))


@pytest.fixture(scope="session")
def api(postgres: DatabaseSettings, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of the running application."""
    data_dir = tmp_path_factory.mktemp("api")
    listener, url = listening()
    settings = ApiSettings(data_dir=data_dir, public_url=url)
    with cloned(postgres, template) as database:
        asyncio.run(fill(database, data_dir))
        with running(settings, database, listener), httpx.Client(base_url=url, timeout=30) as client:
            yield client


@pytest.fixture(scope="module")
def editor(postgres: DatabaseSettings, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Editor]:
    """An application in which the token's holder writes; one a module."""
    with editor_on(postgres, template, tmp_path_factory.mktemp("editor")) as started:
        yield started


@pytest.fixture(scope="session")
def tiles(postgres: DatabaseSettings, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """An application with rasters that lie over each other, for the tests of mosaics and of map services."""
    folder = tmp_path_factory.mktemp("tiles")
    with tile_site(postgres, template, folder, searches_per_caller=20, mosaic_time_limit_s=30) as started:
        yield started

"""Databases for the tests of uploads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from db.pools import Pool
from db.settings import DatabaseSettings
from ingest.collection_files import ensure_collections
from tests.conftest import cloned


@pytest.fixture
async def catalogue(pool: Pool) -> Pool:
    """A database with the basic collections."""
    await ensure_collections(pool)
    return pool


@pytest.fixture
def cloned_databases(postgres: DatabaseSettings, template: str) -> Iterator[Callable[[], DatabaseSettings]]:
    """Makes a fresh database at each call; the one before is dropped."""
    stack = ExitStack()

    def fresh() -> DatabaseSettings:
        stack.close()
        return stack.enter_context(cloned(postgres, template))

    with stack:
        yield fresh

"""Databases for tests that need many of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from db.settings import DatabaseSettings
from tests.conftest import cloned


@pytest.fixture
def cloned_databases(postgres: DatabaseSettings, template: str) -> Iterator[Callable[[], DatabaseSettings]]:
    """Makes a fresh database at each call; the one before is dropped."""
    stack = ExitStack()

    def fresh() -> DatabaseSettings:
        stack.close()
        return stack.enter_context(cloned(postgres, template))

    with stack:
        yield fresh

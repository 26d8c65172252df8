"""One site for all clients."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from db.settings import DatabaseSettings
from tests.api.sharing_site import Site
from tests.map_clients.squares import map_site


@pytest.fixture(scope="session")
def site(postgres: DatabaseSettings, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The running application with the squares; asked for only when a client is there."""
    with map_site(postgres, template, tmp_path_factory.mktemp("map")) as started:
        yield started

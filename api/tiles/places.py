"""Which assets tiles are made of, and where their pixels lie: uploaded rasters, found by their id, and those at hosts of sources."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

from api.settings import ApiSettings
from api.tiles.remote import Remote
from ingest.settings import IngestSettings
from ingest.uploads.service import cog_path

_UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"


class Places:
    """Hrefs of assets that can be opened."""

    def __init__(self, settings: ApiSettings, remote: Callable[[], Remote]) -> None:
        self.remote = remote
        root = settings.public_url.rstrip("/")
        self._own = re.compile(re.escape(f"{root}/uploads/") + rf"({_UUID})/data\.tif")
        self._ingest = IngestSettings(data_dir=settings.data_dir, public_url=settings.public_url)

    def path_of(self, href: str) -> Path | None:
        """The file of an uploaded raster; None: it is none."""
        match = self._own.fullmatch(href)
        return None if match is None else cog_path(self._ingest, UUID(match[1])).absolute()

    def serves(self, item: dict[str, Any]) -> bool:
        """Whether some asset of an item can be opened."""
        assets = item.get("assets")
        found = assets.values() if isinstance(assets, dict) else ()
        hrefs = [str(one.get("href")) for one in found if isinstance(one, dict)]
        return any(self.path_of(href) is not None or self.remote().serves(href) for href in hrefs)

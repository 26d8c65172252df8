"""An upload's item in the catalogue: with the preview first (large files), then with the full resolution; each change with its event."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from psycopg.types.json import Jsonb

from db.pools import Connection, Pool
from db.queries import sql
from ingest.errors import RecordRejected, UploadRejected
from ingest.identity import stem_of
from ingest.model import JSON
from ingest.settings import IngestSettings
from ingest.store import lock_items, put_item
from ingest.uploads import description
from ingest.uploads.item import Parent, Stored, build_item, item_id_of, software
from ingest.uploads.model import Upload
from ingest.uploads.service import asset_href, cog_path
from lineage import log as lineage_log
from lineage.canonical import item_sha256
from lineage.events import Event, Kind
from lineage.ids import uuid7

#: SHA-256 and BLAKE3 in hex, bytes.
Digests = tuple[str, str, int]


async def describe(conn: Connection, upload_id: Any, form: JSON) -> JSON:
    """Keep what a user says of the raster (see `description.parse`); returns it checked.

    Raises:
        UploadRejected: INVALID_FIELD, DATETIME_INVALID.
    """
    told = description.parse(form)
    await conn.execute(sql("rasters.describe"), (upload_id, Jsonb(told)))
    return told


@dataclass
class Registrar:
    """What is known of an upload's item while it is made."""

    pool: Pool
    settings: IngestSettings
    upload: Upload
    told: JSON
    parents: list[Parent]
    inputs: list[JSON]
    shown_at: datetime | None = None

    @property
    def target(self) -> Path:
        """Where the served file is."""
        return cog_path(self.settings, self.upload.id)

    async def show_preview(self, facts: dict[str, Any], digests: Digests) -> None:
        """Put the item into the catalogue while the conversion goes on.

        Raises:
            UploadRejected: DATETIME_REQUIRED, ITEM_INVALID.
        """
        item = self.item(facts, digests, is_preview=True)
        async with self.pool.connection() as conn, conn.transaction():
            kind = Kind.REPLACE if self.upload.item_id else Kind.CREATE
            await put_item(conn, item, self._event(kind, item, digests, {"preview": True}))
            await conn.execute(sql("uploads.set_item"), (self.upload.id, item["id"], []))
        self.shown_at = datetime.now(UTC)
        self.upload = replace(self.upload, item_id=item["id"])

    async def finish(
        self, conn: Connection, item: JSON, digests: Digests, *, layers: list[str], warnings: list[str]
    ) -> None:
        """Put the item into the catalogue, or the full resolution into it, in the caller's transaction."""
        kind = Kind.REPLACE if self.upload.item_id else Kind.CREATE
        await put_item(conn, item, self._event(kind, item, digests, {"protection": layers}))
        await conn.execute(sql("uploads.set_item"), (self.upload.id, item["id"], warnings))

    async def withdraw(self) -> None:
        """Take back what was shown of an upload that is refused after all."""
        with suppress(FileNotFoundError):
            self.target.unlink()
        if self.upload.item_id is None:
            return
        collection, item_id = self.upload.collection_id, self.upload.item_id
        async with self.pool.connection() as conn, conn.transaction():
            await lock_items(conn, collection)
            await conn.execute(sql("harvest.delete_items_anywhere"), (collection, [item_id]))
            body = {"upload": str(self.upload.id), "reason": "the file was refused after a preview had been shown"}
            await lineage_log.append(conn, self._fact(Kind.DELETE, item_id, body))

    def item(self, facts: dict[str, Any], digests: Digests, *, is_preview: bool = False) -> JSON:
        """The upload's item over the file that `digests` is of; what may not be stored is a refusal that the user sees.

        Raises:
            UploadRejected: DATETIME_REQUIRED, ITEM_INVALID.
        """
        sha256, _, size = digests
        stored = Stored(asset_href(self.settings, self.upload.id), size, sha256, datetime.now(UTC), is_preview)
        raster_url = f"{self.settings.public_url.rstrip('/')}/raster"
        try:
            return build_item(
                self.upload, facts, stored, told=self.told, raster_url=raster_url, parents=self.parents,
                first_made_at=self.shown_at,
            )  # fmt: skip
        except RecordRejected as error:
            raise UploadRejected("ITEM_INVALID", f"no valid item can be made of the file: {error}") from None

    def _event(self, kind: Kind, item: JSON, digests: Digests, more: JSON) -> Event:
        """The event of the item's making: the served file by its hashes; the original and the parents as its inputs."""
        sha256, blake, size = digests
        body = {
            "size": size,
            "hashes": [{"alg": "SHA256", "digest": sha256}, {"alg": "BLAKE3", "digest": blake}],
            "inputs": [{"name": self.upload.title, "hash": self.upload.sha256 or ""}, *self.inputs],
            "item_sha256": item_sha256(item),
            "upload": str(self.upload.id),
            "software": software(),
            **more,
        }
        return self._fact(kind, item["id"], body)

    def _fact(self, kind: Kind, item_id: str, body: JSON) -> Event:
        actor = f"user:{self.upload.owner}"
        name, collection = item_id_of(self.upload), self.upload.collection_id
        return Event(uuid7(), kind, name, "own", collection, item_id, actor, datetime.now(UTC), body)


async def open_registrar(pool: Pool, settings: IngestSettings, upload: Upload) -> Registrar:
    """Read what the user said of the upload, and which parents there are that he may see."""
    async with pool.connection() as conn:
        row = await (await conn.execute(sql("rasters.description"), (upload.id,))).fetchone()
        told: JSON = row["description"] if row else {}
        names, digests = description.parent_keys(told)
        found = []
        if names or digests:
            stems = [stem_of(name) for name in names]
            parameters = (stems, digests, [f"user:{upload.owner}"])
            found = await (await conn.execute(sql("rasters.parents"), parameters)).fetchall()
    root = f"{settings.public_url.rstrip('/')}/stac/collections"
    parents = [Parent(f"{root}/{one['collection']}/items/{one['id']}", one["id"]) for one in found]
    known = {one["id"]: one["sha256"] or "" for one in found}
    inputs = [{"name": name, "hash": known.get(stem_of(name), "")} for name in names]
    inputs += [{"name": f"sha256:{digest.hex()}", "hash": digest.hex()} for digest in digests]
    return Registrar(pool, settings, upload, told, parents, inputs)

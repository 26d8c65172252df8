"""An upload's item in the catalogue: with the preview first (large files), then with the full resolution; each change with its event."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from db.pools import Connection, Pool
from db.queries import sql
from ingest.errors import RecordRejected, UploadRejected
from ingest.identity import stem_of
from ingest.model import JSON
from ingest.settings import IngestSettings
from ingest.sharing import PUBLIC
from ingest.store import lock_items
from ingest.uploads import description
from ingest.uploads.item import Parent, Stored, build_item, software
from ingest.uploads.model import Role, State, Upload
from ingest.uploads.placing import Own, entered, place, raster_url_of, take_out
from ingest.uploads.service import asset_href, cog_path, get
from lineage.commitments import commit_to
from lineage.names import item_id

#: SHA-256 and BLAKE3 in hex, bytes.
Digests = tuple[str, str, int]


async def describe(conn: Connection, upload_id: UUID, form: JSON) -> None:
    """Keep what a user says of the raster (see `description.parse`).

    Raises:
        UploadRejected: INVALID_FIELD, DATETIME_INVALID.
    """
    await conn.execute(sql("rasters.describe"), (upload_id, Jsonb(description.parse(form))))


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

    @property
    def may_preview(self) -> bool:
        """What takes another's place is shown when it is whole."""
        return self.upload.role is not Role.VERSION and not self.upload.replaces_asset

    async def show_preview(self, facts: dict[str, Any], digests: Digests) -> None:
        """Put the item into the catalogue while the conversion goes on.

        Raises:
            UploadRejected: DATETIME_REQUIRED, ITEM_INVALID; ASSET_EXISTS (409).
            IllegalArrow: the upload was taken back.
        """
        async with self.pool.connection() as conn, conn.transaction():
            upload = await entered(conn, self.upload, State.CONVERTING)
            own = partial(self.own, facts, digests, is_preview=True)
            self.upload = await place(conn, self.settings, upload, own, self._facts(digests, {"preview": True}))
        self.shown_at = datetime.now(UTC)

    async def finish(
        self, conn: Connection, facts: dict[str, Any], digests: Digests, *, layers: list[str], warnings: list[str]
    ) -> None:
        """Put the item into the catalogue, or the full resolution into it, in the caller's transaction.

        Raises:
            As `show_preview`; ITEM_EXISTS (409).
        """
        upload = await entered(conn, self.upload, State.REGISTERING)
        own = partial(self.own, facts, digests, warnings=warnings)
        self.upload = await place(
            conn, self.settings, upload, own, self._facts(digests, {"protection": layers, "warnings": warnings})
        )

    async def withdraw(self) -> None:
        """Take back what was shown of an upload that is refused after all."""
        with suppress(FileNotFoundError):
            self.target.unlink()
        async with self.pool.connection() as conn, conn.transaction():
            await lock_items(conn, self.upload.collection_id)
            upload = await get(conn, self.upload.id)
            await take_out(conn, self.settings, upload, "the file was refused after a preview had been shown")

    def own(
        self,
        facts: dict[str, Any],
        digests: Digests,
        upload: Upload,
        *,
        is_preview: bool = False,
        warnings: Sequence[str] = (),
    ) -> Own:
        """What the upload brings to its item, over the file that `digests` is of.

        Raises:
            UploadRejected: DATETIME_REQUIRED, ITEM_INVALID.
        """
        return Own(self.item(facts, digests, upload, is_preview=is_preview), list(warnings))

    def item(self, facts: dict[str, Any], digests: Digests, upload: Upload, *, is_preview: bool = False) -> JSON:
        """The upload's item over the file that `digests` is of; what may not be stored is a refusal that the user sees.

        Raises:
            UploadRejected: DATETIME_REQUIRED, ITEM_INVALID.
        """
        sha256, _, size = digests
        stored = Stored(asset_href(self.settings, self.upload.id), size, sha256, datetime.now(UTC), is_preview)
        try:
            return build_item(
                upload, facts, stored, told=self.told, raster_url=raster_url_of(self.settings), parents=self.parents,
                first_made_at=self.shown_at,
            )  # fmt: skip
        except RecordRejected as error:
            raise UploadRejected("ITEM_INVALID", f"no valid item can be made of the file: {error}") from None

    def _facts(self, digests: Digests, more: JSON) -> JSON:
        """For the event of the item's making: the served file by its hashes; the original and the parents as its inputs."""
        sha256, blake, size = digests
        return {
            "size": size,
            "hashes": [{"alg": "SHA256", "digest": sha256}, {"alg": "BLAKE3", "digest": blake}],
            "inputs": [{"name": self.upload.title, "hash": self.upload.sha256 or "", "role": "original"}, *self.inputs],
            "upload": str(self.upload.id),
            "software": software(),
            "parameters": {name: self.told[name] for name in ("crs", "nodata") if name in self.told},
            **more,
        }


async def open_registrar(pool: Pool, settings: IngestSettings, upload: Upload) -> Registrar:
    """Read what the user said of the upload, and which parents there are that may be shown."""
    async with pool.connection() as conn:
        row = await (await conn.execute(sql("rasters.description"), (upload.id,))).fetchone()
        told: JSON = row["description"] if row else {}
        names, digests = description.parent_keys(told)
        found: list[Any] = []
        open_to_all: set[tuple[str, str]] = set()
        if names or digests:
            stems = [stem_of(name) for name in names]
            # A link tells all who see the item of the parent: in one that everybody sees only what everybody sees is linked.
            row = await (await conn.execute(sql("sharing.is_public"), (upload.collection_id,))).fetchone()
            is_public = upload.visibility in (None, PUBLIC) and row is not None and row["is_public"]
            parameters = (stems, digests, [f"user:{upload.owner}"])
            found = await (await conn.execute(sql("rasters.parents"), parameters)).fetchall()
            rows = await (await conn.execute(sql("rasters.parents"), (stems, digests, []))).fetchall()
            open_to_all = {(one["collection"], one["id"]) for one in rows}
            secret = [one for one in found if (one["collection"], one["id"]) not in open_to_all]
            inputs = _inputs(names, digests, found, open_to_all)
            inputs += [await _committed(conn, secret)] if secret else []
            if is_public:
                found = [one for one in found if (one["collection"], one["id"]) in open_to_all]
        else:
            inputs = []
    root = f"{settings.public_url.rstrip('/')}/stac/collections"
    # By their address: an item may have several files.
    hrefs = {f"{root}/{one['collection']}/items/{one['id']}": one["id"] for one in found}
    parents = [Parent(href, item_id) for href, item_id in hrefs.items()]
    return Registrar(pool, settings, upload, told, parents, inputs)


def _inputs(
    names: Sequence[str], digests: Sequence[bytes], found: Sequence[Any], open_to_all: set[tuple[str, str]]
) -> list[JSON]:
    """The parents that were named, for the log: where they are when everybody may see that; what is not here as it was written.

    What the owner alone may see is not in it; see `_committed`.
    """
    inputs: list[JSON] = []
    for written, key in [
        *((name, stem_of(name)) for name in names),
        *((f"sha256:{one.hex()}", one.hex()) for one in digests),
    ]:
        places = [one for one in found if key in (one["id"], one["sha256"])]
        shown = [one for one in places if (one["collection"], one["id"]) in open_to_all]
        for one in shown:
            inputs.append(
                {"name": written, "hash": one["sha256"] or "", "collection": one["collection"], "item": one["id"]}
            )
        if not places:
            inputs.append({"name": written, "hash": key if written.startswith("sha256:") else ""})
    return inputs


async def _committed(conn: Connection, secret: Sequence[Any]) -> JSON:
    """One input that stands for all that not everybody may see; it tells neither names nor number."""
    columns = [one["collection"] for one in secret], [one["id"] for one in secret]
    rows = await (await conn.execute(sql("graph.entities_of_items"), columns)).fetchall()
    entities = [row["entity"] or item_id(row["collection"], row["item_id"]) for row in rows]
    return {"name": "", "hash": "", "commitment": await commit_to(conn, entities)}

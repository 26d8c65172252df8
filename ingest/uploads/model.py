"""An upload and the states that it goes through.

    created -> uploading -> received -> scanning -> converting -> registering -> ready -> deleting -> deleted
       |          |            |           |            |             |
       +----------+------------+-----------+------------+-------------+--> rejected
                               +-----------+------------+-------------+--> failed -> deleting

Every arrow is one transaction with one event. A worker that takes up the work of a dead one begins again at `scanning`.
`ready` becomes `detached` when its item is deleted by those who edit the catalogue; its owner deletes it then, or keeps the original.
An unfinished upload that expires, and one that is taken back before it is ready, is `rejected` with the code EXPIRED or DELETED.
One that is `rejected` with the code DATETIME_REQUIRED is `received` again when its owner has answered (`asking`).
`ready --replace--> ready(v+1)` are two uploads: when the newer one becomes ready, the older stays so as an item of its own (`placing`).
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from uuid import UUID


class State(StrEnum):
    """Where an upload is."""

    CREATED = "created"
    UPLOADING = "uploading"
    RECEIVED = "received"
    SCANNING = "scanning"
    CONVERTING = "converting"
    REGISTERING = "registering"
    READY = "ready"
    DETACHED = "detached"  # its item was deleted by its editors
    REJECTED = "rejected"
    FAILED = "failed"
    DELETING = "deleting"
    DELETED = "deleted"


class Role(StrEnum):
    """What an upload is to its item."""

    NEW = "new"  # the item is made of it
    ASSET = "asset"  # one asset more of an item
    VERSION = "version"  # the item is made anew of it; what was there stays, under another id


ARROWS: dict[State, set[State]] = {
    State.CREATED: {State.UPLOADING, State.REJECTED},
    State.UPLOADING: {State.RECEIVED, State.REJECTED},
    State.RECEIVED: {State.SCANNING, State.REJECTED, State.FAILED},
    State.SCANNING: {State.CONVERTING, State.REJECTED, State.FAILED, State.SCANNING},
    State.CONVERTING: {State.REGISTERING, State.REJECTED, State.FAILED, State.SCANNING},
    State.REGISTERING: {State.READY, State.REJECTED, State.FAILED, State.SCANNING},
    State.READY: {State.DETACHED, State.DELETING},
    State.DETACHED: {State.DELETING},
    State.REJECTED: {State.RECEIVED, State.REJECTED},  # a question was answered (`asking`); taken back after all
    State.FAILED: {State.DELETING},
    State.DELETING: {State.DELETED},
    State.DELETED: set(),
}
#: Bytes are still wanted.
OPEN = frozenset({State.CREATED, State.UPLOADING})
#: A worker has it, or will.
WORKING = frozenset({State.RECEIVED, State.SCANNING, State.CONVERTING, State.REGISTERING})
#: Codes of uploads that ended before their bytes were looked at: nothing is there any more.
ENDED = frozenset({"EXPIRED", "DELETED"})


_NEVER = dt.datetime.max.replace(tzinfo=dt.UTC)


class IllegalArrow(Exception):
    """The upload is not in a state from which this one can be reached."""


@dataclass(frozen=True, slots=True)
class Upload:
    """One upload as it stands.

    `length` is the original's size in bytes, promised or received; `sha256` and `blake3` are of the original, in hex. `offset` is
    what was durable at the end of the last request. `part_bytes`: sent in parts of this size to the object store.
    `datetime` None: a range, or the file's own tag. `target_item`: the item that it becomes or becomes part of; `item_id`: that it is in.
    `visibility` and `readers` are of its item (`ingest.sharing`); None: as its collection. `claimed`: bytes that a request is sending now.
    """

    id: UUID
    owner: str
    collection_id: str
    title: str
    datetime: dt.datetime | None
    state: State
    length: int | None
    sha256: str | None
    blake3: str | None
    item_id: str | None
    error_code: str | None
    error_detail: str | None
    error_facts: dict[str, Any]
    warnings: tuple[str, ...]
    attempts: int
    created_at: dt.datetime
    updated_at: dt.datetime
    file_name: str | None = None
    tus_metadata: str = ""
    promised_sha256: bytes | None = None
    offset: int = 0
    expires_at: dt.datetime = _NEVER
    keep_original: bool = True
    freed_at: dt.datetime | None = None
    part_bytes: int | None = None
    store_upload: str | None = None
    target_item: str | None = None
    role: Role = Role.NEW
    asset_key: str = "data"
    replaces_asset: bool = False
    version: int = 1
    is_superseded: bool = False
    shown: dict[str, Any] | None = None
    visibility: str | None = None
    readers: tuple[str, ...] = ()
    claimed: int | None = None

    @property
    def counted(self) -> int:
        """Bytes that count as its owner's while it is open."""
        return max(self.length or 0, self.offset, self.claimed or 0)

    @property
    def is_open(self) -> bool:
        """Bytes are still wanted."""
        return self.state in OPEN

    @property
    def known_sha256(self) -> bytes | None:
        """Of the file that came, or that was promised."""
        return bytes.fromhex(self.sha256) if self.sha256 else self.promised_sha256

    @property
    def has_ended(self) -> bool:
        """It expired, was taken back or deleted: gone for every client."""
        deleted = self.state in (State.DELETING, State.DELETED)
        return deleted or (self.state is State.REJECTED and self.error_code in ENDED)


def from_row(row: dict[str, Any]) -> Upload:
    """A database row as an upload."""
    return Upload(
        row["id"],
        row["owner"],
        row["collection_id"],
        row["title"],
        row["datetime"],
        State(row["state"]),
        row["length"],
        bytes(row["sha256"]).hex() if row["sha256"] else None,
        bytes(row["blake3"]).hex() if row["blake3"] else None,
        row["item_id"],
        row["error_code"],
        row["error_detail"],
        row["error_facts"],
        tuple(row["warnings"]),
        row["attempts"],
        row["created_at"],
        row["updated_at"],
        row["file_name"],
        row["tus_metadata"],
        bytes(row["promised_sha256"]) if row["promised_sha256"] else None,
        row["offset_bytes"],
        row["expires_at"],
        row["keep_original"],
        row["freed_at"],
        row["part_bytes"],
        row["store_upload"],
        row["target_item"],
        Role(row["role"]),
        row["asset_key"],
        row["replaces_asset"],
        row["version"],
        row["is_superseded"],
        row["shown"],
        row["visibility"],
        tuple(row["readers"]),
        row["claimed_bytes"],
    )

"""An upload and the states that it goes through.

    created -> uploading -> received -> scanning -> converting -> registering -> ready
                                           |            |             |
                                           +-> rejected +-> failed <--+

Every arrow is one transaction with one event. A worker that takes up the work of a dead one begins again at `scanning`.
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
    REJECTED = "rejected"
    FAILED = "failed"


_WORKING = {State.SCANNING, State.CONVERTING, State.REGISTERING}
ARROWS: dict[State, set[State]] = {
    State.CREATED: {State.UPLOADING},
    State.UPLOADING: {State.RECEIVED},
    State.RECEIVED: {State.SCANNING},
    State.SCANNING: {State.CONVERTING, State.REJECTED, State.FAILED, State.SCANNING},
    State.CONVERTING: {State.REGISTERING, State.REJECTED, State.FAILED, State.SCANNING},
    State.REGISTERING: {State.READY, State.FAILED, State.SCANNING},
    State.READY: set(),
    State.REJECTED: set(),
    State.FAILED: set(),
}


class IllegalArrow(Exception):
    """The upload is not in a state from which this one can be reached."""


@dataclass(frozen=True, slots=True)
class Upload:
    """One upload as it stands. `sha256` and `blake3` are of the original, in hex; `length` in bytes."""

    id: UUID
    owner: str
    collection_id: str
    title: str
    datetime: dt.datetime
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
    )

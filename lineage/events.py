"""The event: one fact about one item or product, as it enters the log.

Kinds and their meaning: docs/glossary.md. An event is a value; nothing here touches the database.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID


class Kind(StrEnum):
    """What happened. The first four are the kinds of the Copernicus traceability service."""

    CREATE = "CREATE"  # made here: from an upload, or written by a caller
    COPY = "COPY"  # a further source holds the product too
    DELETE = "DELETE"
    OBSOLETE = "OBSOLETE"
    REGISTER = "REGISTER"  # first seen at an upstream
    UPDATE = "UPDATE"  # metadata changed
    REPLACE = "REPLACE"  # bytes changed under the same name
    WITHDRAW = "WITHDRAW"
    RESTORE = "RESTORE"
    VERIFY = "VERIFY"
    CORRECT = "CORRECT"
    KEY = "KEY"
    RULES = "RULES"
    GENESIS = "GENESIS"
    STATE = "STATE"  # an upload moved from one state to the next


@dataclass(frozen=True, slots=True)
class Event:
    """One fact, ready to be appended.

    Attributes:
        id: UUIDv7, made by the caller; appending the same id twice is an error.
        kind: what happened.
        name: the product's name by its mission's rules, with suffix where the producer gives one
            ("S2A_MSIL2A_..._T13VEK_20240516T022440.SAFE"), or the item's id for own data, or the collection's id.
        source: who holds it: a source's id, or "own" for uploads and local changes.
        collection: federated collection, None for events of the log itself.
        item_id: item in that collection, None for events of the log itself and of the collection itself.
        actor: opaque id of who did it ("worker", "harvest:<source>", "user:<id>", "unattributed").
        at: when the actor says that it happened; timezone-aware, UTC.
        body: JSON object with everything else: size, hashes [{alg, digest, path?}], inputs
            [{name, hash}], reason, changed fields, item_sha256 or collection_sha256 (RFC 8785 without links).
            Integers beyond 2**53 and non-finite floats are refused (RFC 8785): store them as strings.
    """

    id: UUID
    kind: Kind
    name: str
    source: str
    collection: str | None
    item_id: str | None
    actor: str
    at: datetime
    body: dict[str, Any]

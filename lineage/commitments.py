"""Parents that not everybody may see: the event has a hash over salt and parents, and who may see them gets them from beside the log.

The log is for ever. When the row that opens a hash is deleted, nobody can tell any more what it stood for, and the log stays whole.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from uuid import UUID

from db.pools import Connection
from db.queries import sql


def digest_of(salt: bytes, entities: Iterable[UUID]) -> bytes:
    """SHA-256 of the salt and the ids of the entities, in the order of their bytes."""
    return hashlib.sha256(salt + b"".join(sorted(one.bytes for one in entities))).digest()


async def commit_to(conn: Connection, entities: Iterable[UUID]) -> str:
    """Keep what a new hash stands for; returns the hash in hex. One hash for all: it does not tell how many they are."""
    salt, members = os.urandom(32), sorted(set(entities))
    digest = digest_of(salt, members)
    await conn.execute(sql("graph.put_commitment"), (digest, salt, members))
    return digest.hex()

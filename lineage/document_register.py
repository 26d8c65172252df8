"""Taking in a product's own metadata (`lineage.documents`), from whoever may write the item or from the source that has the file.

It is kept word for word; one event says its hash and the parents that it names.
"""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.types.json import Jsonb

from db.queries import sql
from lineage import documents, log, names
from lineage.errors import LineageError
from lineage.events import Event, Kind
from lineage.ids import uuid7
from lineage.rules import tile_rule

Connection = AsyncConnection[dict[str, Any]]
Entries = list[dict[str, Any]]


class DocumentRefused(LineageError):
    """It can be read and says nothing of this product; nothing was stored. `code` is stable."""

    def __init__(self, code: str, reason: str, **facts: Any) -> None:
        super().__init__(reason)
        self.code, self.facts = code, facts


@dataclass(frozen=True, slots=True)
class Document:
    """What was read, and the bytes it was read from: hash, size, zlib."""

    read: documents.Lineage
    sha256: bytes
    size: int
    packed: bytes


@dataclass(frozen=True, slots=True)
class Teller:
    """Who tells: `source` and `actor` of the event."""

    source: str
    actor: str


@dataclass(frozen=True, slots=True)
class Subject:
    """The item that a document is told of; `product` is the name of its event, `entity` what it is in the graph."""

    collection: str
    item: str
    product: str
    entity: UUID


def read_document(data: bytes) -> Document:
    """Read a document; takes up to a second, so in a thread. Pure.

    Raises:
        DocumentInvalid: see `lineage.documents.read`.
        DocumentRefused: DOCUMENT_SAYS_NOTHING.
    """
    read = documents.read(data)
    if not read.parents and not read.tile:
        raise DocumentRefused("DOCUMENT_SAYS_NOTHING", "the document names no parent of the product")
    return Document(read, hashlib.sha256(data).digest(), len(data), zlib.compress(data, 6))


async def tell(conn: Connection, document: Document, teller: Teller, subject: Subject) -> tuple[bool, Entries]:
    """Keep a document of an item with its event, in the caller's transaction; (whether it is new, the parents that it names).

    Raises:
        DocumentRefused: DOCUMENT_OF_ANOTHER.
    """
    read = document.read
    inputs, derivations = await _parents(conn, read, subject.item)
    derivations = await _of_nobodys(conn, derivations)
    claim = (
        subject.collection, subject.item, document.sha256, subject.entity, teller.actor, document.packed, "read",
        Jsonb({"kind": read.kind, "parents": len(inputs) + len(derivations)}),
    )  # fmt: skip
    if await (await conn.execute(sql("graph.put_claim"), claim)).fetchone() is None:
        return False, inputs
    body: dict[str, Any] = {
        "document": {"kind": read.kind, "sha256": document.sha256.hex(), "size": document.size},
        "inputs": inputs, "derivations": derivations, "software": read.software,
        **({"facility": read.facility} if read.facility else {}),
    }  # fmt: skip
    await log.append(
        conn,
        Event(
            uuid7(), Kind.CORRECT, subject.product, teller.source, subject.collection, subject.item, teller.actor, datetime.now(UTC), body
        ),
    )  # fmt: skip
    return True, inputs


async def _parents(conn: Connection, read: documents.Lineage, item: str) -> tuple[Entries, Entries]:
    """`inputs` and `derivations` of an event; the tile's parent as the catalogue that everybody sees has it.

    Raises:
        DocumentRefused: the document is of another product.
    """
    child = names.read(names.stem_of(item))
    if read.product and names.stem_of(read.product) != names.stem_of(item):
        raise DocumentRefused("DOCUMENT_OF_ANOTHER", "the document is of another product", product=read.product)
    inputs, derivations, wanted = documents.inputs_of(read, child)
    if read.tile and wanted is None:
        raise DocumentRefused("DOCUMENT_OF_ANOTHER", "the tile in the document is not of this product")
    if wanted is not None and child is not None:
        rows = await (await conn.execute(sql("graph.visible_family"), (child.family,))).fetchall()
        candidates = [one for row in rows if (one := names.read(row["name"])) is not None]
        parent, rule = tile_rule(wanted, candidates)
        inputs.append({"name": parent, "rule": rule.id, "assertion": rule.assertion, "confidence": rule.confidence})
    return inputs, derivations


async def _of_nobodys(conn: Connection, derivations: Entries) -> Entries:
    """What a document says of products that the catalogue has is left out: those have documents, writers and readers of their own."""
    children = [names.product_id(one["child"]) for one in derivations]
    row = await (await conn.execute(sql("graph.held"), (children,))).fetchone()
    held = set(row["held"]) if row else set()
    return [one for one, child in zip(derivations, children, strict=True) if child not in held]

"""What somebody who owns the database, and perhaps the keys, may do to the log. Each attack works on a clone of one small log."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg.types.json import Jsonb

from db.pools import Connection
from lineage.canonical import canonical
from lineage.keys import Signer
from lineage.note import checkpoint_text, pae, sign_note
from lineage.sealing import EVENT_TYPE, leaf_bytes
from lineage.tree import Appender, leaf_hash

TABLES = ("event", "checkpoint", "log_tile", "event_hash", "trace_signature", "signing_key", "cosignature")


@dataclass(frozen=True)
class Attack:
    """SQL, or a function of ours for what needs keys.

    Attributes:
        online: codes of which one must be among the faults of the audit, with this number where it is not None.
        offline: the same of the offline verifier on the exported log, given `kept`.
        kept: whether a checkpoint from before the attack is known (the published one; for the verifier `--kept`).
    """

    name: str
    how: str | tuple[str, ...]
    online: set[str]
    offline: set[str] | None = None
    seq: int | None = None
    kept: bool = False


async def open_up(conn: Connection) -> None:
    """Do what the owner of the tables can: switch off what guards them."""
    for table in TABLES:
        await conn.execute(f"alter table lineage.{table} disable trigger all".encode())
    await conn.execute("alter table lineage.event_hash drop constraint event_hash_seq_fkey")
    await conn.execute("alter table lineage.trace_signature drop constraint trace_signature_event_id_fkey")
    await conn.execute("alter table lineage.cosignature drop constraint cosignature_size_fkey")
    await conn.execute("alter table pgstac.items disable trigger note_unattributed")


async def forge_event(conn: Connection, keys: Signer, seq: int) -> None:
    """Another body, with its hash, leaf and the service's own signature."""
    row = await (await conn.execute("select * from lineage.event where seq = $1", (seq,))).fetchone()
    assert row is not None
    body = canonical({"source": row["source"], "collection": row["collection"], "item": row["item_id"], "size": 999})
    body_hash = await _sha256(conn, body)
    leaf = leaf_bytes(row, body_hash.hex(), keys.origin, row["key_id"])
    signature = keys.event_key.sign(pae(EVENT_TYPE, leaf)) if row["key_id"] else None
    await conn.execute(
        "update lineage.event set body = $2, body_hash = $3, leaf = $4, sig = $5 where seq = $1",
        (seq, body.decode(), body_hash, leaf, signature),
    )
    await conn.execute("delete from lineage.event_hash where seq = $1", (seq,))


async def _sha256(conn: Connection, data: bytes) -> bytes:
    row = await (await conn.execute("select sha256($1) as digest", (data,))).fetchone()
    assert row is not None
    return bytes(row["digest"])


async def rewrite(conn: Connection, keys: Signer, *, all_checkpoints: bool) -> None:
    """Make tiles and checkpoints of the rows as they are now, signed with the log's key: a new history."""
    rows = await (await conn.execute("select leaf, recorded_at from lineage.event order by seq")).fetchall()
    sizes = [
        row["size"]
        for row in await (await conn.execute("select size from lineage.checkpoint order by size")).fetchall()
    ]
    wanted = {min(size, len(rows)) for size in sizes} if all_checkpoints else {len(rows)}
    await conn.execute("delete from lineage.log_tile")
    await conn.execute("delete from lineage.checkpoint where size > $1 or size = any ($2)", (len(rows), list(wanted)))
    tree = Appender(0, {})
    for row in rows:
        tree.append([leaf_hash(bytes(row["leaf"]))])
        if tree.size not in wanted:
            continue
        text = checkpoint_text(keys.origin, tree.size, tree.root())
        note = sign_note(text, keys.origin, keys.log_key, time_s=int(row["recorded_at"].timestamp()))
        await conn.execute(
            "insert into lineage.checkpoint (size, root, note) values ($1, $2, $3)", (tree.size, tree.root(), note)
        )
        for (level, index), data in tree.changed.items():
            await conn.execute(
                "insert into lineage.log_tile (level, idx, width, data) values ($1, $2, $3, $4) on conflict do nothing",
                (level, index, len(data) // 32, data),
            )
        tree.changed.clear()


async def run(conn: Connection, attack: Attack, keys: Signer) -> None:
    """Do it."""
    await open_up(conn)
    match attack.how:
        case "forge":
            await forge_event(conn, keys, 20)
        case "forge and rewrite":
            await forge_event(conn, keys, 20)
            await rewrite(conn, keys, all_checkpoints=True)
        case "forge and rewrite the newest":
            await forge_event(conn, keys, 20)
            await rewrite(conn, keys, all_checkpoints=False)
        case "renumber":
            await _renumber(conn, "delete from lineage.event where seq = 20", -1, 20)
            await rewrite(conn, keys, all_checkpoints=True)
        case "insert":
            await _insert_in_the_middle(conn, keys)
            await rewrite(conn, keys, all_checkpoints=True)
        case "roll back":
            for table, column in (("event", "seq >="), ("checkpoint", "size >")):
                await conn.execute(f"delete from lineage.{table} where {column} 31".encode())
            await rewrite(conn, keys, all_checkpoints=False)
        case str() as statement:
            await conn.execute(statement.encode())
        case statements:
            for statement in statements:
                await conn.execute(statement.encode())


async def _renumber(conn: Connection, first: str, by: int, start: int) -> None:
    await conn.execute(first.encode())
    await conn.execute("update lineage.event set seq = seq + 10000 where seq >= $1", (start,))
    await conn.execute("update lineage.event set seq = seq - 10000 + $1 where seq >= 10000", (by,))
    await conn.execute("delete from lineage.event_hash")


async def _insert_in_the_middle(conn: Connection, keys: Signer) -> None:
    """A signed event, dated back, between others."""
    await _renumber(conn, "select 1", 1, 20)
    row = await (await conn.execute("select * from lineage.event where seq = 10")).fetchone()
    assert row is not None
    row |= {"id": "01980000-0000-7000-8000-000000000000", "name": "PRODUCT_X.SAFE"}
    leaf = leaf_bytes(row, bytes(row["body_hash"]).hex(), keys.origin, row["key_id"])
    await conn.execute(
        "insert into lineage.event select 20, $1, kind, $2, source, collection, item_id, actor_id, claimed_at, recorded_at, body,"
        " body_hash, $3, $4, key_id from lineage.event where seq = 10",
        (row["id"], row["name"], leaf, keys.event_key.sign(pae(EVENT_TYPE, leaf)) if row["key_id"] else None),
    )


SWAP = (
    "update lineage.event set seq = 900 where seq = 20",
    "update lineage.event set seq = 20 where seq = 21",
    "update lineage.event set seq = 21 where seq = 900",
)
ROOT = {"root-differs"}

#: LIN-L01 to LIN-L09, L19 to L22, and others like them. `seq` is the number that must be named.
ATTACKS = [
    Attack("L01 body", "update lineage.event set body = '{}' where seq = 20", {"body-changed"}, {"body-changed"}, 20),
    Attack(
        "L02 body and hash",
        "update lineage.event set body = '{}', body_hash = sha256('{}') where seq = 20",
        {"leaf-changed"},
        {"body-changed"},
        20,
    ),
    Attack("L03 body, hash, leaf, signature", "forge", {"leaf-differs"}, {"leaf-differs"}, 20),
    Attack("L04 the newest checkpoint too", "forge and rewrite the newest", ROOT, ROOT),
    Attack("L04 all checkpoints", "forge and rewrite", {"fork"}, {"fork"}, kept=True),
    Attack("L05 one deleted", "delete from lineage.event where seq = 20", {"event-missing"}, {"event-missing"}, 20),
    Attack("L05 the last deleted", "delete from lineage.event where seq > 48", {"shrunk"}, {"event-missing"}),
    Attack("L06 deleted and renumbered", "renumber", {"shrunk"}, {"shrunk"}, kept=True),
    Attack("L07 swapped", SWAP, {"leaf-differs"}, {"leaf-differs"}, 20),
    Attack("L08 inserted", "insert", {"fork", "inconsistent", "order"}, {"fork", "order"}, kept=True),
    Attack("L09 rolled back", "roll back", {"shrunk"}, {"shrunk"}, kept=True),
    Attack(
        "recorded earlier",
        "update lineage.event set recorded_at = recorded_at - interval '1 h' where seq = 20",
        {"order", "time"},
        {"time"},
    ),
    Attack(
        "recorded later, all", "update lineage.event set recorded_at = recorded_at + interval '1 h'", {"time"}, {"time"}
    ),
    Attack("name", "update lineage.event set name = 'other' where seq = 20", {"leaf-changed"}, None, 20),
    Attack("actor", "update lineage.event set actor_id = 'user:eve' where seq = 20", {"leaf-changed"}, None, 20),
    Attack("another item", "update lineage.event set item_id = 'item-3' where seq = 20", {"row-changed"}, None, 20),
    Attack("another source", "update lineage.event set source = 'x' where seq = 20", {"row-changed"}, None, 20),
    Attack(
        "signature",
        "update lineage.event set sig = sha256('x') || sha256('y') where seq = 0",
        {"signature-bad"},
        {"signature-bad"},
        0,
    ),
    Attack(
        "no signature",
        "update lineage.event set sig = null, key_id = null where seq = 0",
        {"leaf-changed"},
        {"signature-missing"},
        0,
    ),
    Attack(
        "tile",
        "update lineage.log_tile set data = sha256('x') || substr(data, 33)",
        {"tile-differs", "leaf-differs"},
        {"leaf-differs"},
    ),
    Attack("tile gone", "delete from lineage.log_tile", {"tile-missing"}, {"tile-missing"}),
    Attack("root", "update lineage.checkpoint set root = sha256('x') where size = 31", ROOT, None, 31),
    Attack(
        "checkpoint's note",
        "update lineage.checkpoint set note = replace(note, E'\\n31\\n', E'\\n30\\n')",
        ROOT,
        {"checkpoint-signature"},
    ),
    Attack("a key", "update lineage.signing_key set to_size = 5 where purpose = 'event'", {"key-differs"}),
    Attack("a strange key", "insert into lineage.signing_key values ('x+00000000', 'x', 'event', 0)", {"key-differs"}),
    Attack("a hash gone", "delete from lineage.event_hash where seq = 20", {"hash-missing"}, None, 20),
    Attack("a hash added", "insert into lineage.event_hash values ('x', 'MD5', 3)", {"hash-added"}),
    Attack("trace's message", "update lineage.trace_signature set message = '{}'", {"trace-differs"}),
    Attack("trace's signature", "update lineage.trace_signature set signature = 'AAAA'", {"trace-signature"}),
    Attack("L19 truncated", "truncate lineage.event cascade", {"shrunk"}, {"event-missing"}),
    Attack("L22 outbox row deleted", "delete from lineage.event_outbox where item_id = 'waiting'", {"unattributed"}),
    Attack(
        "L21 present item",
        "update pgstac.items set content = jsonb_set(content, '{properties,cloud}', '99') where id = 'waiting'",
        {"item-differs"},
    ),
    Attack("item deleted", "delete from pgstac.items where id = 'waiting'", {"item-missing"}),
]


def collection(name: str) -> Jsonb:
    """A collection for items."""
    extent = {"spatial": {"bbox": [[-180, -90, 180, 90]]}, "temporal": {"interval": [[None, None]]}}
    return Jsonb(
        {
            "id": name,
            "type": "Collection",
            "stac_version": "1.1.0",
            "description": "",
            "license": "other",
            "links": [],
            "extent": extent,
        }
    )

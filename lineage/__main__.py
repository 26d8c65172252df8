"""`python -m lineage verify FILE... | proof COLLECTION ITEM | audit | checkpoint | sequence | project | rebuild`.

`verify` needs no database.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from db.pools import Connection


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["verify"]:  # before anything that needs a database is imported
        from lineage import verify

        return verify.main(words[1:])
    return _with_database(_parser().parse_args(words))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lineage", description="the log of everything that happened to every item")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("verify", help="check proofs offline: FILE... [--key VKEY] [--json]")
    proof = commands.add_parser("proof", help="write the proof of an item's newest event to standard output")
    proof.add_argument("collection")
    proof.add_argument("item")
    commands.add_parser("audit", help="recompute the whole log and compare")
    commands.add_parser("checkpoint", help="print the newest signed checkpoint")
    commands.add_parser("sequence", help="give waiting events their numbers now")
    commands.add_parser("project", help="take new events into the graph now")
    commands.add_parser("rebuild", help="drop the graph and make it again of the events alone")
    return parser


def _with_database(options: argparse.Namespace) -> int:
    from db import DatabaseSettings, resolve
    from db.errors import DbError
    from db.pools import connect
    from lineage.errors import LineageError

    work: dict[str, Callable[[Connection], Awaitable[int]]] = {
        "proof": lambda conn: _proof(conn, options.collection, options.item),
        "audit": _audit,
        "checkpoint": _checkpoint,
        "sequence": _sequence,
        "project": _project,
        "rebuild": _rebuild,
    }

    async def run() -> int:
        async with await connect(resolve(DatabaseSettings())) as conn:
            return await work[options.command](conn)

    try:
        return asyncio.run(run())
    except (DbError, LineageError) as error:
        print(error, file=sys.stderr)
        return 1


async def _proof(conn: Connection, collection: str, item: str) -> int:
    from uuid import UUID

    from lineage.history import events_of
    from lineage.proof import bundle

    sequenced = [event for event in await events_of(conn, collection, item) if not event["pending"]]
    if not sequenced:
        print(f"no event of {collection}/{item} is in the log", file=sys.stderr)
        return 1
    data = await bundle(conn, UUID(sequenced[-1]["id"]))
    sys.stdout.buffer.write(data or b"")
    return 0


async def _audit(conn: Connection) -> int:
    from lineage.audit import audit

    faults = await audit(conn)
    for fault in faults:
        print(fault)
    print("the log is whole" if not faults else f"{len(faults)} faults")
    return 1 if faults else 0


async def _checkpoint(conn: Connection) -> int:
    from lineage.history import newest_note

    note = await newest_note(conn)
    if note is None:
        print("the log has not begun", file=sys.stderr)
        return 1
    sys.stdout.write(note)
    return 0


async def _sequence(conn: Connection) -> int:
    from lineage.keys import load_signer
    from lineage.sequencer import sequence_batch
    from lineage.settings import LineageSettings

    settings = LineageSettings()
    done = await sequence_batch(conn, load_signer(settings), settings.batch_size)
    print(f"{done} events sequenced")
    return 0


async def _project(conn: Connection) -> int:
    from lineage.projector import BATCH, project_batch

    total = 0
    while done := await project_batch(conn, BATCH):
        total += done
    print(f"{total} events taken into the graph")
    return 0


async def _rebuild(conn: Connection) -> int:
    from lineage.projector import rebuild

    print(f"the graph was made again of {await rebuild(conn)} events")
    return 0


if __name__ == "__main__":
    sys.exit(main())

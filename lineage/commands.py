"""The commands of `python -m lineage` that need the database."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from uuid import UUID

import psycopg

from db import DatabaseSettings, resolve
from db.errors import DbError
from db.pools import Connection, connect
from lineage import key_events
from lineage.audit import audit
from lineage.audit_graph import graph_faults
from lineage.cosigning import witness_vkeys
from lineage.errors import LineageError
from lineage.export import export
from lineage.history import events_of, keys, newest_note, note_of
from lineage.keys import load_signer
from lineage.projector import BATCH, project_batch
from lineage.proof import bundle
from lineage.published import Published, text_of
from lineage.rebuilding import rebuild
from lineage.sequencer import sequence_batch
from lineage.settings import LineageSettings
from lineage.verify import Checkpoint, Fault, Unreadable, fork_evidence, parse_checkpoint
from lineage.verify.single_file import single_file

Work = Callable[[Connection, argparse.Namespace], Awaitable[int]]


def main(words: Sequence[str]) -> int:
    """Run one command; return the exit status."""
    options = _parser().parse_args(words)
    if options.command == "verifier":
        sys.stdout.write(single_file())
        return 0
    work: Work = options.work

    async def run() -> int:
        async with await connect(resolve(DatabaseSettings())) as conn:
            return await work(conn, options)

    try:
        return asyncio.run(run())
    except (DbError, LineageError, Unreadable, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    except psycopg.Error as error:
        print(f"the database cannot be read: {type(error).__name__}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lineage", description="the log of everything that happened to every item")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("verify", help="check proofs, checkpoints and exported logs offline: FILE... [--key VKEY]")
    commands.add_parser("check", help="is a file what its traces say? FILE --trace FILE | --url URL")
    commands.add_parser("witness", help="serve as a witness of logs: serve --dir DIR --log VKEY")
    commands.add_parser("follow", help="rebuild the catalogue's state from the change feed over HTTP: URL [--compare]")
    commands.add_parser("verifier", help="print the verifier as one Python file that needs nothing of ours")
    proof = _command(commands, "proof", _proof, "write the proof of an item's newest event to standard output")
    proof.add_argument("collection")
    proof.add_argument("item")
    proof.add_argument("--cosigned", action="store_true", help="with the lines of witnesses")
    audited = _command(
        commands, "audit", _audit, "recompute the whole log, compare it with all that is kept, and name what differs"
    )
    audited.add_argument(
        "--kept", action="append", type=Path, default=[], metavar="NOTE", help="a further checkpoint that you kept"
    )
    audited.add_argument("--evidence", type=Path, metavar="FILE", help="where to write the proof of a fork")
    _command(commands, "checkpoint", _checkpoint, "print the newest signed checkpoint")
    _command(commands, "sequence", _sequence, "give waiting events their numbers now")
    _command(commands, "project", _project, "take new events into the graph now")
    _command(commands, "rebuild", _rebuild, "drop the graph and make it again of the events alone")
    exported = _command(commands, "export", _export, "write the log as files that `verify` judges")
    exported.add_argument("folder", type=Path, metavar="DIR")
    changed = _command(commands, "keys", _keys, "list, rotate, retire or revoke the keys of the log")
    changed.add_argument("action", choices=("list", "rotate", "retire", "revoke"))
    changed.add_argument(
        "key", nargs="?", help="to rotate: event, log or facade; to retire or revoke: the key's id as `list` prints it"
    )
    changed.add_argument(
        "--since", type=int, help="number of the first event that is suspect, of a key that is revoked"
    )
    changed.add_argument("--reason", default="", help="why; it stays in the log for ever")
    return parser


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, work: Work, words: str
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=words)
    parser.set_defaults(work=work)
    return parser


async def _proof(conn: Connection, options: argparse.Namespace) -> int:
    sequenced = [event for event in await events_of(conn, options.collection, options.item) if not event["pending"]]
    if not sequenced:
        print(f"no event of {options.collection}/{options.item} is in the log", file=sys.stderr)
        return 1
    witnesses = witness_vkeys(LineageSettings().log_witnesses) if options.cosigned else None
    data = await bundle(conn, UUID(sequenced[-1]["id"]), witnesses=witnesses)
    sys.stdout.buffer.write(data or b"")
    return 0


async def _audit(conn: Connection, options: argparse.Namespace) -> int:
    kept = [*Published.of(LineageSettings()).kept(), *(text_of(path) for path in options.kept)]
    witnesses = [word.partition("=")[2] for word in LineageSettings().log_witnesses.split()]
    faults = await audit(conn, kept=kept, witnesses=witnesses)
    faults += await graph_faults(conn, is_damaged=bool(faults))
    for fault in faults:
        print(f"{fault.code}: {fault}")
    print("the log is whole" if not faults else f"{len(faults)} faults")
    if options.evidence and (evidence := await _evidence(conn, faults, kept)):
        options.evidence.write_bytes(evidence)
        print(f"proof of the fork: {options.evidence}")
    return 1 if faults else 0


async def _evidence(conn: Connection, faults: Sequence[Fault], kept: Sequence[str]) -> bytes | None:
    """The proof of the first fork among the faults: the database's checkpoint and the kept one of its size."""
    sizes = [fault.seq for fault in faults if fault.code == "fork"]
    if not sizes:
        return None
    note = await note_of(conn, sizes[0] or 0) or ""
    ours = _readable(note)
    for one in kept:
        other = _readable(one)
        if ours and other and (ours.origin, ours.size) == (other.origin, other.size) and ours.root != other.root:
            return fork_evidence(note, one, [row["vkey"] for row in await keys(conn) if row["purpose"] == "log"])
    return None


def _readable(note: str) -> Checkpoint | None:
    try:
        return parse_checkpoint(note)
    except Unreadable:
        return None


async def _checkpoint(conn: Connection, options: argparse.Namespace) -> int:
    note = await newest_note(conn)
    if note is None:
        print("the log has not begun", file=sys.stderr)
        return 1
    sys.stdout.write(note)
    return 0


async def _sequence(conn: Connection, options: argparse.Namespace) -> int:
    settings = LineageSettings()
    done = await sequence_batch(conn, load_signer(settings), settings.batch_size, Published.of(settings))
    print(f"{done} events sequenced")
    return 0


async def _keys(conn: Connection, options: argparse.Namespace) -> int:
    signer = load_signer(LineageSettings())
    match options.action, options.key:
        case "list", None:
            for row in await keys(conn):
                until = "" if row["to_size"] is None else f" to {row['to_size']}"
                suspect = "" if row["compromised_since"] is None else f", suspect since {row['compromised_since']}"
                print(
                    f"{row['purpose']:6} {row['key_id']} from {row['from_size']}{until}{suspect} {row['vkey']}".rstrip()
                )
            return 0
        case "rotate", ("event" | "log" | "facade") as purpose:
            print(f"new {purpose} key: {await key_events.rotate(conn, signer, purpose)}")
        case "retire", str() as which:
            await key_events.retire(conn, signer, which, options.reason)
        case "revoke", str() as which if options.since is not None and options.since >= 0:
            made = await key_events.revoke(conn, signer, which, options.since, options.reason)
            print(f"new key: {made}" if made else "revoked")
        case _:
            print("keys list | rotate event|log|facade | retire KEY | revoke KEY --since NUMBER", file=sys.stderr)
            return 2
    return await _sequence(conn, options)


async def _project(conn: Connection, options: argparse.Namespace) -> int:
    total = 0
    while done := await project_batch(conn, BATCH):
        total += done
    print(f"{total} events taken into the graph")
    return 0


async def _rebuild(conn: Connection, options: argparse.Namespace) -> int:
    print(f"the graph was made again of {await rebuild(conn)} events")
    return 0


async def _export(conn: Connection, options: argparse.Namespace) -> int:
    size = await export(conn, options.folder)
    print(f"{size} events written to {options.folder}; check them: python -m lineage verify {options.folder}")
    return 0

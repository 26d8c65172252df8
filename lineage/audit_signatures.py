"""The table of keys against what the log says of them, and signatures beside the log: those of traces, and time-stamps of checkpoints."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

import orjson
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from psycopg import AsyncConnection

from db.queries import sql
from lineage.keyring import facade_print
from lineage.stamping import time_of_stamp
from lineage.trace import message_of, product_of
from lineage.verify import History

PORTION = 256 * 40

Row = dict[str, Any]


async def all_of(conn: AsyncConnection[Row], name: str, values: Sequence[Any] = ()) -> list[Row]:
    """All rows of a named statement."""
    return await (await conn.execute(sql(name), values)).fetchall()


def facts_in(body: str) -> dict[str, Any]:
    """A body as an object; a body that somebody has made unreadable says nothing."""
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


async def judge_keys(conn: AsyncConnection[Row], history: History) -> None:
    """The table of keys against what the events say of them."""
    rows = {row["key_id"]: row for row in await all_of(conn, "lineage.signing_keys") if row["vkey"]}
    for name in rows.keys() | history.keys.keys():
        row, known = rows.get(name), history.keys.get(name)
        if row is None or known is None:
            history.fault(
                "key-differs", f"the key {name} is {'not in the table' if row is None else 'in no event of the log'}"
            )
            continue
        told = (row["vkey"], row["purpose"], row["from_size"], row["to_size"], row["compromised_since"])
        if told != (known.vkey, known.purpose, known.from_size, known.to_size, known.compromised_since):
            history.fault("key-differs", f"the table of keys says otherwise of {name} than the log's events")
    if history.facades:
        await _judge_facades(conn, history)


async def _judge_facades(conn: AsyncConnection[Row], history: History) -> None:
    """The table's keys of the façade against what the events say of them. A log that did not name its first takes it from the table."""
    rows = {row["key_id"]: row for row in await all_of(conn, "lineage.signing_keys") if row["purpose"] == "facade"}
    for name in rows.keys() | history.facades.keys():
        row, known = rows.get(name), history.facades.get(name)
        if row is not None and known is not None and not known.print_:
            known = history.facades[name] = replace(known, print_=_print_of(row))
        told = (_print_of(row), row["from_size"], row["to_size"], row["compromised_since"]) if row else None
        said = (known.print_, known.from_size, known.to_size, known.compromised_since) if known else None
        if told != said:
            words = f"the table of keys says otherwise of the façade's key {name} than the log's events"
            history.fault("key-differs", words)


def _print_of(row: Row) -> str:
    try:
        return facade_print(row["certificate"] or "")
    except ValueError:
        return ""


async def judge_traces(conn: AsyncConnection[Row], history: History) -> None:
    """The signatures in the shape of the Copernicus service."""
    start = 0
    while rows := await all_of(conn, "lineage.trace_signatures", (start, PORTION)):
        for row in rows:
            seq = row["seq"]
            if row["message"] != _message_of(row):
                history.fault("trace-differs", f"event {seq}: its trace does not say what the event says", seq)
            elif history.facades and not _may_sign(history, row):
                words = f"event {seq}: its trace has another certificate than the façade's of then"
                history.fault("trace-signature", words, seq)
            elif not _is_signed(row):
                history.fault("trace-signature", f"event {seq}: the signature of its trace does not hold", seq)
        start = rows[-1]["seq"] + 1


def _message_of(row: Row) -> str | None:
    """What the trace of this event must say; None: its body says nothing that can be read."""
    try:
        return message_of(product_of(row["name"], facts_in(row["body"])), "CREATE")
    except (ArithmeticError, LookupError, TypeError, ValueError):  # of a body that somebody has changed
        return None


async def judge_unsigned(conn: AsyncConnection[Row], events: Mapping[UUID, int], history: History) -> None:
    """Events of files made here, by id with their numbers: each has the façade's signature."""
    for row in await all_of(conn, "lineage.without_trace_signature", (list(events),)):
        seq = events[row["id"]]
        history.fault("trace-missing", f"event {seq}: the façade's signature of its trace is gone", seq)


async def judge_stamps(conn: AsyncConnection[Row], history: History) -> None:
    """Stamps against the checkpoints that they are of: another checkpoint of the same size was made later, or another time is told."""
    for row in await all_of(conn, "lineage.all_stamps"):
        said = time_of_stamp(bytes(row["reply"]), row["note"] or "")
        if said is None:
            history.fault("stamp-differs", f"checkpoint {row['size']} is another than the stamped one", row["size"])
        elif said != row["stamped_at"]:
            history.fault("stamp-time", f"the stamp of checkpoint {row['size']} says another time", row["size"])


def _may_sign(history: History, row: Row) -> bool:
    print_ = _print_of(row)
    return any(known.print_ == print_ and known.signs(row["seq"]) for known in history.facades.values())


def _is_signed(row: Row) -> bool:
    try:
        key = x509.load_der_x509_certificate(base64.b64decode(row["certificate"])).public_key()
        if not isinstance(key, rsa.RSAPublicKey):
            return False
        key.verify(base64.b64decode(row["signature"]), row["message"].encode(), padding.PKCS1v15(), hashes.SHA256())
    except (ValueError, InvalidSignature):
        return False
    return True

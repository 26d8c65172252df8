"""Taking in traces that others made: registered by whoever signed them, or brought from another service. All of a call or nothing.

Each becomes one event of the log, which says the SHA-256 of the trace; the trace itself is kept word for word beside it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from cryptography import x509
from psycopg import AsyncConnection

from db.queries import sql
from lineage import log
from lineage.errors import LineageError
from lineage.events import Event, Kind
from lineage.ids import uuid7
from lineage.trace_parse import Trace
from lineage.trace_trust import NOBODY, Trust, identities, key_sha256
from lineage.trace_verdict import HASH_NAMES, Verdict, certificate_of, judge

MAX_TRACES = 50
#: Parents of a product that one trace tells.
MAX_INPUTS = 1000
_DIGEST_CHARACTERS = 64
_OWN = "own"

Row = dict[str, Any]
Connection = AsyncConnection[Row]


class RegistrationRefused(LineageError):
    """Traces that are not taken in; nothing was stored. `code` is stable, `place` is a JSON pointer, `is_forbidden`: who sends may not."""

    def __init__(self, code: str, place: str, reason: str, *, is_forbidden: bool = False) -> None:
        super().__init__(reason)
        self.code, self.place, self.is_forbidden = code, place, is_forbidden


@dataclass(frozen=True, slots=True)
class Registrant:
    """Who sends traces.

    Attributes:
        name: the caller's.
        origin: how traces name him, like an e-mail address.
        may_pass_on: an operator, who may bring other services' traces, with their own id, time and origin.
        source: of the event; another than "own" is a source that was harvested, from whose service the traces come.
    """

    name: str
    origin: str
    may_pass_on: bool = False
    source: str = _OWN

    @property
    def actor(self) -> str:
        return f"user:{self.name}" if self.source == _OWN else f"harvest:{self.source}"


@dataclass(frozen=True, slots=True)
class Judged:
    """A trace and what it is worth."""

    trace: Trace
    verdict: Verdict
    is_upstream: bool = False


async def trust_here(conn: Connection, beforehand: Trust = NOBODY) -> Trust:
    """Trust with the keys that somebody here answers for, and the façade's own."""
    rows = await (await conn.execute(sql("trace.trusted_keys"))).fetchall()
    keys = {bytes(row["key_sha256"]) for row in rows if row["key_sha256"]}
    certificates = [(certificate_of(row["certificate"]), row["is_revoked"]) for row in rows if row["certificate"]]
    own = {key_sha256(one): is_revoked for one, is_revoked in certificates if one is not None}
    revoked = {one for one, is_revoked in own.items() if is_revoked}
    return replace(beforehand, keys=beforehand.keys | keys | own.keys(), revoked=beforehand.revoked | revoked)


def judge_call(traces: Sequence[Trace], registrant: Registrant, keys: frozenset[bytes], trust: Trust) -> list[Judged]:
    """Look through a call's traces before anything is stored. Pure; takes about a millisecond a trace.

    Args:
        keys: SHA-256 of the registrant's own public keys.

    Raises:
        RegistrationRefused
    """
    if not 1 <= len(traces) <= MAX_TRACES:
        raise RegistrationRefused(
            "TOO_MANY_TRACES" if traces else "NO_TRACES", "", f"1 to {MAX_TRACES} traces are registered at once"
        )
    if len({trace.event for trace in traces}) > 1:
        raise RegistrationRefused("EVENTS_DIFFER", "", "all traces of a call are of one event")
    seen: set[tuple[str, str]] = set()
    now, found = datetime.now(UTC), []
    for number, trace in enumerate(traces):
        place = f"/{number}"
        _check_content(trace, place)
        if (trace.hash, trace.event) in seen:
            raise RegistrationRefused("TRACE_TWICE", place, "each product hash is there once")
        seen.add((trace.hash, trace.event))
        found.append(_judged(trace, place, registrant, keys, trust, now))
    return found


def _check_content(trace: Trace, place: str) -> None:
    if trace.hash_algorithm not in HASH_NAMES:
        raise RegistrationRefused("UNKNOWN_ALGORITHM", f"{place}/hash_algorithm", f"one of {', '.join(HASH_NAMES)}")
    if len(trace.hash) != _DIGEST_CHARACTERS:
        raise RegistrationRefused("INVALID_HASH", f"{place}/product/hash", "a hash has 64 characters")
    for number, one in enumerate(trace.product["contents"] or []):
        if len(one["hash"]) != _DIGEST_CHARACTERS:
            raise RegistrationRefused(
                "INVALID_HASH", f"{place}/product/contents/{number}/hash", "a hash has 64 characters"
            )
    if trace.event != "OBSOLETE" and trace.obsolescence:
        raise RegistrationRefused("REASON_MISPLACED", f"{place}/obsolescence", "only an OBSOLETE has a reason")


def _judged(
    trace: Trace, place: str, registrant: Registrant, keys: frozenset[bytes], trust: Trust, now: datetime
) -> Judged:
    is_upstream = registrant.may_pass_on and None not in (trace.id, trace.timestamp, trace.origin)
    own = trace if is_upstream else replace(trace, timestamp=None, origin=None, id=None)
    verdict = judge(own, now=now, trust=trust)
    if verdict.signature != "ok":
        code = "UNSIGNED" if verdict.signature == "none" else "SIGNATURE_REFUSED"
        raise RegistrationRefused(code, f"{place}/signature", _first_reason(verdict, "signature"))
    if is_upstream:
        return Judged(own, verdict, is_upstream=True)
    if trace.agreement not in ("exact", "equal"):
        raise RegistrationRefused(
            "SIGNATURE_REFUSED", f"{place}/signature/message", "the message must say the whole product and the event"
        )
    if verdict.certificate in ("expired_at_trace_time", "not_yet_valid", "revoked"):
        raise RegistrationRefused(
            "CERTIFICATE_REFUSED", f"{place}/signature/certificate", _first_reason(verdict, "certificate")
        )
    certificate = certificate_of(trace.signature.certificate)
    if not _is_his(registrant, certificate, verdict, keys):
        words = "neither is the certificate's subject who sends, nor is its key one of his"
        raise RegistrationRefused("IDENTITY_DIFFERS", f"{place}/signature/certificate", words, is_forbidden=True)
    return Judged(own, verdict)


def _first_reason(verdict: Verdict, grade: str) -> str:
    return next((words for name, _, words in verdict.reasons if name == grade), verdict.signature)


def _is_his(
    registrant: Registrant, certificate: x509.Certificate | None, verdict: Verdict, keys: frozenset[bytes]
) -> bool:
    if verdict.key_sha256 in keys:
        return True
    return certificate is not None and not identities(certificate).isdisjoint({registrant.name, registrant.origin})


async def register(conn: Connection, judged: Sequence[Judged], registrant: Registrant) -> list[UUID]:
    """Store a call's traces and their events, in the caller's transaction.

    Raises:
        RegistrationRefused: TRACE_REPLAYED: one is there already.
    """
    found = []
    for number, one in enumerate(judged):
        event = _event(Kind(one.trace.event), one, registrant, None, None)
        if not await _store(conn, event.id, one, registrant, None, None, is_passed_on=True):
            raise RegistrationRefused("TRACE_REPLAYED", f"/{number}", "what was signed here is registered already")
        await log.append(conn, event)
        found.append(event.id)
    return found


async def tell(
    conn: Connection, judged: Judged, registrant: Registrant, collection: str, item: str
) -> tuple[UUID, dict[str, Any], bool]:
    """Keep an upstream's trace of an item, in the caller's transaction; (event, verdict as it is kept, whether it is new).

    It is passed on by the façade only when an operator brought it, or an authority that is trusted here stands behind its signature:
    who may write an item could say anything of it, in anybody's name.
    """
    verdict = judged.verdict
    is_passed_on = registrant.may_pass_on or (verdict.signature == "ok" and verdict.is_chain_trusted)
    event = _event(Kind.VERIFY, judged, registrant, collection, item)
    if not await _store(conn, event.id, judged, registrant, collection, item, is_passed_on=is_passed_on):
        digest = _sha256(judged.trace.raw)
        row = await (await conn.execute(sql("trace.told"), (collection, item, digest))).fetchone()
        assert row is not None
        return row["event_id"], json.loads(row["verdict"]), False
    await log.append(conn, event)
    return event.id, verdict.as_json(), True


def _event(kind: Kind, judged: Judged, registrant: Registrant, collection: str | None, item: str | None) -> Event:
    """The event of a foreign trace. It names no `hashes`: those are for what this catalogue itself says of a product."""
    trace, verdict = judged.trace, judged.verdict
    body: dict[str, Any] = {
        "trace_sha256": _sha256(trace.raw).hex(),
        "trace": {
            "event": trace.event,
            "product": trace.name,
            "hash": trace.hash,
            "hash_algorithm": trace.hash_algorithm,
            "size": str(trace.product["size"]),  # beyond 2**53 no number is exact
            "contents": len(trace.product["contents"] or []),
        },
        "verdict": {"signature": verdict.signature, "certificate": verdict.certificate},
    }
    told = {"origin": trace.origin or registrant.origin, "id": trace.id, "obsolescence": trace.obsolescence}
    body["trace"] |= {name: value for name, value in told.items() if value is not None}
    if trace.timestamp is not None:
        body["trace"]["timestamp"] = trace.timestamp.isoformat(timespec="microseconds").replace("+00:00", "Z")
    if verdict.key_sha256 is not None:
        body["key_sha256"] = verdict.key_sha256.hex()
    if registrant.source != _OWN and verdict.signature == "ok":
        # Rule R1. What Copernicus names without a hash are the tile and the datastrip of the product itself.
        inputs = [{"name": one["name"], "hash": one["hash"]} for one in trace.product["inputs"] or [] if one["hash"]]
        body |= {"inputs": inputs[:MAX_INPUTS]} if inputs else {}
    return Event(
        uuid7(), kind, trace.name, registrant.source, collection, item, registrant.actor, datetime.now(UTC), body
    )


async def _store(
    conn: Connection, event_id: UUID, judged: Judged, registrant: Registrant, collection: str | None, item: str | None,
    *, is_passed_on: bool,
) -> bool:  # fmt: skip
    trace, verdict = judged.trace, judged.verdict
    is_upstream = judged.is_upstream or item is not None
    values = (
        event_id, "upstream" if is_upstream else "registered", is_passed_on, trace.id,
        trace.origin if is_upstream else registrant.origin, trace.event, trace.name, collection, item, trace.raw, _sha256(trace.raw),
        _sha256(trace.signature.message) if trace.is_signed else None, verdict.key_sha256, json.dumps(verdict.as_json()),
    )  # fmt: skip
    if await (await conn.execute(sql("trace.put"), values)).fetchone() is None:
        return False
    await conn.execute(sql("trace.put_hashes"), (event_id, sorted(trace.digests)))
    return True


def _sha256(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()

"""Events of the log as traces of the Copernicus traceability service (service description 1.1.0, member order of a real reply).

Own uploads give a CREATE trace signed by the façade key. Harvested products give COPY traces: that we saw the product at a source,
with the checksums that the source names, unsigned (empty signature fields: "OK (Unsigned)" for trace-cli), because what
was not made here is not signed here. What others have registered, or another service has answered, is shown as it came.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from lineage.events import Kind
from lineage.hashes import hashes_of, product_hash
from lineage.trace_message import message_of
from lineage.trace_parse import parse_trace

#: Native kind -> kind of the service; other kinds are not shown. REPLACE is two traces, one of them OBSOLETE for what was before.
SHOWN = {
    Kind.CREATE: "CREATE",
    Kind.REGISTER: "COPY",
    Kind.COPY: "COPY",
    Kind.RESTORE: "COPY",
    Kind.REPLACE: "CREATE",
    Kind.DELETE: "DELETE",
    Kind.OBSOLETE: "OBSOLETE",
    Kind.WITHDRAW: "OBSOLETE",
}
#: These do not say the product's hash again: the event before them did.
_ENDING = frozenset({Kind.DELETE, Kind.OBSOLETE, Kind.WITHDRAW, Kind.RESTORE})
#: The façade key signs these, when they are ours.
SIGNED = frozenset({Kind.CREATE, Kind.REPLACE})
#: As the service names them.
ALGORITHMS = {"BLAKE3": "BLAKE3", "SHA256": "SHA256", "SHA3-256": "SHA3"}
_REPLACED = "the product was replaced by other bytes under the same name"
_VERSION_7, _VERSION_8 = 7, 8

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Shown:
    """One trace as it is answered.

    Attributes:
        position: in the log, for paging: twice the event's number, and one more for the event itself; what it made obsolete comes before.
        event_id: of the event of the log.
        text: the trace's JSON.
        digests: hashes that lead to it.
        outcome: what it does to its product's status: "current", "superseded", "obsolete", "deleted_here".
        foreign: "registered", "upstream", "" for a trace of our own.
        key: SHA-256 of the public key that signed a foreign one.
    """

    position: int
    event_id: UUID
    text: str
    event: str
    digests: frozenset[bytes]
    outcome: str
    foreign: str = ""
    key: bytes | None = None

    def document(self) -> dict[str, Any]:
        """The trace as an object."""
        found: dict[str, Any] = json.loads(self.text)
        return found


def product_of(name: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """The `product` member: name, hash in hex, size in bytes (0: unknown), contents and inputs where known."""
    contents = [{"path": one["path"], "hash": one["digest"]} for one in body.get("hashes") or [] if one.get("path")]
    inputs = [
        {"name": str(one["name"]), "hash": str(one.get("hash", ""))}
        for one in body.get("inputs") or []
        if one.get("name")
    ]
    size = body.get("size")
    return {
        "name": name,
        "hash": product_hash(dict(body))[1],
        "size": size if isinstance(size, int) and size > 0 else 0,
        "contents": contents or None,
        "inputs": inputs or None,
    }


def sign_trace(name: str, body: dict[str, Any], key: RSAPrivateKey) -> tuple[str, str]:
    """Return (message, base64 signature: RSA PKCS#1 v1.5 over SHA-256) of a CREATE trace."""
    message = message_of(product_of(name, body), "CREATE")
    signature = key.sign(message.encode(), padding.PKCS1v15(), hashes.SHA256())
    return message, base64.b64encode(signature).decode()


def obsolete_id(event_id: UUID) -> UUID:
    """The id of the OBSOLETE trace of a REPLACE: the event's, as a UUID of version 8."""
    return UUID(int=(event_id.int & ~(0xF << 76)) | (_VERSION_8 << 76))


def event_id_of(trace_id: UUID) -> UUID:
    """The event of a trace's id; see `obsolete_id`."""
    return UUID(int=(trace_id.int & ~(0xF << 76)) | (_VERSION_7 << 76)) if trace_id.version == _VERSION_8 else trace_id


def traces_of(row: Row) -> list[Shown]:
    """What one event is shown as: mostly one trace.

    Args:
        row: seq, id, kind, name, source, recorded_at, body, before (the body that named the hashes before), message, signature,
            certificate (of the façade), foreign_raw, foreign_kind, foreign_origin, foreign_key.
    """
    if row["foreign_raw"] is not None:
        return [_foreign(row)]
    kind = Kind(row["kind"])
    body = json.loads(row["body"])
    before = json.loads(row["before"]) if row["before"] else {}
    if kind is Kind.REPLACE:
        found = [_shown(row, kind, body, {})]
        if before and product_hash(before) != product_hash(body):
            found.insert(0, _shown(row, Kind.OBSOLETE, {**before, "reason": body.get("reason") or _REPLACED}, body))
        return found
    if kind in _ENDING and not hashes_of(body):
        told = {name: before[name] for name in ("hashes", "size", "inputs") if name in before}
        body = {**told, **body}
    return [_shown(row, kind, body, {})]


def _shown(row: Row, kind: Kind, body: dict[str, Any], replaced_by: dict[str, Any]) -> Shown:
    event = SHOWN[kind] if kind is not Kind.REPLACE or row["source"] == "own" else "COPY"
    is_replaced = bool(replaced_by)
    product = product_of(row["name"], body)
    signed = row["signature"] is not None and not is_replaced
    document = {
        "product": product,
        "event": event,
        "obsolescence": str(body.get("reason", "")) if event == "OBSOLETE" else None,
        "hash_algorithm": ALGORITHMS.get(product_hash(body)[0], product_hash(body)[0] or "BLAKE3"),
        "signature": {
            "signature": row["signature"] if signed else "",
            "algorithm": "RSA-SHA256" if signed else "",
            "certificate": row["certificate"] if signed else "",
            "message": row["message"] if signed else message_of(product, event),
        },
        **_registered(row["recorded_at"], row["source"], obsolete_id(row["id"]) if is_replaced else row["id"]),
    }
    return Shown(
        2 * row["seq"] + (0 if is_replaced else 1), row["id"], _text(document), event, frozenset(digest for _, digest in hashes_of(body)),
        _outcome(event, body, is_replaced=is_replaced),
    )  # fmt: skip


def _outcome(event: str, body: Mapping[str, Any], *, is_replaced: bool) -> str:
    if event == "DELETE":
        return "deleted_here"
    if event != "OBSOLETE":
        return "current"
    return "superseded" if is_replaced or body.get("successor") else "obsolete"


def _foreign(row: Row) -> Shown:
    """A trace of another's making. A registered one gets what the service adds; an upstream's is passed on as it came."""
    trace = parse_trace(row["foreign_raw"].encode())
    text = trace.raw
    if row["foreign_kind"] == "registered":
        signature = trace.signature
        text = _text(
            {
                "product": trace.product,
                "event": trace.event,
                "obsolescence": trace.obsolescence,
                "hash_algorithm": trace.hash_algorithm,
                "signature": {
                    "signature": signature.signature,
                    "algorithm": signature.algorithm,
                    "certificate": signature.certificate,
                    "message": signature.message,
                },
                **_registered(row["recorded_at"], row["foreign_origin"], row["id"]),
            }
        )
    position = 2 * row["seq"] + 1
    outcome = "obsolete" if trace.event == "OBSOLETE" else "current"
    key = bytes(row["foreign_key"]) if row["foreign_key"] else None
    return Shown(position, row["id"], text, trace.event, frozenset(trace.digests), outcome, row["foreign_kind"], key)


def status_of(traces: Sequence[Shown], key: bytes | None = None) -> str:
    """What traces that name a hash say of it now: current, superseded, obsolete, deleted_here, unknown.

    The catalogue decides; of what others registered counts what was signed by the same `key`. Without the catalogue's word and without a
    key, the last of the others' traces decides; that one of them deleted its copy says nothing.
    """
    own = [one for one in traces if not one.foreign]
    others = [one for one in traces if one.foreign and one.event != "DELETE" and (one.key == key if key else not own)]
    said = own[-1].outcome if own else "unknown"
    if others and (others[-1].outcome == "obsolete" or said == "unknown"):
        return others[-1].outcome
    return said


def _registered(at: datetime, origin: str, identity: UUID) -> dict[str, str]:
    return {"timestamp": time_text(at), "origin": origin, "id": str(identity)}


def time_text(moment: datetime) -> str:
    """A time as the service writes it."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _text(document: dict[str, Any]) -> str:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))

"""The log in the shape of the Copernicus traceability service (service description 1.1.0, as trace-cli reads it).

Own uploads give a CREATE trace signed by the façade key. Harvested products give COPY traces: that we saw the product at a source,
with the checksums that the source names, unsigned (empty signature fields: "OK (Unsigned)" for trace-cli), because what
was not made here is not signed here.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from datetime import UTC
from typing import Any
from uuid import UUID

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.serialization import Encoding
from psycopg import AsyncConnection

from db.queries import sql
from lineage.events import Kind
from lineage.hashes import product_hash
from lineage.keys import Signer
from lineage.visibility import EVERYTHING

#: Native kind -> kind of the service; other kinds are not shown.
SHOWN = {
    Kind.CREATE: "CREATE",
    Kind.REGISTER: "COPY",
    Kind.COPY: "COPY",
    Kind.DELETE: "DELETE",
    Kind.OBSOLETE: "OBSOLETE",
    Kind.WITHDRAW: "OBSOLETE",
}
#: As the service names them.
ALGORITHMS = {"BLAKE3": "BLAKE3", "SHA256": "SHA256", "SHA3-256": "SHA3"}
SUFFIXES = ("", ".SAFE", ".zip", ".SAFE.zip", ".SEN3", ".SEN3.zip")
MAX_TRACES = 50

Row = dict[str, Any]


def product_of(name: str, body: dict[str, Any]) -> dict[str, Any]:
    """The `product` member: name, size in bytes (0: unknown), hash in hex, contents and inputs where known."""
    contents = [{"path": one["path"], "hash": one["digest"]} for one in body.get("hashes") or [] if one.get("path")]
    inputs = [{"name": str(one["name"]), "hash": str(one.get("hash", ""))} for one in body.get("inputs") or []]
    size = body.get("size")
    return {
        "name": name,
        "size": size if isinstance(size, int) and size > 0 else 0,
        "hash": product_hash(body)[1],
        "contents": contents or None,
        "inputs": inputs or None,
    }


def message_of(product: dict[str, Any], event: str) -> str:
    """The signed text: compact JSON as Go's json.Marshal makes it, absent lists left out, `event` last."""
    ordered: dict[str, Any] = {}
    if product["contents"]:
        ordered["contents"] = [{"hash": one["hash"], "path": one["path"]} for one in product["contents"]]
    ordered["hash"] = product["hash"]
    if product["inputs"]:
        ordered["inputs"] = [{"hash": one["hash"], "name": one["name"]} for one in product["inputs"]]
    ordered |= {"name": product["name"], "size": product["size"], "event": event}
    text = json.dumps(ordered, separators=(",", ":"), ensure_ascii=False)
    for sign in "<>&\u2028\u2029":  # Go escapes these
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def sign_trace(name: str, body: dict[str, Any], signer: Signer) -> tuple[str, str]:
    """Return (message, base64 signature: RSA PKCS#1 v1.5 over SHA-256) of a CREATE trace."""
    message = message_of(product_of(name, body), "CREATE")
    signature = signer.facade_key.sign(message.encode(), padding.PKCS1v15(), hashes.SHA256())
    return message, base64.b64encode(signature).decode()


def certificate_text(certificate: x509.Certificate) -> str:
    """Base64 of the DER certificate."""
    return base64.b64encode(certificate.public_bytes(Encoding.DER)).decode()


def trace_of(row: Row) -> dict[str, Any]:
    """One logged event as a trace."""
    body = json.loads(row["body"])
    kind = SHOWN[Kind(row["kind"])]
    product = product_of(row["name"], body)
    signed = row["signature"] is not None
    return {
        "id": str(row["id"]),
        "timestamp": row["recorded_at"].astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "origin": row["source"],
        "event": kind,
        "obsolescence": str(body.get("reason", "")) if kind == "OBSOLETE" else None,
        "hash_algorithm": ALGORITHMS.get(product_hash(body)[0], product_hash(body)[0] or "BLAKE3"),
        "product": product,
        "signature": {
            "message": row["message"] if signed else message_of(product, kind),
            "signature": row["signature"] if signed else "",
            "algorithm": "RSA-SHA256" if signed else "",
            "certificate": row["certificate"] if signed else "",
        },
    }


def names_like(name: str) -> list[str]:
    """The name with every suffix under which it may be logged."""
    stem = name
    for suffix in sorted(SUFFIXES, key=len, reverse=True):
        if suffix and stem.endswith(suffix):
            stem = stem.removesuffix(suffix)
            break
    return [stem + suffix for suffix in SUFFIXES]


async def traces_by_name(
    conn: AsyncConnection[Row],
    name: str,
    *,
    after: int = -1,
    limit: int = MAX_TRACES,
    principals: Sequence[str] = EVERYTHING,
) -> list[Row]:
    """Traces of a product, oldest first; `after` is the number of the last one seen."""
    rows = await (
        await conn.execute(
            sql("lineage.traces_by_name"), (names_like(name), list(SHOWN), after, limit, list(principals))
        )
    ).fetchall()
    return [trace_of(row) for row in rows]


async def traces_by_hash(
    conn: AsyncConnection[Row],
    digest_hex: str,
    *,
    after: int = -1,
    limit: int = MAX_TRACES,
    principals: Sequence[str] = EVERYTHING,
) -> list[Row]:
    """Traces that name this hash, of a product or of a content.

    Raises:
        ValueError: no hex.
    """
    digest = bytes.fromhex(digest_hex)
    rows = await (
        await conn.execute(sql("lineage.traces_by_hash"), (digest, list(SHOWN), after, limit, list(principals)))
    ).fetchall()
    return [trace_of(row) for row in rows]


async def trace_by_id(conn: AsyncConnection[Row], event_id: UUID, principals: Sequence[str] = EVERYTHING) -> Row | None:
    """One trace, None when there is none of that id."""
    row = await (await conn.execute(sql("lineage.event_by_id"), (event_id, list(principals)))).fetchone()
    is_shown = row is not None and row["kind"] in set(SHOWN) and row["item_id"] is not None
    return trace_of(row) if row and is_shown else None

"""`python -m api trace-keys add | list | revoke`: public keys by which people sign the traces that they register."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any

import typer
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key
from cryptography.x509 import load_pem_x509_certificate

from api.people.command import AsJson, fail, run
from db.pools import Connection
from db.queries import sql

app = typer.Typer(
    help="Keys by which people sign the traces that they register.", no_args_is_help=True,
    add_completion=False, pretty_exceptions_enable=False,
)  # fmt: skip


def read_key(path: Path) -> tuple[bytes, str]:
    """(SHA-256 of the public key, its kind) of a file in PEM: a public key or a certificate.

    Raises:
        ValueError: it is neither, or of a kind that traces are not signed with.
    """
    data = path.read_bytes()
    try:
        key = (
            load_pem_x509_certificate(data).public_key()
            if b"-----BEGIN CERTIFICATE" in data
            else load_pem_public_key(data)
        )
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ValueError(f"{path} holds neither a public key nor a certificate in PEM") from error
    if not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
        raise ValueError("traces are signed with RSA or ECDSA")
    kind = f"RSA-{key.key_size}" if isinstance(key, rsa.RSAPublicKey) else f"ECDSA-{key.key_size}"
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest(), kind


@app.command()
def add(
    person: Annotated[str, typer.Argument(help="whose key it is")],
    file: Annotated[Path, typer.Argument(help="public key or certificate, PEM")],
    title: Annotated[str, typer.Option(help="what people know it by")] = "",
) -> None:
    """Let a person sign with a key, whatever its certificate calls him."""
    from api.people import store

    try:
        digest, kind = read_key(file)
    except (OSError, ValueError) as error:
        raise fail(str(error)) from None

    async def work(conn: Connection) -> str | None:
        if person not in ("token", "local"):
            await store.person(conn, person)
        row = await (
            await conn.execute(sql("trace.add_key"), (digest, person, kind, title[:200], "command"))
        ).fetchone()
        if row is not None:
            return None
        keys = await (await conn.execute(sql("trace.keys"))).fetchall()
        return next((str(key["owner"]) for key in keys if bytes(key["key_sha256"]) == digest), "nobody")

    owner = run(work)
    if owner is not None:
        raise fail(f"the key {digest.hex()[:16]} is {owner}'s already")
    print(f"{person} may sign with {kind} {digest.hex()}")


@app.command("list")
def listed(as_json: AsJson = False) -> None:
    """All keys, oldest first."""

    async def work(conn: Connection) -> list[dict[str, Any]]:
        return await (await conn.execute(sql("trace.keys"))).fetchall()

    keys = [
        {
            "id": bytes(row["key_sha256"]).hex(),
            "owner": row["owner"],
            "kind": row["kind"],
            "title": row["title"],
            "created": row["created_at"].isoformat(),
            "revoked": row["revoked_at"].isoformat() if row["revoked_at"] else None,
        }
        for row in run(work)
    ]
    if as_json:
        print(json.dumps(keys))
        return
    for key in keys:
        print(
            f"{key['id']}  {key['owner']:<20} {key['kind']:<10} {'revoked' if key['revoked'] else ''}  {key['title']}"
        )


@app.command()
def revoke(key_id: Annotated[str, typer.Argument(help="as `list` shows it")]) -> None:
    """Let nobody sign with a key any more; what was registered stays."""
    try:
        digest = bytes.fromhex(key_id)
    except ValueError:
        raise fail("an id is written in hex") from None

    async def work(conn: Connection) -> str | None:
        row = await (await conn.execute(sql("trace.revoke_key"), (digest,))).fetchone()
        return None if row is None else str(row["owner"])

    owner = run(work)
    if owner is None:
        raise fail("there is no such key")
    print(f"revoked; it was {owner}'s")

"""Events and keys for the tests of the log."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from lineage.events import Event, Kind
from lineage.ids import uuid7
from lineage.keys import Signer, load_signer
from lineage.settings import LineageSettings

#: Published vectors (README.md there).
VECTORS = Path(__file__).parent / "vectors"
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def event(number: int = 0, kind: Kind = Kind.REGISTER, source: str = "demo", **body: Any) -> Event:
    """An event about item `item-<number>`."""
    content = {"size": 10, "hashes": [{"alg": "SHA256", "digest": f"{number:064x}"}], **body}
    return Event(uuid7(), kind, f"PRODUCT_{number}.SAFE", source, "things", f"item-{number}", "tester", NOW, content)


def signer(folder: Path) -> Signer:
    """Keys in `folder`, made when missing; the façade's, which takes a second to make, is the same everywhere."""
    settings = LineageSettings(data_dir=folder)
    settings.keys_dir.mkdir(parents=True, exist_ok=True)
    path = settings.keys_dir / "facade.pem"
    if not path.exists():
        path.touch(mode=0o600)
        path.write_bytes(_facade())
    return load_signer(settings)


@cache
def _facade() -> bytes:
    key = rsa.generate_private_key(public_exponent=65537, key_size=3072)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

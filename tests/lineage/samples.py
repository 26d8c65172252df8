"""Events and keys for the tests of the log."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lineage.events import Event, Kind
from lineage.ids import uuid7
from lineage.keys import Signer, load_signer
from lineage.settings import LineageSettings

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def event(number: int = 0, kind: Kind = Kind.REGISTER, source: str = "demo", **body: Any) -> Event:
    """An event about item `item-<number>`."""
    content = {"size": 10, "hashes": [{"alg": "SHA256", "digest": f"{number:064x}"}], **body}
    return Event(uuid7(), kind, f"PRODUCT_{number}.SAFE", source, "things", f"item-{number}", "tester", NOW, content)


def signer(folder: Path) -> Signer:
    """Keys in `folder`, made when missing."""
    return load_signer(LineageSettings(data_dir=folder))

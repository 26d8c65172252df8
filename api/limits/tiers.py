"""Tiers of callers, from a TOML file: ours, or the operator's in its place."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from api.limits.windows import Period

OURS: Final = Path(__file__).parent / "tiers.toml"
#: What callers get whose tier the file does not know, and who sends no credentials.
GENERAL: Final = "general"
ANONYMOUS: Final = "anonymous"


class TiersInvalid(ValueError):
    """The file of tiers cannot be used; the message says where and why."""


@dataclass(frozen=True, slots=True)
class Quota:
    """A number of requests in a period; `name` is what answers and headers call it."""

    name: str
    period: Period


REQUESTS: Final = Quota("default", Period.MINUTE)
PROCESSING: Final = Quota("processing", Period.MONTH)
COG_READS: Final = Quota("cog-reads", Period.MONTH)
#: Counted in bytes; slowed, never refused.
DOWNLOAD: Final = Quota("download-bytes", Period.MONTH)
#: Downloads at the same time.
CONNECTIONS: Final = "connections"


class Tier(BaseModel):
    """What callers of one tier may ask for; None: no limit."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    requests_per_minute: int | None = Field(None, ge=1, le=10**9)
    processing_per_month: int | None = Field(None, ge=0, le=10**12)
    cog_reads_per_month: int | None = Field(None, ge=0, le=10**12)
    connections: int | None = Field(None, ge=1, le=10_000)
    bytes_per_second: int | None = Field(None, ge=1000, le=10**12)
    download_bytes_per_month: int | None = Field(None, ge=0, le=10**18)
    slow_connections: int = Field(1, ge=1, le=10_000)
    slow_bytes_per_second: int = Field(1_000_000, ge=1000, le=10**12)

    def limit(self, quota: Quota) -> int | None:
        """Of a quota of requests or bytes."""
        return {
            REQUESTS: self.requests_per_minute,
            PROCESSING: self.processing_per_month,
            COG_READS: self.cog_reads_per_month,
            DOWNLOAD: self.download_bytes_per_month,
        }[quota]


@dataclass(frozen=True, slots=True)
class Tiers:
    """All of them by name."""

    by_name: Mapping[str, Tier]

    def name_of(self, wanted: str) -> str:
        """The tier that a caller gets who has this one."""
        return wanted if wanted in self.by_name else GENERAL

    def of(self, wanted: str) -> Tier:
        """The same, itself."""
        return self.by_name[self.name_of(wanted)]


def load_tiers(path: Path | None = None) -> Tiers:
    """Read a file of tiers; None: ours.

    Raises:
        TiersInvalid
    """
    path = path or OURS
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
        found = {name: Tier.model_validate(content) for name, content in document.items()}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise TiersInvalid(f"{path}: {error}") from error
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise TiersInvalid(f"{path}: {faults}") from error
    if missing := {GENERAL, ANONYMOUS} - set(found):
        raise TiersInvalid(f"{path}: no tier {', '.join(sorted(missing))}")
    return Tiers(found)

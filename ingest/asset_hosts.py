"""The hosts and buckets that sources' files name as those of their assets: where assets of others may be read from."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from ingest.model import Source

S3: Final = "s3://"
PORTS: Final = {"http": 80, "https": 443}
BUCKET: Final = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])/([^\s\\?#]+)")
_PRINTABLE = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True, slots=True)
class Hosts:
    """The allowlist: `example.org`, `*.example.org`, with `:port` where it is not the scheme's own, and `s3://bucket`."""

    names: frozenset[str]

    @classmethod
    def of(cls, sources: Iterable[Source]) -> Hosts:
        """What these sources name."""
        return cls(frozenset(name for source in sources for name in source.asset_hosts))

    def allow(self, href: str) -> bool:
        """Whether assets may be read there."""
        if not _PRINTABLE.fullmatch(href):
            return False  # no request could be made of it
        if href.startswith(S3):
            match = BUCKET.fullmatch(href)
            if match is None or {".", ".."}.intersection(
                match[2].split("/")
            ):  # a store behind the URL would follow them
                return False
            return f"{S3}{match[1]}" in self.names
        try:
            parts = urlsplit(href)
            host, port = (parts.hostname or "").rstrip(".").lower(), parts.port
        except ValueError:
            return False
        if parts.scheme not in PORTS or not host or parts.username is not None or parts.password is not None:
            return False
        own = "" if port in (None, PORTS[parts.scheme]) else f":{port}"
        _, _, parent = host.partition(".")
        above = [host.split(".", number)[-1] for number in range(1, host.count(".") + 1)]
        return f"{host}{own}" in self.names or any(f"*.{one}{own}" in self.names for one in above if parent)

"""Asks a time-stamping authority (RFC 3161) for the time of the newest checkpoint, and stores what it answers.

The log's own clock is the operator's. A stamp says by somebody else's that the log had this root then. Only an answer that holds under the
authorities of `FEDERATOR_LOG_STAMP_AUTHORITIES_FILE` is stored. An authority that is away costs its stamp and nothing else.
"""

from __future__ import annotations

import hashlib
import logging
import time
from dataclasses import dataclass
from datetime import datetime

import httpx
from cryptography import x509
from psycopg_pool import AsyncConnectionPool
from rfc3161_client import (
    HashAlgorithm,
    TimestampRequestBuilder,
    TimeStampResponse,
    VerificationError,
    VerifierBuilder,
    decode_timestamp_response,
)

from db.queries import sql
from lineage.errors import StampRefused
from lineage.sequencer import Connection, read_head
from lineage.settings import LineageSettings

log = logging.getLogger(__name__)

MAX_REPLY_BYTES = 65_536
#: Seconds in which an authority that gave nothing good is not asked.
_REST_S = 600.0


@dataclass
class Stamping:
    """The authority of a log, and how often it is asked."""

    url: str
    authorities: list[x509.Certificate]
    interval_s: float
    http: httpx.AsyncClient
    _not_before: float = 0.0  # of the monotonic clock

    @classmethod
    def of(cls, settings: LineageSettings, http: httpx.AsyncClient) -> Stamping | None:
        """As the settings say; None: no authority is to be asked.

        Raises:
            StampRefused: the file of the authorities cannot be read.
        """
        if not settings.log_stamp_url:
            return None
        return cls(settings.log_stamp_url, _authorities(settings), settings.log_stamp_interval_s, http)

    async def ask(self, pool: AsyncConnectionPool[Connection]) -> bool:
        """Have the newest checkpoint stamped when the last stamp is old enough; returns whether there is a new one."""
        if time.monotonic() < self._not_before:
            return False
        async with pool.connection() as conn:
            last = await (await conn.execute(sql("lineage.newest_stamp"))).fetchone()
            head = await read_head(conn)
        if last is None or head.size <= (last["size"] or 0) or (last["age_s"] or self.interval_s) < self.interval_s:
            return False
        try:
            reply, stamp = await self._stamped(head.note.encode())
        except (httpx.HTTPError, StampRefused) as error:
            self._not_before = time.monotonic() + _REST_S
            reason = str(error) if isinstance(error, StampRefused) else type(error).__name__
            log.warning("no stamp for the checkpoint", extra={"authority": self.url, "reason": reason})
            return False
        async with pool.connection() as conn:
            values = (head.size, self.url, stamp.tst_info.gen_time, reply)
            await conn.execute(sql("lineage.insert_stamp"), values)
        return True

    async def _stamped(self, note: bytes) -> tuple[bytes, TimeStampResponse]:
        """The authority's answer, checked. Raises httpx.HTTPError and StampRefused."""
        asked = TimestampRequestBuilder().data(note).hash_algorithm(HashAlgorithm.SHA256).build()
        reply = await self._post(asked.as_bytes())
        verifier = VerifierBuilder.from_request(asked)
        for one in self.authorities:
            is_root = one.issuer == one.subject
            verifier = verifier.add_root_certificate(one) if is_root else verifier.add_intermediate_certificate(one)
        try:
            stamp = decode_timestamp_response(reply)
            verifier.build().verify_message(stamp, note)
        except (ValueError, VerificationError):
            raise StampRefused("its answer is no stamp of this checkpoint by a known authority") from None
        return reply, stamp

    async def _post(self, query: bytes) -> bytes:
        headers = {"Content-Type": "application/timestamp-query"}
        data = b""
        async with self.http.stream("POST", self.url, content=query, headers=headers) as answer:
            if answer.status_code != httpx.codes.OK:
                raise StampRefused(f"status {answer.status_code}")
            async for piece in answer.aiter_bytes():
                data += piece
                if len(data) > MAX_REPLY_BYTES:
                    raise StampRefused("its answer is too long")
        return data


def time_of_stamp(reply: bytes, note: str) -> datetime | None:
    """The time that a stored answer tells; None when it is not about this checkpoint. Who signed it is not looked at."""
    try:
        said = decode_timestamp_response(reply).tst_info
    except ValueError:
        return None
    return said.gen_time if said.message_imprint.message == hashlib.sha256(note.encode()).digest() else None


def _authorities(settings: LineageSettings) -> list[x509.Certificate]:
    path = settings.log_stamp_authorities_file
    try:
        found = x509.load_pem_x509_certificates(path.read_bytes()) if path else []
    except (OSError, ValueError):
        raise StampRefused(f"{path} holds no certificates that can be read") from None
    if not any(one.issuer == one.subject for one in found):
        raise StampRefused("FEDERATOR_LOG_STAMP_AUTHORITIES_FILE must name a root certificate of the authority")
    return found

"""Asks witnesses for their cosignatures of the newest checkpoint and stores them. Which ones: `FEDERATOR_LOG_WITNESSES`.

A witness that is away costs its line and nothing else. One that has seen another log of our name stops the sequencer: somebody has set the
log back or rewritten it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import httpx
from psycopg_pool import AsyncConnectionPool

from db.queries import sql
from lineage.errors import KeyMismatch, WitnessRefuses
from lineage.note import MAX_NAME_BYTES
from lineage.sequencer import Connection, Head, read_head
from lineage.tiles import read_consistency
from lineage.verify import Unreadable, VerifierKey, checkpoint_verdict, parse_checkpoint, parse_vkey
from lineage.witness import request_body

log = logging.getLogger(__name__)

#: Some sixteen lines of ML-DSA-44.
MAX_ANSWER_BYTES = 64_000
MAX_ANSWER_LINES = 32
#: Keys of all witnesses: a checkpoint with a line of each, beside the log's own, is still read by those who check (`MAX_LINES` there).
MAX_KEYS = 48
_ATTEMPTS = 3
#: Seconds in which a witness that does not answer is not asked.
_REST_S = 15.0


@dataclass
class Cosigner:
    """A witness as the log knows it: its address, its keys (an answer has a line of each), and how far it has followed."""

    url: str
    keys: list[VerifierKey]
    size: int = 0
    not_before: float = 0.0  # of the monotonic clock: it was away

    @property
    def name(self) -> str:
        """What it is called in words."""
        return self.keys[0].name


@dataclass
class Cosigning:
    """All witnesses of a log."""

    witnesses: list[Cosigner]
    http: httpx.AsyncClient
    _warned: set[str] = field(default_factory=set)

    async def ask(self, pool: AsyncConnectionPool[Connection]) -> int:
        """Ask every witness that has not cosigned the newest checkpoint; returns how many did now.

        Raises:
            WitnessRefuses: one has seen another log of our name.
        """
        done, now = 0, time.monotonic()
        asked = [one for one in self.witnesses if one.not_before <= now]
        if not asked:
            return 0
        async with pool.connection() as conn:
            head = await read_head(conn)
            for one in asked:
                if one.size < head.size:
                    done += await self._asked(conn, head, one)
        return done

    async def _asked(self, conn: Connection, head: Head, one: Cosigner) -> bool:
        for _ in range(_ATTEMPTS):
            path = await read_consistency(conn, one.size, head.size) if one.size else []
            try:
                status, text = await self._post(one, request_body(one.size, path, head.note))
            except httpx.HTTPError as error:
                self._warn(one, type(error).__name__)
                return False
            match status:
                case 200:
                    return await self._store(conn, head, one, text)
                case 409:
                    if (seen := _size(text)) is None:  # not a witness's answer
                        self._warn(one, "409")
                        return False
                    if seen == one.size:
                        raise WitnessRefuses(f"the witness {one.name} has cosigned another log of {one.size} events")
                    one.size = seen
                    head = await read_head(conn)  # another worker may have been quicker
                    if one.size > head.size:
                        raise WitnessRefuses(
                            f"the witness {one.name} has seen {one.size} events, the log has {head.size}: was it set back?"
                        )
                case 422:
                    raise WitnessRefuses(
                        f"for the witness {one.name} the log does not go on from its {one.size} events: it was rewritten"
                    )
                case _:
                    self._warn(one, f"status {status}")
                    return False
        return False

    async def _post(self, one: Cosigner, body: bytes) -> tuple[int, str]:
        """Status and the beginning of the answer."""
        data = b""
        async with self.http.stream("POST", f"{one.url}/add-checkpoint", content=body) as answer:
            async for piece in answer.aiter_bytes():
                data += piece
                if len(data) > MAX_ANSWER_BYTES:
                    break
            return answer.status_code, data[:MAX_ANSWER_BYTES].decode("utf-8", "replace")

    async def _store(self, conn: Connection, head: Head, one: Cosigner, text: str) -> bool:
        """Keep the lines of its keys that hold; True when there is one."""
        held = set()
        for line in text.splitlines(keepends=True)[:MAX_ANSWER_LINES]:
            try:
                checkpoint = parse_checkpoint(head.note + line)
            except Unreadable:
                continue
            for key in one.keys:
                if checkpoint_verdict(checkpoint, key) == "ok":
                    await conn.execute(sql("lineage.insert_cosignature"), (head.size, key.id, line))
                    held.add(key)
        if not held:
            self._warn(one, "no signature of its key")
            return False
        one.size = head.size
        if missing := [key.id for key in one.keys if key not in held]:
            self._tell(one, f"no signature of {', '.join(missing)}")
        else:
            self._warned.discard(one.url)
        return True

    def _warn(self, one: Cosigner, reason: str) -> None:
        """Leave it alone for a while; tell it once until it answers again."""
        one.not_before = time.monotonic() + _REST_S
        self._tell(one, reason)

    def _tell(self, one: Cosigner, reason: str) -> None:
        if one.url not in self._warned:
            self._warned.add(one.url)
            log.warning("witness does not cosign", extra={"witness": one.name, "reason": reason})


def _size(text: str) -> int | None:
    number = text.strip()
    return int(number) if number.isascii() and number.isdigit() and len(number) <= 18 else None


def cosigners(words: Sequence[str]) -> list[Cosigner]:
    """Witnesses from settings: each the address, an equals sign and the verifier key. Keys of one address are one witness.

    Raises:
        KeyMismatch: one of them is not of this form, or they are too many.
    """
    found: dict[str, Cosigner] = {}
    if len(words) > MAX_KEYS:
        raise KeyMismatch(f"FEDERATOR_LOG_WITNESSES: more than {MAX_KEYS} keys")
    for word in words:
        url, _, text = word.partition("=")
        try:
            key = _cosigning(text)
        except Unreadable as error:
            raise KeyMismatch(
                f"FEDERATOR_LOG_WITNESSES: {error}; it is URL=VKEY, several with blanks between"
            ) from error
        one = found.setdefault(url.rstrip("/"), Cosigner(url.rstrip("/"), []))
        if key not in one.keys:
            one.keys.append(key)
    return list(found.values())


def _cosigning(text: str) -> VerifierKey:
    key = parse_vkey(text)
    if len(key.name.encode("utf-8", "surrogatepass")) > MAX_NAME_BYTES:
        raise Unreadable(f"the name of a key has more than {MAX_NAME_BYTES} bytes")
    return key


def witness_vkeys(setting: str) -> list[str]:
    """Verifier keys of the witnesses in FEDERATOR_LOG_WITNESSES, for those who only read; what is none is left out."""
    found = []
    for word in setting.split():
        text = word.partition("=")[2]
        try:
            parse_vkey(text)
        except Unreadable:
            continue
        found.append(text)
    return found

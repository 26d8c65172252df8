"""Passwords: argon2id with the second parameter set of RFC 9106 (64 MiB, 3 passes), in a thread, few at a time.

Each try takes about a tenth of a second and 64 MiB: more than a few at once would starve what the process is for.
"""

from __future__ import annotations

import asyncio
import unicodedata

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from api.problems import Problem

#: NIST SP 800-63B, 5.1.1.2: at least 8 signs, no rules about which.
SHORTEST, LONGEST = 8, 256
AT_ONCE = 2
MOST_WAITING = 32


class Passwords:
    """Makes and checks hashes."""

    def __init__(self) -> None:
        self._hasher = PasswordHasher()
        self._turn = asyncio.Semaphore(AT_ONCE)
        self._waiting = 0
        # Of a password that nobody has: names that are not there take as long as those that are.
        self._nobody = (
            "$argon2id$v=19$m=65536,t=3,p=4$c3RhYy1mZWRlcmF0b3ItMDA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
        )

    async def hashed(self, password: str) -> str:
        """What is kept of a password. Raises Problem: 503."""
        return await self._in_turn(self._hash, password)

    async def is_right(self, kept: str | None, password: str) -> bool:
        """Whether this is the password; as slow for who has none (None). Raises Problem: 503."""
        return await self._in_turn(self._verify, kept or self._nobody, password) and kept is not None

    async def _in_turn[T](self, work: object, *arguments: str) -> T:
        if self._waiting >= MOST_WAITING:
            raise Problem(503, "LOGIN_BUSY", "too many log in just now; try again", headers={"Retry-After": "2"})
        self._waiting += 1
        try:
            async with self._turn:
                return await asyncio.to_thread(work, *arguments)  # type: ignore[arg-type]
        finally:
            self._waiting -= 1

    def _hash(self, password: str) -> str:
        return self._hasher.hash(_same(password))

    def _verify(self, kept: str, password: str) -> bool:
        try:
            return self._hasher.verify(kept, _same(password))
        except (VerificationError, InvalidHashError):
            return False


def _same(password: str) -> str:
    """One form for signs that keyboards write in several."""
    return unicodedata.normalize("NFC", password)

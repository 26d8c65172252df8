"""What the database keeps for all processes to sign with."""

from __future__ import annotations

from db.pools import Pool
from db.queries import sql


async def secret_of(pool: Pool, name: str) -> bytes:
    """The secret of this name, made by a migration. Raises LookupError: there is none."""
    async with pool.connection() as conn:
        row = await (await conn.execute(sql("api.secret"), (name,))).fetchone()
    if row is None:
        raise LookupError(f"the database has no secret {name!r}")
    return bytes(row["value"])

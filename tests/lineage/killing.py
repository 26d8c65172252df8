"""Sequences a log in a process that is killed again and again: `python -m tests.lineage.killing CONNINFO DATA_DIR KILLS SEED`.

Each child is a fork of this process, which has everything imported, so that a kill costs milliseconds; SIGKILL comes at a random moment
within the time that a whole run takes. Prints how many children were killed before they had ended.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import time
from pathlib import Path

from psycopg import AsyncConnection, AsyncRawCursor
from psycopg.rows import dict_row

from lineage.keys import load_signer
from lineage.published import Published
from lineage.sequencer import sequence_batch
from lineage.settings import LineageSettings

BATCH = 5


async def _sequence(conninfo: str, settings: LineageSettings) -> None:
    signer, published = load_signer(settings), Published(settings.published_dir, settings.copies_dir, 0)
    options = {"autocommit": True, "row_factory": dict_row, "cursor_factory": AsyncRawCursor}
    async with await AsyncConnection.connect(conninfo, **options) as conn:  # type: ignore[arg-type]
        while await sequence_batch(conn, signer, BATCH, published):
            pass


def _child(conninfo: str, settings: LineageSettings) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            asyncio.run(_sequence(conninfo, settings))
        except BaseException:  # noqa: BLE001 - a fork must end here, whatever happens
            os._exit(1)
        os._exit(0)
    return pid


def main(conninfo: str, data_dir: str, kills: int, seed: int) -> int:
    """Kill, and at last let one end. Exit status 0: that one has ended well."""
    settings, chance = LineageSettings(data_dir=Path(data_dir)), random.Random(seed)
    killed = 0
    for _ in range(kills):
        pid = _child(conninfo, settings)
        time.sleep(chance.uniform(0.0, 0.12))
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        killed += os.WIFSIGNALED(status)
        if os.WIFEXITED(status) and os.WEXITSTATUS(status) != 0:
            return 1
    _, status = os.waitpid(_child(conninfo, settings), 0)
    print(killed)
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))

"""What work takes: wall time, and the CPU of this process and of its session in the server, which a busy machine does not stretch.

On a machine whose cores are all taken most of the time is spent waiting for one: a walk of 60 ms of CPU took 220 ms at load 10, in which
this process waited 120 ms for a core and PostgreSQL 110 (/proc/PID/schedstat), and for nothing else.
"""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from db.pools import Connection


def cpu_s(*sessions: Connection) -> float:
    """Seconds of CPU so far, of this process and of sessions in a server on this machine."""
    return time.process_time() + sum(_session_s(one.info.backend_pid) for one in sessions)


def _session_s(pid: int) -> float:
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9
    except FileNotFoundError:  # a kernel without it: steps of 10 ms
        words = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


async def p95(name: str, conn: Connection, work: Callable[[int], Awaitable[object]], times: int) -> dict[str, float]:
    """Milliseconds that 95 of 100 calls do not pass, by the clock and of CPU. The first call, which plans, is not counted."""
    await work(0)
    walls, cpus = [], []
    for number in range(times):
        begun, spent = time.perf_counter(), cpu_s(conn)
        await work(number)
        walls.append(time.perf_counter() - begun)
        cpus.append(cpu_s(conn) - spent)
    return {f"{name}, ms p95": quantile(walls) * 1e3, f"{name}, CPU ms p95": quantile(cpus) * 1e3}


def quantile(seconds: list[float], part: float = 0.95) -> float:
    """The value that this part of them does not pass."""
    return sorted(seconds)[min(len(seconds) - 1, int(len(seconds) * part))]

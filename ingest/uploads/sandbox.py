"""Runs the child process that opens a user's file: limits, no network where the system allows it, nothing of our environment.

The limits are set inside the child before it imports GDAL (`confine`); the wall clock is watched here (`run_child`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any

import orjson

from ingest.errors import UploadRejected

ADDRESS_SPACE_BYTES = 4 * 2**30
CPU_S = 300
WALL_S = 600
OPEN_FILES = 64
MAX_REPORT_BYTES = 4 * 2**20

#: Every raster driver but these is skipped. With GDAL >= 3.12 that stays in force after the first warp.
ALLOWED_DRIVERS = ("GTiff", "COG", "MEM")
GDAL_ENVIRONMENT = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_PAM_ENABLED": "NO",
    "CPL_VSIL_CURL_ALLOWED_EXTENSIONS": ".none",
    "GDAL_VRT_ENABLE_PYTHON": "NO",
    "GDAL_VRT_ENABLE_RAWRASTERBAND": "NO",
    "GDAL_HTTP_TIMEOUT": "10",
    "GDAL_CACHEMAX": "200",
    "GDAL_NUM_THREADS": "2",
    "MALLOC_ARENA_MAX": "2",
}


class ChildFailed(Exception):
    """The child ended without a report: killed, out of memory, or a fault of ours. Worth another try."""


def confine(largest_file_bytes: int) -> list[str]:
    """Limit this process and cut its network; return the names of the layers that are on."""
    limits = {
        resource.RLIMIT_AS: ADDRESS_SPACE_BYTES,
        resource.RLIMIT_CPU: CPU_S,
        resource.RLIMIT_FSIZE: largest_file_bytes,
        resource.RLIMIT_NOFILE: OPEN_FILES,
        resource.RLIMIT_CORE: 0,
    }
    for limit, value in limits.items():
        _, hard = resource.getrlimit(limit)
        bounded = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (bounded, bounded))
    return ["rlimits", *(["no-network"] if _cut_network() else [])]


def _cut_network() -> bool:
    """An empty network namespace, with a user namespace when we are not root; False where the system has none."""
    if not hasattr(os, "unshare"):
        return False
    flags = os.CLONE_NEWNET if os.geteuid() == 0 else os.CLONE_NEWNET | os.CLONE_NEWUSER
    with contextlib.suppress(OSError):
        os.unshare(flags)
        return True
    return False


def child_environment() -> dict[str, str]:
    """What the child may know: where programs and temporary files are, and GDAL's safety settings. No secrets."""
    kept = {name: os.environ[name] for name in ("PATH", "TMPDIR", "LANG", "LC_ALL") if name in os.environ}
    return {**kept, **GDAL_ENVIRONMENT, "PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONDONTWRITEBYTECODE": "1"}


async def run_child(order: dict[str, Any], *, wall_s: float = WALL_S) -> dict[str, Any]:
    """Let `ingest.uploads.child` carry out an order; return its report.

    Raises:
        UploadRejected: the child refused the file, or a limit was hit (TIMED_OUT, TOO_COMPLEX).
        ChildFailed: it ended without a report.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "ingest.uploads.child",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=child_environment(),
        cwd=order["folder"],
        start_new_session=True,
        limit=MAX_REPORT_BYTES,
    )
    try:
        async with asyncio.timeout(wall_s):
            output, errors = await process.communicate(orjson.dumps(order))
    except TimeoutError:
        raise UploadRejected(
            "TIMED_OUT", f"checking and converting took longer than {wall_s:.0f} s", limit=wall_s
        ) from None
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
    return _report(process.returncode, output, errors)


def _report(status: int | None, output: bytes, errors: bytes) -> dict[str, Any]:
    if status in (-signal.SIGXCPU, -signal.SIGXFSZ):
        raise UploadRejected("TOO_COMPLEX", "checking and converting needs more time or space than a file may use")
    try:
        report: dict[str, Any] = orjson.loads(output)
    except orjson.JSONDecodeError:
        tail = errors.decode(errors="replace").strip().splitlines()[-1:]
        raise ChildFailed(f"the conversion ended with status {status}: {' '.join(tail)[:300]}") from None
    if refusal := report.get("refusal"):
        raise UploadRejected(refusal["code"], refusal["detail"], status=refusal["status"], **refusal["facts"])
    return report

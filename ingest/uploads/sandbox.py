"""Runs the child process that opens a user's file: its limits and environment, its reports, its end.

The child confines itself before it imports GDAL (`confinement`); the wall clock is watched here (`run_child`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import orjson

from ingest.errors import UploadRejected
from ingest.uploads.raster_settings import DEFAULTS, RasterSettings

MAX_REPORT_BYTES = 4 * 2**20
_GIB = 2**30

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
#: Of the child alone: strips of wide rasters stay decoded until all their columns are written.
CHILD_ENVIRONMENT = {
    **GDAL_ENVIRONMENT,
    "GDAL_CACHEMAX": "256",
    "OPENBLAS_NUM_THREADS": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
}

OnPreview = Callable[[dict[str, Any]], Awaitable[None]]


class ChildFailed(Exception):
    """The child ended without a report: killed, out of memory, or a fault of ours. Worth another try."""


def order_for(
    source: Path, target: Path, *, limits: RasterSettings = DEFAULTS, decoded_bytes: int = 0, crs: str | None = None
) -> dict[str, Any]:
    """What the child is told. It may read and write in `source`'s folder alone, where `target` is to be made."""
    gib = -(-decoded_bytes // _GIB)
    return {
        "source": str(source.resolve()),
        "target": str(target.resolve()),
        "preview": str(target.resolve().with_suffix(".preview.tif")),
        "folder": str(source.resolve().parent),
        "crs": crs,
        "limits": {
            "max_vertices": limits.raster_max_vertices,
            "preview_side": limits.raster_preview_side,
            "preview_from_bytes": limits.raster_preview_from_bytes,
        },
        "rlimits": {
            "RLIMIT_AS": limits.raster_memory_bytes,
            "RLIMIT_CPU": limits.raster_cpu_s + limits.raster_cpu_s_per_gib * gib,
            "RLIMIT_FSIZE": max(_GIB, 2 * decoded_bytes),
            "RLIMIT_NOFILE": limits.raster_open_files,
            "RLIMIT_CORE": 0,
        },
        "wall_s": limits.raster_wall_s + 2 * limits.raster_cpu_s_per_gib * gib,
    }


def child_environment() -> dict[str, str]:
    """What the child may know: where programs and temporary files are, and GDAL's safety settings. No secrets."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL") if name in os.environ}
    return {**kept, **CHILD_ENVIRONMENT, "PYTHONPATH": str(Path(__file__).parents[2])}


async def run_child(
    order: dict[str, Any], *, on_preview: OnPreview | None = None, wall_s: float | None = None
) -> dict[str, Any]:
    """Let `ingest.uploads.child` carry out an order; return its last report, give `on_preview` the one before.

    Raises:
        UploadRejected: the child refused the file, or a limit was hit (TIMED_OUT, TOO_COMPLEX).
        ChildFailed: it ended without a report.
    """
    limit_s = order["wall_s"] if wall_s is None else wall_s
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "ingest.uploads.child",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**child_environment(), "TMPDIR": order["folder"], "CPL_TMPDIR": order["folder"]},
        cwd=order["folder"],
        start_new_session=True,
        limit=MAX_REPORT_BYTES,
    )
    try:
        async with asyncio.timeout(limit_s):
            report, errors = await _talk(process, order, on_preview)
    except TimeoutError:
        raise UploadRejected(
            "TIMED_OUT", f"checking and converting took longer than {limit_s:.0f} s", limit=limit_s
        ) from None
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        process._transport.close()  # type: ignore[attr-defined]  # pipes of a killed child stay open else
    return _verdict(process.returncode, report, errors)


async def _talk(
    process: asyncio.subprocess.Process, order: dict[str, Any], on_preview: OnPreview | None
) -> tuple[dict[str, Any] | None, bytes]:
    """Send the order, read reports to the end; return the last one and the tail of what it complained about."""
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    complaints = asyncio.create_task(_tail(process.stderr))
    try:
        with contextlib.suppress(ConnectionError):
            process.stdin.write(orjson.dumps(order))
            await process.stdin.drain()
            process.stdin.close()
        last: dict[str, Any] | None = None
        while line := await process.stdout.readline():
            report = _parsed(line)
            if report is not None and "preview" in report:
                if on_preview is not None:
                    await on_preview(report["preview"])
            else:
                last = report
        await process.wait()
        return last, await complaints
    except ValueError:  # a line beyond MAX_REPORT_BYTES
        return None, b"the report is too long"
    finally:
        complaints.cancel()


async def _tail(stream: asyncio.StreamReader) -> bytes:
    """The end of a stream, however long it is."""
    tail = b""
    while chunk := await stream.read(65536):
        tail = (tail + chunk)[-4096:]
    return tail


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        report = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return report if isinstance(report, dict) else None


def _verdict(status: int | None, report: dict[str, Any] | None, errors: bytes) -> dict[str, Any]:
    if status in (-signal.SIGXCPU, -signal.SIGXFSZ):
        raise UploadRejected("TOO_COMPLEX", "checking and converting needs more time or space than a file may use")
    if report is None:
        tail = errors.decode(errors="replace").strip().splitlines()[-1:]
        raise ChildFailed(f"the conversion ended with status {status}: {' '.join(tail)[:300]}")
    if refusal := report.get("refusal"):
        raise UploadRejected(refusal["code"], refusal["detail"], status=refusal["status"], **refusal["facts"])
    return report

"""Looks at start whether the process that will open users' files is confined: what it can still do is told to the operator."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ingest.errors import UploadRejected
from ingest.uploads.confinement import ALL_LAYERS
from ingest.uploads.drivers import ALLOWED_DRIVERS, unexpected_drivers
from ingest.uploads.raster_settings import RasterSettings
from ingest.uploads.sandbox import ChildFailed, order_for, run_child

log = logging.getLogger(__name__)

#: One file of each kind that makes GDAL open something else; none may open. Nothing is at the addresses.
DISGUISES = {
    "VRT": '<VRTDataset rasterXSize="1" rasterYSize="1"><VRTRasterBand dataType="Byte" band="1"/></VRTDataset>',
    "WMS": '<GDAL_WMS><Service name="TMS"><ServerUrl>http://127.0.0.1:9/</ServerUrl></Service></GDAL_WMS>',
    "WMTS": "<GDAL_WMTS><GetCapabilitiesUrl>http://127.0.0.1:9/</GetCapabilitiesUrl></GDAL_WMTS>",
    "STACIT": '{"type": "FeatureCollection", "stac_version": "1.0.0", "features": []}',
    "GDALG": '{"type": "gdal_streamed_alg", "command_line": "gdal raster pipeline read x"}',
}


@dataclass(frozen=True, slots=True)
class Protection:
    """Layers that are on and off, and what the child could do although it should not."""

    on: tuple[str, ...]
    off: tuple[str, ...]
    leaks: tuple[str, ...]


async def protection(settings: RasterSettings) -> Protection:
    """Let a child confine itself and try what it should not be able to do.

    Raises:
        ChildFailed, UploadRejected: the child does not run at all; no upload will be converted.
    """
    with tempfile.TemporaryDirectory(prefix="federator-check-") as folder, tempfile.TemporaryDirectory() as elsewhere:
        outside = Path(elsewhere) / "outside"
        outside.write_bytes(b"II*\0")
        for kind, text in DISGUISES.items():
            (Path(folder) / f"{kind}.tif").write_text(text, encoding="utf-8")
        order = order_for(Path(folder) / "original", Path(folder) / "target", limits=settings)
        report = await run_child({**order, "check": True, "outside": str(outside)}, wall_s=60)
    on = tuple(report["layers"])
    return Protection(on, tuple(layer for layer in ALL_LAYERS if layer not in on), tuple(report["attempts"]))


async def report_protection(settings: RasterSettings) -> Protection | None:
    """Say in the log which layers of protection are on; None when the child does not run."""
    try:
        found = await protection(settings)
    except (ChildFailed, UploadRejected) as error:
        log.error("uploads cannot be converted here", extra={"reason": str(error)})
        return None
    log.info("protection of uploads", extra={"on": ", ".join(found.on), "off": ", ".join(found.off) or "none"})
    if found.off:
        log.warning("some protection of uploads is missing on this system", extra={"off": ", ".join(found.off)})
    if found.leaks:
        log.error("the process that opens uploads is not confined", extra={"can": ", ".join(found.leaks)})
    return found


def attempts(order: dict[str, Any]) -> list[str]:
    """In the child: try it, return what worked."""
    outside = Path(order["outside"])
    tries: dict[str, Callable[[], Any]] = {
        "reads other files": outside.read_bytes,
        "writes other files": lambda: outside.write_bytes(b"x"),
        "reaches the network": _reach_network,
        "starts processes": _fork,
    }
    worked = []
    for what, attempt in tries.items():
        with contextlib.suppress(OSError):
            attempt()
            worked.append(what)
    worked += [f"has GDAL's driver {name}" for name in unexpected_drivers(ALLOWED_DRIVERS)]
    return worked + [f"opens {kind} files" for kind in DISGUISES if _opens(Path(order["folder"]) / f"{kind}.tif")]


def _reach_network() -> None:
    """A datagram needs no one who listens: it fails when there is no network at all."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as channel:
        channel.connect(("127.0.0.1", 9))
        channel.send(b"x")


def _fork() -> None:
    if (child := os.fork()) == 0:
        os._exit(0)
    os.waitpid(child, 0)


def _opens(path: Path) -> bool:
    import rasterio
    from rasterio.errors import RasterioError

    try:
        rasterio.open(path).close()
    except RasterioError:
        return False
    return True

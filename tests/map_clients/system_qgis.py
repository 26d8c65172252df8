"""QGIS from the system's packages: a program of its own, with the system's interpreter and no display."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from tests.map_clients.squares import MAGENTA, PLACES, VIEW

PYTHON = Path("/usr/bin/python3")
_API = Path("/usr/lib/python3/dist-packages/qgis/core")
_DRAW = Path(__file__).with_name("qgis_draw.py")
_OURS = ("GDAL_", "CPL_", "VSI_", "PYTHON", "PROJ_", "PG")


def is_here() -> bool:
    """Whether its Python API is installed."""
    return PYTHON.exists() and _API.exists()


def asked(home: Path, connections: dict[str, str], layers: dict[str, dict[str, str]]) -> dict[str, Any]:
    """What it lists and draws, as `qgis_draw.py` tells; with empty settings and caches of its own."""
    home.chmod(0o700)
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(_OURS) and "proxy" not in name.lower()
    }
    own = {
        "HOME": str(home),
        "XDG_RUNTIME_DIR": str(home),
        "XDG_CONFIG_HOME": str(home / "config"),
        "QT_QPA_PLATFORM": "offscreen",
    }
    task = {"connections": connections, "view": VIEW, "places": PLACES, "background": MAGENTA, "layers": layers}
    done = subprocess.run(
        [str(PYTHON), str(_DRAW)],
        input=json.dumps(task),
        env={**kept, **own},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found

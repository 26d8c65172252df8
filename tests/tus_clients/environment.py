"""An environment of their own for the packages in package.json; made when it is missing or when the list changed."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


class NotHere(RuntimeError):
    """node or npm is missing, or npm could not install."""


def folder() -> Path:
    """Where the scripts lie beside their packages.

    Raises:
        NotHere
    """
    if not (shutil.which("node") and shutil.which("npm")):
        raise NotHere("node and npm are not installed")
    home = ROOT / ".tools" / "tus-clients"
    home.mkdir(parents=True, exist_ok=True)
    wanted, stamp = (HERE / "package.json").read_text(), home / "package.stamp"
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for name in ("package.json", "upload.mjs", "uppy.mjs", "oracle.mjs"):
            shutil.copyfile(HERE / name, home / name)
        if not stamp.exists() or stamp.read_text() != wanted:
            command = ["npm", "install", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts"]
            done = subprocess.run(command, cwd=home, capture_output=True, text=True, timeout=300)
            if done.returncode:
                raise NotHere(f"npm could not install: {done.stderr[-500:]}")
            stamp.write_text(wanted)
    return home

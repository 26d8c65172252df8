"""An environment of their own for the packages of npm that tests use; made when it is missing or when the list changed."""

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
    """Where the scripts of these clients lie beside their packages.

    Raises:
        NotHere
    """
    return installed(HERE, "upload.mjs", "uppy.mjs", "oracle.mjs")


def installed(source: Path, *files: str) -> Path:
    """Where the packages of a folder's package.json are, with these files of it beside them.

    Raises:
        NotHere
    """
    if not (shutil.which("node") and shutil.which("npm")):
        raise NotHere("node and npm are not installed")
    home = ROOT / ".tools" / source.name.replace("_", "-")
    home.mkdir(parents=True, exist_ok=True)
    wanted, stamp = (source / "package.json").read_text(), home / "package.stamp"
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for name in ("package.json", *files):
            shutil.copyfile(source / name, home / name)
        if not stamp.exists() or stamp.read_text() != wanted:
            command = ["npm", "install", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts"]
            done = subprocess.run(command, cwd=home, capture_output=True, text=True, timeout=300)
            if done.returncode:
                raise NotHere(f"npm could not install: {done.stderr[-500:]}")
            stamp.write_text(wanted)
    return home

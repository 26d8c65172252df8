"""An environment of their own for the programs that judge the API from outside (requirements.txt beside this file).

They are not in the project's lock: their dependencies are many and contradict ours.
"""

from __future__ import annotations

import fcntl
import subprocess
import venv
from pathlib import Path

REQUIREMENTS = Path(__file__).with_name("requirements.txt")
ROOT = Path(__file__).parents[2]


def python() -> Path:
    """Its interpreter; made when it is missing or when the requirements changed. Several processes may ask at once."""
    folder = ROOT / ".tools" / "contract"
    folder.mkdir(parents=True, exist_ok=True)
    found, stamp = folder / "bin" / "python", folder / "requirements.stamp"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not stamp.exists() or stamp.read_text() != REQUIREMENTS.read_text():
            venv.create(folder, with_pip=True)
            pip = (str(found), "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
            subprocess.run([*pip, "-r", str(REQUIREMENTS)], check=True, timeout=600)
            stamp.write_text(REQUIREMENTS.read_text())
    return found


if __name__ == "__main__":
    python()

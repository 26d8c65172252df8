"""Examples of the documentation as programs: the code blocks under a heading, pointed at another address."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"
ADDRESS = "http://127.0.0.1:8080"
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^## (.+)$", re.MULTILINE)


def examples(page: str, heading: str, language: str, base: str) -> list[str]:
    """Code blocks of one language under a heading of the second level, for a service at `base`."""
    parts = _HEADING.split((DOCS / page).read_text(encoding="utf-8"))
    section = dict(zip(parts[1::2], parts[2::2], strict=True))[heading]
    return [code.replace(ADDRESS, base) for kind, code in _BLOCK.findall(section) if kind == language]


def run_example(command: list[str], code: str, folder: Path) -> str:
    """Run a program whose text is read from standard input; return what it said.

    Raises:
        AssertionError: it ended with an error.
    """
    done = subprocess.run(command, input=code, cwd=folder, env=os.environ, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{code}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def run_bash(code: str, folder: Path) -> str:
    """Run commands; the first that fails ends it."""
    return run_example(["bash", "-euo", "pipefail", "-s"], code, folder)


def run_python(code: str, folder: Path) -> str:
    """Run a Python program."""
    return run_example([sys.executable, "-"], code, folder)


def run_node(code: str, home: Path, folder: Path) -> str:
    """Run a module of JavaScript in `folder` with the packages that are installed in `home`."""
    packages = folder / "node_modules"
    if not packages.exists():
        packages.symlink_to(home / "node_modules")
    return run_example(["node", "--input-type=module", "-"], code, folder)

"""Measurements of many minutes in steps: with `--folder` what was measured is kept there, and the next call goes on with the next step."""

from __future__ import annotations

import inspect
import json
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Steps:
    """Figures of the steps that are done, in one file."""

    folder: Path

    @property
    def _file(self) -> Path:
        return self.folder / "figures.json"

    def figures(self) -> dict[str, float]:
        """All so far."""
        return {name: value for step in self._done().values() for name, value in step.items()}

    def _done(self) -> dict[str, dict[str, float]]:
        return json.loads(self._file.read_text(encoding="utf-8")) if self._file.exists() else {}

    async def do(self, name: str, work: Callable[[], Awaitable[dict[str, float]] | dict[str, float]]) -> None:
        """Do a step once. One that breaks off is done again from its start, so it must bear that."""
        done = self._done()
        if name in done:
            return
        begun = time.perf_counter()
        found = work()
        done[name] = await found if inspect.isawaitable(found) else found
        self.folder.mkdir(parents=True, exist_ok=True)
        self._file.write_text(json.dumps(done, indent=1), encoding="utf-8")
        sys.stderr.write(f"  {name}: {time.perf_counter() - begun:.0f} s\n")

"""Starts the real system as processes in a folder of its own, for the end-to-end tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.demo import free_port

ROOT = Path(__file__).parents[2]


@dataclass
class System:
    """A running supervisor (`python -m tests.demo` or `python -m tests.e2e.harvest_system`) and how to reach it."""

    data_dir: Path
    command: Sequence[str]
    port: int = field(default_factory=lambda: free_port(0))
    extra_env: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    first_start_s: float = 0.0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def output(self) -> Path:
        return self.data_dir / "output.txt"

    @property
    def env(self) -> dict[str, str]:
        ours = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "FEDERATOR_"))}
        return {
            **ours,
            "FEDERATOR_DATA_DIR": str(self.data_dir),
            "FEDERATOR_PORT": str(self.port),
            "FEDERATOR_PUBLIC_URL": self.url,
            **self.extra_env,
        }

    def start(self, *, until: str, timeout_s: float) -> float:
        """Start it and wait until its output holds `until`; return the seconds that took."""
        self.data_dir.mkdir(parents=True, exist_ok=True)
        begun = time.monotonic()
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, *self.command],
                cwd=ROOT,
                env=self.env,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        while time.monotonic() - begun < timeout_s:
            if until in self.output.read_text(encoding="utf-8", errors="replace"):
                return time.monotonic() - begun
            if self.process.poll() is not None:
                break
            time.sleep(0.1)
        raise AssertionError(f"did not say {until!r}; it said:\n{self.report()}")

    def report(self) -> str:
        """The output and the tails of the parts' logs."""
        parts = [self.output.read_text(encoding="utf-8", errors="replace")]
        for log in sorted((self.data_dir / "log").glob("*.log")):
            parts.append(f"--- {log.name}\n{log.read_text(encoding='utf-8', errors='replace')[-3000:]}")
        return "\n".join(parts)

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """Send a signal as Ctrl-C would and wait; return the exit status."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(timeout=60)

    def run(self, *arguments: str, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
        """Run one of our commands as a user of this system would."""
        return subprocess.run(
            [sys.executable, *arguments], cwd=ROOT, env=self.env, capture_output=True, text=True, timeout=timeout_s
        )

    def processes(self, words: str = "") -> list[int]:
        """Pids of processes that belong to this system (its data directory in their environment or command)."""
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                environment = (entry / "environ").read_bytes().decode(errors="replace")
            except OSError:
                continue
            mine = f"FEDERATOR_DATA_DIR={self.data_dir}" in environment.split("\0") or str(self.data_dir) in command
            if mine and words in command:
                found.append(int(entry.name))
        return found

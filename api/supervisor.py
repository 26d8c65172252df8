"""Runs the parts of one machine together: database, worker, API, and whatever the caller adds.

Each part is a process of its own and is started again when it dies (kill -9 included), with a growing pause.
`Ctrl-C`/SIGTERM ends them in reverse order; a part that outlives its grace time is killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from api.settings import ApiSettings
from db import cluster, resolve
from db.errors import DbError
from db.migrate import migrate
from db.settings import DatabaseSettings

GRACE_S = 20.0
MAX_PAUSE_S = 30.0
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Part:
    """One process: `name` (also its log file's name), its command, and variables added to the environment."""

    name: str
    command: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)


class Steps:
    """Says what happens while it happens, with seconds since the start and per step; keeps it in a log file too."""

    def __init__(self, log_file: Path) -> None:
        log_file.parent.mkdir(parents=True, exist_ok=True)
        self._file = log_file.open("a", encoding="utf-8")
        self._start = time.monotonic()

    def say(self, text: str) -> None:
        """Write one line to the terminal and the log."""
        line = f"[{time.monotonic() - self._start:6.1f} s] {text}"
        print(line, flush=True)  # noqa: T201 - this is the program's terminal output
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self._file.write(f"{stamp} {line}\n")
        self._file.flush()

    @contextlib.contextmanager
    def step(self, what: str) -> Iterator[None]:
        """Say what begins and how long it took."""
        self.say(f"{what} ...")
        begun = time.monotonic()
        yield
        self.say(f"{what}: done in {time.monotonic() - begun:.1f} s")

    def total_s(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._start

    def close(self) -> None:
        """Close the log file."""
        self._file.close()


def _die_with_parent() -> None:
    """Ask Linux to end this child when the supervisor is killed, so that nothing is left behind."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


async def _run_part(
    part: Part, log_dir: Path, steps: Steps, stopping: asyncio.Event, processes: dict[str, asyncio.subprocess.Process]
) -> None:
    """Keep one part running until `stopping`; then end it. Its present process is in `processes`."""
    pause_s = 0.5
    while not stopping.is_set():
        with (log_dir / f"{part.name}.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *part.command,
                env={**os.environ, **part.env},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C reaches the supervisor alone, which ends the parts in order
                preexec_fn=_die_with_parent,
            )
        processes[part.name] = process
        begun = time.monotonic()
        exited = asyncio.create_task(process.wait())
        stop = asyncio.create_task(stopping.wait())
        await asyncio.wait({exited, stop}, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if not exited.done():
            await _end(process, exited)
            return
        if stopping.is_set():
            return
        pause_s = 0.5 if time.monotonic() - begun > MAX_PAUSE_S else min(pause_s * 2, MAX_PAUSE_S)
        steps.say(f"{part.name} ended with status {process.returncode}; again in {pause_s:.0f} s (see {log.name})")
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), pause_s)


def _reload_api(processes: Mapping[str, asyncio.subprocess.Process], steps: Steps) -> None:
    """SIGHUP goes on to the API, which replaces its processes (`api.server`)."""
    if (api := processes.get("api")) is not None and api.returncode is None:
        steps.say("the API loads everything anew")
        api.send_signal(signal.SIGHUP)


async def _end(process: asyncio.subprocess.Process, exited: asyncio.Task[int]) -> None:
    """SIGTERM, then after the grace time SIGKILL to the part's whole process group."""
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
    try:
        await asyncio.wait_for(asyncio.shield(exited), GRACE_S)
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await exited


async def _keep_database(database: DatabaseSettings, steps: Steps, stopping: asyncio.Event) -> None:
    """Start the private cluster again when it has gone (killed, or out of memory)."""
    while not stopping.is_set():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), 1.0)
        if stopping.is_set() or await asyncio.to_thread(cluster.is_running, database):
            continue
        steps.say("the database has gone; starting it again")
        try:
            await asyncio.to_thread(cluster.start, database)
        except DbError as error:
            steps.say(f"the database does not start: {error}")
            await asyncio.sleep(5)


async def wait_for_http(url: str, *, timeout_s: float, stopping: asyncio.Event) -> None:
    """Wait until `url` answers 200.

    Raises:
        TimeoutError: it did not within `timeout_s`, or the system is being stopped.
    """
    async with httpx.AsyncClient(timeout=2) as http:
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline and not stopping.is_set():
            with contextlib.suppress(httpx.HTTPError):
                if (await http.get(url)).status_code == 200:
                    return
            await asyncio.sleep(0.1)
    raise TimeoutError(f"{url} did not answer within {timeout_s:.0f} s")


async def _prepare_database(steps: Steps) -> DatabaseSettings:
    settings = DatabaseSettings()
    if settings.is_external:
        steps.say(f"database: the server that PGHOST/PGDATABASE name ({settings.pghost or 'default host'})")
    else:
        with steps.step("starting the private database"):
            await asyncio.to_thread(cluster.start, settings)
    resolved = resolve(settings)
    with steps.step("migrating the database"):
        await asyncio.to_thread(migrate, resolved)
    return settings


def _write_pid_file(data_dir: Path) -> Path:
    pid_file = data_dir / "run" / "supervisor.pid"
    pid_file.parent.mkdir(parents=True, exist_ok=True)
    pid_file.write_text(f"{os.getpid()}\n", encoding="ascii")
    return pid_file


async def supervise(
    parts: Sequence[Part],
    *,
    data_dir: Path,
    on_ready: Callable[[Steps, asyncio.Event], Coroutine[None, None, None]],
) -> int:
    """Start the database and `parts`, call `on_ready`, stay until a signal; return the exit status.

    `on_ready` gets the step writer and the event that says "being stopped"; it waits for what it needs itself.
    An error in it ends the whole system with status 1.
    """
    steps = Steps(data_dir / "log" / "supervisor.log")
    stopping = asyncio.Event()
    processes: dict[str, asyncio.subprocess.Process] = {}
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    loop.add_signal_handler(signal.SIGHUP, _reload_api, processes, steps)
    pid_file = _write_pid_file(data_dir)
    database: DatabaseSettings | None = None
    running: list[asyncio.Task[None]] = []
    try:
        database = await _prepare_database(steps)
        log_dir = data_dir / "log"
        running = [asyncio.create_task(_run_part(part, log_dir, steps, stopping, processes)) for part in parts]
        if not database.is_external:
            running.append(asyncio.create_task(_keep_database(database, steps, stopping)))
        ready = asyncio.create_task(on_ready(steps, stopping))
        stop = asyncio.create_task(stopping.wait())
        await asyncio.wait({ready, stop}, return_when=asyncio.FIRST_COMPLETED)
        if ready.done():
            ready.result()
            await stop
        else:
            ready.cancel()
        return 0
    except (DbError, TimeoutError) as error:
        steps.say(f"cannot go on: {error}")
        return 1
    finally:
        stopping.set()
        steps.say("stopping ...")
        await asyncio.gather(*running, return_exceptions=True)
        if database is not None and not database.is_external:
            await asyncio.to_thread(cluster.stop, database)
        pid_file.unlink(missing_ok=True)
        steps.say("stopped")
        steps.close()


def standard_parts(env: Mapping[str, str] | None = None) -> list[Part]:
    """The parts of every installation besides the database: worker and API."""
    variables = dict(env or {})
    return [
        Part("worker", (sys.executable, "-m", "ingest", "worker"), variables),
        Part("api", (sys.executable, "-m", "api", "serve"), variables),
    ]


async def say_first_steps(public_url: str) -> None:
    """Say how to make the first administrator while there is none."""
    from api.people.command import first_steps

    for line in await asyncio.to_thread(first_steps, public_url):
        print(line, flush=True)  # noqa: T201 - to the terminal alone: the token is for no log


def up(settings: ApiSettings) -> int:
    """`python -m api up`: everything with the operator's own sources, until Ctrl-C. Returns the exit status."""
    public_url = settings.public_url.rstrip("/")

    async def announce(steps: Steps, stopping: asyncio.Event) -> None:
        await wait_for_http(f"{settings.local_url()}/_mgmt/ping", timeout_s=60, stopping=stopping)
        await say_first_steps(public_url)
        steps.say(f"ready: {public_url}/ (STAC API: {public_url}/stac)")

    return asyncio.run(supervise(standard_parts(), data_dir=settings.data_dir, on_ready=announce))


def down(data_dir: Path) -> int:
    """`python -m api down`: end a system started elsewhere, and the private database. Returns the exit status."""
    pid_file = data_dir / "run" / "supervisor.pid"
    with contextlib.suppress(FileNotFoundError, ValueError, ProcessLookupError):
        pid = int(pid_file.read_text(encoding="ascii"))
        if _is_supervisor(pid):
            os.kill(pid, signal.SIGTERM)
            _wait_gone(pid, GRACE_S * 3)
    settings = DatabaseSettings()
    if not settings.is_external and cluster.is_running(settings):
        cluster.stop(settings)
    return 0


def _is_supervisor(pid: int) -> bool:
    """A pid file may outlive its process and the number be given to another: look at the command line."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return b"api\0up" in command or b"tests.demo" in command


def _wait_gone(pid: int, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline and Path(f"/proc/{pid}").exists():
        time.sleep(0.1)

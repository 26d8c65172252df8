"""How a harvest shows what it does: a bar on a terminal, plain lines otherwise, nothing for scripts."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress

from ingest.harvest import Progress

#: Seconds between two plain lines.
LINE_EVERY_S = 5.0

Show = Callable[[Progress], None]


@contextmanager
def shown(title: str, *, quiet: bool) -> Iterator[Show]:
    """Yield the function that shows a run's progress on standard error; `quiet` shows nothing."""
    console = Console(file=sys.stderr)
    if quiet:
        yield lambda progress: None
    elif console.is_terminal:
        with _bar(console) as bar:
            task = bar.add_task(title, total=None)
            yield lambda progress: bar.update(
                task, completed=progress.counts.fetched, total=progress.total, description=f"{title} {_words(progress)}"
            )
    else:
        yield _Lines(title)


def _bar(console: Console) -> RichProgress:
    return RichProgress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )


class _Lines:
    """A line at the first page and then every few seconds."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._last = float("-inf")

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        if now - self._last >= LINE_EVERY_S:
            self._last = now
            print(f"{self._title}: {summary(progress)}", file=sys.stderr, flush=True)  # noqa: T201 - the program's output


def summary(progress: Progress) -> str:
    """One line that says what a run did."""
    counts = progress.counts
    of = f" of about {progress.total}" if progress.total is not None and progress.status == "running" else ""
    rate = f", {counts.fetched / progress.seconds:.0f}/s" if progress.seconds > 0 and counts.fetched else ""
    return f"{counts.fetched}{of} records: {_words(progress)} ({progress.seconds:.1f} s{rate})"


def _words(progress: Progress) -> str:
    counts = progress.counts
    withdrawn = f", {progress.withdrawn} withdrawn" if progress.withdrawn else ""
    return f"{counts.added} new, {counts.changed} changed, {counts.unchanged} unchanged, {counts.quarantined} refused{withdrawn}"

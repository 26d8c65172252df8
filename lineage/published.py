"""Checkpoints kept outside the database: the newest that was published, and copies that are written once.

A database that was set back (an old backup, a truncated table) does not know that it was. These files do: nothing is signed that they
contradict.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lineage import verify
from lineage.errors import LogConflict
from lineage.settings import LineageSettings

NEWEST = "published"


@dataclass(frozen=True, slots=True)
class Published:
    """The two folders."""

    folder: Path
    copies: Path
    copies_interval_s: float = 3600

    @classmethod
    def of(cls, settings: LineageSettings) -> Published:
        """As the settings say."""
        return cls(settings.published_dir, settings.copies_dir, settings.log_copies_interval_s)

    def newest(self) -> str | None:
        """The newest note that was published, if its file is gone the newest copy; None before there was one."""
        try:
            return text_of(self.folder / NEWEST)
        except FileNotFoundError:
            copied = self.copied()
            return text_of(copied[-1]) if copied else None

    def copied(self) -> list[Path]:
        """Files of the copies, oldest first."""
        return sorted(path for path in self.copies.glob("[0-9]*") if path.is_file()) if self.copies.is_dir() else []

    def kept(self) -> list[str]:
        """All notes that are kept: copies, then the newest."""
        notes = [text_of(path) for path in self.copied()]
        newest = self.newest()
        return list(dict.fromkeys(notes if newest is None else [*notes, newest]))

    def keep(self, note: str) -> None:
        """Keep the note of a checkpoint that is committed. One that is not newer than the kept one changes nothing.

        Raises:
            LogConflict: a copy of this size says otherwise.
        """
        size = verify.parse_checkpoint(note).size
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._locked():
            before = self.newest()
            if before is not None and verify.parse_checkpoint(before).size >= size:
                return  # also of a copy: the next checkpoint makes the file anew
            _replace(self.folder / NEWEST, note)
        self._copy(size, note)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """One writer at a time: a sequencer that was stopped for a while must not put an older note in a newer one's place."""
        with (self.folder / ".lock").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _copy(self, size: int, note: str) -> None:
        copied = self.copied()
        if copied and time.time() - copied[-1].stat().st_mtime < self.copies_interval_s:
            return
        self.copies.mkdir(parents=True, exist_ok=True)
        path = self.copies / f"{size:020}"
        temporary = self.copies / f".{size}.{os.getpid()}"
        _write(temporary, note)
        temporary.chmod(0o444)
        try:
            os.link(temporary, path)
        except FileExistsError:
            if text_of(path) != note:
                raise LogConflict(f"{path} holds another checkpoint of size {size}") from None
        finally:
            temporary.unlink()


def text_of(path: Path) -> str:
    """A note as it is, byte by byte; what is no text becomes one that is no checkpoint."""
    return path.read_bytes().decode("utf-8", "replace")


def _replace(path: Path, text: str) -> None:
    """Put a text in a file's place so that a crash leaves the old one or the new one."""
    temporary = path.with_name(f".{path.name}.new")
    _write(temporary, text)
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _write(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())

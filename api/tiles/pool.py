"""Open datasets of this process: as many as are in use at once, each lent to one thread at a time, closed when idle for long.

To open a GeoTIFF and to learn its facts costs as much as to make a tile. What is lent is looked up by path, device, inode, size and time of
change, so a file that was replaced is never served old. Blocks that a dataset has decoded stay in GDAL's cache while it is open.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rasterio
from rasterio._err import stack_errors
from rasterio.io import DatasetReader

#: Datasets kept open while nobody uses them, and for how long.
MAX_IDLE, IDLE_S = 64, 60.0
#: Facts are small; a file's are kept as long as one of its datasets may be.
MAX_FACTS = 1024


@dataclass(frozen=True, slots=True)
class Key:
    """One state of one file, and the overview that is read (None: full resolution)."""

    path: str
    identity: tuple[int, int, int, int]
    level: int | None = None


def key_of(path: str) -> Key | None:
    """The file as it is now; None: there is none."""
    try:
        found = Path(path).stat()
    except (OSError, ValueError):
        return None
    return Key(path, (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns))


def open_level(key: Key) -> DatasetReader:
    """Open as GeoTIFF or not at all, whatever drivers the process has.

    Raises:
        rasterio.errors.RasterioIOError: no GeoTIFF.
    """
    if key.level is None:
        return rasterio.open(key.path, driver="GTiff")
    return rasterio.open(key.path, driver="GTiff", OVERVIEW_LEVEL=f"{key.level}only")


def forget_errors() -> None:
    """GDAL keeps a thread's last error, and rasterio takes it for one of the next call: of a dataset that was opened before, too."""
    with stack_errors():
        pass


class Pool:
    """Lends datasets. `facts` of a file are made once and shared: they must not be changed."""

    def __init__(
        self, max_idle: int = MAX_IDLE, idle_s: float = IDLE_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._max_idle, self._idle_s, self._clock = max_idle, idle_s, clock
        self._lock = threading.Lock()
        self._idle: list[tuple[float, Key, DatasetReader]] = []  # the longest idle first
        self._facts: OrderedDict[Key, Any] = OrderedDict()
        self._sweeper: threading.Timer | None = None

    @contextmanager
    def lent(self, key: Key) -> Iterator[DatasetReader]:
        """A dataset that nobody else has until the end of the block.

        Raises:
            rasterio.errors.RasterioIOError: it cannot be opened.
        """
        dataset = self.take(key)
        try:
            yield dataset
        except BaseException:
            dataset.close()
            raise
        self.give_back(key, dataset)

    def take(self, key: Key) -> DatasetReader:
        """Lend; `give_back` must follow."""
        forget_errors()
        with self._lock:
            for place in range(len(self._idle) - 1, -1, -1):  # the last used has the warmest blocks
                if self._idle[place][1] == key:
                    return self._idle.pop(place)[2]
        return open_level(key)

    def give_back(self, key: Key, dataset: DatasetReader) -> None:
        """Keep for the next one, or close."""
        with self._lock:
            self._idle.append((self._clock(), key, dataset))
            old = self._take_old()
            if self._sweeper is None:
                self._wait_to_sweep()
        _close(old)

    def facts(self, key: Key, make: Callable[[], Any]) -> Any:
        """What `make` told of the file the first time."""
        with self._lock:
            if key in self._facts:
                self._facts.move_to_end(key)
                return self._facts[key]
        made = make()
        with self._lock:
            self._facts[key] = made
            while len(self._facts) > MAX_FACTS:
                self._facts.popitem(last=False)
        return made

    def sweep(self) -> None:
        """Close what was idle for long, so that a deleted file's space is given back."""
        with self._lock:
            old = self._take_old()
            self._sweeper = None
            if self._idle:
                self._wait_to_sweep()
        _close(old)

    def close(self) -> None:
        """Close all that is idle."""
        with self._lock:
            old, self._idle = [dataset for _, _, dataset in self._idle], []
            if self._sweeper is not None:
                self._sweeper.cancel()
                self._sweeper = None
        _close(old)

    def __len__(self) -> int:
        return len(self._idle)

    def _take_old(self) -> list[DatasetReader]:
        before = self._clock() - self._idle_s
        many = len(self._idle) - self._max_idle
        old = sum(1 for place, (since, _, _) in enumerate(self._idle) if since < before or place < many)
        taken, self._idle = self._idle[:old], self._idle[old:]
        return [dataset for _, _, dataset in taken]

    def _wait_to_sweep(self) -> None:
        self._sweeper = threading.Timer(self._idle_s, self.sweep)
        self._sweeper.daemon = True
        self._sweeper.start()


def _close(datasets: list[DatasetReader]) -> None:
    for dataset in datasets:
        dataset.close()


#: The one of this process.
POOL = Pool()

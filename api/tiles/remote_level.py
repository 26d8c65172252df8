"""A file elsewhere as the fast reader takes files: what is known of it is of its kept header; pixels come when a window is read."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final

from rasterio.io import DatasetReader, MemoryFile
from rasterio.windows import Window

from api.tiles.excerpt import Structure, excerpt
from api.tiles.facts import Facts, facts_of
from api.tiles.pool import Key

Blocks = Mapping[tuple[int, bool, int], bytes]
#: First and last column and row, the last not in it.
Box = tuple[int, int, int, int]
#: Gives the blocks of a level that hold a box.
Fetch = Callable[[int, Box], Blocks]

#: Blocks of one window are decoded at the same time.
_THREADS: Final = str(min(4, os.cpu_count() or 1))
#: Of a dataset: what readers look at before they read.
_ATTRIBUTES: Final = (
    "width", "height", "count", "indexes", "bounds", "crs", "transform", "dtypes", "nodata", "gcps", "colorinterp", "mask_flag_enums",
)  # fmt: skip


@contextmanager
def opened(structure: Structure, levels: list[int], blocks: Blocks) -> Iterator[DatasetReader]:
    """A dataset over an excerpt."""
    with (
        MemoryFile(excerpt(structure, levels, blocks)) as memory,
        memory.open(driver="GTiff", NUM_THREADS=_THREADS) as dataset,
    ):
        yield dataset


class Known:
    """What is learned of a header once, for all who read the file; shared by threads, not to be changed."""

    def __init__(self, structure: Structure) -> None:
        with opened(structure, list(range(len(structure.levels))), {}) as dataset:
            self.facts: Facts = facts_of(dataset)
            self.attributes = {name: getattr(dataset, name) for name in _ATTRIBUTES}
            self.overviews = dataset.overviews(1)
        self.sizes = tuple(
            (level.image.layout.width, level.image.layout.height) for level in structure.levels[1:]
        )  # fmt: skip


class Level:
    """One level, in the place of a dataset: blocks are fetched when a window is read, once for its pixels and its mask.

    What else is asked of a dataset is answered by one without pixels, which is opened then.
    """

    def __init__(self, structure: Structure, number: int, known: Known, fetch: Fetch, stack: Any) -> None:
        self._structure, self._number, self._known, self._fetch, self._stack = structure, number, known, fetch, stack
        self._box: Box | None = None
        self._blocks: Blocks = {}
        layout = structure.levels[number].image.layout
        self.width, self.height = layout.width, layout.height

    def read(self, indexes: Any = None, window: Any = None, **options: Any) -> Any:
        """As a dataset's."""
        with self._with(window) as dataset:
            return dataset.read(indexes=indexes, window=window, **options)

    def read_masks(self, indexes: Any = None, window: Any = None, **options: Any) -> Any:
        """As a dataset's."""
        with self._with(window) as dataset:
            return dataset.read_masks(indexes=indexes, window=window, **options)

    def overviews(self, band: int) -> list[int]:
        """As a dataset's."""
        return list(self._known.overviews)

    def __getattr__(self, name: str) -> Any:
        if name in _ATTRIBUTES:
            return self._known.attributes[name]
        empty = self.__dict__.get("_empty")
        if empty is None:
            levels = list(range(len(self._structure.levels)))
            empty = self.__dict__["_empty"] = self._stack.enter_context(opened(self._structure, levels, {}))
        return getattr(empty, name)

    @contextmanager
    def _with(self, window: Window | None) -> Iterator[DatasetReader]:
        asked = window or Window(0, 0, self.width, self.height)
        left, top = int(asked.col_off), int(asked.row_off)
        box = left, top, left + int(asked.width), top + int(asked.height)
        if box != self._box:
            self._blocks, self._box = self._fetch(self._number, box), box
        with opened(self._structure, [self._number], self._blocks) as dataset:
            yield dataset


class Levels:
    """Levels in the place of the pool of open files."""

    def __init__(self, level: Callable[[int], Level]) -> None:
        self._level = level

    def lent(self, key: Key) -> AbstractContextManager[Any]:
        """The level of an overview; None is the finest."""
        return _lent(self._level(0 if key.level is None else key.level + 1))


@contextmanager
def _lent(level: Level) -> Iterator[Level]:
    yield level

"""The Merkle tree of RFC 6962 / 9162 over tiles of 256 hashes (C2SP tlog-tiles). Pure: tiles in, tiles and hashes out.

Level 0 of the tiles holds leaf hashes; the hash of a full tile's subtree is an entry of the next level. A tile at the right
edge is partial: its first `width` entries.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

HASH_BYTES = 32
TILE_WIDTH = 256
EMPTY_ROOT = hashlib.sha256(b"").digest()

Coordinates = tuple[int, int]  # (level, index)


def leaf_hash(leaf: bytes) -> bytes:
    """Hash of a leaf: SHA-256(0x00 || leaf)."""
    return hashlib.sha256(b"\x00" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash of an inner node: SHA-256(0x01 || left || right)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def edge_tiles(size: int) -> list[Coordinates]:
    """Coordinates of the partial tiles of a tree of `size` leaves: what appending needs to know."""
    found = []
    level, width = 0, size
    while width > 0:
        if width % TILE_WIDTH:
            found.append((level, width // TILE_WIDTH))
        level, width = level + 1, width // TILE_WIDTH
    return found


@dataclass
class Appender:
    """Extends a tree: give it the edge tiles of `size`, append leaf hashes, take `changed` and `root()`."""

    size: int
    edge: dict[Coordinates, bytes]
    changed: dict[Coordinates, bytes] = field(default_factory=dict)

    def append(self, hashes: Iterable[bytes]) -> None:
        """Append leaf hashes in order."""
        for one in hashes:
            self._push(0, self.size, one)
            self.size += 1

    def _push(self, level: int, position: int, value: bytes) -> None:
        """Write entry `position` of a level; a full tile pushes its subtree's hash to the level above."""
        place = (level, position // TILE_WIDTH)
        data = self.edge.get(place, b"") + value
        if len(data) != (position % TILE_WIDTH + 1) * HASH_BYTES:
            raise ValueError(f"tile {place} does not fit a tree of {self.size} leaves")
        self.changed[place] = data
        if len(data) < TILE_WIDTH * HASH_BYTES:
            self.edge[place] = data
            return
        self.edge.pop(place, None)
        self._push(level + 1, position // TILE_WIDTH, subtree_root(split(data)))

    def root(self) -> bytes:
        """Root of the tree as it is now, from the edge alone."""
        if self.size == 0:
            return EMPTY_ROOT
        right: bytes | None = None
        level, width = 0, self.size
        while width > 0:
            if width % TILE_WIDTH:
                entries = split(self.edge[(level, width // TILE_WIDTH)])
                right = fold(entries if right is None else [*entries, right], complete=len(entries))
            level, width = level + 1, width // TILE_WIDTH
        assert right is not None
        return right


def split(data: bytes) -> list[bytes]:
    """Hashes of a tile."""
    return [data[start : start + HASH_BYTES] for start in range(0, len(data), HASH_BYTES)]


def subtree_root(hashes: list[bytes]) -> bytes:
    """Root over hashes of equal height by RFC 6962's rule (any number >= 1)."""
    if len(hashes) == 1:
        return hashes[0]
    half = 1 << ((len(hashes) - 1).bit_length() - 1)
    return node_hash(subtree_root(hashes[:half]), subtree_root(hashes[half:]))


def fold(entries: list[bytes], *, complete: int) -> bytes:
    """Root over `complete` equal subtrees and, when there is one entry more, a smaller one at their right."""
    rest = entries[complete:]
    blocks: list[bytes] = []
    start = 0
    for bit in reversed(range(complete.bit_length())):
        if complete >> bit & 1:
            blocks.append(subtree_root(entries[start : start + (1 << bit)]))
            start += 1 << bit
    right = rest[0] if rest else blocks.pop()
    for block in reversed(blocks):
        right = node_hash(block, right)
    return right


ReadTile = Callable[[Coordinates], bytes]


def range_hash(read: ReadTile, start: int, end: int) -> bytes:
    """Hash of the leaves [start, end), where the range is a node of some RFC 6962 tree."""
    width = end - start
    if width & (width - 1) == 0 and start % width == 0:
        height = width.bit_length() - 1
        if height % 8 == 0:
            level, position = height // 8, start >> height
            data = read((level, position // TILE_WIDTH))
            offset = position % TILE_WIDTH * HASH_BYTES
            return data[offset : offset + HASH_BYTES]
    half = 1 << ((width - 1).bit_length() - 1)
    return node_hash(range_hash(read, start, start + half), range_hash(read, start + half, end))


def inclusion_path(read: ReadTile, index: int, size: int) -> list[bytes]:
    """Sibling hashes from leaf `index` up to the root of the tree of `size` leaves (RFC 9162, 2.1.3.1)."""
    if not 0 <= index < size:
        raise ValueError(f"no leaf {index} in a tree of {size}")

    def path(start: int, end: int) -> list[bytes]:
        if end - start == 1:
            return []
        middle = start + (1 << ((end - start - 1).bit_length() - 1))
        if index < middle:
            return [*path(start, middle), range_hash(read, middle, end)]
        return [*path(middle, end), range_hash(read, start, middle)]

    return path(0, size)


def consistency_path(read: ReadTile, old: int, new: int) -> list[bytes]:
    """Proof that the tree of `old` leaves is a prefix of that of `new` (RFC 9162, 2.1.4.1); empty when they are equal."""
    if not 0 < old <= new:
        raise ValueError(f"no consistency from {old} to {new}")

    def proof(m: int, start: int, end: int, whole: bool) -> list[bytes]:
        if m == end - start:
            return [] if whole else [range_hash(read, start, end)]
        half = 1 << ((end - start - 1).bit_length() - 1)
        if m <= half:
            return [*proof(m, start, start + half, whole), range_hash(read, start + half, end)]
        return [*proof(m - half, start + half, end, False), range_hash(read, start, start + half)]

    return proof(old, 0, new, True)


def tiles_needed(work: Callable[[ReadTile], object]) -> list[Coordinates]:
    """Coordinates that `work` reads, found by running it on empty hashes: so all can be fetched at once."""
    wanted: dict[Coordinates, None] = {}

    def read(place: Coordinates) -> bytes:
        wanted[place] = None
        return bytes(TILE_WIDTH * HASH_BYTES)

    work(read)
    return list(wanted)

"""The Merkle tree (RFC 6962, RFC 9162), reading side: what proofs lead to, and the tree of all leaves."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence


def leaf_hash(leaf: bytes) -> bytes:
    """Hash of a leaf."""
    return hashlib.sha256(b"\x00" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash of an inner node."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def root_from_path(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes | None:
    """Root that an inclusion proof of a leaf leads to; None when the proof has another length than it must."""
    return root_from_hash(leaf_hash(leaf), index, size, path)


def root_from_hash(node: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes | None:
    """The same from a leaf's hash (RFC 9162, 2.1.3.2)."""
    if not 0 <= index < size or len(node) != 32 or any(len(one) != 32 for one in path):
        return None
    position, last = index, size - 1
    for sibling in path:
        if last == 0:
            return None
        if position % 2 or position == last:
            node = node_hash(sibling, node)
            while position % 2 == 0 and position:
                position, last = position // 2, last // 2
        else:
            node = node_hash(node, sibling)
        position, last = position // 2, last // 2
    return node if last == 0 else None


def root_from_consistency(old: int, new: int, old_root: bytes, path: Sequence[bytes]) -> bytes | None:
    """Root of the new tree that a consistency proof leads to (RFC 9162, 2.1.4.2); None when it does not fit `old_root`."""
    if not 0 < old <= new or len(old_root) != 32 or any(len(one) != 32 for one in path):
        return None
    if old == new:
        return old_root if not path else None
    nodes = [old_root, *path] if old & (old - 1) == 0 else list(path)
    if not nodes:
        return None
    position, last = old - 1, new - 1
    while position % 2:
        position, last = position // 2, last // 2
    first = second = nodes[0]
    for node in nodes[1:]:
        if last == 0:
            return None
        if position % 2 or position == last:
            first, second = node_hash(node, first), node_hash(node, second)
            while position % 2 == 0 and position:
                position, last = position // 2, last // 2
        else:
            second = node_hash(second, node)
        position, last = position // 2, last // 2
    return second if last == 0 and first == old_root else None


class Tree:
    """Grows leaf by leaf; knows its root, and all tiles."""

    def __init__(self) -> None:
        self.size = 0
        self.levels: list[bytearray] = []  # of tiles: hashes of leaves, of full tiles, ...
        self._peaks: list[tuple[int, bytes]] = []  # (number of leaves, hash) of the full subtrees from left to right

    def push(self, node: bytes) -> None:
        """Append the hash of a leaf."""
        self.size += 1
        self._tile(0, node)
        width = 1
        while self._peaks and self._peaks[-1][0] == width:
            node = node_hash(self._peaks.pop()[1], node)
            width *= 2
            if width in _TILE_WIDTHS:
                self._tile(_TILE_WIDTHS[width], node)
        self._peaks.append((width, node))

    def _tile(self, level: int, node: bytes) -> None:
        if level == len(self.levels):
            self.levels.append(bytearray())
        self.levels[level] += node

    def root(self) -> bytes:
        """Root of the leaves so far."""
        if not self._peaks:
            return hashlib.sha256(b"").digest()
        node = self._peaks[-1][1]
        for _, left in reversed(self._peaks[:-1]):
            node = node_hash(left, node)
        return node

    def tile(self, level: int, index: int) -> bytes:
        """The tile as far as it is filled."""
        return bytes(self.levels[level][index * 8192 : (index + 1) * 8192]) if level < len(self.levels) else b""

    def places(self) -> Iterator[tuple[int, int]]:
        """All tiles."""
        for level, data in enumerate(self.levels):
            for index in range((len(data) + 8191) // 8192):
                yield level, index


_TILE_WIDTHS = {256**level: level for level in range(1, 8)}

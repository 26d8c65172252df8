"""Readers against hostile and published input: tile arithmetic, a foreign log, notes with many signatures, random trees, fuzz."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lineage import verify
from lineage.export import entry_bundle
from lineage.note import checkpoint_text, sign_note
from lineage.tree import Appender, consistency_path, edge_tiles, inclusion_path, leaf_hash
from lineage.verify.hashing import Tree
from lineage.verify.proofs import load
from tests.lineage.samples import VECTORS, signer
from tests.size import sized

TESSERA = VECTORS / "tlog" / "tessera-testlog"
KEY = (VECTORS / "tlog" / "tessera-testlog.vkey").read_text().strip()


def test_v04_a_foreign_log_is_judged_from_its_files() -> None:
    verdict = verify.judge_folder(TESSERA, verify.Policy(verify.parse_vkey(KEY)))
    assert verdict.ok, verdict.faults
    assert (verdict.log, verdict.checkpoint, verdict.content, verdict.facts["size"]) == ("included", "ok", "absent", 15)


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[5] ^= 1
    path.write_bytes(data)


def _lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


#: LIN-L15: what a server may give in place of the right file -> code of the fault.
WRONG_FILES: dict[str, tuple[Callable[[Path], object], set[str]]] = {
    "tile changed": (lambda log: _flip(log / "tile/0/000.p/15"), {"leaf-differs"}),
    "tile with bytes behind": (
        lambda log: (log / "tile/0/000.p/15").write_bytes(bytes(15 * 32 + 1)),
        {"tile-malformed"},
    ),
    "partial in place of a full one": (
        lambda log: shutil.copy(log / "tile/0/000.p/8", log / "tile/0/000"),
        {"tile-malformed"},
    ),
    "no tile": (lambda log: (log / "tile/0/000.p/15").unlink(), {"tile-missing"}),
    "entries changed": (lambda log: _flip(log / "tile/entries/000.p/15"), {"leaf-differs", "entries-malformed"}),
    "wrong length": (
        lambda log: (log / "tile/entries/000.p/15").write_bytes(b"\xff\xff" + b"x" * 99),
        {"entries-malformed"},
    ),
    "bytes behind the entries": (
        lambda log: _lengthen(log / "tile/entries/000.p/15"),
        {"entries-malformed"},
    ),
    "a bomb": (lambda log: (log / "tile/entries/000.p/15").write_bytes(bytes(17_000_000)), {"entries-malformed"}),
    "no entries": (lambda log: (log / "tile/entries/000.p/15").unlink(), {"entries-missing"}),
    "another root": (lambda log: shutil.copy(log / "checkpoint.8", log / "checkpoint"), {"shrunk"}),
}


@pytest.mark.parametrize("what", WRONG_FILES)
def test_l15_wrong_files_are_refused(what: str, tmp_path: Path) -> None:
    change, codes = WRONG_FILES[what]
    log = shutil.copytree(TESSERA, tmp_path / "log")
    change(log)
    verdict = verify.judge_folder(log, verify.Policy(verify.parse_vkey(KEY)))
    assert codes & {fault.code for fault in verdict.faults}, verdict.faults


def test_v05_lines_of_unknown_keys_are_ignored_and_a_key_signs_once(tmp_path: Path) -> None:
    ours, other = signer(tmp_path / "a"), signer(tmp_path / "b")
    note = sign_note(checkpoint_text(ours.origin, 3, bytes(32)), ours.origin, ours.log_key, other.log_key)
    checkpoint, key = verify.parse_checkpoint(note), verify.parse_vkey(ours.log_vkey)
    assert verify.checkpoint_verdict(checkpoint, key) == "ok"
    assert verify.checkpoint_verdict(checkpoint, verify.parse_vkey(signer(tmp_path / "c").log_vkey)) == "unknown_key"
    line = note.splitlines(keepends=True)[-1]
    with pytest.raises(verify.Unreadable, match="twice"):
        verify.parse_checkpoint(note + line)


@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_v07_blake3(chunk: int) -> None:
    for length, expected in json.loads((VECTORS / "blake3.json").read_text()):
        if length > 20_000 and chunk == 1:
            continue
        data = bytes(number % 251 for number in range(length))
        hasher = blake3()
        for start in range(0, length, chunk):
            hasher.update(data[start : start + chunk])
        assert hasher.hexdigest() == expected


@pytest.mark.parametrize(
    ("size", "partial"),
    [(70_000, [(0, 273), (1, 1), (2, 0)]), (256, [(1, 0)]), (255, [(0, 0)]), (65_536, [(2, 0)]), (0, [])],
)
def test_v08_partial_tiles(size: int, partial: list[tuple[int, int]]) -> None:
    assert edge_tiles(size) == partial


def test_v08_widths_and_names() -> None:
    tree = Tree()
    for _ in range(70_000):
        tree.push(bytes(32))
    widths = {place: len(tree.tile(*place)) // 32 for place in tree.places()}
    assert [widths[0, 272], widths[0, 273], widths[1, 0], widths[1, 1], widths[2, 0]] == [256, 112, 256, 17, 1]
    assert len(widths) == 274 + 2 + 1
    assert [verify.tile_name(index) for index in (0, 999, 1000, 1234067)] == ["000", "999", "x001/000", "x001/x234/067"]


@given(st.integers(0, 2**32))
@settings(max_examples=sized(15, 300), deadline=None)
def test_v09_no_changed_proof_is_accepted(seed: int) -> None:
    chance = random.Random(seed)
    size = chance.randint(1, 2000)
    hashes = [leaf_hash(b"%d" % number) for number in range(size)]
    tree = Appender(0, {})
    tree.append(hashes)
    read = tree.changed.__getitem__
    index, old = chance.randrange(size), chance.randint(1, size)
    before = Appender(0, {})
    before.append(hashes[:old])
    inclusion, consistency = inclusion_path(read, index, size), consistency_path(read, old, size)
    assert verify.root_from_hash(hashes[index], index, size, inclusion) == tree.root()
    assert verify.root_from_consistency(old, size, before.root(), consistency) == tree.root()
    for path in _changed(inclusion, chance):
        assert verify.root_from_hash(hashes[index], index, size, path) != tree.root()
    for path in _changed(consistency, chance):
        assert verify.root_from_consistency(old, size, before.root(), path) != tree.root()
    if size > 1:
        other = (index + chance.randint(1, size - 1)) % size
        assert verify.root_from_hash(hashes[index], other, size, inclusion) != tree.root()


def _changed(path: list[bytes], chance: random.Random) -> list[list[bytes]]:
    """One bit changed, one dropped, one added, two swapped."""
    found = [[*path, bytes(32)], [b"\1" * 32, *path]]
    if path:
        where, bit = chance.randrange(len(path)), chance.randrange(256)
        flipped = bytearray(path[where])
        flipped[bit // 8] ^= 1 << bit % 8
        found += [[*path[:where], bytes(flipped), *path[where + 1 :]], [*path[:where], *path[where + 1 :]]]
    if len(path) > 1 and path[0] != path[-1]:
        found.append([path[-1], *path[1:-1], path[0]])
    return found


#: LIN-L16: other bytes for what looks like the same leaf.
LEAF = b'{"actor":"a","alg":"sha256","at":"t","body":"b","id":"i","key":null,"kind":"K","log":"l","name":"/","v":1}'


@pytest.mark.parametrize("change", [(b":", b": "), (b"/", b"\\/"), (b'"v":1', b'"v":1.0'), (b'"a",', b'"\\u0061",')])
def test_l16_a_leaf_that_is_written_otherwise_has_another_hash(change: tuple[bytes, bytes]) -> None:
    other = LEAF.replace(*change)
    assert other != LEAF
    assert leaf_hash(other) != leaf_hash(LEAF)


@pytest.mark.parametrize(
    "leaf",
    [LEAF.replace(b'"v":1', b'"v":1,"v":1'), LEAF.replace(b'"/"', b'"\xed\xa0\x80"'), b"[" * 100_000, b"", LEAF[:-1]],
)
def test_l16_what_is_no_leaf_is_unreadable(leaf: bytes) -> None:
    with pytest.raises(verify.Unreadable):
        verify.claims_of(leaf)


def test_l14_a_proof_for_another_size_or_index_is_rejected() -> None:
    hashes = [leaf_hash(b"%d" % number) for number in range(8)]
    tree = Appender(0, {})
    tree.append(hashes)
    path = inclusion_path(tree.changed.__getitem__, 5, 8)
    for index, size in ((4, 8), (5, 16), (5, 6), (13, 16), (5, 5)):
        assert verify.root_from_hash(hashes[5], index, size, path) != tree.root()
    smaller = Appender(0, {})
    smaller.append(hashes[:6])
    mixed = inclusion_path(smaller.changed.__getitem__, 5, 6)
    assert verify.root_from_hash(hashes[5], 5, 8, [*mixed, *path[len(mixed) :]]) != tree.root()


NOTE = (TESSERA / "checkpoint").read_text(encoding="utf-8")


@given(st.binary(max_size=300) | st.text(max_size=300).map(lambda text: text.encode("utf-8", "surrogatepass")))
@example(b"{" * 100_000)
@example(b"[" * 3_000_000)
@settings(max_examples=sized(100, 3000), deadline=None)
def test_f09_no_reader_does_anything_but_refuse(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    half = data.decode("utf-8", "surrogatepass") if b"\xed" in data and _decodes(data) else text
    readers: list[Callable[[], object]] = [
        lambda: load(data),
        lambda: verify.verify(data),
        lambda: verify.parse_checkpoint(half),
        lambda: verify.parse_checkpoint(NOTE[:40] + half + NOTE[40:]),
        lambda: verify.parse_vkey(half),
        lambda: verify.claims_of(data),
        lambda: list(verify.split_entries(data, 3)),
        lambda: verify.judge_note(half, verify.Policy()),
    ]
    for read in readers:
        try:
            read()
        except verify.Unreadable:
            continue


def _decodes(data: bytes) -> bool:
    try:
        data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return False
    return True


@given(st.lists(st.binary(max_size=400), max_size=20))
@settings(max_examples=50, deadline=None)
def test_entry_bundles_come_back_as_they_were(leaves: list[bytes]) -> None:
    assert list(verify.split_entries(entry_bundle(leaves), len(leaves))) == leaves
    if leaves:
        with pytest.raises(verify.Unreadable):
            list(verify.split_entries(entry_bundle(leaves), len(leaves) + 1))

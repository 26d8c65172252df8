"""A whole log as files (C2SP tlog-tiles): everything is computed again from the entries.

checkpoint, checkpoints/*        the newest signed checkpoint, and others
tile/<L>/<N>[.p/<W>]             hashes
tile/entries/<N>[.p/<W>]         leaves, each behind its length in two bytes
events/<N>.ndjson                what leaves only name by hash: {seq, body, signature, recorded_at}; may be missing
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lineage.verify.history import Entry, History
from lineage.verify.notes import MAX_NOTE, Checkpoint, Unreadable, Verdict, decode64, parse_checkpoint
from lineage.verify.policy import Policy, judge_pair, judge_witnesses

WIDTH = 256
MAX_ENTRIES_BYTES = WIDTH * (2 + 65_535)
MAX_EVENTS_BYTES = 256 * 2**20
#: Blocks in a row of which there is nothing: who writes a checkpoint may name any size.
MAX_GAP = 16
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def tile_name(index: int) -> str:
    """The index of a tile in a path: 1234067 is x001/x234/067."""
    parts = [f"{index % 1000:03}"]
    while index := index // 1000:
        parts.insert(0, f"x{index % 1000:03}")
    return "/".join(parts)


def judge_folder(folder: Path, policy: Policy) -> Verdict:
    """Judge a log as files.

    Raises:
        Unreadable: there is no checkpoint in the folder.
    """
    newest = parse_checkpoint(_text(folder / "checkpoint"))
    history = History(policy.key, is_opaque=not (folder / "events").is_dir())
    notes = _notes(folder, history)
    kept = {one.size: one for one in policy.kept}
    gap = 0
    for index in range((newest.size + WIDTH - 1) // WIDTH):
        width = min(WIDTH, newest.size - index * WIDTH)
        gap = 0 if _judge_block(folder, index, width, history, notes, kept) else gap + 1
        if gap == MAX_GAP:
            words = f"the files end at event {history.tree.size - gap * WIDTH}, and the log has {newest.size}"
            history.fault("entries-missing", words, history.tree.size, log="inconsistent")
            break
    for size in sorted(size for size in notes if size > newest.size):
        history.fault(
            "shrunk", f"checkpoint {size} speaks of {size - newest.size} events more than there are", size, log="shrunk"
        )
    for one in policy.kept:
        if one.size > newest.size:
            words = f"the log has {newest.size} events, and had {one.size}: its size went down"
            history.fault("shrunk", words, one.size, log="shrunk")
    _judge_tiles(folder, newest.size, history)
    verdict = history.end()
    judge_witnesses(newest, policy, verdict)
    keys = [one.vkey for one in history.keys.values() if one.purpose == "log"]
    verdict.facts = {"log": newest.origin, "size": newest.size, "vkey": keys[0] if keys else ""}
    return verdict


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(MAX_NOTE + 1).decode("utf-8")
    except (OSError, UnicodeDecodeError):
        raise Unreadable(f"{path.name}: cannot be read") from None


def _notes(folder: Path, history: History) -> dict[int, list[str]]:
    """All checkpoints of the folder by size."""
    found: dict[int, list[str]] = {}
    for path in sorted([*folder.glob("checkpoint*"), *folder.glob("checkpoints/*")]):
        if not path.is_file():
            continue
        try:
            note = _text(path)
            found.setdefault(parse_checkpoint(note).size, []).append(note)
        except Unreadable as error:
            history.fault("checkpoint-unreadable", f"{path.name}: {error}", checkpoint="bad")
    return found


def _judge_block(
    folder: Path, index: int, width: int, history: History, notes: dict[int, list[str]], kept: dict[int, Checkpoint]
) -> bool:
    """Feed a block of events to the history; False: there is nothing of it."""
    hashes = _tile(folder, 0, index, width, history)
    leaves = _entries(folder, index, width, history)
    events = _events(folder, index, history)
    for place in range(width):
        seq = index * WIDTH + place
        expected = hashes[place * 32 : place * 32 + 32] if hashes else None
        event = events.get(seq) if events is not None else {}
        if leaves is None or not leaves[place] or event is None:
            history.missing(expected)
        else:
            history.add(_entry(leaves[place], event, history), expected)
        for note in notes.get(seq + 1, []):
            history.checkpoint(note, seq + 1)
        if (one := kept.get(seq + 1)) is not None and one.root != history.tree.root():
            judge_pair(
                "forked",
                f"the kept checkpoint of size {one.size} is of another log: it was rewritten",
                seq + 1,
                history.verdict,
            )
    return hashes is not None or leaves is not None


def _entry(leaf: bytes, event: dict[str, Any], history: History) -> Entry:
    try:
        signature = event.get("signature")
        recorded = event.get("recorded_at")
        return Entry(
            leaf,
            str(event["body"]) if "body" in event else None,
            None if signature is None else decode64(signature, "the signature"),
            None if recorded is None else _microseconds(str(recorded)),
        )
    except (Unreadable, ValueError) as error:
        history.fault("event-unreadable", f"event {history.tree.size}: {error}", history.tree.size)
        return Entry(leaf)


def _aware(text: str) -> datetime:
    """Raises ValueError: no time, or none with its zone."""
    found = datetime.fromisoformat(text)
    if found.tzinfo is None:
        raise ValueError("a time without its zone")
    return found


def _microseconds(text: str) -> int:
    passed = _aware(text) - _EPOCH
    return (passed.days * 86_400 + passed.seconds) * 1_000_000 + passed.microseconds


def _found(folder: Path, index: int, width: int) -> tuple[Path, int] | None:
    """The file of a tile or bundle: the full one, else the narrowest partial one that is wide enough."""
    name = tile_name(index)
    if (folder / name).is_file():
        return folder / name, WIDTH
    for wide in range(width, WIDTH):
        if (path := folder / f"{name}.p" / str(wide)).is_file():
            return path, wide
    return None


def _tile(folder: Path, level: int, index: int, width: int, history: History) -> bytes | None:
    """The hashes of a tile; None, and a fault, when it is not there or not of its width."""
    found = _found(folder / "tile" / str(level), index, width)
    if found is None:
        history.fault("tile-missing", f"tile {level}/{index} is missing")
        return None
    path, wide = found
    if path.stat().st_size != 32 * wide:
        history.fault("tile-malformed", f"tile {level}/{index} does not have the length of {wide} hashes")
        return None
    return path.read_bytes()


def _entries(folder: Path, index: int, width: int, history: History) -> list[bytes] | None:
    found = _found(folder / "tile" / "entries", index, width)
    if found is None:
        history.fault("entries-missing", f"the entries {index * WIDTH} and following are missing", index * WIDTH)
        return None
    path, wide = found
    try:
        return list(split_entries(path.read_bytes() if path.stat().st_size <= MAX_ENTRIES_BYTES else b"", wide))
    except Unreadable as error:
        history.fault("entries-malformed", f"the entries {index * WIDTH} and following: {error}", index * WIDTH)
        return None


def split_entries(data: bytes, count: int) -> Iterator[bytes]:
    """The leaves of an entry bundle, which must be as many as that. Raises Unreadable."""
    start = 0
    for _ in range(count):
        length = int.from_bytes(data[start : start + 2], "big")
        if len(data) < start + 2 + length:
            raise Unreadable("the bundle ends inside an entry")
        yield data[start + 2 : start + 2 + length]
        start += 2 + length
    if start != len(data):
        raise Unreadable("there are bytes behind the last entry")


def _events(folder: Path, index: int, history: History) -> dict[int, dict[str, Any]] | None:
    """What the folder says of events beside their leaves, by number; None when it says nothing at all."""
    if not (folder / "events").is_dir():
        return None
    path = folder / "events" / f"{tile_name(index)}.ndjson"
    found = {}
    try:
        if path.stat().st_size > MAX_EVENTS_BYTES:
            raise Unreadable("too large")
        for line in path.read_bytes().splitlines():
            event = json.loads(line)
            found[int(event["seq"])] = dict(event)
    except (OSError, ArithmeticError, ValueError, LookupError, TypeError, RecursionError, Unreadable):
        history.fault("events-unreadable", f"events/{tile_name(index)}.ndjson cannot be read", index * WIDTH)
    return found


def _judge_tiles(folder: Path, size: int, history: History) -> None:
    """Tiles above the leaves."""
    for level, index in history.tree.places():
        own = history.tree.tile(level, index)
        if (
            level
            and (stored := _tile(folder, level, index, len(own) // 32, history)) is not None
            and stored[: len(own)] != own
        ):
            history.fault("tile-differs", f"tile {level}/{index} is not that of the events", log="inconsistent")

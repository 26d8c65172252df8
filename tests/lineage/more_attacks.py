"""Attacks that the design's table does not list: what the database's owner may do, and what a folder of files may hold."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

EVENT = "update lineage.event set"
_OBJECT = """convert_to(replace(convert_from(leaf, 'UTF8'), '"key":"' || key_id || '"', '"key":{}'), 'UTF8')"""

#: What is done -> (statements, codes of the faults of which one must be named, the number with it).
IN_THE_DATABASE: dict[str, tuple[str, set[str], int | None]] = {
    "body a number": (f"{EVENT} body = '5' where seq = 20", {"body-changed"}, 20),
    "body no JSON": (f"{EVENT} body = 'x' where seq = 20", {"body-changed"}, 20),
    "body empty, of an own file": (f"{EVENT} body = '' where seq = 7", {"body-changed"}, 7),
    "body very deep": (f"{EVENT} body = repeat('[', 60000) || repeat(']', 60000) where seq = 20", {"body-changed"}, 20),
    "body with half a character": (f"""{EVENT} body = '{{"a":"\\ud800"}}' where seq = 20""", {"body-changed"}, 20),
    "body with hashes that are none": (f"""{EVENT} body = '{{"hashes":5}}' where seq = 20""", {"body-changed"}, 20),
    "leaf with an object as key": (f"{EVENT} leaf = {_OBJECT} where seq = 7", {"leaf-unreadable"}, 7),
    "a second beginning": (
        f"""{EVENT} leaf = convert_to(replace(convert_from(leaf, 'UTF8'), '"CREATE"', '"GENESIS"'), 'UTF8') where seq = 7""",
        {"key-forged"},
        7,
    ),
    "told in the year 10000": (f"{EVENT} claimed_at = '10000-01-01' where seq = 20", {"leaf-changed"}, 20),
    "told before Christ": (f"{EVENT} claimed_at = '0044-03-15 BC' where seq = 20", {"leaf-changed"}, 20),
    "recorded never": (f"{EVENT} recorded_at = 'infinity' where seq = 20", {"order"}, 21),
    "recorded at the beginning of time": (f"{EVENT} recorded_at = '-infinity' where seq = 20", {"order"}, 20),
    "recorded a microsecond late": (
        f"{EVENT} recorded_at = recorded_at + interval '1 us' where seq = 49",
        {"checkpoint-missing"},
        50,
    ),
    "number of many digits": (f"{EVENT} seq = 1000000000000000 where seq = 20", {"event-missing"}, 20),
    "newest checkpoint gone": ("delete from lineage.checkpoint where size = 50", {"checkpoint-missing"}, 31),
    "all checkpoints gone": ("delete from lineage.checkpoint", {"checkpoint-missing"}, 0),
    "checkpoint between gone": ("delete from lineage.checkpoint where size = 31", {"checkpoint-missing"}, 50),
    "checkpoint of a future": (
        "insert into lineage.checkpoint (size, root, note) values (1000000000000000, sha256('x'), 'x')",
        {"shrunk"},
        10**15,
    ),
    "note with the lines of another system": (
        r"update lineage.checkpoint set note = replace(note, E'\n', E'\r\n') where size = 31",
        {"checkpoint-unreadable"},
        31,
    ),
    "cosignature that is none": (
        "insert into lineage.cosignature values (31, 'x+00000000', 'x')",
        {"witness-bad"},
        31,
    ),
    "tile far away": ("insert into lineage.log_tile values (0, 1000000000000, 1, sha256('x'))", {"tile-differs"}, None),
    "tile of a level too high": ("insert into lineage.log_tile values (3, 0, 1, sha256('x'))", {"tile-differs"}, None),
    "key revoked by hand": ("update lineage.signing_key set compromised_since = 3", {"key-differs"}, None),
    "key of another purpose": (
        "update lineage.signing_key set purpose = 'log' where purpose = 'event'",
        {"key-differs"},
        None,
    ),
    "facade's key gone": ("delete from lineage.signing_key where purpose = 'facade'", {"key-differs"}, None),
    "facade's signature gone": ("delete from lineage.trace_signature", {"trace-missing"}, 7),
    "stamp put in by hand": (
        "insert into lineage.checkpoint_stamp values (31, 'x', 'infinity', 'x')",
        {"stamp-differs"},
        31,
    ),
    "parents behind a hash": (
        "insert into lineage.commitment values (sha256('a'), 'salt', array[gen_random_uuid()])",
        {"commitment-differs"},
        None,
    ),
}


def _edited(place: str, pattern: str, text: str) -> Callable[[Path], object]:
    """Replaces what the pattern finds in a file."""

    def edit(log: Path) -> None:
        before = (log / place).read_text(encoding="utf-8")
        after = re.sub(pattern, lambda _: text, before, count=1)
        assert after != before
        (log / place).write_text(after, encoding="utf-8", newline="")

    return edit


_LINES = "events/000.ndjson"

#: What is done to an exported log -> codes of the faults of which one must be named; none: the folder is no log.
IN_A_FOLDER: dict[str, tuple[Callable[[Path], object], set[str]]] = {
    "number beyond all": (_edited(_LINES, r'"seq":20', '"seq":1e999'), {"events-unreadable"}),
    "number of 5,000 digits": (_edited(_LINES, r'"seq":20', '"seq":' + "9" * 5000), {"events-unreadable"}),
    "no object": (_edited(_LINES, r'{"seq":20', '[{"seq":20'), {"events-unreadable"}),
    "time without its zone": (_edited(_LINES, r'(\.\d{6})Z"', '"'), {"event-unreadable"}),
    "time out of range": (
        _edited(_LINES, r'"recorded_at":"[^"]*"', '"recorded_at":"0001-01-01T00:00:00+23:59"'),
        {"order", "time"},
    ),
    "body a number": (_edited(_LINES, r'"body":"[^"]*"', '"body":5'), {"body-changed", "events-unreadable"}),
    "size beyond 63 bits": (_edited("checkpoint", r"\n50\n", "\n9223372036854775808\n"), {"entries-missing"}),
    "size of twenty digits": (_edited("checkpoint", r"\n50\n", "\n99999999999999999999\n"), set()),
    "size with zeros in front": (_edited("checkpoint", r"\n50\n", "\n0050\n"), set()),
    "size with a sign": (_edited("checkpoint", r"\n50\n", "\n+50\n"), set()),
    "lines of another system": (_edited("checkpoint", r"\n", "\r\n"), {"checkpoint-signature"}),
    "blank behind the root": (_edited("checkpoint", r"=\n", "= \n"), set()),
    "no checkpoint of before": (lambda log: (log / "checkpoints" / f"{31:020}").unlink(), {"checkpoint-missing"}),
    "no file of events": (lambda log: (log / _LINES).unlink(), {"events-unreadable"}),
    "no entries": (lambda log: shutil.rmtree(log / "tile" / "entries"), {"entries-missing"}),
}

"""Canonical JSON, multihash, notes, ids."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from uuid import RFC_4122

import aics_tlog
import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from lineage import multihash, verify
from lineage.canonical import NotCanonical, canonical, is_exact, item_sha256
from lineage.ids import uuid7
from lineage.note import checkpoint_text, key_id, sign_note
from lineage.sealing import leaf_bytes
from tests.lineage.samples import VECTORS, signer


def test_published_canonical_json() -> None:
    pairs = sorted((VECTORS / "jcs" / "input").glob("*.json"))
    assert len(pairs) == 6
    for path in pairs:
        expected = bytes.fromhex((VECTORS / "jcs" / "outhex" / f"{path.stem}.txt").read_text())
        written = canonical(json.loads(path.read_text(encoding="utf-8")))
        assert written == expected
        assert canonical(json.loads(written)) == expected


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 2**60, "\ud800", {"a": {1: 2}}, object()])
def test_what_has_no_canonical_form_is_refused(value: object) -> None:
    with pytest.raises(NotCanonical):
        canonical(value)


def test_links_do_not_change_an_items_hash() -> None:
    item = {"id": "a", "properties": {"n": 1}}
    assert item_sha256(item) == item_sha256({**item, "links": [{"rel": "self"}]})
    assert item_sha256(item) != item_sha256({**item, "properties": {"n": 2}})


NUMBERS = (
    st.integers(1 - 2**53, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.integers(-50, 50).map(float)
)
TEXTS = st.text(max_size=5) | st.sampled_from(
    [
        ":1234567890123456",
        "1.0,",
        "[2.0]",
        "}.0,",
        "a1e-7,",
        '"',
        "\\",
        "null",
        "-0.0",
        "\U0001f600",
        "\uffff",
        "9" * 40,
    ]
)
ANY_JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.sampled_from([1e-7, 1e21, 2.0**53, float("nan"), float("inf")]) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
)


@given(ANY_JSON)
def test_the_quick_way_writes_what_the_library_writes(value: object) -> None:
    try:
        expected = rfc8785.dumps(value)  # type: ignore[arg-type]
    except (rfc8785.CanonicalizationError, UnicodeEncodeError):
        with pytest.raises(NotCanonical):
            canonical(value)
    else:
        assert canonical(value) == expected


@given(
    st.integers(-(2**66), 2**66)
    | st.integers(-(2**54), 2**54)
    | st.integers(-(2**62), 2**62).map(float).map(rfc8785.dumps).map(int)
)
def test_an_integer_keeps_its_digits_or_is_refused(value: int) -> None:
    if is_exact(value):
        assert canonical({"a": [value]}) == b'{"a":[%d]}' % value
    else:
        with pytest.raises(NotCanonical):
            canonical({"a": [value]})


LEAF_TEXTS = st.text(max_size=8) | TEXTS


@given(LEAF_TEXTS, LEAF_TEXTS, LEAF_TEXTS, LEAF_TEXTS | st.none(), st.datetimes(timezones=st.just(UTC)))
def test_a_leaf_is_written_at_once_as_the_library_writes_it(
    name: str, actor: str, origin: str, key: str | None, at: datetime
) -> None:
    row = {"id": uuid7(), "kind": "UPDATE", "name": name, "claimed_at": at, "actor_id": actor}
    leaf = {"v": 1, "log": origin, "id": str(row["id"]), "kind": "UPDATE", "name": name, "body": "ab" * 32, "alg": "sha256", "key": key,
            "at": at.isoformat(timespec="microseconds").replace("+00:00", "Z"), "actor": actor}  # fmt: skip
    try:
        expected = rfc8785.dumps(leaf)
    except (rfc8785.CanonicalizationError, UnicodeEncodeError):
        with pytest.raises(NotCanonical):
            leaf_bytes(row, "ab" * 32, origin, key)
    else:
        assert leaf_bytes(row, "ab" * 32, origin, key) == expected


@given(st.sampled_from(sorted(multihash.CODES)), st.binary(min_size=32, max_size=32))
def test_multihash_round_trip(algorithm: str, data: bytes) -> None:
    digest = data[: multihash.CODES[algorithm][1]].hex()
    assert multihash.decode(multihash.encode(algorithm, digest)) == (algorithm, digest)


@pytest.mark.parametrize("text", ["", "12", "d50120" + "00" * 32, "1220" + "00" * 31, "zz"])
def test_bad_multihash_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        multihash.decode(text)


def test_known_multihash() -> None:
    assert multihash.encode("SHA256", hashlib.sha256(b"").hexdigest()) == "1220" + hashlib.sha256(b"").hexdigest()


def test_uuid7_is_version_7_and_sorts_by_time() -> None:
    first, second = uuid7(), uuid7()
    assert first.version == 7
    assert first.variant == RFC_4122
    assert first.int >> 80 <= second.int >> 80


def test_published_note_verifies_and_a_changed_one_does_not() -> None:
    key = verify.parse_vkey((VECTORS / "tlog" / "signed-note-example.vkey").read_text().strip())
    note = (VECTORS / "tlog" / "signed-note-example.txt").read_text(encoding="utf-8")
    text, _, tail = note.rpartition("\n\n")
    blob = verify.decode64(tail.split(" ")[2].strip(), "signature")
    assert blob[:4] == key.short
    assert key.holds(blob[4:], (text + "\n").encode())
    assert not key.holds(blob[4:], (text + "x\n").encode())


def test_our_notes_are_read_by_another_implementation(tmp_path: Path) -> None:
    keys = signer(tmp_path)
    note = sign_note(checkpoint_text(keys.origin, 7, hashlib.sha256(b"root").digest()), keys.origin, keys.log_key)
    parsed = aics_tlog.parse_note(note)
    assert aics_tlog.verify_note(parsed, [aics_tlog.parse_vkey(keys.log_vkey)])
    assert aics_tlog.parse_checkpoint(parsed.text).size == 7
    assert verify.checkpoint_verdict(verify.parse_checkpoint(note), verify.parse_vkey(keys.log_vkey)) == "ok"


def test_a_plus_sign_in_a_keys_base64_does_not_change_its_short_name() -> None:
    assert key_id("example.org/log+1a2b3c4d+AUNv+JFS/PfcnwYeiiXtSMzCckRjqsQ+K1SiIrHRrqq0") == "example.org/log+1a2b3c4d"


def test_keys_are_made_once_and_private(tmp_path: Path) -> None:
    assert signer(tmp_path).log_vkey == signer(tmp_path).log_vkey
    for path in (tmp_path / "keys").iterdir():
        assert path.stat().st_mode & 0o077 == 0, path

"""Cosignatures with ML-DSA-44: bytes as others make them, hostile lines, one witness with two keys, a Python that cannot judge them."""

from __future__ import annotations

import base64
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from lineage import verify
from lineage.cosigning import MAX_KEYS, cosigners
from lineage.errors import KeyMismatch
from lineage.note import (
    checkpoint_text,
    cosignature_line,
    cosigned_message,
    cosigner_vkey,
    key_hash,
    public_bytes,
    sign_note,
    vkey,
)
from lineage.verify import mldsa
from lineage.verify.notes import MAX_LINES
from lineage.witness import Witness
from tests.lineage.samples import VECTORS
from tests.size import sized

FOREIGN = VECTORS / "tlog"
#: Of the foreign log's key: the generator of the vector prints it.
SEED = bytes.fromhex("2886adc2b0eabfce67c0472939127998bf886cf256bfee8ba76a253fce1146e0")
ORIGIN, W1 = "example.org/log", "example.org/w1"
LOG = Ed25519PrivateKey.from_private_bytes(bytes(32))
PLAIN = Ed25519PrivateKey.from_private_bytes(b"w" * 32)
LATTICE = MLDSA44PrivateKey.from_seed_bytes(b"w" * 32)
ROOT = bytes(range(32))
TEXT = checkpoint_text(ORIGIN, 5, ROOT)
NOTE = sign_note(TEXT, ORIGIN, LOG)
NOW = 1_790_000_000
PINNED = verify.parse_vkey(vkey(ORIGIN, LOG))
LINE = cosignature_line(TEXT, W1, LATTICE, NOW)


def known(key: Ed25519PrivateKey | MLDSA44PrivateKey, name: str = W1) -> verify.VerifierKey:
    return verify.parse_vkey(cosigner_vkey(name, key))


def verdict_of(note: str, key: verify.VerifierKey) -> str:
    return verify.checkpoint_verdict(verify.parse_checkpoint(note), key)


def test_a_foreign_implementation_makes_the_same_key_and_its_signature_holds() -> None:
    """torchwood (Go): the log itself signs with type 0x06 and time 0."""
    text, note = (FOREIGN / "torchwood-mldsa.vkey").read_text().strip(), (FOREIGN / "torchwood-mldsa.txt").read_text()
    assert cosigner_vkey("example.com/mldsa-log", MLDSA44PrivateKey.from_seed_bytes(SEED)) == text
    key = verify.parse_vkey(text)
    verdict = verify.judge_note(note, verify.Policy(key))
    assert (verdict.checkpoint, verdict.key, verdict.faults) == ("ok", "pinned", [])
    assert verify.time_of(verify.parse_checkpoint(note), key) is None, "0 tells no time"
    for old, new in (("\n1\n", "\n2\n"), ("mldsa-log\n", "mldsa-lag\n"), ("+zoE", "+zoF")):
        assert verdict_of(note.replace(old, new, 1), key) == "bad"


#: Cosigner, time, log, size, root and the whole message: by hand from the specification's example; two of leviathan-crypto's vectors.
MESSAGES = [
    (
        "witness.example.com/w1", 1679315147, "example.com/behind-the-sofa", 20852163,
        "0ac5186a91863e8e1d90c808014aa89bf5da8e3ee1d9f07630f0378f68f1ab62",
        "737562747265652f76310a00" "167769746e6573732e6578616d706c652e636f6d2f7731" "00000000641850cb"
        "1b6578616d706c652e636f6d2f626568696e642d7468652d736f6661" "0000000000000000" "00000000013e2dc3",
    ),
    (
        "witness.example.com/w1", 1700000000, "example.com/log42", 1, "11" * 32,
        "737562747265652f76310a00" "167769746e6573732e6578616d706c652e636f6d2f7731" "000000006553f100"
        "116578616d706c652e636f6d2f6c6f673432" "0000000000000000" "0000000000000001",
    ),
    (
        "witness.example.org/w2", 0, "example.com/log42", 5, "22" * 32,
        "737562747265652f76310a00" "167769746e6573732e6578616d706c652e6f72672f7732" "0000000000000000"
        "116578616d706c652e636f6d2f6c6f673432" "0000000000000000" "0000000000000005",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("cosigner", "time_s", "origin", "size", "root", "message"), MESSAGES)
def test_the_message_has_the_published_bytes(
    cosigner: str, time_s: int, origin: str, size: int, root: str, message: str
) -> None:
    expected = bytes.fromhex(message + root)
    hash_ = bytes.fromhex(root)
    assert cosigned_message(checkpoint_text(origin, size, hash_), cosigner, time_s) == expected
    assert mldsa.cosigned_message(cosigner, time_s, origin, size, hash_) == expected


def test_names_have_at_most_255_bytes(tmp_path: Path) -> None:
    longest = "ö" * 127 + "n"
    text = checkpoint_text(longest, 1, ROOT)
    note = sign_note(text, longest, LOG) + cosignature_line(text, longest, LATTICE, NOW)
    assert verdict_of(note, known(LATTICE, longest)) == "ok"
    with pytest.raises(ValueError, match="255 bytes"):
        cosigned_message(TEXT, longest + "n", NOW)
    for name, logs in (
        (longest + "n", {}),
        (W1, {longest + "n": [PINNED]}),
        ("", {}),
        ("a b", {}),
        ("a+b", {}),
        ("\udcff", {}),
    ):
        with pytest.raises(KeyMismatch, match="255 bytes"):
            Witness(name, [LATTICE], logs, tmp_path)
    too_long = checkpoint_text(longest + "n", 1, ROOT) + "\n" + LINE
    assert verdict_of(too_long, known(LATTICE)) == "bad"
    with pytest.raises(KeyMismatch, match="255 bytes"):
        cosigners([f"http://w={cosigner_vkey(longest + 'n', LATTICE)}"])


def relabelled(blob: bytes, key: Ed25519PrivateKey | MLDSA44PrivateKey, name: str = W1) -> str:
    """A line of this key's name and hash around any bytes."""
    short = known(key, name).short
    return f"— {name} {base64.b64encode(short + blob).decode()}\n"


def blob_of(line: str) -> bytes:
    return base64.b64decode(line.split(" ")[2])[4:]


def subtree(time_s: int, *, root: bytes = ROOT, start: int = 0) -> bytes:
    """Time and signature over a message that is written here, field by field."""
    names = [bytes([len(name)]) + name.encode() for name in (W1, ORIGIN)]
    numbers = start.to_bytes(8, "big") + (5).to_bytes(8, "big")
    message = b"subtree/v1\n\0" + names[0] + time_s.to_bytes(8, "big") + names[1] + numbers + root
    return time_s.to_bytes(8, "big") + LATTICE.sign(message)


LINES: dict[str, tuple[str, str]] = {
    "as it should be": (relabelled(subtree(NOW), LATTICE), "ok"),
    "the latest time that there is": (relabelled(subtree(2**63 - 1), LATTICE), "ok"),
    "a later time": (relabelled(subtree(2**63), LATTICE), "bad"),
    "without a time": (relabelled(subtree(0), LATTICE), "ok"),
    "of leaves from the third on": (relabelled(subtree(0, start=3), LATTICE), "bad"),
    "of another root": (relabelled(subtree(NOW, root=bytes(32)), LATTICE), "bad"),
    "of another size": (cosignature_line(checkpoint_text(ORIGIN, 6, ROOT), W1, LATTICE, NOW), "bad"),
    "of another log": (cosignature_line(checkpoint_text("example.org/x", 5, ROOT), W1, LATTICE, NOW), "bad"),
    "made under another name": (relabelled(blob_of(cosignature_line(TEXT, "w2", LATTICE, NOW)), LATTICE), "bad"),
    "of another name": (cosignature_line(TEXT, "example.org/w2", LATTICE, NOW), "unknown_key"),
    "of another key": (cosignature_line(TEXT, W1, MLDSA44PrivateKey.generate(), NOW), "unknown_key"),
    "too short": (relabelled(blob_of(LINE)[:-1], LATTICE), "bad"),
    "too long": (relabelled(blob_of(LINE) + b"\0", LATTICE), "bad"),
    "empty": (relabelled(b"", LATTICE), "bad"),
    "Ed25519's, called ML-DSA": (relabelled(blob_of(cosignature_line(TEXT, W1, PLAIN, NOW)), LATTICE), "bad"),
    "of the note's text": (relabelled(NOW.to_bytes(8, "big") + LATTICE.sign(TEXT.encode()), LATTICE), "bad"),
    "with a context": (
        relabelled(NOW.to_bytes(8, "big") + LATTICE.sign(cosigned_message(TEXT, W1, NOW), b"x"), LATTICE),
        "bad",
    ),
}


@pytest.mark.parametrize("name", LINES)
def test_what_a_line_is_worth(name: str) -> None:
    line, expected = LINES[name]
    assert verdict_of(NOTE + line, known(LATTICE)) == expected
    verdict = verify.judge_note(NOTE + line, verify.Policy(PINNED, witnesses=[known(LATTICE)]))
    assert verdict.checkpoint == "ok"
    assert verdict.witness == {"ok": "cosigned", "bad": "bad", "unknown_key": "missing"}[expected]


def test_a_signature_with_ml_dsa_is_none_with_ed25519() -> None:
    assert verdict_of(NOTE + relabelled(blob_of(LINE), PLAIN), known(PLAIN)) == "bad"
    late = (2**63).to_bytes(8, "big") + PLAIN.sign(f"cosignature/v1\ntime {2**63}\n{TEXT}".encode())
    assert verdict_of(NOTE + relabelled(late, PLAIN), known(PLAIN)) == "bad"


def test_a_root_of_another_length_is_in_no_message() -> None:
    note = checkpoint_text(ORIGIN, 5, ROOT[:31]) + "\n" + LINE
    assert verdict_of(note, known(LATTICE)) == "bad"


@pytest.mark.parametrize(
    ("kind", "public"),
    [(b"\x06", bytes(32)), (b"\x06", bytes(1311)), (b"\x04", bytes(1312)), (b"\x05", bytes(32)), (b"", b"")],
)
def test_a_key_has_the_length_of_its_type(kind: bytes, public: bytes) -> None:
    text = f"{W1}+{key_hash(W1, public, kind).hex()}+{base64.b64encode(kind + public).decode()}"
    with pytest.raises(verify.Unreadable, match="none of Ed25519"):
        verify.parse_vkey(text)


def test_a_key_signs_once_and_the_lines_are_bounded() -> None:
    with pytest.raises(verify.Unreadable, match="twice"):
        verify.parse_checkpoint(NOTE + LINE + LINE)
    filling = [f"— w{number} AAAAAAA=\n" for number in range(10_000)]
    most = NOTE + LINE + "".join(filling[: MAX_LINES - 2])
    assert verdict_of(most, known(LATTICE)) == "ok", "lines of unknown keys are left alone"
    for note in (most + filling[-1], NOTE + "".join(filling) + LINE):
        with pytest.raises(verify.Unreadable, match="lines"):
            verify.parse_checkpoint(note)
    assert len(LINE) * MAX_LINES < verify.notes.MAX_NOTE
    with pytest.raises(KeyMismatch, match="more than"):
        cosigners([f"http://w{number}={cosigner_vkey(W1, PLAIN)}" for number in range(MAX_KEYS + 1)])


def test_keys_of_one_name_are_one_witness() -> None:
    both = NOTE + cosignature_line(TEXT, W1, PLAIN, NOW) + LINE
    other = known(Ed25519PrivateKey.generate(), "example.org/w2")

    def judged(note: str, *keys: verify.VerifierKey, quorum: int = 0) -> verify.Verdict:
        return verify.judge_note(note, verify.Policy(PINNED, witnesses=list(keys), quorum=quorum))

    assert judged(both, known(PLAIN), known(LATTICE)).witness == "cosigned"
    assert judged(NOTE + LINE, known(PLAIN), known(LATTICE)).witness == "cosigned", "one of its keys will do"
    assert judged(NOTE + LINE, known(PLAIN)).witness == "missing", "the other key was asked for"
    twice = judged(both, known(PLAIN), known(LATTICE), other, quorum=2)
    assert (twice.witness, str(twice.faults[0])) == ("missing", "1 of 2 witnesses have cosigned checkpoint 5")
    assert judged(both, known(PLAIN), known(LATTICE), other, quorum=1).witness == "cosigned"
    assert judged(NOTE, known(PLAIN), quorum=-1).witness == "missing"
    assert judged(both, known(LATTICE), known(LATTICE), quorum=2).witness == "missing", "named twice, it is one"
    (one,) = cosigners([f"http://w/={cosigner_vkey(W1, PLAIN)}", f"http://w={cosigner_vkey(W1, LATTICE)}"])
    assert (one.url, one.keys) == ("http://w", [known(PLAIN), known(LATTICE)])


@pytest.mark.parametrize("words", [["--quorum", "1"], ["--quorum", "-1", "--witness", cosigner_vkey(W1, PLAIN)]])
def test_a_quorum_is_of_witnesses(words: list[str]) -> None:
    with pytest.raises(SystemExit) as end:
        verify.main(["note", *words])
    assert end.value.code == 2


@pytest.fixture
def old_cryptography(monkeypatch: pytest.MonkeyPatch) -> None:
    """One from before ML-DSA: the import fails."""
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.asymmetric.mldsa", None)


@pytest.mark.usefixtures("old_cryptography")
def test_what_cannot_be_judged_is_said_and_never_counts() -> None:
    plain = known(Ed25519PrivateKey.from_private_bytes(bytes(32)), "example.org/w2")
    note = NOTE + LINE + cosignature_line(TEXT, "example.org/w2", LOG, NOW)

    def judged(*keys: verify.VerifierKey, quorum: int = 0) -> verify.Verdict:
        return verify.judge_note(note, verify.Policy(PINNED, witnesses=list(keys), quorum=quorum))

    alone = judged(known(LATTICE))
    assert (alone.ok, alone.witness, alone.log, alone.faults[0].code) == (
        False,
        "unjudged",
        "unwitnessed",
        "witness-unjudged",
    )
    assert "has no ML-DSA-44" in alone.notes[0]
    enough = judged(known(LATTICE), plain, quorum=1)
    assert (enough.ok, enough.witness) == (True, "cosigned")
    assert "does not count" in enough.notes[0]
    assert judged(known(LATTICE), plain).witness == "unjudged"
    assert verdict_of(NOTE + LINES["too short"][0], known(LATTICE)) == "bad", "this much is seen"
    foreign = (FOREIGN / "torchwood-mldsa.txt").read_text()
    key = verify.parse_vkey((FOREIGN / "torchwood-mldsa.vkey").read_text().strip())
    verdict = verify.judge_note(foreign, verify.Policy(key))
    assert (verdict.checkpoint, verdict.faults[0].code) == ("unjudged", "checkpoint-unjudged")


def test_forks_and_two_checkpoints_with_such_lines(tmp_path: Path) -> None:
    said: list[str] = []
    one, other, kept, evidence = (tmp_path / name for name in ("one", "other", "kept", "evidence"))
    forked = checkpoint_text(ORIGIN, 5, bytes(32))
    one.write_text(NOTE + LINE, encoding="utf-8")
    kept.write_text(NOTE, encoding="utf-8")
    other.write_text(sign_note(forked, ORIGIN, LOG) + cosignature_line(forked, W1, LATTICE, NOW), encoding="utf-8")
    options = ["--key", vkey(ORIGIN, LOG), "--witness", cosigner_vkey(W1, LATTICE)]
    assert verify.main([str(one), "--kept", str(kept), *options], said.append) == 0, said
    assert verify.main([str(kept), "--kept", str(one), *options], said.append) == 1, "no line, not witnessed"
    assert verify.main([str(one), "--kept", str(other), "--evidence", str(evidence), *options], said.append) == 1
    verdict = verify.verify(evidence.read_bytes(), vkey(ORIGIN, LOG))
    assert [fault.code for fault in verdict.faults] == ["fork"]


CHANGES: list[Callable[[bytes, int], bytes]] = [
    lambda blob, place: blob[: place % len(blob)],
    lambda blob, place: blob + bytes(place % 50 + 1),
    lambda blob, place: bytes(
        [*blob[: place % len(blob)], blob[place % len(blob)] ^ 1, *blob[place % len(blob) + 1 :]]
    ),
]


@settings(max_examples=sized(60, 2000), deadline=None)
@given(place=st.integers(0, 5000), change=st.sampled_from(CHANGES), raw=st.binary(max_size=80))
def test_no_changed_line_holds(place: int, change: Callable[[bytes, int], bytes], raw: bytes) -> None:
    for blob in (change(blob_of(LINE), place), raw, blob_of(LINE)[:8] + raw):
        assert verdict_of(NOTE + relabelled(blob, LATTICE), known(LATTICE)) == "bad"


def test_the_public_key_has_1312_bytes() -> None:
    assert len(public_bytes(LATTICE)) == mldsa.MLDSA_PUBLIC_BYTES
    assert len(blob_of(LINE)) == 8 + mldsa.MLDSA_SIGNATURE_BYTES

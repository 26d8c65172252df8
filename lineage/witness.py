"""A witness (C2SP tlog-witness): cosigns a log's checkpoint when it goes on from the last one that the witness has seen.

It knows the log by its key, has a key and a state file of its own, and is to run where the log's operator cannot reach. What it judges is
judged by `lineage.verify`, which shares no code with the writer.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import hashlib
import os
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lineage.errors import KeyMismatch
from lineage.note import MAX_NAME_BYTES, CosigningKey, cosignature_line, cosigner_vkey
from lineage.verify import (
    Checkpoint,
    Unreadable,
    VerifierKey,
    checkpoint_verdict,
    decode64,
    parse_checkpoint,
    root_from_consistency,
)

MAX_PROOF = 63
#: A proof, and a note of sixteen signatures of nearly 5 kB, which must be read (signed-note).
MAX_BODY_BYTES = 128_000


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, content type and body of an HTTP answer."""

    status: int
    text: str
    media_type: str = "text/plain; charset=utf-8"


@dataclass
class Witness:
    """One that cosigns.

    Attributes:
        name: of the witness, in its signature lines.
        keys: its own; each signs a line.
        logs: keys of each log that it knows, by the log's name.
        folder: where it keeps the last checkpoint of each.
    """

    name: str
    keys: Sequence[CosigningKey]
    logs: dict[str, list[VerifierKey]]
    folder: Path

    def __post_init__(self) -> None:
        """Raises KeyMismatch: a name that cannot stand in a cosignature."""
        for name in (self.name, *self.logs):
            if re.search(r"[\s+\ud800-\udfff]", name) or not 1 <= len(name.encode()) <= MAX_NAME_BYTES:
                raise KeyMismatch(f"a name has 1 to {MAX_NAME_BYTES} bytes, no blank and no plus sign: {name!r}")

    @property
    def vkeys(self) -> list[str]:
        """Its verifier keys, in the order of the keys."""
        return [cosigner_vkey(self.name, key) for key in self.keys]

    def add_checkpoint(self, body: bytes) -> Answer:
        """Answer a POST of /add-checkpoint."""
        try:
            old, path, note = _parsed(body)
            checkpoint = parse_checkpoint(note)
        except Unreadable as error:
            return Answer(400, f"{error}\n")
        keys = self.logs.get(checkpoint.origin)
        if keys is None:
            return Answer(404, "this log is not known here\n")
        if not any(checkpoint_verdict(checkpoint, key) == "ok" for key in keys):
            return Answer(403, "no key of the log that is known here has signed this checkpoint\n")
        if old > checkpoint.size:
            return Answer(400, "the old size is larger than the checkpoint\n")
        with self._locked():
            try:
                return self._judge(old, path, checkpoint, note)
            except (Unreadable, UnicodeDecodeError):  # never to be taken for a log that was not seen before
                return Answer(500, "what was cosigned here before cannot be read: the witness's operator must look\n")

    def _judge(self, old: int, path: list[bytes], checkpoint: Checkpoint, note: str) -> Answer:
        last = self.last(checkpoint.origin)
        known = last.size if last else 0
        if old != known:
            return Answer(409, f"{known}\n", "text/x.tlog.size")
        if last is None or last.size == 0:
            if path:
                return Answer(422, "a proof from nothing is empty\n")
        elif last.size == checkpoint.size:
            if path or last.root != checkpoint.root:
                status = 422 if last.root == checkpoint.root else 409
                return Answer(status, f"{known}\n", "text/x.tlog.size")
        elif root_from_consistency(last.size, checkpoint.size, last.root, path) != checkpoint.root:
            return Answer(422, "the checkpoint does not go on from the last one that was cosigned here\n")
        self._keep(checkpoint.origin, note)  # before the answer
        text, now = checkpoint.text.decode(), int(time.time())
        return Answer(200, "".join(cosignature_line(text, self.name, key, now) for key in self.keys))

    def last(self, origin: str) -> Checkpoint | None:
        """The last checkpoint of a log that was cosigned."""
        try:
            return parse_checkpoint(self._file(origin).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None

    def _file(self, origin: str) -> Path:
        return self.folder / f"{hashlib.sha256(origin.encode()).hexdigest()}.checkpoint"

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """What is compared is what is replaced, whoever else asks."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / ".lock").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _keep(self, origin: str, note: str) -> None:
        path = self._file(origin)
        temporary = path.with_suffix(".new")
        with temporary.open("w", encoding="utf-8") as file:
            file.write(note)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)


def request_body(old: int, path: list[bytes], note: str) -> bytes:
    """The body of a request to a witness."""
    lines = [f"old {old}", *(base64.b64encode(one).decode() for one in path), ""]
    return ("\n".join(lines) + "\n" + note).encode()


def _parsed(body: bytes) -> tuple[int, list[bytes], str]:
    """Old size, proof, note. Raises Unreadable."""
    if len(body) > MAX_BODY_BYTES:
        raise Unreadable("the request is too large")
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise Unreadable("the request is no text") from None
    head, empty, note = text.partition("\n\n")
    first, *proof = head.split("\n")
    number = first.removeprefix("old ")
    if not empty or first == number or not (number.isascii() and number.isdigit()) or str(int(number[:19])) != number:
        raise Unreadable("the request does not begin with the old size")
    if len(proof) > MAX_PROOF:
        raise Unreadable("the proof is too long")
    hashes = [decode64(one, "the proof") for one in proof]
    if any(len(one) != 32 for one in hashes):
        raise Unreadable("the proof holds something that is no hash")
    return int(number), hashes, note

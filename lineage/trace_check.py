"""`python -m lineage check FILE`: is a file, or a product's folder, what a trace says of it? Prints the graded verdict.

Offline with `--trace FILE`, an answer of `/trace/api` or of the Copernicus service; else the service at `--url` is asked by the file's hash
and name. Exit status: 0 good, 3 doubtful, 1 bad or no trace, 2 wrong use. Needs no database.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Protocol
from urllib.parse import quote, urlsplit

from blake3 import blake3

from lineage.trace_parse import Trace, TraceInvalid, parse_traces
from lineage.trace_trust import NOBODY, Trust, TrustInvalid, read_trust
from lineage.trace_verdict import GRADES, USUAL_POLICY, Verdict, grade_content, judge

PIECE_BYTES = 4 * 2**20
MAX_ANSWER_BYTES = 64 * 2**20
MAX_TRACES = 1000
TIMEOUT_S = 30.0
#: A zip's files may be this many times as large as the zip: Sentinel products are hardly packed at all.
MAX_RATIO = 50
_EXIT = {"good": 0, "doubtful": 3, "bad": 1}

Hashes = dict[str, str]


class CheckFailed(Exception):
    """The check cannot be made: no file, no trace, no answer."""


class _Hasher(Protocol):
    def update(self, data: bytes, /) -> object: ...
    def hexdigest(self) -> str: ...


_HASHERS: dict[str, Callable[[], _Hasher]] = {"BLAKE3": blake3, "SHA256": hashlib.sha256, "SHA3": hashlib.sha3_256}
#: Names of a trace -> names that `trace_verdict` compares by.
_LOG_NAMES = {"BLAKE3": "BLAKE3", "SHA256": "SHA256", "SHA3": "SHA3-256"}


def hashes_of_stream(stream: IO[bytes], algorithms: Iterable[str]) -> Hashes:
    """Hashes in hex, read piece by piece."""
    hashers = {name: _HASHERS[name]() for name in algorithms}
    while piece := stream.read(PIECE_BYTES):
        for hasher in hashers.values():
            hasher.update(piece)
    return {_LOG_NAMES[name]: hasher.hexdigest() for name, hasher in hashers.items()}


def hashes_of_path(path: Path, algorithms: Iterable[str], wanted: set[str]) -> tuple[Hashes, dict[str, Hashes] | None]:
    """(hashes of the file, hashes of the files in it that are `wanted`, by their paths); a folder has no hash of its own.

    Raises:
        CheckFailed: it cannot be read, or a zip is no honest one.
    """
    names = list(algorithms)
    try:
        if path.is_dir():
            root = path.resolve()
            found = {f"{root.name}/{one.relative_to(root).as_posix()}": one for one in _files(root)}
            contents = {}
            for name in sorted(found.keys() & wanted):
                with found[name].open("rb") as stream:
                    contents[name] = hashes_of_stream(stream, names)
            return {}, contents
        with path.open("rb") as stream:
            whole = hashes_of_stream(stream, names)
        return whole, _zipped(path, names, wanted) if zipfile.is_zipfile(path) else None
    except OSError as error:
        raise CheckFailed(f"{path} cannot be read: {error.strerror}") from None


def _files(folder: Path) -> Iterator[Path]:
    """Plain files below a folder; links lead nowhere."""
    return (one for one in folder.rglob("*") if one.is_file() and not one.is_symlink())


def _zipped(path: Path, algorithms: list[str], wanted: set[str]) -> dict[str, Hashes]:
    contents: dict[str, Hashes] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            members = [one for one in archive.infolist() if one.filename in wanted]
            if len({one.filename for one in members}) < len(members):
                raise CheckFailed(f"{path}: the zip names a file twice")
            if sum(one.file_size for one in members) > max(path.stat().st_size * MAX_RATIO, 2**30):
                raise CheckFailed(f"{path}: the zip's files are more than {MAX_RATIO} times as large as the zip")
            for one in members:
                with archive.open(one) as stream:
                    contents[one.filename] = hashes_of_stream(stream, algorithms)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise CheckFailed(f"{path}: the zip cannot be read: {type(error).__name__}") from None
    return contents


def check(path: Path, traces: Sequence[Trace], trust: Trust = NOBODY) -> list[tuple[Trace, Verdict]]:
    """Verdicts of all traces on a file or folder.

    Raises:
        CheckFailed
    """
    wanted = {one["path"] for trace in traces for one in trace.product["contents"] or []}
    algorithms = {trace.hash_algorithm for trace in traces} & _HASHERS.keys() or {"BLAKE3"}
    whole, contents = hashes_of_path(path, sorted(algorithms), wanted)
    found, now = [], datetime.now(UTC)
    ended = {trace.hash for trace in traces if trace.event == "OBSOLETE"}
    for trace in traces:
        verdict = judge(trace, now=now, trust=trust)
        grade, reasons = grade_content(trace, whole, contents)
        verdict = verdict.with_grade("content", grade)
        for code, words in reasons:
            verdict = verdict.with_grade("content", grade, code, words)
        if trace.hash in ended:
            verdict = verdict.with_grade(
                "status", "obsolete", "OBSOLETE", trace.obsolescence or "an OBSOLETE trace is there"
            )
        found.append((trace, verdict))
    return found


def outcome(found: Sequence[tuple[Trace, Verdict]], policy: Sequence[str]) -> str:
    """Of all traces together: of those that are of this file, the worst; a bad one is not outvoted by a good one."""
    order = ["good", "doubtful", "bad"]
    of_file = [verdict for _, verdict in found if verdict.content in ("match", "partial")]
    verdicts = of_file or [verdict for _, verdict in found]
    return max((one.overall(policy) for one in verdicts), key=order.index, default="bad")


def fetch(url: str, path: Path) -> bytes:
    """What a service says of a file: by its BLAKE3 hash, else by its name.

    Raises:
        CheckFailed: it does not answer.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise CheckFailed("the service's address begins with http:// or https://")
    base = url.rstrip("/") + "/v1/traces"
    addresses = [f"{base}/name/{quote(path.name)}"]
    if not path.is_dir():
        whole, _ = hashes_of_path(path, ["BLAKE3"], set())
        addresses.insert(0, f"{base}/hash/{whole['BLAKE3']}")
    for address in addresses:
        if (answer := _get(address)).strip() not in (b"[]", b""):
            return answer
    return b"[]"


def _get(address: str) -> bytes:
    request = urllib.request.Request(address, headers={"Accept": "application/json"})  # noqa: S310 - the scheme was looked at
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:  # noqa: S310
            data: bytes = response.read(MAX_ANSWER_BYTES + 1)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 404:
            return b"[]"
        raise CheckFailed(f"{address} answers {error.code}") from None
    except (OSError, ValueError) as error:
        raise CheckFailed(f"{address} does not answer: {type(error).__name__}") from None
    if len(data) > MAX_ANSWER_BYTES:
        raise CheckFailed(f"{address} answers with too much")
    return data


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return the exit status."""
    options = _parser().parse_args(arguments)
    say = sys.stdout.write
    try:
        trust = read_trust(options.ca, options.crl)
        data = options.trace.read_bytes() if options.trace else fetch(options.url, options.file)
        traces = parse_traces(data, most=MAX_TRACES)
        if not traces:
            raise CheckFailed(f"there is no trace of {options.file}")
        found = check(options.file, traces, trust)
    except TraceInvalid as error:
        print(f"this is no trace: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"{options.trace} cannot be read: {error.strerror}", file=sys.stderr)
        return 1
    except (CheckFailed, TrustInvalid) as error:
        print(error, file=sys.stderr)
        return 1
    overall = outcome(found, options.policy)
    say(
        _as_json(options.file, found, overall, options.policy)
        if options.json
        else _as_text(options.file, found, overall)
    )
    return _EXIT[overall]


def _as_json(path: Path, found: Sequence[tuple[Trace, Verdict]], overall: str, policy: Sequence[str]) -> str:
    document: dict[str, Any] = {"file": str(path), "overall": overall}
    return json.dumps(document | {"verdicts": [verdict.as_json(policy) for _, verdict in found]}) + "\n"


def _as_text(path: Path, found: Sequence[tuple[Trace, Verdict]], overall: str) -> str:
    lines = [f"{path}: {overall}"]
    for trace, verdict in found:
        at = verdict.facts["timestamp"] or "not registered"
        lines.append(f"  {at}  {trace.event}  {_plain(trace.origin or '-')}  {_plain(trace.name)}")
        grades = ((name, getattr(verdict, name)) for name in GRADES)
        lines.append("    " + "  ".join(f"{name}={value}" for name, value in grades if value is not None))
        lines += [f"    {grade}: {_plain(words)}" for grade, _, words in verdict.reasons]
    return "\n".join(lines) + "\n"


def _plain(text: str) -> str:
    """Words of others on a terminal: nothing that moves its cursor."""
    return "".join(sign if sign.isprintable() else "?" for sign in text)[:300]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lineage check", description="is a file what a trace says of it?")
    parser.add_argument("file", type=Path, help="a product as delivered, its folder, or one of its files")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--trace", type=Path, help="an answer of the service, kept in a file: nothing is asked")
    where.add_argument("--url", help="the service: https://.../trace/api, or https://trace.dataspace.copernicus.eu/api")
    parser.add_argument("--ca", type=Path, help="certificates (PEM) of authorities that are trusted")
    parser.add_argument("--crl", type=Path, help="their revocation lists (PEM or DER)")
    parser.add_argument("--policy", type=_policy, default=USUAL_POLICY, help="grades that decide, divided by commas")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    return parser


def _policy(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    if set(names) - set(GRADES):
        raise argparse.ArgumentTypeError(f"any of {', '.join(GRADES)}")
    return names

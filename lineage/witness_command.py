"""`python -m lineage witness serve|key`: a witness as a process of its own. No database, no HTTP but this one route."""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm

from lineage.errors import KeyMismatch
from lineage.keys import load_ed25519, load_mldsa44
from lineage.note import CosigningKey
from lineage.verify import Unreadable, parse_vkey
from lineage.witness import MAX_BODY_BYTES, Answer, Witness

_TIMEOUT_S = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Words of the command."""
    parser.add_argument("action", choices=("serve", "key"), help="serve; or print the witness's verifier keys")
    parser.add_argument("--dir", type=Path, required=True, help="folder of the witness's keys and of what it has seen")
    parser.add_argument(
        "--name", default="localhost/witness", help="name of the witness in its signatures (default: %(default)s)"
    )
    parser.add_argument(
        "--keys",
        choices=("both", "ed25519", "ml-dsa-44"),
        default="both",
        help="kinds of keys that cosign, made when they are missing (default: %(default)s)",
    )
    parser.add_argument(
        "--log", action="append", default=[], metavar="VKEY", help="verifier key of a log; several for one that rotates"
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8087)


def run(options: argparse.Namespace) -> int:
    """Serve until SIGTERM or Ctrl-C; exit status 2 for keys that are none."""
    options.dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    logs: dict[str, list[Any]] = {}
    try:
        for text in options.log:
            key = parse_vkey(text)
            logs.setdefault(key.name, []).append(key)
        witness = Witness(options.name, _keys(options.dir, options.keys), logs, options.dir)
    except (Unreadable, KeyMismatch, UnsupportedAlgorithm) as error:
        print(error)
        return 2
    print(*witness.vkeys, sep="\n", flush=True)
    if options.action == "serve":
        with serving(witness, options.host, options.port) as server:
            print(f"listening on http://{options.host}:{server.server_port}", flush=True)
            _wait()
    return 0


def _keys(folder: Path, kinds: str) -> list[CosigningKey]:
    """The witness's keys. Who did not choose goes on with Ed25519 where the OpenSSL has no ML-DSA."""
    found: list[CosigningKey] = []
    if kinds != "ml-dsa-44":
        found.append(load_ed25519(folder / "witness.pem"))
    if kinds != "ed25519":
        try:
            found.append(load_mldsa44(folder / "witness-mldsa44.pem"))
        except UnsupportedAlgorithm as error:
            if kinds == "ml-dsa-44":
                raise
            print(f"Ed25519 alone: {error}", file=sys.stderr)
    return found


def _wait() -> None:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    stop.wait()


@contextlib.contextmanager
def serving(witness: Witness, host: str, port: int) -> Any:
    """Serve in threads while the block runs; yields the server, whose `server_port` is the port (0: any)."""
    server = ThreadingHTTPServer((host, port), type("Handler", (_Handler,), {"witness": witness}))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    witness: Witness
    protocol_version = "HTTP/1.1"
    timeout = _TIMEOUT_S

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not length.isdigit() or int(length[:9]) > MAX_BODY_BYTES:
            self.close_connection = True
            self._send(Answer(413 if length.isdigit() else 411, f"a body of at most {MAX_BODY_BYTES:,} bytes\n"))
            return
        body = self.rfile.read(int(length))
        self._send(self.witness.add_checkpoint(body) if self.path == "/add-checkpoint" else Answer(404, "not here\n"))

    def _send(self, answer: Answer) -> None:
        data = answer.text.encode()
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.media_type)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *words: Any) -> None:
        """Say nothing."""

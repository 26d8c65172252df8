"""A time-stamping authority (RFC 3161) on loopback: `openssl ts` behind HTTP, with a root of its own."""

from __future__ import annotations

import contextlib
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

_CONFIG = """[tsa]
serial = {folder}/serial
signer_digest = sha256
digests = sha256
default_policy = 1.2.3.4.1
ess_cert_id_alg = sha256
"""


@dataclass
class Authority:
    """Where it answers, and the file with its root."""

    url: str
    root: Path
    answers: list[bytes] = field(default_factory=list)  # given in the place of stamps


@contextlib.contextmanager
def authority(folder: Path) -> Iterator[Authority]:
    """The authority, as long as it is needed."""
    folder.mkdir(parents=True, exist_ok=True)
    _make(folder)
    made = Authority("", folder / "root.pem")

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            query = self.rfile.read(int(self.headers["Content-Length"]))
            data = made.answers.pop() if made.answers else _reply(folder, query)
            self.send_response(200)
            self.send_header("Content-Type", "application/timestamp-reply")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *arguments: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.url = f"http://127.0.0.1:{server.server_port}/tsr"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _reply(folder: Path, query: bytes) -> bytes:
    (folder / "query.tsq").write_bytes(query)
    words = ["openssl", "ts", "-reply", "-config", "tsa.cnf", "-section", "tsa", "-queryfile", "query.tsq"]
    words += ["-signer", "tsa.pem", "-inkey", "tsa.key", "-out", "reply.tsr"]
    subprocess.run(words, cwd=folder, check=True, capture_output=True)
    return (folder / "reply.tsr").read_bytes()


def _make(folder: Path) -> None:
    root, key = (rsa.generate_private_key(65537, 2048) for _ in range(2))
    issuer, subject = (
        x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]) for name in ("Test root", "Test TSA")
    )
    now = datetime.now(UTC)

    def begun(name: x509.Name, public: rsa.RSAPublicKey) -> x509.CertificateBuilder:
        builder = x509.CertificateBuilder().subject_name(name).issuer_name(issuer).public_key(public)
        builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - timedelta(days=1))
        return builder.not_valid_after(now + timedelta(days=30))

    of_root = begun(issuer, root.public_key()).add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
    stamping = x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.TIME_STAMPING])
    of_key = begun(subject, key.public_key()).add_extension(stamping, critical=True)
    (folder / "root.pem").write_bytes(of_root.sign(root, SHA256()).public_bytes(Encoding.PEM))
    (folder / "tsa.pem").write_bytes(of_key.sign(root, SHA256()).public_bytes(Encoding.PEM))
    (folder / "tsa.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (folder / "tsa.cnf").write_text(_CONFIG.format(folder=folder))
    (folder / "serial").write_text("01\n")

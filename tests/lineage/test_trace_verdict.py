"""What traces are worth: signatures as trace-cli and trace4eo check them, certificates, contents; and a parser that nothing surprises."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtensionOID
from hypothesis import given, settings
from hypothesis import strategies as st

from lineage import trace_check
from lineage.keys import Signer
from lineage.trace_message import message_of
from lineage.trace_parse import TooManyTraces, Trace, TraceInvalid, parse_trace, parse_traces
from lineage.trace_shape import product_of, sign_trace
from lineage.trace_trust import NOBODY, Trust, TrustInvalid, certificate_sha256, key_sha256, read_trust
from lineage.trace_verdict import USUAL_POLICY, grade_content, judge
from tests.lineage.samples import signer
from tests.lineage.trace_making import NOW, Holder, ann, answered, holder, made, product, revocations
from tests.shared import shared_path
from tests.size import sized

DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    return signer(tmp_path_factory.mktemp("keys"))


def parsed(trace: dict[str, Any]) -> Trace:
    return parse_trace(json.dumps(trace).encode())


def graded(trace: dict[str, Any], trust: Trust = NOBODY) -> tuple[str, str]:
    verdict = judge(parsed(trace), now=NOW, trust=trust)
    return verdict.signature, verdict.certificate


def owned(own: Signer) -> dict[str, Any]:
    """A trace as the façade answers it."""
    body = {
        "size": 5,
        "hashes": [{"alg": "BLAKE3", "digest": "ab" * 32}],
        "inputs": [{"name": "a<b>.tif", "hash": "cd" * 32}],
    }
    message, signature = sign_trace("own&product", body, own.facade.key)
    signed = {
        "signature": signature,
        "algorithm": "RSA-SHA256",
        "certificate": own.facade.text,
        "message": message,
    }
    trace = {
        "product": product_of("own&product", body),
        "event": "CREATE",
        "hash_algorithm": "BLAKE3",
        "signature": signed,
    }
    return answered(trace)


def trace_cli_accepts(trace: dict[str, Any]) -> bool:
    """The rules of trace-cli by other means than ours: period, `cert.CheckSignature(cert.SignatureAlgorithm, ...)`, the exact message."""
    certificate = x509.load_der_x509_certificate(base64.b64decode(trace["signature"]["certificate"]))
    at = datetime.fromisoformat(trace["timestamp"])
    if not certificate.not_valid_before_utc <= at <= certificate.not_valid_after_utc:
        return False
    key, algorithm = certificate.public_key(), certificate.signature_hash_algorithm
    assert isinstance(key, rsa.RSAPublicKey)
    assert algorithm is not None
    message = trace["signature"]["message"].encode()
    key.verify(base64.b64decode(trace["signature"]["signature"]), message, padding.PKCS1v15(), algorithm)
    return message.decode() == message_of(trace["product"], trace["event"])


def trace4eo_accepts(trace: dict[str, Any]) -> bool:
    """trace4eo takes nothing but RSA-SHA256, and checks by SHA256withRSA whatever the certificate says."""
    certificate = x509.load_der_x509_certificate(base64.b64decode(trace["signature"]["certificate"]))
    key = certificate.public_key()
    if trace["signature"]["algorithm"] != "RSA-SHA256" or not isinstance(key, rsa.RSAPublicKey):
        return False
    signature = base64.b64decode(trace["signature"]["signature"])
    key.verify(signature, trace["signature"]["message"].encode(), padding.PKCS1v15(), hashes.SHA256())
    return True


def test_the_known_clients_accept_our_signature(own: Signer) -> None:
    trace = owned(own)
    assert trace_cli_accepts(trace)
    assert trace4eo_accepts(trace)
    assert own.facade.key.key_size == 3072
    assert own.facade.certificate.signature_algorithm_oid == x509.SignatureAlgorithmOID.RSA_WITH_SHA256
    assert graded(trace) == ("ok", "self_signed")
    pinned = Trust(pinned=frozenset({certificate_sha256(own.facade.certificate)}))
    assert judge(parsed(trace), now=NOW, trust=pinned).overall() == "good"


@pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl here")
def test_openssl_accepts_our_signature(own: Signer, tmp_path: Path) -> None:
    trace = owned(own)
    (tmp_path / "cert.der").write_bytes(base64.b64decode(trace["signature"]["certificate"]))
    (tmp_path / "signature").write_bytes(base64.b64decode(trace["signature"]["signature"]))
    (tmp_path / "message").write_text(trace["signature"]["message"])
    key = ["openssl", "x509", "-inform", "DER", "-in", "cert.der", "-pubkey", "-noout", "-out", "key.pem"]
    subprocess.run(key, check=True, cwd=tmp_path, timeout=30)
    verify = ["openssl", "dgst", "-sha256", "-verify", "key.pem", "-signature", "signature", "message"]
    done = subprocess.run(verify, check=True, cwd=tmp_path, capture_output=True, timeout=30)
    assert b"Verified OK" in done.stdout


def test_the_real_sample() -> None:
    path = shared_path("lineage", "cdse-trace", "trace_S2A_MSIL1C_20230420T100021_T33UVP_create.json")
    verdict = judge(parse_trace(path.read_bytes()), now=NOW)
    assert (verdict.signature, verdict.certificate) == ("ok", "expired_at_trace_time")
    assert verdict.facts["message"] == "exact"
    assert verdict.overall() == "doubtful"


def changed(trace: dict[str, Any], **signature: str) -> dict[str, Any]:
    return {**trace, "signature": {**trace["signature"], **signature}}


def test_signatures() -> None:
    trace, other = made(ann(), product(1)), made(ann(), product(2))
    assert graded(trace) == ("ok", "self_signed")
    assert graded(made(None, product(1))) == ("none", "n/a")
    assert graded(changed(trace, certificate="")) == ("unknown_key", "n/a")
    assert graded(changed(trace, signature="?")) == ("undecodable", "n/a")
    assert graded(changed(trace, certificate="AAAA")) == ("undecodable", "n/a")
    assert graded(changed(trace, certificate=ann().text[:-8])) == ("undecodable", "n/a")
    assert graded(changed(trace, signature=other["signature"]["signature"]))[0] == "bad"
    assert graded({**trace, "signature": other["signature"]})[0] == "bad"  # it holds, of another product
    assert graded({**trace, "event": "COPY"})[0] == "bad"
    assert graded(changed(trace, certificate=holder("bob").text))[0] == "bad"
    assert graded(changed(trace, algorithm="RSA-SHA256"))[0] == "ok"  # nobody reads it; told as a reason
    assert judge(parsed(changed(trace, algorithm="x")), now=NOW).reasons[0][1] == "ALGORITHM_NAMED_WRONG"
    assert graded(made(holder("rsa", kind="rsa"), product(1)))[0] == "ok"


def test_a_key_that_no_client_knows() -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "ed")])
    builder = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
    )
    certificate = builder.not_valid_before(NOW - DAY).not_valid_after(NOW + DAY).sign(key, None)
    text = base64.b64encode(certificate.public_bytes(Encoding.DER)).decode()
    trace = made(ann(), product(1))
    assert graded(changed(trace, certificate=text))[0] == "unknown_key"


def test_certificates_that_cryptography_cannot_take_are_undecodable_and_break_nothing() -> None:
    key, name = rsa.generate_private_key(65537, 2048), x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "odd")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(NOW - DAY).not_valid_after(NOW + DAY)
    party = x509.UnrecognizedExtension(
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME, bytes.fromhex("3002a500")
    )  # an EDIPartyName
    named = builder.add_extension(party, critical=False).sign(key, hashes.SHA256()).public_bytes(Encoding.DER)
    plain = builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)
    algorithm = bytes.fromhex("2a864886f70d01010b")
    unknown = plain.replace(algorithm, algorithm[:-1] + b"\x7f")
    assert unknown != plain
    trace = made(holder("rsa", kind="rsa"), product(1))
    for der in (named, unknown):
        found = graded(changed(trace, certificate=base64.b64encode(der).decode()))
        assert found[0] in ("undecodable", "bad"), found


def authority() -> tuple[Holder, Holder]:
    """A root and one below it."""
    long = {"starts": NOW - 1000 * DAY, "ends": NOW + 1000 * DAY}
    root = holder("root", ca=True, **long)
    return root, holder("between", by=root, ca=True, **long)


def test_certificates() -> None:
    root, between = authority()
    known = Trust((root.certificate, between.certificate))
    anchored = Trust((root.certificate, between.certificate), frozenset({certificate_sha256(root.certificate)}))
    good = made(holder("service", by=between), product(1))
    assert graded(good, anchored) == ("ok", "valid")
    assert graded(good, known)[1] == "untrusted_chain"  # a root that nobody pinned
    assert graded(good, Trust((root.certificate,), anchored.pinned))[1] == "untrusted_chain"  # one is missing
    assert graded(good)[1] == "untrusted_chain"
    past = answered(good, at=NOW + 400 * DAY)
    assert graded(past, anchored)[1] == graded(past)[1] == "expired_at_trace_time"
    assert judge(parsed(past), now=NOW, trust=anchored).is_chain_trusted
    assert not judge(parsed(past), now=NOW).is_chain_trusted
    assert graded(answered(good, at=NOW - 400 * DAY), anchored)[1] == "not_yet_valid"
    assert graded(made(ann(), product(1)), anchored)[1] == "self_signed"
    assert graded(made(ann(), product(1)), Trust(keys=frozenset({key_sha256(ann().certificate)})))[1] == "valid"


def test_who_is_no_authority_makes_none() -> None:
    root, _ = authority()
    anchored = Trust((root.certificate,), frozenset({certificate_sha256(root.certificate)}))
    plain = holder("plain", by=root)  # a good certificate, but not of an authority
    below = made(holder("below", by=plain), product(1))
    both = Trust((root.certificate, plain.certificate), anchored.pinned)
    assert graded(made(plain, product(1)), anchored)[1] == "valid"
    assert graded(below, both)[1] == "untrusted_chain"
    lookalike = holder("root", ca=True)
    assert graded(made(holder("service", by=lookalike), product(1)), anchored)[1] == "untrusted_chain"


def test_a_revoked_certificate_is_revoked_whenever_that_was(tmp_path: Path) -> None:
    root, between = authority()
    service = holder("service", by=between)
    (tmp_path / "ca.pem").write_bytes(root.pem + between.pem)
    listed = [revocations(between, service), revocations(root)]
    (tmp_path / "crl.pem").write_bytes(b"".join(one.public_bytes(Encoding.PEM) for one in listed))
    (tmp_path / "crl.der").write_bytes(listed[0].public_bytes(Encoding.DER))
    trace = made(service, product(1))
    assert graded(trace, read_trust(tmp_path / "ca.pem"))[1] == "valid"
    for which in ("crl.pem", "crl.der"):
        trust = read_trust(tmp_path / "ca.pem", tmp_path / which)
        assert graded(trace, trust)[1] == graded(answered(trace, at=NOW - 5 * DAY), trust)[1] == "revoked"
        assert judge(parsed(trace), now=NOW, trust=trust).overall() == "bad"
    forged = revocations(Holder(holder("x").key, between.certificate), service)  # signed by another key
    trust = Trust(
        read_trust(tmp_path / "ca.pem").certificates, read_trust(tmp_path / "ca.pem").pinned, revocations=(forged,)
    )
    assert graded(trace, trust)[1] == "valid"
    (tmp_path / "ca.pem").write_bytes(b"nothing")
    for wrong in (tmp_path / "ca.pem", tmp_path / "missing"):
        with pytest.raises(TrustInvalid):
            read_trust(wrong)


def test_the_policy_decides_which_grades_count() -> None:
    verdict = judge(parsed(made(ann(), product(1))), now=NOW)
    assert verdict.overall() == "doubtful"
    assert verdict.overall(["signature"]) == "good"
    assert verdict.with_grade("content", "mismatch").overall(["signature", "content"]) == "bad"
    assert verdict.with_grade("log", "absent").overall() == "doubtful"
    assert verdict.with_grade("status", "obsolete", "OBSOLETE", "so").as_json()["reasons"][-1]["code"] == "OBSOLETE"


def test_contents() -> None:
    listed = [{"path": "P/a", "hash": "aa" * 32}, {"path": "P/b", "hash": "bb" * 32}]
    trace = parsed(made(ann(), product(1, contents=listed)))

    def grade(whole: dict[str, str], contents: dict[str, dict[str, str]] | None = None) -> str:
        return grade_content(trace, whole, contents)[0]

    assert grade({"BLAKE3": f"{1:064x}"}) == "match"
    assert grade({"BLAKE3": "00" * 32}) == "mismatch"
    assert grade({"BLAKE3": "aa" * 32}) == "partial"
    assert grade({"SHA256": "aa" * 32}) == "wrong_algorithm"
    assert grade({}, {"P/a": {"BLAKE3": "aa" * 32}}) == "partial"
    assert grade({}, {"P/a": {"BLAKE3": "aa" * 32}, "P/b": {"BLAKE3": "00" * 32}}) == "mismatch"
    assert grade({"BLAKE3": "00" * 32}, {"P/a": {"BLAKE3": "aa" * 32}}) == "partial"  # zipped anew
    assert grade({}, {"P/c": {"BLAKE3": "aa" * 32}}) == "not_listed"
    assert grade({}, {}) == "not_listed"
    md5 = parsed({**made(ann(), product(1)), "hash_algorithm": "MD5"})
    assert grade_content(md5, {"BLAKE3": f"{1:064x}"})[0] == "wrong_algorithm"


PLAIN = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=20)
JSON = st.recursive(
    PLAIN | st.sampled_from(["CREATE", "ab" * 32, "BLAKE3"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)
GOOD = json.dumps(
    answered(made(ann(), product(1, contents=[{"path": "a", "hash": "00"}], inputs=[{"name": "b", "hash": ""}])))
)


def paths(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a document."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else []
    return [at, *(found for name, one in inner for found in paths(one, (*at, name)))]


def put(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    copy = json.loads(json.dumps(document))
    where = copy
    for step in path[:-1]:
        where = where[step]
    where[path[-1]] = value
    return copy


def survives(data: bytes) -> None:
    """Read, or refused in our own words; whatever is read can be judged."""
    try:
        traces = parse_traces(data, most=5)
    except TraceInvalid:
        return
    for trace in traces:
        verdict = judge(trace, now=NOW)
        json.dumps(verdict.as_json())
        grade_content(trace, {"BLAKE3": "00" * 32}, {"a": {"BLAKE3": "00" * 32}})
        assert parse_trace(trace.raw.encode()) == trace


@settings(max_examples=sized(100, 20_000), deadline=None)
@given(st.data())
def test_a_trace_with_anything_anywhere(data: st.DataObject) -> None:
    document = json.loads(GOOD)
    path = data.draw(st.sampled_from(paths(document)))
    survives(json.dumps(put(document, path, data.draw(JSON))).encode())


@settings(max_examples=sized(100, 20_000), deadline=None)
@given(st.data())
def test_a_trace_with_other_bytes(data: st.DataObject) -> None:
    text = bytearray(GOOD.encode())
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(text) - 1))
        text[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4))
    survives(bytes(text))


@settings(max_examples=sized(50, 5000), deadline=None)
@given(st.binary(max_size=200))
def test_certificates_of_other_bytes(junk: bytes) -> None:
    der = bytearray(base64.b64decode(ann().text))
    der[40 : 40 + len(junk) // 10] = junk[: len(junk) // 10]
    for certificate in (junk, bytes(der), bytes(der[: len(junk)])):
        survives(json.dumps(changed(json.loads(GOOD), certificate=base64.b64encode(certificate).decode())).encode())


@pytest.mark.parametrize(
    "data",
    [
        b"", b"null", b"1", b"[", b"[" * 1_000_000, b'{"a":' * 200_000, b"[1" * 100_000, b"9" * 100_000,
        b"[" + b"9" * 5000 + b"]", b'"\\ud800"', b"\xff",
        b"\xef\xbb\xbf[]", GOOD.encode() + b"x", b"[,]", b'{"event":"CREATE","event":"CREATE"}', b"NaN", b"[1e999]",
    ],
)  # fmt: skip
def test_hostile_texts(data: bytes) -> None:
    with pytest.raises(TraceInvalid):
        parse_traces(data, most=5)


def test_more_traces_than_asked_for() -> None:
    text = f"[{','.join([GOOD] * 6)}]".encode()
    with pytest.raises(TooManyTraces):
        parse_traces(text, most=5)
    traces = parse_traces(text, most=6)
    assert [one.raw for one in traces] == [GOOD] * 6


def test_times_as_go_writes_them() -> None:
    for text, meant in (
        ("2024-06-19T02:19:24Z", datetime(2024, 6, 19, 2, 19, 24, tzinfo=UTC)),
        ("2024-06-19T02:19:24.020063Z", datetime(2024, 6, 19, 2, 19, 24, 20063, tzinfo=UTC)),
        ("2024-06-19T04:19:24.123456789+02:00", datetime(2024, 6, 19, 2, 19, 24, 123456, tzinfo=UTC)),
    ):
        assert parsed({**json.loads(GOOD), "timestamp": text}).timestamp == meant
    for text in (
        "2024-06-19",
        "20240619T021924Z",
        "2024-06-19T02:19:24",
        "9999-12-31T23:59:59-23:59",
        "2024-13-01T00:00:00Z",
    ):
        with pytest.raises(TraceInvalid):
            parsed({**json.loads(GOOD), "timestamp": text})


FILES = {"P.SAFE/manifest.safe": b"<xml/>", "P.SAFE/a/b.jp2": b"pixels", "P.SAFE/unlisted": b"more"}


def traced(tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    """A zipped product, unpacked beside it, and its trace."""
    path = tmp_path / "P.SAFE.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in FILES.items():
            archive.writestr(name, data)
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path / "unpacked")
    contents = [{"path": name, "hash": blake3(data).hexdigest()} for name, data in list(FILES.items())[:2]]
    described = {
        "name": path.name,
        "size": path.stat().st_size,
        "hash": blake3(path.read_bytes()).hexdigest(),
        "contents": contents,
    }
    return path, answered(made(ann(), described))


def run(capsys: pytest.CaptureFixture[str], *words: Any) -> tuple[int, str]:
    status = trace_check.main([str(word) for word in words])
    said = capsys.readouterr()
    return status, said.out + said.err


def test_the_command_checks_a_file_offline(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, trace = traced(tmp_path)
    answer, ca = tmp_path / "answer.json", tmp_path / "ca.pem"
    answer.write_text(json.dumps([trace]))
    ca.write_bytes(ann().pem)
    status, said = run(capsys, path, "--trace", answer, "--ca", ca)
    assert (status, said.splitlines()[0]) == (0, f"{path}: good"), said
    assert "signature=ok  certificate=valid  content=match" in said
    assert run(capsys, path, "--trace", answer)[0] == 3  # nobody vouches for the certificate
    assert run(capsys, path, "--trace", answer, "--policy", "signature,content")[0] == 0
    found = json.loads(run(capsys, path, "--trace", answer, "--ca", ca, "--json")[1])
    assert (found["overall"], found["verdicts"][0]["content"]) == ("good", "match")
    folder = tmp_path / "unpacked" / "P.SAFE"
    assert "content=partial" in run(capsys, folder, "--trace", answer, "--ca", ca)[1]
    assert "content=partial" in run(capsys, folder / "manifest.safe", "--trace", answer, "--ca", ca)[1]
    (folder / "a" / "b.jp2").write_bytes(b"other pixels")
    status, said = run(capsys, folder, "--trace", answer, "--ca", ca)
    assert (status, "content=mismatch" in said, "P.SAFE/a/b.jp2" in said) == (1, True, True)
    path.write_bytes(path.read_bytes() + b"x")  # the zip is another, its files are the same
    assert "content=partial" in run(capsys, path, "--trace", answer, "--ca", ca)[1]


def test_one_good_trace_does_not_outvote_a_bad_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, trace = traced(tmp_path)
    answer, ca = tmp_path / "answer.json", tmp_path / "ca.pem"
    ca.write_bytes(ann().pem)
    bad = changed(trace, signature=made(ann(), product(9))["signature"]["signature"])
    answer.write_text(json.dumps([trace, bad]))
    assert run(capsys, path, "--trace", answer, "--ca", ca)[0] == 1
    obsolete = answered(made(ann(), trace["product"], "OBSOLETE", obsolescence="wrong\x1b[2J orbit"))
    answer.write_text(json.dumps([trace, obsolete]))
    status, said = run(capsys, path, "--trace", answer, "--ca", ca)
    assert (status, "wrong?[2J orbit" in said, "\x1b" in said) == (1, True, False)


def test_what_cannot_be_checked_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, trace = traced(tmp_path)
    answer = tmp_path / "answer.json"
    for text, words in (("[]", "there is no trace"), ("{", "this is no trace"), (None, "cannot be read")):
        answer.unlink(missing_ok=True)
        if text is not None:
            answer.write_text(text)
        status, said = run(capsys, path, "--trace", answer)
        assert (status, words in said) == (1, True), said
    answer.write_text(json.dumps(trace))
    assert run(capsys, tmp_path / "missing", "--trace", answer) == (
        1,
        f"{tmp_path / 'missing'} cannot be read: No such file or directory\n",
    )
    broken = tmp_path / "broken.zip"
    broken.write_bytes(path.read_bytes()[:30] + path.read_bytes()[36:])
    assert run(capsys, broken, "--trace", answer)[0] == 1
    bomb = tmp_path / "bomb.zip"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("P.SAFE/manifest.safe", b"")
    archive_bytes = bytearray(bomb.read_bytes())
    place = archive_bytes.index(b"PK\x01\x02") + 24
    archive_bytes[place : place + 4] = (2**31).to_bytes(4, "little")  # it says that two gibibytes are in it
    bomb.write_bytes(archive_bytes)
    assert "times as large" in run(capsys, bomb, "--trace", answer)[1]
    for url in ("file:///etc/passwd", "http://127.0.0.1:1"):
        assert run(capsys, path, "--url", url)[0] == 1


def test_the_public_key_of_a_certificate_is_what_a_key_file_holds() -> None:
    der = ann().key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    digest = hashes.Hash(hashes.SHA256())
    digest.update(der)
    assert key_sha256(ann().certificate) == digest.finalize()
    assert USUAL_POLICY == ("signature", "certificate", "content", "status")

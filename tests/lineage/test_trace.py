"""The Copernicus-shaped view of the log."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import jsonschema
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from db.pools import Pool
from lineage import log
from lineage.events import Kind
from lineage.sequencer import sequence
from lineage.trace import message_of, trace_by_id, traces_by_hash, traces_by_name
from tests.lineage.samples import event, signer
from tests.shared import shared_path


async def filled(pool: Pool, tmp_path: Path) -> list[object]:
    events = [
        event(1),
        event(1, Kind.UPDATE),
        event(1, Kind.COPY, "other"),
        event(2, Kind.CREATE, "own", inputs=[{"name": "field.tif", "hash": "ab" * 32}]),
        event(3, Kind.WITHDRAW, reason="Corrupted product"),
    ]
    async with pool.connection() as conn, conn.transaction():
        await log.append(conn, *events)
    await sequence(pool, signer(tmp_path))
    return [one.id for one in events]


async def test_traces_have_the_published_shape(pool: Pool, tmp_path: Path) -> None:
    ids = await filled(pool, tmp_path)
    schema = json.loads(shared_path("lineage", "cdse-trace", "trace.schema.json").read_text())
    async with pool.connection() as conn:
        harvested = (await traces_by_name(conn, "PRODUCT_1")).documents()
        own = (await traces_by_name(conn, "PRODUCT_2.SAFE.zip")).documents()
        gone = (await traces_by_name(conn, "PRODUCT_3.SAFE")).documents()
        assert (await traces_by_name(conn, "PRODUCT_4")).text() == "[]"
        first = await trace_by_id(conn, str(ids[0]))
        assert first is not None
        assert first.document() == harvested[0]
        assert await trace_by_id(conn, str(ids[1])) is None
        by_hash = await traces_by_hash(conn, f"{2:064x}")
        assert [one["id"] for one in by_hash.documents()] == [str(ids[3])]
    for traces in (harvested, own, gone):
        jsonschema.validate(traces, schema)
    assert [(one["event"], one["origin"]) for one in harvested] == [("COPY", "demo"), ("COPY", "other")]
    assert [one["signature"]["signature"] for one in harvested] == ["", ""]
    assert gone[0]["obsolescence"] == "Corrupted product"
    assert gone[0]["event"] == "OBSOLETE"


async def test_own_traces_are_signed_as_the_known_clients_check_them(pool: Pool, tmp_path: Path) -> None:
    await filled(pool, tmp_path)
    async with pool.connection() as conn:
        (trace,) = (await traces_by_name(conn, "PRODUCT_2")).documents()
    signature = trace["signature"]
    certificate = x509.load_der_x509_certificate(base64.b64decode(signature["certificate"]))
    certificate.public_key().verify(  # type: ignore[union-attr,call-arg]
        base64.b64decode(signature["signature"]), signature["message"].encode(), padding.PKCS1v15(), hashes.SHA256()
    )
    assert certificate.signature_hash_algorithm.name == "sha256"  # type: ignore[union-attr]
    said = json.loads(signature["message"])
    assert said == {key: value for key, value in {**trace["product"], "event": "CREATE"}.items() if value is not None}


def test_message_equals_the_one_of_a_real_trace() -> None:
    path = shared_path("lineage", "cdse-trace", "trace_S2A_MSIL1C_20230420T100021_T33UVP_create.json")
    document = json.loads(path.read_text())
    for trace in document if isinstance(document, list) else [document]:
        product = {"contents": None, "inputs": None, **trace["product"]}
        assert message_of(product, trace["event"]) == trace["signature"]["message"]


@pytest.mark.parametrize("sign", "<>&\u2028\u2029")
def test_message_escapes_as_go_does(sign: str) -> None:
    product = {"name": f"a{sign}b", "size": 1, "hash": "00", "contents": None, "inputs": None}
    assert f"a\\u{ord(sign):04x}b" in message_of(product, "CREATE")

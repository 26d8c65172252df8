"""stac-api-validator, the community's judge of STAC APIs, finds nothing wrong in any conformance class that it knows and we declare."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.contract.conftest import Served
from tests.shared import shared_path

VALIDATE = Path(__file__).with_name("validate.py")
CLASSES = (
    "core", "item-search", "features", "collections", "children", "filter",
    "item-search#sort", "item-search#fields", "item-search#query", "features#sort", "features#fields", "features#query",
    "transaction",
)  # fmt: skip
COLLECTION = "sentinel-2-l2a"
WORLD = '{"type":"Polygon","coordinates":[[[-180,-90],[180,-90],[180,90],[-180,90],[-180,-90]]]}'
QUERY = {
    "query-comparison-field": "eo:cloud_cover", "query-eq-value": "33", "query-neq-value": "33", "query-lt-value": "34",
    "query-lte-value": "33", "query-gt-value": "10", "query-gte-value": "33", "query-substring-field": "platform",
    "query-starts-with-value": "sentinel", "query-ends-with-value": "2a", "query-contains-value": "inel-2",
    "query-in-field": "grade", "query-in-values": "a,b",
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_stac_api_validator_finds_no_errors(served: Served, judges: Path) -> None:
    schemas = shared_path("schemas")
    command = [
        str(judges), str(VALIDATE), str(schemas), "--root-url", f"{served.url}/stac/", "--collection", COLLECTION, "--geometry", WORLD,
        "--auth-bearer-token", served.token, "--fields-nested-property", "properties.eo:cloud_cover", "--validate-pagination",
        "--transaction-collection", COLLECTION,
    ]  # fmt: skip
    for name in CLASSES:
        command += ["--conformance", name]
    for name, value in QUERY.items():
        command += [f"--{name}", value]
    done = subprocess.run(command, capture_output=True, text=True, timeout=570)
    print(done.stdout[-6000:], done.stderr[-3000:])
    assert re.search(r"^Errors: none$", done.stdout, re.MULTILINE)
    assert done.returncode == 0

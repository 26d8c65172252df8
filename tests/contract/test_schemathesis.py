"""schemathesis, which makes requests of the OpenAPI document, good ones and bad, meets no 5xx in ten thousand (at full size)."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.contract.conftest import Served
from tests.size import FULL, sized

CALLS = sized(400, 10_000)
#: Cases for each operation and phase; enough for as many calls over all operations. Coverage alone makes nine thousand.
CASES = sized(12, 30)
PHASES = "examples,coverage,fuzzing" if FULL else "examples,fuzzing"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_schemathesis_meets_no_server_error(served: Served, judges: Path, tmp_path: Path) -> None:
    command = [
        str(judges.with_name("schemathesis")), "run", f"{served.url}/stac/api", "--url", f"{served.url}/stac",
        "--header", f"Authorization: Bearer {served.token}", "--checks", "not_a_server_error", "--phases", PHASES,
        "--max-examples", str(CASES), "--continue-on-failure", "--workers", "2", "--seed", "1", "--no-color",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=570, cwd=tmp_path)
    print(done.stdout[-6000:], done.stderr[-2000:])
    calls = re.search(r"^\s*(\d+) generated", done.stdout, re.MULTILINE)
    assert calls is not None
    assert int(calls[1]) >= CALLS
    assert done.returncode == 0

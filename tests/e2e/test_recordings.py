"""The main job on real input: recorded answers of real catalogues, replayed, harvested by the command."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import recordings_harvest
from tests.shared import shared_path

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(300)]

PAGE = Path(__file__).parents[2] / "docs" / "recordings.md"


def test_replayed_recordings_are_harvested_and_the_page_tells_the_counts(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    shared_path("upstreams", "recordings")
    rows, summary = recordings_harvest.run(tmp_path_factory.mktemp("replay") / "run")
    assert all(row["status"] == "done" for row in rows)
    assert summary["items"] == summary["events"] > 30
    assert summary["quarantine"] == 0
    assert recordings_harvest.markdown(rows, summary) in PAGE.read_text(encoding="utf-8")

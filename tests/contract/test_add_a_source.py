"""docs/add-a-source.md, followed word by word: its file, its commands."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from db.settings import DatabaseSettings
from ingest.adapters import PROTOCOLS
from tests.ingest.commands import Commands
from tests.upstreams import serve

PAGE = Path(__file__).parents[2] / "docs" / "add-a-source.md"
TEXT = PAGE.read_text(encoding="utf-8")


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)
    assert found is not None
    return found[1]


def test_the_page_fits_one_screen_and_names_every_protocol_and_key() -> None:
    assert len(TEXT.splitlines()) <= 60
    for name, adapter in PROTOCOLS.items():
        assert name in TEXT
        for key in adapter.REQUIRED_KEYS:
            assert f"`{key}`" in TEXT or f"{key} =" in TEXT, (name, key)


@pytest.mark.slow
def test_its_file_and_its_commands_work_as_written(database: DatabaseSettings, tmp_path: Path) -> None:
    with serve(products=40) as upstreams:
        commands = Commands(database, tmp_path)
        folder = tmp_path / "sources"
        folder.mkdir()
        # The only change: where the catalogue is.
        text = block("toml").replace("https://catalogue.example.org/odata/v1", upstreams.odata_url)
        (folder / "my-mirror.toml").write_text(text, encoding="utf-8")
        done = []
        for line in block("bash").splitlines():
            words = shlex.split(line, comments=True)
            if words[:1] == ["export"]:
                assert words[1].startswith("FEDERATOR_SOURCES_DIR=")
                continue
            assert words[:3] == ["python", "-m", "ingest"]
            answer = commands.run(*words[3:])
            assert answer.returncode == 0, answer.stdout + answer.stderr
            done.append((words[3], answer.stdout))
        truth = len(upstreams.truth["sentinel-2-l2a"])
    assert [name for name, _ in done] == ["sources", "check", "harvest"]
    assert "my-mirror" in done[0][1]
    assert "works" in done[1][1]
    assert commands.count_items() == truth

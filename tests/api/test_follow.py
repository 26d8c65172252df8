"""The change feed is enough: a follower from 0 has the catalogue's present state, and names what differs."""

from __future__ import annotations

import asyncio
from pathlib import Path

import psycopg
import pytest

from db.pools import open_pool
from lineage import __main__ as command
from lineage.audit import audit
from lineage.keys import load_signer
from lineage.sequencer import sequence
from lineage.settings import LineageSettings
from lineage.verify import Fault
from tests.api.editing import OWN, TOKEN, Editor, item


def _numbered(editor: Editor, folder: Path) -> list[Fault]:
    async def work() -> list[Fault]:
        async with open_pool(editor.database, min_size=0, max_size=2) as pool:
            await sequence(pool, load_signer(LineageSettings(data_dir=folder)))
            async with pool.connection() as conn:
                return await audit(conn)

    return asyncio.run(work())


def test_a_follower_from_0_equals_the_catalogue(
    editor: Editor, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Created, edited, deleted, created anew, with nulls and with times of a range; then changed by hand."""
    url, items = editor.url, f"/collections/{OWN}/items"
    ranged = item("ranged", assets=40)
    ranged["properties"] |= {
        "datetime": None,
        "start_datetime": "2026-01-01T00:00:00Z",
        "end_datetime": "2026-01-02T00:00:00Z",
    }
    ranged["properties"] |= {"note": None, "whole": 5.0, "huge": 1e22, "name": "\u00c4\U0001f600"}
    for one in (*(item(f"item-{number}") for number in range(5)), ranged):
        assert editor.client.post(items, json=one).status_code == 201
    assert editor.client.patch(f"{items}/item-1", json={"properties": {"eo:cloud_cover": 7}}).is_success
    for name in ("item-2", "item-3"):
        assert editor.client.delete(f"{items}/{name}").is_success
    assert editor.client.post(items, json=item("item-3")).status_code == 201
    assert _numbered(editor, tmp_path) == []
    monkeypatch.setenv("A_KEY", TOKEN)
    words = ["follow", url, "--compare", "--token-env", "A_KEY", "--state", str(tmp_path / "state")]
    assert command.main(words) == 0, capsys.readouterr().out
    assert "5 items in" in capsys.readouterr().out
    assert editor.client.patch(f"{items}/item-0", json={"properties": {"eo:cloud_cover": 9}}).is_success
    _numbered(editor, tmp_path)
    assert command.main(words) == 0
    assert capsys.readouterr().out.startswith("1 events read; 5 items")
    with psycopg.connect(editor.database.conninfo, autocommit=True) as conn:
        conn.execute("alter table pgstac.items disable trigger all")
        conn.execute("delete from pgstac.items where id = 'item-4'")
        conn.execute(
            "update pgstac.items set content = jsonb_set(content, '{properties,eo:cloud_cover}', '99') where id = 'item-0'"
        )
        conn.execute("delete from federator.packed_item")
    assert command.main(words) == 1
    told = capsys.readouterr().out
    assert f"{OWN}/item-4 is not in the catalogue" in told
    assert f"{OWN}/item-0 is another document" in told
    assert "2 differences" in told
    assert [(one.code, one.words.split()[1]) for one in _numbered(editor, tmp_path)] == [
        ("item-differs", f"{OWN}/item-0"),
        ("item-missing", f"{OWN}/item-4"),
    ]


def test_a_service_that_is_away_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["follow", "http://127.0.0.1:9"]) == 1
    assert "ConnectError" in capsys.readouterr().err

"""The documents tell the truth: settings, commands, targets and links in them exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.settings_names import CLASSES, names_of

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


@pytest.mark.parametrize("settings", CLASSES, ids=lambda settings: settings.__name__)
def test_every_setting_is_documented(settings: type) -> None:
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    assert sorted(name for name in names_of(settings) if f"`{name}`" not in page) == []


@pytest.mark.parametrize("settings", CLASSES, ids=lambda settings: settings.__name__)
def test_every_setting_says_what_it_is_for(settings: type) -> None:
    fields = settings.model_fields  # type: ignore[attr-defined]
    assert [name for name, info in fields.items() if not info.description] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?://)([^)#]+)", page.read_text(encoding="utf-8"))
    assert [target for target in targets if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_make_targets_exist(page: Path) -> None:
    for target in re.findall(r"`make ([a-z]+)`|^    make ([a-z]+)$", page.read_text(encoding="utf-8"), re.MULTILINE):
        assert re.search(rf"^{''.join(target)}:", MAKEFILE, re.MULTILINE), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_modules_named_in_commands_exist(page: Path) -> None:
    for module in re.findall(r"python -m ([a-z_][a-z_.]*)", page.read_text(encoding="utf-8")):
        path = ROOT / module.replace(".", "/")
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), module


def test_ci_runs_the_readme_test_command() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert script.rstrip().endswith("exec make test")
    assert "    make test\n" in (ROOT / "README.md").read_text(encoding="utf-8")

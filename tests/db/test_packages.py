"""Our four package names are generic; nothing installed may provide them too."""

from __future__ import annotations

from importlib.metadata import packages_distributions


def test_no_installed_distribution_provides_our_names() -> None:
    assert {"api", "db", "ingest", "lineage"} & set(packages_distributions()) == set()

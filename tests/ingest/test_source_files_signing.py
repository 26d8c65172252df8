"""Source files that sign hrefs, and those that offer collections instead of items."""

from __future__ import annotations

from pathlib import Path

import pytest

from ingest.errors import SourceInvalid
from ingest.normalise.signing import unsigned
from ingest.source_files import load_sources, read_source

SIGNED = """
id = "signed"
title = "Signed"
protocol = "stac"
url = "https://example.org/stac/v1"
[[collections]]
id = "sentinel-2-l2a"
upstream = { collection = ["a", "b"] }
[signing]
scheme = "pc-sas"
hosts = ["*.blob.example.net", "files.example.org"]
url = "https://example.org/sas/v1/sign"
parameters = ["sig", "se"]
"""
CRAWLED = """
id = "crawled"
title = "Crawled"
protocol = "static-stac"
url = "https://example.org/catalog.json"
offers = "collections"
"""


def written(folder: Path, text: str) -> Path:
    (folder / "example.toml").write_text(text, encoding="utf-8")
    return folder / "example.toml"


def test_signing_is_data(tmp_path: Path) -> None:
    source = read_source(written(tmp_path, SIGNED))
    assert source.signing is not None
    assert source.signing.hosts == ("*.blob.example.net", "files.example.org")
    assert source.signing.parameters == {"sig", "se"}
    assert source.collections[0].upstream["collection"] == ["a", "b"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (('scheme = "pc-sas"', 'scheme = "PC SAS"'), "scheme"),
        (('"files.example.org"', '"https://files.example.org"'), "hosts"),
        (('"files.example.org"', "7"), "hosts"),
        (('["sig", "se"]', "[]"), "parameters is empty"),
        (('["sig", "se"]', '["s=1"]'), "parameters"),
        (("https://example.org/sas", "ftp://example.org/sas"), "url"),
        (("parameters =", "parameter ="), "parameter"),
    ],
)
def test_a_wrong_signing_is_named(tmp_path: Path, change: tuple[str, str], words: str) -> None:
    assert change[0] in SIGNED
    with pytest.raises(SourceInvalid, match=words):
        read_source(written(tmp_path, SIGNED.replace(*change, 1)))


def test_a_source_may_offer_collections_instead_of_items(tmp_path: Path) -> None:
    source = read_source(written(tmp_path, CRAWLED))
    assert (source.offers, source.collections) == ("collections", ())


@pytest.mark.parametrize(
    "text",
    [
        CRAWLED.replace("static-stac", "stac"),
        CRAWLED + '[[collections]]\nid = "sentinel-2-l2a"\nupstream = {}\n',
        CRAWLED.replace('"collections"', '"everything"'),
        CRAWLED.replace('offers = "collections"', ""),
        SIGNED.replace('id = "signed"', 'id = "signed"\noffers = "collections"'),
    ],
)
def test_collections_are_offered_by_crawled_catalogues_alone(tmp_path: Path, text: str) -> None:
    with pytest.raises(SourceInvalid, match=r"offers|collections"):
        read_source(written(tmp_path, text))


def test_earth_engine_offers_collections() -> None:
    source = load_sources()["earth-engine"]
    assert (source.offers, source.protocol, source.collections) == ("collections", "static-stac", ())


def test_planetary_computer_is_signed_beside_its_catalogue() -> None:
    source = load_sources()["planetary-computer"]
    assert source.signing is not None
    assert source.signing.url == source.url.removesuffix("/stac/v1") + "/sas/v1/sign"
    assert {"st", "se", "sp", "sv", "sr", "sig"} <= source.signing.parameters
    href = "https://naipeuwest.blob.core.windows.net/naip/x.tif?st=a&se=b&sp=r&sv=c&sr=c&skoid=d&sig=e%3D"
    assert unsigned(href, source.signing) == "https://naipeuwest.blob.core.windows.net/naip/x.tif"
    by_id = {mapping.id for mapping in source.collections if mapping.upstream["watermark"] == "id"}
    assert by_id == {"cop-dem-glo-30", "cop-dem-glo-90"}
    assert source.rank == 40


def test_landsat_products_are_two_records_at_usgs() -> None:
    source = load_sources()["usgs-landsat"]
    level_2 = next(mapping for mapping in source.collections if mapping.id == "landsat-c2-l2")
    assert level_2.upstream["collection"] == ["landsat-c2l2-sr", "landsat-c2l2-st"]
    assert source.rank == 35


def test_earth_search_offers_landsat_and_elevation_too() -> None:
    offered = {mapping.id for mapping in load_sources()["earth-search"].collections}
    assert {"landsat-c2-l2", "cop-dem-glo-30", "cop-dem-glo-90", "sentinel-2-l2a"} <= offered

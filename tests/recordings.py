"""What becomes of real recorded upstream answers: `python -m tests.recordings [--markdown | --json]`.

Reads every file under ../shared/upstreams/recordings, JSON and VCR cassettes, finds the records in it, normalises them by the dialect of
their service and counts, per protocol and file: records, items, refusals by code.
"""

from __future__ import annotations

import base64
import collections
import gzip
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import yaml

from ingest.adapters import adapter_for
from ingest.errors import RecordRejected
from ingest.model import CollectionMapping, Contribution, Record, Source

FOLDER = Path(__file__).parents[2] / "shared" / "upstreams" / "recordings"
#: Folder of recordings -> the service as a source.
SOURCES = {
    "cdse-odata": Source("cdse-odata", "CDSE OData", "odata", "https://catalogue.dataspace.copernicus.eu/odata/v1", 10),
    "creodias-odata": Source("creodias-odata", "CREODIAS OData", "odata", "https://datahub.creodias.eu/odata/v1", 15),
    "cdse-stac": Source("cdse-stac", "CDSE STAC", "stac", "https://stac.dataspace.copernicus.eu/v1", 20),
    "earth-search": Source("earth-search", "Earth Search", "stac", "https://earth-search.aws.element84.com/v1", 30),
    "planetary-computer": Source("planetary-computer", "PC", "stac", "https://planetarycomputer.microsoft.com/api/stac/v1", 40),
    "usgs-landsatlook": Source("usgs-landsat", "USGS", "stac", "https://landsatlook.usgs.gov/stac-server", 35),
    "geodes": Source("geodes", "CNES GEODES", "stac", "https://geodes.example.org", 50),
    "cdse-opensearch": Source("cdse-opensearch", "CDSE OpenSearch", "opensearch", "https://catalogue.dataspace.copernicus.eu/resto", 50),
    "resto-family": Source("resto-mirror", "PEPS and SARA", "opensearch", "https://resto.example.org/resto", 55),
    "dhus": Source("dhus-mirror", "A DHuS mirror", "dhus", "https://dhus.example.org/dhus", 60),
    "onda": Source("onda", "ONDA", "onda", "https://catalogue.onda-dias.eu/dias-catalogue", 70),
    "sentinel-hub-catalog": Source(
        "cdse-sentinelhub", "Sentinel Hub", "sentinelhub", "https://sh.dataspace.copernicus.eu/api/v1/catalog/1.0.0", 60
    ),
}  # fmt: skip
#: A collection without naming rules: every name is taken that contradicts no rule.
MAPPING = CollectionMapping("any", {"collection": "any", "start": "2014-01-01", "product_type": "any"})


@dataclass
class Outcome:
    """One file: its items and refusals."""

    protocol: str
    source: str
    file: str
    contributions: list[Contribution] = field(default_factory=list)
    refusals: list[RecordRejected] = field(default_factory=list)
    fragments: int = (
        0  # records that the documentation or a `fields` request cut, without geometry or with parts left out
    )

    @property
    def records(self) -> int:
        return len(self.contributions) + len(self.refusals)


def documents(path: Path) -> Iterator[Any]:
    """JSON documents of a file: itself, or the bodies of a cassette's responses."""
    if path.suffix == ".json":
        yield json.loads(path.read_text(encoding="utf-8"))
        return
    if path.suffix != ".yaml":
        return
    for interaction in yaml.safe_load(path.read_text(encoding="utf-8"))["interactions"]:
        body = interaction["response"]["body"]
        data = body.get("string") or body.get("base64_string") or b""
        if isinstance(data, str):
            data = base64.b64decode(data) if "base64_string" in body else data.encode()
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
        try:
            yield json.loads(data)
        except ValueError:
            continue


def records(document: Any) -> Iterator[dict[str, Any]]:
    """Records in a document: OData entities with a Name, STAC items."""
    if isinstance(document, list):
        for one in document:
            yield from records(one)
    if not isinstance(document, dict):
        return
    if isinstance(document.get("value"), list):
        yield from (one for one in document["value"] if isinstance(one, dict) and ("Name" in one or "name" in one))
    elif isinstance(document.get("feed"), dict):  # Solr: a list, or one object when there is one
        entries = document["feed"].get("entry", [])
        yield from entries if isinstance(entries, list) else [entries]
    elif isinstance(document.get("d"), dict):  # OData v1
        yield from document["d"].get("results") or [document["d"]]
    elif isinstance(document.get("value"), dict):
        yield from records(document["value"])
    elif isinstance(document.get("features"), list):
        yield from document["features"]
    elif document.get("type") == "Feature" or ("Name" in document and "Id" in document):
        yield document


def outcome_of(source: Source, path: Path) -> Outcome:
    """Normalise every record of a file."""
    outcome = Outcome(source.protocol, source.id, path.name)
    adapter = adapter_for(source, MAPPING)
    for document in documents(path):
        for record in records(document):
            raw = orjson.dumps(record)
            try:
                outcome.contributions.append(adapter.item(Record(str(record.get("Id") or record.get("id")), raw)))
            except RecordRejected as error:
                outcome.refusals.append(error)
    return outcome


def outcomes() -> list[Outcome]:
    """All files that hold records."""
    found = [
        outcome_of(source, path)
        for name, source in SOURCES.items()
        for path in sorted((FOLDER / name).iterdir())
        if path.is_file()
    ]
    return [one for one in found if one.records]


def row_of(outcome: Outcome) -> dict[str, Any]:
    """The counts of a file."""
    return {
        "protocol": outcome.protocol,
        "source": outcome.source,
        "file": outcome.file,
        "records": outcome.records,
        "items": len(outcome.contributions),
        "refused": dict(sorted(collections.Counter(error.code for error in outcome.refusals).items())),
    }


def markdown(rows: list[dict[str, Any]]) -> str:
    """The tables of docs/recordings.md: by protocol, by file."""
    protocols = sorted({row["protocol"] for row in rows})
    lines = ["| protocol | records | items | refused |", "| --- | ---: | ---: | --- |"]
    for protocol in protocols:
        its = [row for row in rows if row["protocol"] == protocol]
        codes: collections.Counter[str] = collections.Counter()
        for row in its:
            codes.update(row["refused"])
        words = ", ".join(f"{code} {count}" for code, count in sorted(codes.items())) or "-"
        lines.append(
            f"| {protocol} | {sum(row['records'] for row in its)} | {sum(row['items'] for row in its)} | {words} |"
        )
    return "\n".join([*lines, "", *_by_file(rows)])


def _by_file(rows: list[dict[str, Any]]) -> list[str]:
    lines = ["| source | file | records | items | refused |", "| --- | --- | ---: | ---: | --- |"]
    for row in rows:
        refused = ", ".join(f"{code} {count}" for code, count in row["refused"].items()) or "-"
        lines.append(f"| {row['source']} | {row['file']} | {row['records']} | {row['items']} | {refused} |")
    lines.append(f"| all | | {sum(row['records'] for row in rows)} | {sum(row['items'] for row in rows)} | |")
    return lines


def main(arguments: list[str]) -> int:
    """Print the counts; exit status 1 when there are no recordings."""
    if not FOLDER.is_dir():
        print("there are no recordings beside the repository", file=sys.stderr)
        return 1
    rows = [row_of(one) for one in outcomes()]
    print(json.dumps(rows, indent=1) if "--json" in arguments else markdown(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Sources from TOML files: the built-in ones beside this module and the operator's own.

Read strictly: an unknown key is an error that names file and key, so that a slip of the pen is not silently ignored.
A new upstream that speaks a known protocol is one new file and nothing else.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ingest.adapters import PROTOCOLS
from ingest.collection_files import collections
from ingest.errors import SourceInvalid
from ingest.model import Auth, CollectionMapping, Provenance, Signing, Source, Subscription
from ingest.source_values import (
    ID,
    Table,
    budget,
    check_attributes,
    check_texts,
    env_name,
    matching,
    one_of,
    parse_duration,
    positive,
    texts,
    url_of,
)

BUILT_IN = Path(__file__).parent / "sources"
AUTH_TYPES = ("none", "bearer", "basic", "oauth2-client-credentials", "token-json")
#: What subscriptions may use besides.
USER_LOGIN = "oauth2-password"
OFFERS = ("items", "collections")
RETRY_AFTER_UNITS = ("s", "ms")

#: Federated collections that harvests may fill; uploads are our users' own.
_HARVESTED = tuple(name for name in collections() if name != "uploads")
#: Keys of `upstream` that are a text or a list of texts in every protocol that has them.
_TEXTS = frozenset({"collection", "product_type", "product_types"})
_HOST = re.compile(r"(?:\*\.)?[a-z0-9-]+(?:\.[a-z0-9-]+)*")
_ASSET_HOST = re.compile(
    r"(?:\*\.)?[a-z0-9-]+(?:\.[a-z0-9-]+)+(?::[0-9]{1,5})?|localhost(?::[0-9]{1,5})?|s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]"
)
_PARAMETER = re.compile(r"[A-Za-z0-9_.-]{1,40}")
#: Keys of assets.
_ASSET = re.compile(r"[A-Za-z0-9_.-]{1,100}")
#: Products that one harvest may ask others about.
MOST_PER_RUN = 10_000


def load_sources(own: Path | None = None) -> dict[str, Source]:
    """Return every source by id: the built-in files, then those of the folder `own`.

    Raises:
        SourceInvalid: a file cannot be read or is wrong, or two files have the same id; names file and key.
    """
    files = sorted(BUILT_IN.glob("*.toml"))
    if own is not None:
        if not own.is_dir():
            raise SourceInvalid(f"FEDERATOR_SOURCES_DIR: there is no folder {own}")
        files += sorted(own.glob("*.toml"))
    sources: dict[str, Source] = {}
    came_from: dict[str, Path] = {}
    for file in files:
        source = read_source(file)
        if source.id in sources:
            raise SourceInvalid(f"{file}: the id {source.id!r} is taken by {came_from[source.id]}")
        sources[source.id], came_from[source.id] = source, file
    return sources


def find_source(sources: Mapping[str, Source], source_id: str) -> Source:
    """Return the source of that id.

    Raises:
        SourceInvalid: there is none; the message names those there are.
    """
    if source_id not in sources:
        raise SourceInvalid(f"there is no source {source_id!r}; there are: {', '.join(sorted(sources)) or 'none'}")
    return sources[source_id]


def find_mapping(source: Source, collection: str) -> CollectionMapping:
    """Return how `source` offers the federated collection.

    Raises:
        SourceInvalid: it does not offer it.
    """
    for mapping in source.collections:
        if mapping.id == collection:
            return mapping
    offered = ", ".join(mapping.id for mapping in source.collections)
    raise SourceInvalid(f"the source {source.id!r} has no collection {collection!r}; it has: {offered}")


def read_source(file: Path) -> Source:
    """Read one source file.

    Raises:
        SourceInvalid: the file cannot be read, is no TOML, or has a wrong or unknown key.
    """
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SourceInvalid(f"{file}: {error}") from error
    table = Table(values, str(file))
    source = Source(
        id=matching(table.take("id", str), ID, f"{file}: id"),
        title=table.take("title", str),
        protocol=one_of(table.take("protocol", str), tuple(PROTOCOLS), f"{file}: protocol"),
        url=url_of(table.take("url", str), f"{file}: url"),
        rank=table.take("rank", int, 100),
        requests_per_second=positive(table.take("requests_per_second", (int, float), 4.0), str(file)),
        concurrency=int(positive(table.take("concurrency", int, 4), str(file))),
        auth=_auth(table.take("auth", dict, {}), f"{file}: [auth]"),
        offers=one_of(table.take("offers", str, "items"), OFFERS, f"{file}: offers"),
        signing=_signing(table.take("signing", dict, None), f"{file}: [signing]"),
        asset_hosts=_asset_hosts(table.take("asset_hosts", list, None), f"{file}: asset_hosts"),
        requests_per_month=budget(table.take("requests_per_month", int, None), f"{file}: requests_per_month"),
        retry_after_unit=one_of(
            table.take("retry_after_unit", str, "s"), RETRY_AFTER_UNITS, f"{file}: retry_after_unit"
        ),
        provenance=_provenance(table.take("lineage", dict, None), f"{file}: [lineage]"),
    )
    if source.provenance is not None and source.provenance.documents and not source.asset_hosts:
        raise SourceInvalid(f"{file}: [lineage] documents are read at asset_hosts, and there are none")
    offers_items = source.offers == "items"
    mappings = tuple(
        _mapping(entry, source.protocol, f"{file}: [[collections]] number {number}")
        for number, entry in enumerate(table.take("collections", list, ... if offers_items else []), start=1)
    )
    subscription = _subscription(table.take("subscription", dict, None), source, f"{file}: [subscription]")
    table.end()
    _check_mappings(mappings, source, file)
    return replace(source, collections=mappings, subscription=subscription)


def _check_mappings(mappings: tuple[CollectionMapping, ...], source: Source, file: Path) -> None:
    ids = [mapping.id for mapping in mappings]
    if source.offers == "collections":
        # A crawl finds the collections by itself; only a static catalogue can be crawled.
        if source.protocol != "static-stac" or ids:
            raise SourceInvalid(f"{file}: offers = 'collections' needs protocol 'static-stac' and no [[collections]]")
        return
    if not ids:
        raise SourceInvalid(f"{file}: collections is empty")
    for collection in ids:
        if ids.count(collection) > 1:
            raise SourceInvalid(f"{file}: the collection {collection!r} is named twice")


def _mapping(values: Any, protocol: str, where: str) -> CollectionMapping:
    table = Table(values, where)
    collection = one_of(table.take("id", str), _HARVESTED, f"{where}: id")
    upstream = table.take("upstream", dict)
    overlap = parse_duration(table.take("overlap", str, "24h"), f"{where}: overlap")
    own_protocol = table.take("protocol", str, None)
    table.end()
    protocol = one_of(own_protocol or protocol, tuple(PROTOCOLS), f"{where}: protocol")
    needed, known = PROTOCOLS[protocol].REQUIRED_KEYS, PROTOCOLS[protocol].KEYS
    for key in sorted(set(upstream) - known):
        raise SourceInvalid(f"{where}: unknown key 'upstream.{key}'")
    for key in sorted(needed - set(upstream)):
        raise SourceInvalid(f"{where}: upstream.{key} is missing")
    for key in _TEXTS & set(upstream):
        check_texts(upstream[key], f"{where}: upstream.{key}")
    if "attributes" in upstream:
        check_attributes(upstream["attributes"], f"{where}: upstream.attributes")
    return CollectionMapping(collection, upstream, overlap, own_protocol)


def _subscription(values: Any, source: Source, where: str) -> Subscription | None:
    """The subscription and its login: its own, for sources that are searched without one, or the source's."""
    if values is None:
        return None
    if not hasattr(PROTOCOLS[source.protocol], "feed"):
        raise SourceInvalid(f"{where}: the protocol {source.protocol!r} has no subscriptions")
    table = Table(values, where)
    id_env = env_name(table.take("id_env", str), f"{where}: id_env")
    own = table.take("auth", dict, None)
    table.end()
    auth = source.auth if own is None else _auth(own, f"{where[:-1]}.auth]", (*AUTH_TYPES, USER_LOGIN))
    if auth.type == "none":
        raise SourceInvalid(f"{where} needs a login: the source's [auth], or [subscription.auth]")
    assert id_env is not None
    return Subscription(id_env, auth)


def _auth(values: Any, where: str, types: tuple[str, ...] = AUTH_TYPES) -> Auth:
    table = Table(values, where)
    auth = Auth(
        type=one_of(table.take("type", str, "none"), types, f"{where}: type"),
        client_id=table.take("client_id", str, None),
        token_url=table.take("token_url", str, None),
        client_id_env=env_name(table.take("client_id_env", str, None), f"{where}: client_id_env"),
        client_secret_env=env_name(table.take("client_secret_env", str, None), f"{where}: client_secret_env"),
    )
    table.end()
    wanted = {
        "none": (),
        "bearer": ("client_secret_env",),
        "basic": ("client_id_env", "client_secret_env"),
        "oauth2-client-credentials": ("token_url", "client_id_env", "client_secret_env"),
        "token-json": ("token_url", "client_id_env", "client_secret_env"),
        USER_LOGIN: ("token_url", "client_id", "client_id_env", "client_secret_env"),
    }[auth.type]
    for name in wanted:
        if getattr(auth, name) is None:
            raise SourceInvalid(f"{where}: type {auth.type!r} needs {name}")
    if auth.client_id is not None and auth.type != USER_LOGIN:
        raise SourceInvalid(f"{where}: client_id is for type {USER_LOGIN!r}")
    if auth.token_url is not None:
        url_of(auth.token_url, f"{where}: token_url")
    return auth


def _provenance(values: Any, where: str) -> Provenance | None:
    if values is None:
        return None
    table = Table(values, where)
    traces = table.take("traces", str, None)
    documents = table.take("documents", list, None)
    found = Provenance(
        traces=None if traces is None else url_of(traces, f"{where}: traces"),
        documents=() if documents is None else texts(documents, _ASSET, f"{where}: documents"),
        requests_per_second=positive(table.take("requests_per_second", (int, float), 1.0), where),
        requests_per_month=budget(table.take("requests_per_month", int, None), f"{where}: requests_per_month"),
        per_run=int(positive(table.take("per_run", int, 200), where)),
    )
    table.end()
    if found.traces is None and not found.documents:
        raise SourceInvalid(f"{where} names neither traces nor documents")
    if found.per_run > MOST_PER_RUN:
        raise SourceInvalid(f"{where}: per_run is at most {MOST_PER_RUN}")
    return found


def _asset_hosts(values: Any, where: str) -> tuple[str, ...]:
    """Where tiles may be made from. A wildcard names what is below a registered name, never all of a domain such as `*.org`."""
    if values is None:
        return ()
    found = texts(values, _ASSET_HOST, where)
    for name in found:
        if name.startswith("*.") and name.count(".") < 2:
            raise SourceInvalid(f"{where}: {name!r} is too wide")
    return found


def _signing(values: Any, where: str) -> Signing | None:
    if values is None:
        return None
    table = Table(values, where)
    signing = Signing(
        scheme=matching(table.take("scheme", str), ID, f"{where}: scheme"),
        hosts=texts(table.take("hosts", list), _HOST, f"{where}: hosts"),
        url=url_of(table.take("url", str), f"{where}: url"),
        parameters=frozenset(texts(table.take("parameters", list), _PARAMETER, f"{where}: parameters")),
        description=table.take("description", str, ""),
    )
    table.end()
    return signing

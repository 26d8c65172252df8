"""What others say of the making of harvested products: traces of a traceability service, and the products' own metadata at their source.

Nothing is asked unless the source's file has [lineage]. Products wait in federator.lineage_due since their event; each harvest asks about
some of them at its end, with the limits of all our requests and a budget of its own. What comes is hostile: it is judged and kept by the
same code as what callers send (`lineage.trace_register`, `lineage.document_register`). Documents are read at the source's `asset_hosts`
alone, at public addresses, without following redirects.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import httpx
import psycopg

from db.pools import Connection, Pool
from db.queries import sql
from ingest.asset_hosts import Hosts
from ingest.budget import shared_budget
from ingest.errors import SourceInvalid, UpstreamChanged, UpstreamUnavailable
from ingest.http import USER_AGENT, Patience, PoliteTransport, fetch, fetch_object
from ingest.model import JSON, Auth, Provenance, Source
from ingest.normalise.signing import needs_signing
from ingest.outside import HostRefused, Network, PinnedBackend, pinned_transport
from lineage import document_register, names, trace, trace_register
from lineage.document_register import DocumentRefused, Subject, Teller
from lineage.documents import MAX_BYTES, DocumentInvalid
from lineage.errors import EventInvalid
from lineage.settings import LineageSettings
from lineage.trace_parse import MAX_TRACE_BYTES, Trace, TraceInvalid, parse_traces
from lineage.trace_register import MAX_TRACES, Judged, Registrant
from lineage.trace_trust import NOBODY, Trust, TrustInvalid, read_trust
from lineage.trace_verdict import judge

log = logging.getLogger(__name__)

#: When to ask again where there was nothing: a day, two, four; then never.
_LATER_S, _MOST_TRIES = 86_400.0, 4
#: Tries of one request; the next harvest asks again.
_ATTEMPTS = 3
#: Products in a row with an answer that is none, after which no more are asked about now.
_FAULTS = 3
#: What the database does not take: longer or stranger texts than any trace has.
_UNFIT = (psycopg.DataError, psycopg.IntegrityError)
_ARCHIVES = (".SAFE", ".SEN3")


@dataclass(frozen=True, slots=True)
class Asking:
    """What is asked with. `inner` replaces the network in tests; `networks` may be asked though they are not public."""

    pool: Pool
    patience: Patience
    trust: Trust = NOBODY
    networks: tuple[Network, ...] = ()
    inner: httpx.AsyncBaseTransport | None = None


@dataclass(slots=True)
class Answered:
    """What a run got: products asked about, traces and documents that were new, answers that could not be used."""

    asked: int = 0
    traces: int = 0
    documents: int = 0
    refused: int = 0


class _NothingThere(Exception):
    """There is nothing yet; later, perhaps."""


def trusted(settings: LineageSettings) -> Trust:
    """The authorities that the operator trusts.

    Raises:
        SourceInvalid: their file cannot be read.
    """
    try:
        return read_trust(settings.trace_authorities_file, settings.trace_revocations_file)
    except TrustInvalid as error:
        raise SourceInvalid(str(error)) from error


async def want(
    conn: Connection, source: Source | None, collection: str, products: Sequence[tuple[str, str, Mapping[str, Any]]]
) -> None:
    """Note what is to be asked about products, in the transaction of their events.

    Args:
        products: (item id, product's name, assets of the source's record).
    """
    provenance = source.provenance if source else None
    if source is None or provenance is None or not products:
        return
    rows = []
    for item_id, product, assets in products:
        if provenance.traces:
            rows.append((item_id, product, "", ""))
        rows += [
            (item_id, product, key, href)
            for key in provenance.documents
            if key in assets and Hosts.of([source]).allow(href := str(assets[key].get("href", "")))
        ]
    if rows:
        columns = [list(column) for column in zip(*sorted(rows), strict=True)]
        await conn.execute(sql("due.put"), (source.id, collection, *columns))


async def ask(source: Source, collection: str, asking: Asking) -> Answered:
    """Ask about the products that wait longest. An upstream that does not answer is left for the next harvest: it spoils no harvest."""
    done = Answered()
    if source.provenance is None:
        return done
    async with asking.pool.connection() as conn:
        parameters = (source.id, collection, source.provenance.per_run)
        rows = await (await conn.execute(sql("due.next"), parameters)).fetchall()
    if not rows:
        return done
    try:
        async with _clients(source, source.provenance, asking) as clients:
            faults = 0
            for row in rows:
                done.asked += 1
                try:
                    await _ask_one(source, collection, row, clients, asking, done)
                    faults = 0
                except UpstreamChanged as error:  # perhaps this product alone
                    await _later(asking.pool, source, collection, row)
                    faults += 1
                    if faults == _FAULTS:
                        raise UpstreamUnavailable(str(error)) from error
                except UpstreamUnavailable:
                    await _behind_others(asking.pool, source, collection, row)
                    raise
    except UpstreamUnavailable as error:
        log.warning("upstream lineage cannot be asked now", extra={"source": source.id, "reason": str(error)})
    log.info(
        "upstream lineage asked",
        extra={"source": source.id, "collection": collection, "asked": done.asked, "traces": done.traces,
               "documents": done.documents, "refused": done.refused},
    )  # fmt: skip
    return done


@dataclass(frozen=True, slots=True)
class _Clients:
    """One for the service that the operator named, one for hrefs that a source's records name."""

    traces: httpx.AsyncClient
    documents: httpx.AsyncClient


@asynccontextmanager
async def _clients(source: Source, provenance: Provenance, asking: Asking) -> AsyncIterator[_Clients]:
    """Both share one budget, which is not the source's own: another service answers."""
    paced = replace(
        source, id=f"{source.id}/lineage", url=provenance.traces or source.url, auth=Auth(), concurrency=1,
        requests_per_second=provenance.requests_per_second, requests_per_month=provenance.requests_per_month,
    )  # fmt: skip
    patience = replace(asking.patience, attempts=min(asking.patience.attempts, _ATTEMPTS))
    for_traces = replace(patience, max_answer_bytes=4 * MAX_TRACE_BYTES)
    for_documents = replace(patience, max_answer_bytes=MAX_BYTES)
    timeout = httpx.Timeout(patience.timeout_s, connect=min(10.0, patience.timeout_s))
    pinned = asking.inner or pinned_transport(PinnedBackend(asking.networks), max_connections=1)
    headers = {"User-Agent": USER_AGENT}
    async with (
        shared_budget(asking.pool, paced) as budget,
        httpx.AsyncClient(
            transport=PoliteTransport(paced, for_traces, asking.inner, budget), timeout=timeout,
            headers={**headers, "Accept": "application/json"},
        ) as traces,
        httpx.AsyncClient(
            transport=PoliteTransport(paced, for_documents, pinned, budget), timeout=timeout,
            headers={**headers, "Accept": "application/xml, text/xml, text/plain;q=0.9"},
        ) as documents,
    ):  # fmt: skip
        yield _Clients(traces, documents)


async def _ask_one(
    source: Source, collection: str, row: JSON, clients: _Clients, asking: Asking, done: Answered
) -> None:
    """One product's traces, or one of its documents; nothing is left of it in the queue, or it waits for another day.

    Raises:
        UpstreamUnavailable, UpstreamChanged
    """
    key = (source.id, collection, row["item_id"], row["asset"])
    try:
        if row["asset"]:
            document = await _document(clients.documents, source, row["href"])
            done.documents += await _keep_document(asking.pool, source, collection, row, document)
        else:
            found = await _traces(clients.traces, source, row["product"])
            done.traces += await _keep_traces(asking, source, collection, row, found)
    except _NothingThere:
        await _later(asking.pool, source, collection, row)
    except (TraceInvalid, DocumentInvalid, DocumentRefused, HostRefused, EventInvalid, *_UNFIT) as error:
        done.refused += 1
        code = getattr(error, "code", type(error).__name__)
        log.warning(
            "upstream lineage refused", extra={"source": source.id, "item": row["item_id"], "asset": row["asset"], "code": code}
        )  # fmt: skip
        async with asking.pool.connection() as conn:
            await conn.execute(sql("due.done"), (*key, row["product"], row["href"]))


async def _later(pool: Pool, source: Source, collection: str, row: JSON) -> None:
    """Another day, and after some of them never."""
    key = (source.id, collection, row["item_id"], row["asset"])
    async with pool.connection() as conn:
        await conn.execute(sql("due.later"), (*key, _LATER_S * 2 ** row["tries"], _MOST_TRIES))


async def _behind_others(pool: Pool, source: Source, collection: str, row: JSON) -> None:
    """The next harvest asks about others first: one product must not keep all from being asked about."""
    async with pool.connection() as conn:
        await conn.execute(sql("due.behind_others"), (source.id, collection, row["item_id"], row["asset"]))


# Traces


def names_to_ask(product: str) -> list[str]:
    """Names under which a service may have a product: it knows products as they are delivered."""
    if product.endswith(_ARCHIVES):
        return [f"{product}.zip", product]
    if names.read(product) is not None:
        return [f"{product}.SAFE.zip", product]
    return [product, f"{product}.zip"]


async def _traces(http: httpx.AsyncClient, source: Source, product: str) -> list[Trace]:
    """The traces of a product, as they came.

    Raises:
        TraceInvalid: something in the answer is none.
        UpstreamUnavailable, UpstreamChanged
    """
    assert source.provenance is not None
    wanted = {like for name in names_to_ask(product) for like in trace.names_like(name)}
    for name in names_to_ask(product):
        url = f"{source.provenance.traces}/v1/traces/name/{quote(name, safe='')}"
        answer = await fetch(http, source.id, "GET", url)
        if answer.status_code == 404:
            continue
        _check(answer, source)
        found = await asyncio.to_thread(parse_traces, answer.content, most=MAX_TRACES)
        if any(one.name not in wanted for one in found):
            raise TraceInvalid("", "an answer with traces of other products")
        if found:
            return found
    raise _NothingThere


def _check(answer: httpx.Response, source: Source) -> None:
    """Refuse what is no answer to our question; redirects are not followed."""
    if answer.status_code != 200:
        host = answer.request.url.host
        raise UpstreamChanged(f"{source.id}: {host} answered {answer.status_code} to a question of lineage")


async def _keep_traces(asking: Asking, source: Source, collection: str, row: JSON, found: Sequence[Trace]) -> int:
    """Keep traces word for word with their verdicts; the façade passes on those whose signature holds. Returns how many are new."""
    new = 0
    async with asking.pool.connection() as conn, conn.transaction():
        trust = await trace_register.trust_here(conn, asking.trust)
        now = datetime.now(UTC)
        verdicts = await asyncio.to_thread(lambda: [judge(one, now=now, trust=trust) for one in found])
        if await _is_there(conn, collection, row):
            for one, verdict in zip(found, verdicts, strict=True):
                registrant = Registrant("", "", verdict.signature == "ok", source.id)
                judged = Judged(one, verdict, is_upstream=True)
                _, _, is_new = await trace_register.tell(conn, judged, registrant, collection, row["item_id"])
                new += is_new
        await _done(conn, source, collection, row)
    return new


# Documents


async def _document(http: httpx.AsyncClient, source: Source, href: str) -> document_register.Document:
    """Fetch and read a document.

    Raises:
        HostRefused: not where the source's files may be read.
        DocumentInvalid, DocumentRefused, UpstreamUnavailable, UpstreamChanged
    """
    hosts = Hosts.of([source])
    if source.signing is not None and needs_signing(href, source.signing):
        signed = await fetch_object(http, source.id, "GET", source.signing.url, params={"href": href},
                                    headers={"Accept": "application/json"})  # fmt: skip
        href = str(signed.get("href", ""))
    if not hosts.allow(href) or not href.startswith(("http://", "https://")):
        raise HostRefused(href)
    answer = await fetch(http, source.id, "GET", href)
    if answer.status_code in (403, 404, 410):
        raise _NothingThere
    _check(answer, source)
    return await asyncio.to_thread(document_register.read_document, answer.content)


async def _keep_document(
    pool: Pool, source: Source, collection: str, row: JSON, document: document_register.Document
) -> int:
    is_new = False
    async with pool.connection() as conn, conn.transaction():
        if await _is_there(conn, collection, row):
            subject = Subject(collection, row["item_id"], row["product"], names.product_id(row["product"]))
            is_new, _ = await document_register.tell(conn, document, Teller(source.id, f"harvest:{source.id}"), subject)
        await _done(conn, source, collection, row)
    return int(is_new)


async def _is_there(conn: Connection, collection: str, row: JSON) -> bool:
    found = await conn.execute(sql("due.still_there"), (collection, row["item_id"]))
    return await found.fetchone() is not None


async def _done(conn: Connection, source: Source, collection: str, row: JSON) -> None:
    key = (source.id, collection, row["item_id"], row["asset"], row["product"], row["href"])
    await conn.execute(sql("due.done"), key)

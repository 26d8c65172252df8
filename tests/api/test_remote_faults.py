"""Hosts of rasters that fail, hang, lie, or are none: honest errors that name the asset, and nobody else waits."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rasterio.transform import from_origin

from api.problems import Problem
from api.settings import ApiSettings
from api.tiles.excerpt import excerpt, structure_of
from api.tiles.remote import Remote, reader_of
from api.tiles.remote_fetch import FetchFailed, merge
from api.tiles.remote_hosts import CheckedBackend, HostRefused, Hosts, is_public, url_of
from api.tiles.sas import SCHEME, Signers
from api.tiles.tile_store import Kept
from db.settings import DatabaseSettings
from ingest.errors import UploadRejected
from ingest.model import Signing, Source
from ingest.settings import IngestSettings
from ingest.source_files import load_sources
from ingest.uploads.tiff import TiffFile
from tests.api.sharing_site import Site, item, sharing_site
from tests.api.test_remote_pixels import LOCAL, pixels, write
from tests.upstreams.range_server import Host, range_server


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hosted")
    write(
        folder / "a.tif",
        pixels(1, "uint8")[:, :512, :512],
        crs="EPSG:4326",
        transform=from_origin(16, 49, 1 / 512, 1 / 512),
    )
    (folder / "not.tif").write_bytes(b"<html>" + b" " * 100_000)
    return folder


@contextmanager
def remote_of(*names: str, **settings: Any) -> Iterator[Remote]:
    source = Source("one", "One", "stac", "https://example.org", asset_hosts=names)
    remote = Remote([source], ApiSettings(asset_networks=LOCAL, **settings), IngestSettings())
    try:
        yield remote
    finally:
        remote.close()


def problem_of(remote: Remote, url: str) -> Problem:
    with pytest.raises(Problem) as caught, reader_of(remote, "red")(url) as away:
        away.preview(max_size=64)
    assert "'red'" in caught.value.detail
    return caught.value


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("html", "not-the-file"),
        ("403", "refused"),
        ("404", "gone"),
        ("500", "failed"),
        ("hang up", "unreachable"),
        ("206", "not-the-file"),
        ("many digits", "not-the-file"),
        ("to http://[", "not-the-file"),
        ("gzip", "not-the-file"),
        ("another range", "not-the-file"),
        ("the whole file", "not-the-file"),
        ("too short", "unreachable"),
        ("too long", "unreachable"),
        ("many parts", "unreachable"),
    ],
)
def test_a_fault_is_told_with_the_asset(folder: Path, fault: str, reason: str) -> None:
    with range_server(folder) as host, remote_of(host.name) as remote:
        host.fault = fault
        problem = problem_of(remote, f"{host.url}/a.tif")
        assert (problem.status, problem.code, problem.facts) == (
            502,
            "ASSET_UNREACHABLE",
            {"asset": "red", "reason": reason},
        )
        host.fault = ""
        with reader_of(remote, "red")(f"{host.url}/a.tif") as away:
            assert away.preview(max_size=64).array.any()


def test_a_byte_a_second_ends_at_the_deadline_and_many_askers_at_once(folder: Path) -> None:
    with range_server(folder) as host, remote_of(host.name, asset_timeout_s=0.8, asset_host_concurrency=2) as remote:
        host.fault = "slow"
        begun = time.monotonic()
        with ThreadPoolExecutor(6) as threads:
            reasons = list(
                threads.map(lambda number: problem_of(remote, f"{host.url}/{number}/a.tif").facts["reason"], range(6))
            )
        assert set(reasons) <= {"slow", "busy", "resting"}
        assert "slow" in reasons
        assert time.monotonic() - begun < 5
        assert host.requests <= 6


def test_headers_that_drip_end_at_the_deadline_too(folder: Path) -> None:
    with range_server(folder) as host, remote_of(host.name, asset_timeout_s=0.4) as remote:
        host.fault = "slow headers"
        begun = time.monotonic()
        assert problem_of(remote, f"{host.url}/a.tif").facts["reason"] == "slow"
        assert time.monotonic() - begun < 5


def test_a_host_that_is_gone_is_left_alone_for_a_while(folder: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        name = f"127.0.0.1:{free.getsockname()[1]}"
    with remote_of(name, asset_timeout_s=0.3) as remote:
        reasons = [problem_of(remote, f"http://{name}/a.tif").facts["reason"] for _ in range(5)]
        before = remote.fetcher.requests
        assert reasons[-1] == problem_of(remote, f"http://{name}/a.tif").facts["reason"] == "resting"
        assert remote.fetcher.requests == before


def test_hrefs_that_no_request_can_be_made_of_do_not_make_a_healthy_host_rest(folder: Path) -> None:
    with range_server(folder) as host, remote_of(host.name) as remote:
        for _ in range(5):
            assert problem_of(remote, f"{host.url}/a b\n.tif").facts["reason"] == "not-the-file"
        with reader_of(remote, "red")(f"{host.url}/a.tif") as away:
            assert away.preview(max_size=64).array.any()


def test_work_that_begins_too_late_does_not_make_a_host_rest_that_was_not_asked(folder: Path) -> None:
    with range_server(folder) as host, remote_of(host.name) as remote:
        for _ in range(5):
            with pytest.raises(FetchFailed, match="slow"):
                remote.fetcher.range(f"{host.url}/a.tif", 0, 10, b"", time.monotonic())
        assert host.requests == 0
        assert len(remote.fetcher.range(f"{host.url}/a.tif", 0, 10, b"", remote.fetcher.deadline()).data) == 10


def test_ranges_that_wait_are_not_asked_for_once_one_has_failed(folder: Path) -> None:
    with range_server(folder) as host, remote_of(host.name) as remote:
        host.fault, host.delay_s = "404", 0.02
        wanted = [(number * 200_000, 10) for number in range(60)]
        with pytest.raises(FetchFailed, match="gone"):
            remote.fetcher.ranges(f"{host.url}/a.tif", wanted, b"", remote.fetcher.deadline())
        assert host.requests < 60


def test_a_signing_service_that_hangs_keeps_others_waiting_neither_long_nor_at_all(tmp_path: Path) -> None:
    answer = '{"href": "https://b.example/c/b.tif?sr=c", "msft:expiry": "2999-01-01T00:00:00Z"}'
    (tmp_path / "sign").write_text(answer)
    with range_server(tmp_path) as hung, range_server(tmp_path) as quick, ThreadPoolExecutor(1) as threads:
        hung.fault = "slow"
        sources = [
            Source(name, name, "stac", "https://example.org", signing=Signing(SCHEME, (name,), f"{host.url}/sign", ()))
            for name, host in (("a.example", hung), ("b.example", quick))
        ]
        signers = Signers(sources, ApiSettings(asset_networks=LOCAL).asset_networks_allowed())
        waiting = threads.submit(signers.signed, "https://a.example/c/a.tif", time.monotonic() + 2)
        while not hung.requests and not waiting.done():
            time.sleep(0.005)
        assert signers.signed("https://b.example/c/b.tif", time.monotonic() + 5).endswith("?sr=c")
        with pytest.raises(FetchFailed, match="busy"):
            signers.signed("https://a.example/c/a.tif", time.monotonic() + 0.1)
        assert not waiting.done()
        assert isinstance(waiting.exception(), FetchFailed)
        signers.close()


def test_what_is_no_raster_is_refused_without_gdal(folder: Path) -> None:
    with range_server(folder) as host, remote_of(host.name) as remote:
        problem = problem_of(remote, f"{host.url}/not.tif")
        assert (problem.status, problem.code, problem.facts["reason"]) == (502, "ASSET_UNREADABLE", "NOT_A_TIFF")


@pytest.mark.parametrize(("length", "is_refused"), [(300_000, False), (2_000_000, True)])
def test_kept_headers_are_counted_with_their_tags_and_huge_ones_refused(
    tmp_path: Path, folder: Path, length: int, is_refused: bool
) -> None:
    with (folder / "a.tif").open("rb") as file:
        structure = structure_of(TiffFile(file, (folder / "a.tif").stat().st_size), 1000, 10)
    names = {**structure.place, 34737: (2, length, b"x" * length)}
    (tmp_path / "tags.tif").write_bytes(excerpt(replace(structure, place=names), [0], {}))
    with range_server(tmp_path) as host, remote_of(host.name) as remote:
        if is_refused:
            with pytest.raises(UploadRejected, match="tags"):
                remote.header(f"{host.url}/tags.tif", remote.fetcher.deadline())
            return
        assert remote.header(f"{host.url}/tags.tif", remote.fetcher.deadline()).kept_bytes > length


def test_redirects_stay_within_the_hosts_that_are_named(folder: Path) -> None:
    with range_server(folder) as first, range_server(folder) as second:
        first.fault = f"to {second.url}"
        with remote_of(first.name, second.name) as remote, reader_of(remote, "red")(f"{first.url}/a.tif") as away:
            assert away.preview(max_size=64).array.any()
        seen = second.requests
        with remote_of(first.name) as remote:
            problem = problem_of(remote, f"{first.url}/a.tif")
        assert (problem.status, problem.code, second.requests) == (422, "ASSET_NOT_SERVED", seen)
        first.fault = f"to {first.url}"
        with remote_of(first.name) as remote:
            assert problem_of(remote, f"{first.url}/a.tif").facts["reason"] == "not-the-file"


def test_a_name_that_leads_inside_is_not_asked(folder: Path) -> None:
    with range_server(folder) as host:
        source = Source("one", "One", "stac", "https://example.org", asset_hosts=(f"localhost:{host.port}",))
        remote = Remote([source], ApiSettings(), IngestSettings())
        try:
            assert problem_of(remote, f"http://localhost:{host.port}/a.tif").code == "ASSET_NOT_SERVED"
        finally:
            remote.close()
        assert host.requests == 0


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "169.254.169.254",
        "192.168.0.1",
        "::1",
        "fe80::1%eth0",
        "fc00::1",
        "::ffff:127.0.0.1",
        "2002:7f00:1::",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "::7f00:1",
        "fec0::1",
        "0.0.0.0",
        "224.0.0.1",
        "100.64.0.1",
    ],
)
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(address)

    def resolve(*_: Any, **__: Any) -> list[Any]:
        return [(0, 0, 0, "", ("8.8.8.8", 80)), (0, 0, 0, "", (address, 80))]

    with pytest.raises(HostRefused):
        CheckedBackend((), resolve).connect_tcp("example.org", 80)


def test_which_hrefs_are_allowed() -> None:
    hosts = Hosts(frozenset({"a.example.org", "*.cdn.example.org", "b.example.org:8443", "s3://bucket"}))
    allowed = [
        "https://a.example.org/x.tif", "http://a.example.org/x.tif", "https://A.example.org:443/x?y=1", "https://1.2.cdn.example.org/x",
        "https://b.example.org:8443/x", "s3://bucket/a/b.tif",
    ]  # fmt: skip
    refused = [
        "https://example.org/x", "https://a.example.org.evil.org/x", "https://evil.org/a.example.org", "https://a.example.org@evil.org/x",
        "https://u:p@a.example.org/x", "https://a.example.org:8080/x", "https://cdn.example.org/x", "https://b.example.org/x", "s3://other/x",
        "s3://bucket", "ftp://a.example.org/x", "/vsicurl/https://a.example.org/x", "file:///etc/passwd", "https://[::1/x", "https:///x",
        "https://a.example.org\\@evil.org/x", "", "s3://bucket/a?x", "https://a.example.org/a b.tif", "https://a.example.org/a\n.tif",
        "https://a.example.org/\u00e9.tif", "s3://bucket/\u00e9.tif", "s3://bucket/../other/x.tif", "s3://bucket/a/./x.tif", "s3://bucket/a/..",
    ]  # fmt: skip
    assert [href for href in allowed if not hosts.allow(href)] == []
    assert [href for href in refused if hosts.allow(href)] == []


def test_objects_of_buckets_are_read_through_the_store() -> None:
    plain = IngestSettings(store_endpoint="", store_key_id="", store_region="us-west-2")
    assert url_of("s3://bucket/a+b/c.tif", plain) == "https://bucket.s3.us-west-2.amazonaws.com/a%2Bb/c.tif"
    payer = IngestSettings(store_endpoint="http://store:9000", store_key_id="id", store_secret="secret")
    signed = url_of("s3://bucket/c.tif", payer, datetime(2026, 1, 1, tzinfo=UTC))
    assert signed.startswith("http://store:9000/bucket/c.tif?")
    assert "x-amz-request-payer=requester" in signed


def test_the_built_in_sources_name_hosts_of_their_own() -> None:
    hosts = Hosts.of(load_sources().values())
    assert hosts.allow("https://sentinel-cogs.s3.us-west-2.amazonaws.com/a/B04.tif")
    assert hosts.allow("https://naipeuwest.blob.core.windows.net/naip/a.tif")
    assert not hosts.allow("https://anybody.blob.core.windows.net/a.tif")


@given(st.lists(st.tuples(st.integers(0, 5000), st.integers(1, 400)), max_size=30), st.integers(0, 500))
def test_merged_ranges_hold_all_and_leave_gaps_between(wanted: list[tuple[int, int]], gap: int) -> None:
    merged = list(merge(wanted, gap))
    assert all(any(a <= offset and offset + count <= a + n for a, n in merged) for offset, count in wanted)
    assert all(second[0] > first[0] + first[1] + gap for first, second in pairwise(merged))


@pytest.fixture(scope="module")
def host(folder: Path) -> Iterator[Host]:
    with range_server(folder) as started:
        yield started


@pytest.fixture(scope="module")
def site(
    postgres: DatabaseSettings, template: str, host: Host, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    sources = tmp_path_factory.mktemp("sources")
    (sources / "local.toml").write_text(
        f'id = "local"\ntitle = "Local"\nprotocol = "stac"\nurl = "https://example.org"\nasset_hosts = ["{host.name}"]\n'
        '[[collections]]\nid = "sentinel-2-l2a"\nupstream = { collection = "a" }\n'
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEDERATOR_SOURCES_DIR", str(sources))
        patch.setenv("FEDERATOR_ASSET_NETWORKS", LOCAL)
        patch.setenv("FEDERATOR_ASSET_TIMEOUT_S", "3")
        with sharing_site(postgres, template, tmp_path_factory.mktemp("site")) as started:
            for name in ("there", "elsewhere"):
                document = item(started, name, "open")
                root = "https://elsewhere.example" if name == "elsewhere" else "https://there.example"
                document["assets"] = {
                    "red": {
                        "href": f"https://unserved.example/{name}.tif",
                        "roles": ["data"],
                        "alternate": {"b": {"href": f"{root}/a.tif"}},
                    }
                }
                started.done("owner", "POST", "/stac/collections/open/items", json=document)
                started.done("owner", "PUT", f"/sharing/collections/open/items/{name}", json={"visibility": "public"})
            # Nobody may write an item whose rasters are on this machine.
            change = "update pgstac.items set content = replace(content::text, 'https://there.example', %s)::jsonb where id = 'there'"
            started.rows(change, host.url)
            yield started


def test_an_asset_elsewhere_is_shown_and_kept_when_its_host_has_gone(site: Site, host: Host) -> None:
    get: Callable[[str], httpx.Response] = lambda query: site.ask(  # noqa: E731
        "anonymous", "GET", f"/raster/collections/open/items/there/preview.png?assets=red&{query}"
    )
    first = get("max_size=64")
    assert first.status_code == 200, first.text
    host.fault = "500"
    try:
        assert get("max_size=64").content == first.content
        gone = get("max_size=65")
        assert (gone.status_code, gone.json()["code"], gone.json()["asset"]) == (502, "ASSET_UNREACHABLE", "red")
        assert gone.headers["cache-control"] == "private, no-store"
    finally:
        host.fault = ""
    assert get("max_size=65").status_code == 200


def test_kept_tiles_of_a_file_elsewhere_have_an_age_and_those_of_uploads_none(site: Site) -> None:
    for old in (site.data_dir / "tiles").glob("*/*"):
        old.unlink()
    hours = []
    for name in ("there", "i-public"):
        path = f"/raster/collections/open/items/{name}/preview.png?max_size=41"
        assert site.ask("anonymous", "GET", f"{path}&assets={'red' if name == 'there' else 'data'}").status_code == 200
        (file,) = (one for one in (site.data_dir / "tiles").glob("*/*"))
        kept = Kept.unpack(file.read_bytes())
        assert kept is not None
        hours.append(None if kept.until is None else round((kept.until - time.time()) / 3600))
        file.unlink()
    assert hours == [1, None]


def test_an_asset_at_a_host_that_no_source_names_is_not_served(site: Site) -> None:
    answer = site.ask("anonymous", "GET", "/raster/collections/open/items/elsewhere/preview.png?assets=red")
    assert (answer.status_code, answer.json()["code"]) == (422, "ASSET_NOT_SERVED")


def test_a_host_that_hangs_keeps_nobody_else_waiting(site: Site, host: Host) -> None:
    host.fault = "slow"
    with ThreadPoolExecutor(12) as threads:
        hung = [
            threads.submit(
                site.ask,
                "anonymous",
                "GET",
                f"/raster/collections/open/items/there/preview.png?assets=red&max_size={size}",
            )
            for size in range(100, 112)
        ]
        other = site.ask("anonymous", "GET", "/raster/collections/open/items/i-public/preview.png?max_size=77")
        assert other.status_code == 200
        assert not all(one.done() for one in hung)
        answers = [one.result() for one in hung]
    host.fault = ""
    assert {one.status_code for one in answers} <= {502, 503}
    assert {one.json()["code"] for one in answers} == {"ASSET_UNREACHABLE"}

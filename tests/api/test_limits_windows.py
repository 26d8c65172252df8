"""Arithmetic of quotas: nobody gets more than the limit, and who waits as long as he is told gets something."""

from __future__ import annotations

from datetime import UTC, datetime
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.access import LOCAL, OPERATOR, Caller
from api.limits.callers import client_address, counted
from api.limits.downloads import BURST_S, Pace
from api.limits.tiers import GENERAL, Tier, TiersInvalid, load_tiers
from api.limits.windows import LEASE, Lease, Period, Window, window_of
from api.settings import parse_networks
from ingest.settings import IngestSettings

moments = st.floats(0, 4e9, allow_nan=False)


@settings(max_examples=80)
@given(moments, st.sampled_from(Period))
def test_a_moment_lies_in_its_window_and_the_promised_wait_is_enough_and_not_a_second_more(
    now: float, period: Period
) -> None:
    window = window_of(period, now)
    assert window.start <= now < window.end
    wait_s = window.wait_s(now)
    assert window_of(period, now + wait_s).start >= window.end
    assert wait_s == 1 or now + wait_s - 1 < window.end


def test_months_are_calendar_months_in_utc() -> None:
    last = datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp()
    december, january = window_of(Period.MONTH, last), window_of(Period.MONTH, last + 1)
    assert datetime.fromtimestamp(december.start, UTC) == datetime(2026, 12, 1, tzinfo=UTC)
    assert december.end == january.start == datetime(2027, 1, 1, tzinfo=UTC).timestamp()
    assert window_of(Period.MONTH, datetime(2028, 2, 10, tzinfo=UTC).timestamp()).seconds == 29 * 86400


class Counter:
    """`federator.take` for one quota, in Python."""

    def __init__(self, limit: int) -> None:
        self.limit, self.taken = limit, 0

    def take(self, wanted: int) -> tuple[int, int]:
        free = self.limit - self.taken
        granted = max(0, min(wanted, free, max(1, free // 10)))
        self.taken += granted
        return granted, self.limit - self.taken


@settings(max_examples=80)
@given(st.integers(0, 400), st.lists(st.tuples(st.integers(0, 2), st.booleans()), max_size=600))
def test_processes_together_let_through_no_more_than_the_limit_and_little_less(
    limit: int, requests: list[tuple[int, bool]]
) -> None:
    """Each request comes to one of three processes; some are given back."""
    counter, window, passed = Counter(limit), Window(0, 60), 0
    leases = [Lease(window) for _ in range(3)]
    for process, counts in requests:
        lease = leases[process]
        if wanted := lease.wants(limit):
            lease.granted(*counter.take(wanted))
        if not lease.left:
            assert lease.is_spent
            assert passed >= limit - 2 * LEASE - sum(one.left for one in leases if one.left > LEASE)
            continue
        before = lease.remaining
        lease.spend()
        assert lease.remaining == before - 1 >= 0
        if counts:
            passed += 1
        else:
            lease.give_back(window)
        lease.give_back(Window(60, 120))  # of another window: nothing
    assert passed <= limit


def test_a_process_alone_lets_through_exactly_the_limit() -> None:
    for limit in (0, 1, 5, 19, 20, 21, 300):
        counter, lease, passed = Counter(limit), Lease(Window(0, 60)), 0
        while True:
            if wanted := lease.wants(limit):
                lease.granted(*counter.take(wanted))
            if not lease.left:
                break
            assert lease.remaining == limit - passed
            lease.spend()
            passed += 1
        assert passed == limit


@settings(max_examples=50)
@given(st.integers(1, 100))
def test_what_is_borrowed_without_the_counter_has_the_limit_as_its_end(limit: int) -> None:
    lease, passed = Lease(Window(0, 60)), 0
    while not lease.is_spent:
        if not lease.left:
            lease.borrow(limit)
        lease.spend()
        passed += 1
    assert passed == limit


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(1, 200_000), st.floats(0, 0.3)), min_size=1, max_size=60))
def test_a_connection_is_no_faster_than_its_speed(pieces: list[tuple[int, float]]) -> None:
    rate, pace, now, sent = 1e6, Pace(ready_at=100.0), 100.0, 0
    for size, silence in pieces:
        now += silence
        assert sent <= rate * (now - 100.0 + BURST_S) + 200_000
        now += pace.wait_s(size, rate, now)
        sent += size
    busy = Pace(ready_at=0.0)
    waits = [busy.wait_s(100_000, rate, 0.0) for _ in range(11)]
    assert waits[-1] == pytest.approx(1.0)


PROXIES = parse_networks("10.0.0.0/8, fd00::/8,127.0.0.1")


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("203.0.113.7", ["198.51.100.1"], "203.0.113.7"),  # no proxy of ours: it may say what it likes
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["1.1.1.1, 198.51.100.1"], "198.51.100.1"),  # the first was there before
        ("10.0.0.1", ["1.1.1.1", "198.51.100.1, 10.2.3.4"], "198.51.100.1"),
        ("10.0.0.1", ["nonsense"], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1:4711"], "198.51.100.1"),
        ("10.0.0.1", ["[2001:db8:1:2:3::4]:4711"], "2001:db8:1:2::/64"),
        ("::ffff:10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("2001:db8:1:2:ffff::1", [], "2001:db8:1:2::/64"),
        ("2001:db8:1:2::2", [], "2001:db8:1:2::/64"),
        ("fe80::1%eth0", [], "fe80::/64"),
        (None, ["198.51.100.1"], "unknown"),
        ("testclient", [], "unknown"),
    ],
)
def test_an_address_is_what_our_own_proxies_say_and_nobody_else(
    peer: str | None, forwarded: list[str], address: str
) -> None:
    assert client_address(peer, ",".join(forwarded), PROXIES) == address


@settings(max_examples=40)
@given(st.lists(st.text(max_size=30), max_size=4))
def test_whatever_a_header_says_an_address_comes_out(forwarded: list[str]) -> None:
    found = client_address("10.0.0.1", ",".join(forwarded), PROXIES)
    assert ip_address(found) if "/" not in found else ip_network(found)


def test_who_is_counted_as_whom() -> None:
    key = b"k" * 32
    assert counted(LOCAL, "127.0.0.1", key) is None
    assert counted(OPERATOR, "203.0.113.7", key) is None
    ann = counted(Caller("ann", ("user:ann",)), "203.0.113.7", key)
    assert ann is not None
    assert (ann.subject, ann.tier) == ("caller:ann", GENERAL)
    nobody = counted(None, "203.0.113.7", key)
    assert nobody is not None
    assert "203" not in nobody.subject
    assert nobody.tier == "anonymous"
    assert (
        counted(Caller("", OPERATOR.principals), "203.0.113.7", key) == nobody
    )  # by a URL that the operator has signed
    assert counted(None, "203.0.113.8", key) != nobody


def test_our_tiers_are_those_of_copernicus() -> None:
    """CDSE, Quotas: 300 requests/min and 10 000 a month; 50 000 COG requests; 4 connections of 20 MB/s and 6 TB, then 1 of 1 MB/s."""
    tiers = load_tiers()
    general = Tier(
        requests_per_minute=300, processing_per_month=10_000, cog_reads_per_month=50_000, connections=4,
        bytes_per_second=20_000_000, download_bytes_per_month=6 * 10**12, slow_connections=1, slow_bytes_per_second=1_000_000,
    )  # fmt: skip
    services = Tier(requests_per_minute=1200, processing_per_month=8_000_000, connections=20)
    assert tiers.by_name == {"general": general, "anonymous": general, "services": services}
    assert tiers.name_of("no such tier") == GENERAL


def test_an_owner_has_ten_open_uploads_fifty_gigabytes_a_file_and_five_hundred_altogether() -> None:
    defaults = IngestSettings(data_dir=Path("unused"))
    found = defaults.upload_open_max, defaults.upload_file_max_bytes, defaults.upload_owner_max_bytes
    assert found == (10, 50 * 10**9, 500 * 10**9)


@pytest.mark.parametrize(
    "text",
    ["", "[general]", "[general]\n[anonymous]\nrequests = 3", "[general]\nrequests_per_minute = 0\n[anonymous]", "a = 1", "[", "\xff"],
)  # fmt: skip
def test_a_wrong_file_of_tiers_is_refused_with_its_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "tiers.toml"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(TiersInvalid, match=r"tiers\.toml"):
        load_tiers(path)

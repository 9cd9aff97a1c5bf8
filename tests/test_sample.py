import datetime as dt
import gzip
import ipaddress
import json
import re
from collections import Counter
from pathlib import Path

import pytest
import zstandard

from pathstats_pipeline.sample import write_sample

END = dt.datetime(2026, 1, 15, 13, 37, tzinfo=dt.UTC)
FIRST, MIDNIGHT = dt.datetime(2026, 1, 12, tzinfo=dt.UTC), dt.datetime(2026, 1, 15, tzinfo=dt.UTC)
COMBINED = re.compile(rb'^(\S+) - - \[([^]]+)\] "((?:[^"\\]|\\.)*)" (\d{3}) (\d+) "[^"]*" "[^"]*" (\d+\.\d{3})$')
HAPROXY = re.compile(
    rb"^[A-Z][a-z]{2} [ 123]\d \d\d:\d\d:\d\d lb1 haproxy\[\d+\]: (\S+):(\d+) \[([^]]+)\] (\S+) (\S+)/(\S+) "
    rb'(-?\d+)/(-?\d+)/(-?\d+)/(-?\d+)/(\d+) (-?\d+) (\d+) - - (\S{4}) \d+/\d+/\d+/\d+/\d+ \d+/\d+ "([^"]*)"$'
)
DOCUMENTATION = [
    ipaddress.ip_network(net)
    for net in ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32", "10.0.0.0/8")
]


def lines_of(path: Path) -> list[bytes]:
    """Read a log file, compressed or not."""
    data = path.read_bytes()
    if path.suffix == ".gz":
        data = gzip.decompress(data)
    if path.suffix == ".zst":
        data = zstandard.decompress(data)
    assert data.endswith(b"\n")
    return data[:-1].split(b"\n")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Write one sample of the default size."""
    return write_sample(tmp_path_factory.mktemp("sample"), end=END)


def combined(files: list[Path]) -> list[re.Match[bytes]]:
    """Find the whole lines of the web front."""
    lines = [line for path in files if path.name.startswith("web-") for line in lines_of(path)]
    return [found for line in lines if (found := COMBINED.match(line))]


def haproxy(files: list[Path]) -> list[re.Match[bytes]]:
    """Find the whole lines of the API."""
    return [found for line in lines_of(files[3]) if (found := HAPROXY.match(line))]


def mobile(files: list[Path]) -> list[dict[str, object]]:
    """Read the whole lines of the mobile back end."""
    return [json.loads(line.decode(errors="replace")) for line in lines_of(files[4]) if line.endswith(b"}")]


def test_the_same_arguments_give_the_same_bytes(tmp_path: Path) -> None:
    """Two samples of one seed are equal byte for byte, compressed files included; another seed is another sample."""
    first = write_sample(tmp_path / "a", end=END, events_per_day=2_000)
    second = write_sample(tmp_path / "b", end=END.astimezone(dt.timezone(dt.timedelta(hours=9))), events_per_day=2_000)
    other = write_sample(tmp_path / "c", end=END, events_per_day=2_000, seed=8)
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert all(a.read_bytes() != c.read_bytes() for a, c in zip(first, other, strict=True))


def test_samples_agree_on_the_days_they_share(tmp_path: Path) -> None:
    """A day is the same whether it is the last of the sample or not."""
    early = write_sample(tmp_path / "a", end=END, days=2, events_per_day=2_000)
    late = write_sample(tmp_path / "b", end=END + dt.timedelta(days=1), days=2, events_per_day=2_000)
    assert [path.name for path in early[:2]] == ["web-access.log.1.gz", "web-access.log"]
    assert lines_of(early[1]) == lines_of(late[0])


def test_there_are_as_many_lines_as_asked_for(files: list[Path]) -> None:
    """The three services share the days' lines, and the web front's days are rotated, with gzip and with zstd."""
    assert {path.name: len(lines_of(path)) for path in files} == {
        "web-access.log.2.zst": 24_000,
        "web-access.log.1.gz": 24_000,
        "web-access.log": 24_000,
        "api-haproxy.log": 30_000,
        "mobile-access.jsonl": 18_000,
    }


@pytest.mark.parametrize("size", [0, 7, 100])
def test_small_samples_are_exact_too(tmp_path: Path, size: int) -> None:
    """Few events a day, or none, are no special case."""
    files = write_sample(tmp_path, end=END, days=1, events_per_day=size)
    assert sum(path.read_bytes().count(b"\n") for path in files) == size


def test_every_time_is_inside_the_days(files: list[Path]) -> None:
    """All lines of all files lie in [first day, midnight), each rotated file in its own day."""
    web = [dt.datetime.strptime(m[2].decode(), "%d/%b/%Y:%H:%M:%S %z") for m in combined(files)]
    api = [dt.datetime.strptime(m[3].decode() + "+0000", "%d/%b/%Y:%H:%M:%S.%f%z") for m in haproxy(files)]
    times = [dt.datetime.fromisoformat(str(row["time_iso8601"])) for row in mobile(files)]
    for of_service in (web, api, times):
        assert min(of_service) >= FIRST
        assert max(of_service) < MIDNIGHT
        hours = [sum(time.hour == hour for time in of_service) for hour in range(24)]
        assert hours[16] > 3 * hours[4] > 0
    for age, path in zip((2, 1, 0), files[:3], strict=True):
        day = (MIDNIGHT - dt.timedelta(days=age + 1)).strftime("[%d/%b/%Y:").encode()
        # Cut lines and lost ones apart, which may end before their time.
        assert sum(day not in line for line in lines_of(path)) < 12


def test_about_one_line_in_a_thousand_is_malformed(files: list[Path]) -> None:
    """Truncated lines, probes, refused requests and invalid UTF-8 are there, and rare."""
    damaged = 0
    for path in files:
        for line in lines_of(path):
            try:
                whole = bool(json.loads(line)["request_uri"]) if path.suffix == ".jsonl" else b" HTTP/" in line
            except ValueError:
                whole = False
            damaged += not whole
    assert damaged == 24 * 3 + 30 + 18
    probes = {m[3] for m in combined(files) if not m[3].endswith((b"HTTP/1.1", b"HTTP/2.0"))}
    assert probes >= {b"", b"HELP"}
    assert any(probe.startswith(rb"\x16\x03\x01") for probe in probes)
    assert any(m[15] == b"<BADREQ>" for m in haproxy(files))
    assert b"\xff\xfe" in files[4].read_bytes()


def test_all_addresses_are_reserved_for_documentation(files: list[Path]) -> None:
    """No line names anybody's address; a few thousand clients, IPv6 among them."""
    clients = {m[1].decode() for m in combined(files)} | {m[1].decode() for m in haproxy(files)}
    clients |= {str(row["remote_addr"]) for row in mobile(files)}
    addresses = [ipaddress.ip_address(client) for client in clients]
    assert all(any(address in net for net in DOCUMENTATION) for address in addresses)
    assert len(addresses) > 2_000
    assert {address.version for address in addresses} == {4, 6}


def test_timers_of_haproxy_add_up(files: list[Path]) -> None:
    """Phases reached are within the total, those not reached are -1, and only then the termination state says why."""
    for found in haproxy(files):
        *phases, total = (int(found[i]) for i in range(7, 12))
        assert sum(phase for phase in phases if phase > 0) <= total
        assert (found[14] == b"----") == (min(phases) >= 0)


def test_the_traffic_has_a_story(files: list[Path]) -> None:
    """A slow endpoint, an error burst on one day, scanners with paths seen once, and steady health checks."""
    web = [m for m in combined(files) if b" HTTP/" in m[3]]
    slow = sorted(float(m[6]) for m in web if b" /reports/" in m[3])
    rest = sorted(float(m[6]) for m in web if b" /reports/" not in m[3])
    assert slow[len(slow) // 2] > 2
    assert rest[len(rest) // 2] < 0.05
    unavailable = {m[3][:14] for m in haproxy(files) if m[12] == b"503"}
    assert unavailable == {b"14/Jan/2026:14"}
    guessed = Counter(m[3].split()[1] for m in web if b" /wp-content/" in m[3])
    assert {"/.env", "//phpMyAdmin/index.php"} <= {m[3].split()[1].decode() for m in web}
    assert len(guessed) > 100
    assert set(guessed.values()) == {1}
    assert sum(b" /healthz " in m[3] for m in web) > 10_000


def test_an_end_without_a_zone_is_refused(tmp_path: Path) -> None:
    """A naive time would mean another day on another machine."""
    with pytest.raises(ValueError, match="time zone"):
        write_sample(tmp_path, end=END.replace(tzinfo=None))
    with pytest.raises(ValueError, match="at least one day"):
        write_sample(tmp_path, end=END, days=0)

"""The library check: ours pass it through a real DuckDB file, libraries are measured, absent ones are listed."""

import dataclasses
import math
from collections.abc import Iterator

import numpy as np
import pytest

from pathstats_pipeline import report
from pathstats_pipeline.stats import candidates
from pathstats_pipeline.storage.blobs import through_blob


@pytest.fixture(scope="module")
def findings() -> list[candidates.Finding]:
    """One check of everything, through BLOBs of DuckDB files."""
    return list(candidates.verify(through_blob))


def test_ours_pass_and_all_candidates_are_listed(findings: list[candidates.Finding]) -> None:
    """Four kernels of ours; the two libraries that our states convert to are always installed."""
    assert [each.name for each in findings] == [entry.name for entry in candidates.CANDIDATES]
    ours = [each for each in findings if each.ours]
    assert len(ours) == 4
    assert [each.failures for each in ours] == [[], [], [], []]
    assert all(each.limits and each.round_trip for each in ours)
    libraries = {each.name: each for each in findings if not each.ours}
    for name in ("tdigest.TDigest", "datasketch.HyperLogLogPlusPlus", "rbloom.Bloom"):
        assert libraries[name].version
        assert libraries[name].round_trip


def test_errors_of_what_is_installed_are_plausible(findings: list[candidates.Finding]) -> None:
    """A candidate that is wired wrongly would be far off."""
    for each in findings:
        if each.version:
            assert len(each.errors) == (3 if each.role == "latency" else 1)
            assert max(each.errors) < (5 if each.role == "latency" else 0.05), each.name
            assert 0 < each.time_ms < 1_000
            assert each.state_bytes > 0


def test_what_fails_says_why(findings: list[candidates.Finding]) -> None:
    """Each of the four requirements has its words."""
    [good] = [each for each in findings if each.name == "t-digest (ours)"]
    bad = dataclasses.replace(good, round_trip=False, time_ms=10.0, state_bytes=1_000_000, errors=(0.6, 0.0, 0.0))

    assert bad.failures == [
        "its state does not survive a BLOB",
        "100 events take 10.0 ms",
        "it takes 1,000,000 bytes",
        "its error is above its bound",
    ]


def test_absent_libraries_are_listed_as_absent(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """They are no failure."""
    gone = dataclasses.replace(candidates.CANDIDATES[-1], module="no_such_library")
    monkeypatch.setattr(candidates, "CANDIDATES", (gone,))
    findings = list(candidates.verify(through_blob))

    assert [(each.version, each.failures) for each in findings] == [(None, [])]
    report.candidates(findings)
    assert "absent" in capsys.readouterr().out


def test_time_is_the_median_by_the_given_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """One slow round of nine doesn't count."""
    monkeypatch.setattr(candidates, "CANDIDATES", candidates.CANDIDATES[:1])

    def ticks() -> Iterator[float]:
        for number in range(9):
            yield float(number)
            yield number + (0.9 if number == 4 else 0.002)

    clock = ticks()
    [finding] = candidates.verify(bytes, clock=lambda: next(clock))
    assert math.isclose(finding.time_ms, 2, rel_tol=1e-6)


def test_samples_are_fixed() -> None:
    """The same errors on every machine."""
    assert np.array_equal(candidates.sample_of("latency", 10), candidates.sample_of("latency", 10))
    assert candidates.sample_of("visitors", 3).tolist() == [0, 1, 2]

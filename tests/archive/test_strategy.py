"""Single put or multipart: decided by the estimate, right at its edge."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pathstats_pipeline.archive.strategy import MAX_PARTS, MIB, MIN_PART_BYTES, SizeRule, Strategy

ROWS_OF_100_MB = 100 * MIB / (150 * 0.25)


@pytest.mark.parametrize(
    ("megabytes", "strategy"),
    [(0, Strategy.SINGLE_PUT), (99.9, Strategy.SINGLE_PUT), (100, Strategy.MULTIPART), (100.1, Strategy.MULTIPART)],
)
def test_it_is_multipart_from_the_threshold_on(megabytes: float, strategy: Strategy) -> None:
    """Below 100 MiB it is one put; at 100 and above it goes up in parts."""
    one_row_is_a_tenth = SizeRule(row_bytes=0.1 * MIB, gzip_ratio=1.0)
    rows = round(megabytes * 10)
    assert one_row_is_a_tenth.estimated_gzip_mb(rows) == pytest.approx(megabytes)
    assert one_row_is_a_tenth.strategy(rows) is strategy


def test_the_default_estimate_is_the_contracts() -> None:
    """150 bytes a row, of which gzip leaves a quarter, in MiB; multipart from 100 on."""
    rule = SizeRule()
    assert rule.estimated_gzip_mb(1_000_000) == 1_000_000 * 150 * 0.25 / 1024**2
    assert rule.strategy(int(ROWS_OF_100_MB)) is Strategy.SINGLE_PUT
    assert rule.strategy(int(ROWS_OF_100_MB) + 1) is Strategy.MULTIPART


@given(st.integers(0, 10**12))
def test_parts_are_large_enough_for_s3_and_few_enough(rows: int) -> None:
    """Every part is at least 5 MiB, and 10,000 suffice though the estimate be six times too small."""
    rule = SizeRule()
    part_bytes = rule.part_bytes(rows)
    assert part_bytes >= MIN_PART_BYTES
    assert part_bytes * MAX_PARTS >= 6 * rule.estimated_gzip_mb(rows) * MIB

"""M3: killed at any boundary of its life, a day is finished by the next run; see crash_table.py."""

import collections
import pathlib
from collections.abc import Iterator

import pytest
from rounds import FULL, rounds
from s3.strict_server import strict_server

from faults.crash_table import ONE_PART, THREE_PARTS, THREE_SMALL_PARTS, Crash, Server, lab, pairs, singles
from pathstats_pipeline.storage.local_s3 import LocalS3

PAIRS = rounds(20, full=125)
"""Of each of two tests for each of two shapes."""


@pytest.fixture(scope="module")
def small_parts() -> Iterator[Server]:
    """A server that takes parts of any size, so that three parts are some hundred events and not 15 MiB."""
    with strict_server() as server:
        server.part_floor = 0
        yield Server(server.endpoint_url, "a", "b")


def assert_complete(table: list[Crash], *, in_parts: bool) -> None:
    """The boundaries are those of a whole life; the object is of one part, or of three."""
    died_at = {crash.died_at[0].partition(" ")[2] for crash in table}
    assert {"before PUT metadata", "after PUT metadata", "before COMMIT", "after CHECKPOINT"} <= died_at
    assert ("after complete upload" in died_at) is in_parts
    assert ("after part 3" in died_at) is in_parts
    assert "after part 4" not in died_at
    assert ("after PUT events" in died_at) is not in_parts


def test_killed_at_some_boundaries_of_one_part(tmp_path: pathlib.Path, s3_server: LocalS3) -> None:
    """One boundary in nine, and pairs of them: as below."""
    with lab(tmp_path, Server.of(s3_server), ONE_PART) as here:
        assert len([*singles(here, every=9), *pairs(here, 2)]) > 8


def test_killed_at_some_boundaries_of_three_parts(tmp_path: pathlib.Path, small_parts: Server) -> None:
    """The same in parts."""
    with lab(tmp_path, small_parts, THREE_SMALL_PARTS) as here:
        assert len([*singles(here, every=9), *pairs(here, 2)]) > 8


@pytest.mark.faults
def test_killed_at_every_boundary_of_one_part(tmp_path: pathlib.Path, s3_server: LocalS3) -> None:
    """Each boundary once: invariants hold after the kill, and the next run ends with the day deleted."""
    with lab(tmp_path, Server.of(s3_server), ONE_PART) as here:
        assert_complete(list(singles(here)), in_parts=False)


@pytest.mark.faults
def test_killed_at_every_boundary_of_three_parts(
    tmp_path: pathlib.Path, s3_server: LocalS3, small_parts: Server
) -> None:
    """The same in parts: of 5 MiB where all is asked for, which takes minutes; else of some hundred bytes."""
    server, shape = (Server.of(s3_server), THREE_PARTS) if FULL else (small_parts, THREE_SMALL_PARTS)
    with lab(tmp_path, server, shape) as here:
        assert_complete(list(singles(here)), in_parts=True)


@pytest.mark.faults
@pytest.mark.parametrize("seed", range(2))
def test_killed_at_pairs_of_boundaries_of_one_part(tmp_path: pathlib.Path, s3_server: LocalS3, seed: int) -> None:
    """The run that would mend it is killed, too, and the one after it ends with the day deleted."""
    with lab(tmp_path, Server.of(s3_server), ONE_PART) as here:
        assert_twice_killed(list(pairs(here, PAIRS, seed)))


@pytest.mark.faults
@pytest.mark.parametrize("seed", range(2))
def test_killed_at_pairs_of_boundaries_of_three_parts(tmp_path: pathlib.Path, small_parts: Server, seed: int) -> None:
    """The same in parts, which are small here: where it dies is the point, and not how much was sent."""
    with lab(tmp_path, small_parts, THREE_SMALL_PARTS) as here:
        assert "after part 3" in here.boundaries()
        assert_twice_killed(list(pairs(here, PAIRS, seed)))


def assert_twice_killed(table: list[Crash]) -> None:
    """Many of the second runs got as far as their boundary; the others had little left to do."""
    kills = collections.Counter(len([place for place in crash.died_at if place != "lived"]) for crash in table)
    assert kills.total() == PAIRS
    assert kills[2] > PAIRS // 2

"""The fault matrix (M15): every request of an archive, every way it can fail, a single put and three parts.

Each cell is a day archived under the fault: for as long as the run lasts; where that fails, once; then without. The
first two end in success or in one line, with nothing deleted and no more requests than the client's settings allow;
the last always ends with one object, one manifest, no upload of ours pending, and the day cleaned up.
"""

import pathlib
from collections import Counter
from collections.abc import Iterator

import pytest

from pathstats_pipeline.archive.strategy import SizeRule

from .days import (
    CLEAN_FAILURES,
    ONE_PUT,
    THREE_PARTS,
    Prepared,
    assert_finishes,
    copy_of,
    is_one_line,
)
from .faults import MATRIX, Fault
from .stores import ATTEMPTS, Strict

VERBS = {
    "Put": ("Put", "events/"),
    "Manifest": ("Put", "metadata/"),
    "Claim": ("Put", "claims/"),
    "Create": ("Create", ""),
    "UploadPart": ("UploadPart", ""),
    "Complete": ("Complete", ""),
    "Get": ("Get", "events/"),
    "Get claim": ("Get", "claims/"),
    "Get manifest": ("Get", "metadata/"),
    "List": ("List", ""),
    "ListUploads": ("ListUploads", ""),
    "Abort": ("Abort", ""),
}
"""The requests of an archive."""
ONLY_IN_PARTS = {"Create", "UploadPart", "Complete"}
CLEANING = {"List": ("List", ""), "Get": ("Get", "events/"), "Get manifest": ("Get", "metadata/")}
"""The requests of a clean-up."""
RULES_BY_NAME: dict[str, SizeRule] = {"single": ONE_PUT, "3 parts": THREE_PARTS}
COMMON = {Fault.INTERNAL, Fault.RESET_AFTER, Fault.CUT, Fault.FORBIDDEN, Fault.NOT_FOUND}


def marks(name: str, fault: Fault, rule: str) -> list[pytest.MarkDecorator]:
    """The cells that differ least from others are with the long tests."""
    twin = (rule == "single" and name != "Put") or name in {"Get claim", "Get manifest"}
    return [pytest.mark.faults] if twin or (fault not in COMMON and name not in {"Put", "Complete"}) else []


CELLS = [
    pytest.param(name, fault, rule, marks=marks(name, fault, rule), id=f"{name}-{fault.value}-{rule}")
    for name in VERBS
    for rule in ("single", "3 parts")
    if not (name in ONLY_IN_PARTS and rule == "single") and not (name == "Put" and rule == "3 parts")
    for fault in MATRIX
]
# Nine requests (HEAD among them), ten faults and two ways of an object would be 180 cells. 60 of them can't be met:
# nothing asks for HEAD, a single put has no parts, and three parts no put; `test_m15_the_matrix_has_every_request`
# holds this to the server's record. The manifest, the list of uploads, and other readings have cells, too.
RETRIED = set(MATRIX) - {Fault.FORBIDDEN, Fault.NOT_FOUND, Fault.SKEWED}
"""What comes once and is gone with the next try of the SDK, or is no failure at all."""


@pytest.fixture(scope="module")
def table() -> Iterator[dict[tuple[str, str, Fault], str]]:
    """How each cell ended; printed at the end (see it with -s)."""
    cells: dict[tuple[str, str, Fault], str] = {}
    yield cells
    print("\n" + "".join(f"{name:>24}" for name in ("", *MATRIX)))  # noqa: T201 - the table is asked for
    for name, rule in sorted({key[:2] for key in cells}):
        row = [cells.get((name, rule, fault), "") for fault in MATRIX]
        print(f"{name + ', ' + rule:>24}" + "".join(f"{cell:>24}" for cell in row))  # noqa: T201


@pytest.mark.parametrize(("name", "fault", "rule"), CELLS)
def test_m15_every_cell_ends_well(
    prepared: Prepared,
    tmp_path: pathlib.Path,
    strict: Strict,
    table: dict[tuple[str, str, Fault], str],
    name: str,
    fault: Fault,
    rule: str,
) -> None:
    """M15: the fault comes for ever, then once, then never."""
    verb, key = VERBS[name]
    size_rule = RULES_BY_NAME[rule]
    if name == "Abort":  # a dead run left an upload to our very key
        strict.objects.client.create_multipart_upload(Bucket=strict.objects.bucket, Key=f"archive/{prepared.key}")
    with copy_of(prepared, tmp_path / "here", strict) as here:
        outcomes = []
        for times in (float("inf"), 1.0):
            strict.heal()
            strict.seen.clear()
            met = strict.fail(fault, verb, key, times=times)
            try:
                here.archive(size_rule)
                outcomes.append("success")
            except CLEAN_FAILURES as error:
                outcomes.append("one line")
                assert is_one_line(error), str(error)  # noqa: PT017 - which of the two it is, is the cell's
                assert here.hot() == here.accepted
            assert met.met or len(outcomes) > 1, "the request of the cell is not sent"
            assert not {"Delete", "DeleteMany"} & set(strict.server.verbs())
            assert_few(strict)
            if outcomes[-1] == "success":
                break
        # A body that is on its way isn't asked for again.
        if fault in RETRIED and not (name.startswith("Get") and fault is Fault.CUT):
            assert outcomes[-1] == "success", "the SDK tries again by itself"
        assert_finishes(here, strict, size_rule)
    table[name, rule, fault] = " / ".join(outcomes)


@pytest.mark.parametrize("rule", RULES_BY_NAME)
def test_m15_the_matrix_has_every_request(
    prepared: Prepared, tmp_path: pathlib.Path, strict: Strict, rule: str
) -> None:
    """M15: what an archive and a clean-up send are the requests of the matrix, no more and no fewer."""
    with copy_of(prepared, tmp_path / "here", strict) as here:
        strict.objects.client.create_multipart_upload(Bucket=strict.objects.bucket, Key=f"archive/{prepared.key}")
        strict.seen.clear()
        here.archive(RULES_BY_NAME[rule])
        archiving = names_of(strict, VERBS)
        strict.seen.clear()
        here.clean()
        cleaning = names_of(strict, CLEANING)
    assert archiving == {name for name, _, of_rule in (cell.values for cell in CELLS) if of_rule == rule}
    assert cleaning == set(CLEANING)
    assert len(CELLS) == 200


def names_of(strict: Strict, requests: dict[str, tuple[str, str]]) -> set[str]:
    """Which requests of a table were sent; fails for one that isn't in it."""
    found = set()
    for seen in strict.seen:
        names = [name for name, (verb, key) in requests.items() if verb == seen.verb and key in seen.key]
        assert len(names) == 1, (seen.verb, seen.key)
        found.update(names)
    return found


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        pytest.param(name, fault, marks=[] if fault in {Fault.CUT, Fault.NOT_FOUND} else [pytest.mark.faults])
        for name in CLEANING
        for fault in MATRIX
    ],
)
def test_m15_every_cell_of_a_clean_up_ends_well(
    prepared: Prepared, tmp_path: pathlib.Path, strict: Strict, name: str, fault: Fault
) -> None:
    """M15: the fault comes for ever, then once, then never; the day is deleted, or nothing of it."""
    verb, key = CLEANING[name]
    with copy_of(prepared, tmp_path / "here", strict) as here:
        here.archive(ONE_PUT)
        outcome = ""
        for times in (float("inf"), 1.0):
            strict.heal()
            strict.seen.clear()
            met = strict.fail(fault, verb, key, times=times)
            try:
                here.clean()
                outcome = "success"
            except CLEAN_FAILURES as error:
                outcome = "one line"
                assert is_one_line(error), str(error)  # noqa: PT017 - which of the two it is, is the cell's
                assert here.hot() == here.accepted
            assert met.met
            assert not {"Delete", "DeleteMany", "Put"} & set(strict.server.verbs())
            if outcome == "success":
                break
        if fault in RETRIED and not (name.startswith("Get") and fault is Fault.CUT):
            assert outcome == "success", "the SDK tries again by itself"
        strict.heal()
        here.clean()
        here.assert_invariants(cleaned=True)
        assert here.hot().total() == 0


def assert_few(strict: Strict) -> None:
    """No write was sent more often than the client's settings allow."""
    sent = Counter(
        (seen.verb, seen.key, *seen.query.items()) for seen in strict.seen if seen.verb not in {"List", "Get"}
    )
    assert max(sent.values(), default=0) <= ATTEMPTS, sent.most_common(1)

"""The endpoint probe: what it finds out about each store, and that it leaves nothing behind."""

import dataclasses
import pathlib
import re

import pytest
from archive.worlds import World, world
from commands import Shell

from pathstats_pipeline.storage.objects import ObjectsError, S3Objects
from pathstats_pipeline.storage.probe import Conformance, Verdict, probe

from .faults import Fault
from .stores import Strict, client_of

QUESTIONS = 12
BLIND = [
    (Fault.NO_CONDITIONS, "", Verdict.CHECKED, ["refuses a put to a key", "refuses to complete an upload to a key"]),
    (Fault.NO_CONDITIONS, "Complete", Verdict.CHECKED, ["refuses to complete an upload to a key"]),
    (Fault.NO_CHECKSUMS, "", Verdict.TRUSTED, ["refuses a body with a wrong CRC32"]),
    (Fault.NO_FLOOR, "", Verdict.TRUSTED, ["refuses parts below 5 MiB"]),
    (Fault.NO_RANGE, "", Verdict.TRUSTED, ["returns the range"]),
    (Fault.FRAMED, "Put", Verdict.REFUSED, [r"returns the bytes that were put: no, .*\(aws-chunked\)"]),
    (Fault.FRAMED, "Complete", Verdict.REFUSED, [r"returns the parts that were sent: no, .*\(aws-chunked\)"]),
    (Fault.GARBAGE, "", Verdict.REFUSED, ["returns the bytes that were put: no, it has something else"]),
    (Fault.KEEPS_NOTHING, "", Verdict.REFUSED, ["returns the bytes that were put: no, NoSuchKey"]),
    (
        Fault.FORBIDDEN,
        "ListUploads",
        Verdict.TRUSTED,
        ["lists our uploads that are pending: no, AccessDenied", "aborts them: no, AccessDenied"],
    ),
    (Fault.FORBIDDEN, "Create", Verdict.REFUSED, ["takes an upload in parts: no, AccessDenied"]),
    (Fault.FORBIDDEN, "Put", Verdict.REFUSED, ["takes a conditional put: no, AccessDenied"]),
    (Fault.CONFLICT, "Put", Verdict.REFUSED, ["takes a conditional put: no, ConditionalRequestConflict"]),
    (Fault.HEAD_ONLY, "", Verdict.REFUSED, ["returns the bytes that were put: no, NoSuchKey"]),
]


def asked(strict: Strict) -> Conformance:
    """What the probe says of the strict server as it is told to be."""
    return probe(strict.objects.client, strict.objects.bucket, "archive")


def test_a_strict_store_is_trusted_and_left_as_it_was(strict: Strict) -> None:
    """Every answer is yes; the requests are few; nothing is left, no upload either."""
    found = asked(strict)
    assert (found.verdict, found.reasons, len(found.findings)) == (Verdict.TRUSTED, (), QUESTIONS)
    assert strict.bucket.objects == {}
    assert strict.bucket.uploads == {}
    assert len(strict.seen) < 45
    assert all(seen.key.startswith("archive/probe/") for seen in strict.seen if seen.key)


@pytest.mark.parametrize(
    ("fault", "verb", "verdict", "words"), BLIND, ids=[f"{fault.value} {verb}" for fault, verb, *_ in BLIND]
)
def test_what_a_store_does_not_honour_is_named(
    strict: Strict, fault: Fault, verb: str, verdict: Verdict, words: list[str]
) -> None:
    """Each "no" is in the reasons, gravest first, and makes the verdict."""
    strict.fail(fault, verb)
    found = asked(strict)
    assert found.verdict is verdict
    for text in words:
        assert any(re.search(text, reason) for reason in found.reasons), found.reasons
    if verdict is Verdict.REFUSED:
        assert "can't hold the archive: " in (found.problem(looks_first=True) or "")
    else:
        assert len(found.reasons) == len(words)


def test_a_store_that_forbids_deleting_is_trusted(strict: Strict) -> None:
    """The probe needs no right that the archive doesn't need; what it wrote then stays in its folder."""
    strict.server.denied |= {"Delete", "unconditional Put"}
    found = asked(strict)
    assert found.verdict is Verdict.TRUSTED
    assert all(key.startswith("archive/probe/") for key in strict.bucket.objects)


def test_a_store_that_does_not_let_us_in_is_no_finding(strict: Strict) -> None:
    """Wrong credentials, or nobody there: one line, and no verdict."""
    strict.fail(Fault.FORBIDDEN)
    with pytest.raises(ObjectsError, match="AccessDenied"):
        asked(strict)
    with pytest.raises(ObjectsError, match=r"127\.0\.0\.1:9"):
        probe(client_of("http://127.0.0.1:9"), "bucket", "archive")


def test_the_local_server_is_trusted(s3_objects: S3Objects) -> None:
    """SeaweedFS honours what the archive rests on; the rest is known, and read back."""
    found = probe(s3_objects.client, s3_objects.bucket, "archive")
    assert found.verdict is Verdict.TRUSTED, found.reasons
    assert found.reasons == ()
    assert s3_objects.list("") == []


def test_a_store_without_conditions_is_used_with_a_look_before_each_write(
    tmp_path: pathlib.Path, strict: Strict
) -> None:
    """The archiver overwrites nothing there either, and the probe says what to set."""
    strict.fail(Fault.NO_CONDITIONS)
    found = asked(strict)
    assert found.problem(looks_first=True) is None
    assert "PATHSTATS_S3_LOOKS_FIRST=true" in (found.problem(looks_first=False) or "")
    store = S3Objects(strict.objects.client, strict.objects.bucket, "archive", looks_first=True)
    for put in (store.put, lambda key, body: store.put_parts(key, iter([body]))):
        assert put("x", b"first") is (put == store.put)
        assert put("x", b"second") is False
        assert store.get("x") == b"first"
    assert strict.bucket.uploads == {}
    store.delete("x")
    with world(tmp_path, store) as here:
        life(here)


def test_the_second_server_is_known(other_s3_objects: S3Objects) -> None:
    """MiniStack checks neither checksums nor the size of parts: both we check for ourselves, and it is trusted."""
    found = probe(other_s3_objects.client, other_s3_objects.bucket, "archive")
    assert found.verdict is Verdict.TRUSTED
    assert found.reasons == (
        "refuses a body with a wrong CRC32: no, it was done",
        "refuses parts below 5 MiB: no, it was done",
    )
    assert other_s3_objects.list("") == []


def life(here: World) -> None:
    """A day goes all the way."""
    here.bring(0, "a", 10)
    here.build_statistics()
    here.archive()
    here.clean()
    here.assert_invariants(cleaned=True)


def test_the_command_prints_the_table_and_fails_where_it_must(tmp_path: pathlib.Path, strict: Strict) -> None:
    """`pathstats probe`: a row for each question, the verdict, and exit code 1 for a store to stay away from."""
    environment = {
        "PATHSTATS_S3_ENDPOINT_URL": strict.server.endpoint_url,
        "PATHSTATS_S3_BUCKET": strict.objects.bucket,
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    shell = Shell(tmp_path, tuple(environment.items()))
    output = shell.ok("probe")
    assert "refuses a body with a wrong CRC32" in output
    assert "trusted: " in output
    strict.fail(Fault.NO_CONDITIONS)
    assert "set PATHSTATS_S3_LOOKS_FIRST=true" in shell.refused("probe")
    assert "checked: " in dataclasses.replace(
        shell, environment=(*shell.environment, ("PATHSTATS_S3_LOOKS_FIRST", "true"))
    ).ok("probe")

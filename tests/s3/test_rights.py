"""Rights on the bucket: what runs without them, and what is told where they are missing (M23, M26, M27)."""

import hashlib
import pathlib
import shutil

import pytest
from archive.worlds import DAY, NOW, World, world
from click.testing import CliRunner

from pathstats_pipeline.archive.cleanup import CleanupRefusedError
from pathstats_pipeline.archive.lifecycle import State
from pathstats_pipeline.archive.strategy import SizeRule
from pathstats_pipeline.cli import cli
from pathstats_pipeline.storage.landing import Landing
from pathstats_pipeline.storage.objects import ObjectsError, S3Objects

from .days import RULES, Prepared, assert_finishes, copy_of, is_one_line
from .faults import Fault
from .stores import Strict


@RULES
def test_m26_the_whole_life_needs_no_right_to_delete_or_overwrite(
    prepared: Prepared, tmp_path: pathlib.Path, strict: Strict, rule: SizeRule
) -> None:
    """M26: with DeleteObject and unconditional puts denied, a day and its late load go all the way."""
    strict.server.denied |= {"Delete", "DeleteMany", "unconditional Put"}
    with copy_of(prepared, tmp_path / "here", strict) as here:
        assert_finishes(here, strict, rule)
        here.bring(7, "late", 9)
        here.build_statistics()
        assert [manifest.generation for manifest in here.archive(rule)] == [1, 2]
        assert here.clean().deleted_rows == 9
        here.assert_invariants(cleaned=True)
    assert not {"Delete", "DeleteMany"} & set(strict.server.verbs())
    writes = [seen for seen in strict.seen if seen.verb in {"Put", "Complete"}]
    assert all(seen.headers["if-none-match"] == "*" for seen in writes)


def on_s3(here: World, strict: Strict) -> Landing:
    """The world's landing zone moved to the server."""
    landing = Landing(S3Objects(strict.objects.client, strict.objects.bucket, "landing"))
    for hour in here.landing.hours(DAY):
        for file in here.landing.files(hour):
            landing.objects.put(file.key, here.landing.objects.get(file.key) or b"")
    here.landing = landing
    return landing


@pytest.mark.parametrize("how", ["kept", "denied"])
def test_m27_a_landing_file_that_was_not_deleted_is_told(
    prepared: Prepared, tmp_path: pathlib.Path, strict: Strict, how: str
) -> None:
    """M27: the store answers 204 and keeps the file, or refuses: one line, and the generation isn't `deleted`.

    When it is mended, the next run takes what is left.
    """
    with copy_of(prepared, tmp_path / "here", strict) as here:
        landing = on_s3(here, strict)
        here.archive()
        if how == "kept":
            strict.fail(Fault.KEEPS_DELETED, "Delete", "hour=05")
        else:
            strict.server.denied.add("Delete")
        with pytest.raises((CleanupRefusedError, ObjectsError), match=r"still there|AccessDenied") as caught:
            here.clean()
        assert is_one_line(caught.value)
        assert "hour=0" in str(caught.value)
        assert [record.state for record in here.warehouse.generation_records(DAY)] == [State.DELETING]
        assert landing.hours(DAY)
        strict.heal()
        strict.server.denied.clear()
        here.clean()
        assert landing.hours(DAY) == []
        assert [record.state for record in here.warehouse.generation_records(DAY)] == [State.DELETED]
        here.assert_invariants(cleaned=True)


def test_m23_a_dry_run_changes_nothing(
    prepared: Prepared, tmp_path: pathlib.Path, strict: Strict, monkeypatch: pytest.MonkeyPatch
) -> None:
    """M23: `cleanup --dry-run` sends GET, HEAD and LIST only, changes no byte, and tells what then happens."""
    monkeypatch.setattr("pathstats_pipeline.archive_commands.now", lambda: NOW)
    settings = {
        "PATHSTATS_HOME": str(tmp_path / "home"),
        "PATHSTATS_S3_ENDPOINT_URL": strict.server.endpoint_url,
        "PATHSTATS_S3_BUCKET": strict.objects.bucket,
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    shutil.copytree(prepared.directory, tmp_path / "home")
    with world(tmp_path / "home", strict.objects) as here:
        here.archive()

    def state() -> dict[str, str]:
        files = (path for path in (tmp_path / "home").rglob("*") if path.is_file())
        return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    before, stored = state(), strict.kept()
    strict.seen.clear()
    answer = CliRunner().invoke(cli, ["cleanup", "--dry-run", str(DAY)])
    assert answer.exit_code == 0, answer.output
    assert set(strict.server.verbs()) <= {"Get", "Head", "List"}
    assert state() == before
    assert strict.kept() == stored
    with world(tmp_path / "home", strict.objects) as here:
        here.accepted = prepared.accepted.copy()
        cleaned = here.clean()
        assert f"would delete {cleaned.deleted_rows} event(s) of {cleaned.landing_files} load(s)" in answer.output
        here.assert_invariants(cleaned=True)

"""The commands as a user types them, above all when something is wrong: one line, an exit code, nothing lost."""

import dataclasses
import datetime as dt
import json
import os
import pathlib
import re
import shutil
import types

import click
import duckdb
import pytest
from commands import PROJECT, Nursery, Shell
from conftest import new_bucket, s3_client_of, s3_settings

from pathstats_pipeline import cli as command_line
from pathstats_pipeline.cli import cli
from pathstats_pipeline.storage.local_s3 import LocalS3
from pathstats_pipeline.storage.warehouse import open_warehouse

LINE = '192.0.2.{} - - [20/Nov/2026:05:00:{:02d} +0000] "GET /a/{} HTTP/1.1" 200 1234{} "-" "Mozilla/5.0"\n'


@pytest.fixture
def shell(tmp_path: pathlib.Path, nursery: Nursery, s3_server: LocalS3) -> Shell:
    """A state of its own."""
    return Shell(tmp_path / "home", tuple(s3_settings(s3_server, new_bucket(s3_server)).items()), nursery)


def lines(count: int) -> str:
    """Lines of the combined log format."""
    return "".join(LINE.format(n % 200, n % 60, n, n) for n in range(count))


def counts(printed: str) -> list[int]:
    """The numbers of the only file in the table that `ingest` prints."""
    row = next(line for line in printed.splitlines() if line.startswith("│"))
    return [int(cell.strip().replace(",", "")) for cell in row.split("│")[3:-1]]


def test_a_line_that_is_still_being_written_is_left_for_the_next_time(shell: Shell, tmp_path: pathlib.Path) -> None:
    """Half a line would become a wrong event for ever; whole, it is accepted once, and the counts add up."""
    log = tmp_path / "access.log"
    text = lines(30)
    log.write_text(text[:-30])

    first = counts(shell.ok("ingest", log))
    log.write_text(text)
    second = counts(shell.ok("ingest", log))
    shell.ok("build", "--from", "2026-11-20T05:00", "--to", "2026-11-20T06:00")

    assert (first, second) == ([30, 29, 0, 0, 1], [30, 1, 29, 0])
    with duckdb.connect(str(shell.warehouse), read_only=True) as connection:
        sizes = connection.execute("SELECT bytes_sent FROM pathstats.traffic_events ORDER BY 1").fetchall()
    assert [size for (size,) in sizes] == sorted(int(f"1234{n}") for n in range(30))


def test_header_lines_have_a_count_of_their_own(shell: Shell, tmp_path: pathlib.Path) -> None:
    """A clean file of IIS has no rejected line, and its header is counted: the counts add up to the lines."""
    log = tmp_path / "u_ex261120.log"
    fields = "#Software: Microsoft Internet Information Services 10.0\n#Fields: date time c-ip cs-method cs-uri-stem\n"
    log.write_text(fields + "2026-11-20 05:00:00 192.0.2.1 GET /a\n")

    assert counts(shell.ok("ingest", log)) == [3, 1, 0, 0, 2]


def test_the_demonstration_goes_the_whole_way(shell: Shell, tmp_path: pathlib.Path) -> None:
    """On a file of one's own, of a day that has left the hot window: from its lines to their deletion."""
    log = tmp_path / "access.log"
    log.write_text(lines(30).replace("2026", "2025"))
    printed = shell.ok("demo", "--logs", log)
    assert "2025-11-20 g0001: 30 events" in printed
    assert "2025-11-20: cleaned up, 30 events deleted from the warehouse" in printed
    assert "/a/:id" in printed


@pytest.mark.parametrize("how", ["settled", "finished"])
def test_a_last_line_without_its_end_is_a_line_once_nobody_writes(
    shell: Shell, tmp_path: pathlib.Path, how: str
) -> None:
    """A file that was not touched for a minute, or is said to be finished, is taken whole."""
    log = tmp_path / "access.log"
    log.write_text(lines(3).rstrip("\n"))
    if how == "settled":
        os.utime(log, (log.stat().st_atime, log.stat().st_mtime - 3_600))

    printed = shell.ok("ingest", log, *(["--finished"] if how == "finished" else []))

    assert counts(printed) == [3, 3, 0, 0]


def test_a_file_that_cannot_be_read_does_not_keep_others_from_being_ingested(
    shell: Shell, tmp_path: pathlib.Path
) -> None:
    """The table tells of those that were, one line of those that weren't, and the exit code says so."""
    log = tmp_path / "access.log"
    log.write_text(lines(5))

    done = shell.run("ingest", tmp_path / "nosuch.log", log)

    assert done.returncode == 1
    assert counts(done.stdout) == [5, 5, 0, 0]
    assert done.stderr.splitlines() == [f"pathstats: error: {tmp_path / 'nosuch.log'}: No such file or directory"]


def test_a_terminal_is_not_given_what_a_log_line_tells_it_to_do(shell: Shell, tmp_path: pathlib.Path) -> None:
    """Control characters of paths and of file names are spelt out, in tables and in errors; brackets are no markup."""
    listed = tmp_path / "paths.txt"
    listed.write_bytes(b"/a\x1b[2J[red]b\n/c\x00\x9bd\n")
    printed = shell.ok("paths", "try", listed)
    assert "/a\\x1b[2J[red]b" in printed
    assert "/c\\x00" in printed
    told = shell.refused("ingest", tmp_path / "no\x1b]0;such\x07.log")
    assert "no\\x1b]0;such\\x07.log: No such file" in told
    assert not set(printed + told) & {"\0", "\x1b", "\x07", "\x9b"}


def test_logs_are_ingested_from_a_bucket(shell: Shell, s3_server: LocalS3) -> None:
    """An object, or all below a prefix; what can't be read is told in one line."""
    bucket = dict(shell.environment)["PATHSTATS_S3_BUCKET"]
    for name in ("1.log", "2.log"):
        s3_client_of(s3_server).put_object(Bucket=bucket, Key=f"logs/{name}", Body=lines(5).replace("/a/", name))

    assert counts(shell.ok("ingest", f"s3://{bucket}/logs/1.log")) == [5, 5, 0, 0]
    done = shell.run("ingest", f"s3://{bucket}/logs/", f"s3://{bucket}/none/")

    assert done.returncode == 1
    assert done.stderr == f"pathstats: error: s3://{bucket}/none/: there are no objects\n"
    assert [line.split("│")[4].strip() for line in done.stdout.splitlines() if line.startswith("│")] == ["0", "5"]


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("PATHSTATS_LANDING", "gs://bucket/prefix"),
        ("PATHSTATS_LANDING", __file__),
        ("PATHSTATS_WAREHOUSE", "md:service"),
        ("PATHSTATS_WAREHOUSE", "/"),
        ("PATHSTATS_HOME", __file__),
        ("PATHSTATS_PATH_RULES", __file__),
        ("PATHSTATS_S3_PREFIX", "/../x"),
        ("PATHSTATS_START_DATE", "2999-01-01"),
        ("PATHSTATS_HOT_DAYS", "three"),
    ],
)
def test_a_wrong_setting_is_refused_by_any_command_in_one_line(
    tmp_path: pathlib.Path, nursery: Nursery, variable: str, value: str
) -> None:
    """The line names the variable, and nothing is written anywhere."""
    home = tmp_path / "home"

    refused = Shell(home, ((variable, value),), nursery).refused("top")

    assert refused.startswith(f"pathstats: error: {variable}=")
    assert not home.exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["build", "--from", "2026-11-20", "--to", "2026-11-20"],
        ["build", "--from", "2026-11-20T05:30", "--to", "2026-11-21"],
        ["build", "--from", "2999-01-01", "--to", "2999-01-02"],
        ["archive", "yesterday"],
        ["archive", "2999-01-01"],
        ["verify", "2020-01-01"],
        ["restore", "2020-01-01", "--to", "somewhere"],
        ["top"],
        ["ingest"],
        ["ingest", "--map", "nosuch.toml", "nosuch.log"],
        ["nosuch"],
    ],
)
def test_a_command_that_cannot_be_done_says_why_in_one_line(shell: Shell, arguments: list[str]) -> None:
    """No traceback, and an exit code that isn't 0."""
    assert shell.refused(*arguments).startswith("pathstats: error: ")


def test_every_command_stands_in_the_table_of_the_readme() -> None:
    """And no row names one that isn't there."""
    readme = (PROJECT / "README.md").read_text("utf-8")
    table = readme[readme.index("\n| command |") : readme.index("## What it promises")]
    rows = [line.split("|")[1] for line in table.splitlines()[3:] if line.startswith("|")]
    named = {name for row in rows for name in re.findall(r"`([a-z0-9-]+(?: [a-z]+)?)", row)}
    found = {
        f"{name} {verb}" if verb else name
        for name, command in cli.commands.items()
        for verb in (command.commands if isinstance(command, click.Group) else [""])
    }
    assert named == found


def test_a_run_that_fails_is_one_line_that_names_the_file(shell: Shell, tmp_path: pathlib.Path) -> None:
    """Dagster's own story is in the UI, not on the terminal."""
    log = tmp_path / "access.log"
    log.write_text(lines(5))
    shell.ok("ingest", log)
    broken = shell.home / "landing" / "dt=2026-11-20" / "hour=05" / "broken.parquet"
    broken.write_bytes(b"garbage")

    done = shell.run("build", "--from", "2026-11-20T05:00", "--to", "2026-11-20T06:00")

    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert str(broken) in done.stderr


@pytest.mark.parametrize(("free", "told"), [(1000, "; the disk of {home} is full"), (1 << 30, "")])
def test_a_full_disk_is_told_where_the_error_does_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path, free: int, told: str
) -> None:
    """SQLite says that something is wrong with the disk, and neither what nor with which."""

    def fail(**_: object) -> None:
        raise OSError("disk I/O error")

    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setattr(cli, "main", fail)
    monkeypatch.setattr(shutil, "disk_usage", lambda _home: types.SimpleNamespace(free=free))
    with pytest.raises(SystemExit):
        command_line.main()
    assert capsys.readouterr().err == f"pathstats: error: disk I/O error{told.format(home=home)}\n"


def test_an_archive_that_was_tampered_with_is_refused_by_every_command(
    nursery: Nursery, tmp_path: pathlib.Path
) -> None:
    """Verify, restore, clean-up and its dry run agree; the day stays in the warehouse.

    They have their own S3 server, which a command that stands for itself starts, and others find.
    """
    shell = Shell(tmp_path / "home", nursery=nursery)
    log = tmp_path / "access.log"
    log.write_text(lines(40).replace("20/Nov/2026", "20/Nov/2025"))
    shell.ok("ingest", log)
    shell.ok("build", "--from", "2025-11-20", "--to", "2025-11-21")
    shell.ok("archive", "2025-11-20")
    assert "would delete 40 event(s)" in shell.ok("cleanup", "2025-11-20", "--dry-run")

    server = LocalS3(shell.home / "s3")
    assert not server.running()
    alone = Shell(tmp_path / "home")
    assert alone.ok("s3", "start") == f"{server.endpoint_url}, bucket pathstats\n"
    _tamper(server)

    for command in (["restore", "--to", str(tmp_path)], ["cleanup"], ["cleanup", "--dry-run"], ["archive"]):
        assert "events-2025-11-20-g0001" in shell.refused(command[0], "2025-11-20", *command[1:])
    assert "events-2025-11-20-g0001" in alone.refused("verify", "2025-11-20")
    assert server.running()
    shell.ok("s3", "stop")
    assert not server.running()
    with duckdb.connect(str(shell.warehouse), read_only=True) as connection:
        assert connection.execute("SELECT count(*) FROM pathstats.traffic_events").fetchall() == [(40,)]
    assert dt.date(2025, 11, 20).isoformat() in shell.ok("top", "--format", "json", "--by", "errors")


def _tamper(server: LocalS3) -> None:
    """Flip a bit of the only object of the archive, which its manifest names by its whole key."""
    client = s3_client_of(server)
    manifest = client.get_object(Bucket="pathstats", Key="archive/metadata/dt=2025-11-20/g0001.json")["Body"].read()
    key = json.loads(manifest)["key"]
    body = bytearray(client.get_object(Bucket="pathstats", Key=key)["Body"].read())
    body[len(body) // 2] ^= 1
    client.put_object(Bucket="pathstats", Key=key, Body=bytes(body))


def test_status_sees_what_is_not_loaded_and_says_when_it_cannot(shell: Shell) -> None:
    """A file of a day that is over is exit code 1; so is a landing zone that can't be listed, after the table."""
    with open_warehouse(shell.warehouse, lock_timeout_seconds=5):
        pass
    assert json.loads(shell.ok("status", "--format", "json"))["unloaded"] == 0
    broken = shell.home / "landing" / "dt=2025-11-20" / "hour=05" / "broken.parquet"
    broken.parent.mkdir(parents=True)
    broken.write_bytes(b"garbage")
    done = shell.run("status")
    assert "1 file(s) in the landing zone are not loaded, the oldest of 2025-11-20 05:00" in done.stdout
    told = shell.refused("status")
    assert "1 file(s) of days that are over are not loaded" in told
    assert "`pathstats build --from 2025-11-20 --to 2025-11-21`" in told
    facts = json.loads(shell.run("status", "--format", "json").stdout)
    assert [(day["date"], day["state"], day["unloaded"]) for day in facts["days"]] == [("2025-11-20", "unloaded", 1)]
    away = dataclasses.replace(
        shell,
        environment=(
            ("PATHSTATS_LANDING", "s3://nowhere/landing"),
            ("PATHSTATS_S3_ENDPOINT_URL", "http://127.0.0.1:9"),
            ("AWS_ACCESS_KEY_ID", "x"),
            ("AWS_SECRET_ACCESS_KEY", "x"),
            ("AWS_DEFAULT_REGION", "us-east-1"),
        ),
    )
    done = away.run("status")
    assert (done.returncode, "0 received" in done.stdout) == (1, True)
    assert "what isn't loaded is not known: cannot list" in done.stderr
    unmounted = dataclasses.replace(shell, environment=(("PATHSTATS_LANDING", str(shell.home / "nowhere")),))
    assert "PATHSTATS_LANDING names no directory: " in unmounted.refused("status")


def _day(shell: Shell) -> dict[str, object]:
    """The only day, as `pathstats status` has it for a monitor."""
    facts = json.loads(shell.ok("status", "--format", "json"))
    assert "oldest_unarchived_day" in facts
    [day] = facts["days"]
    assert isinstance(day, dict)
    return day


def test_the_commands_of_the_archive_agree_on_a_days_way(shell: Shell, tmp_path: pathlib.Path) -> None:
    """Status adds up; verify says drift of lost records; a day goes away, comes back, and goes away again."""
    log = tmp_path / "access.log"
    log.write_text(lines(40).replace("20/Nov/2026", "20/Nov/2025") + "no line\n")
    shell.ok("ingest", log)
    assert "there is no warehouse" in shell.refused("status")
    shell.ok("build", "--from", "2025-11-20", "--to", "2025-11-21")
    assert "2025-11-23 00:00" in shell.ok("status")
    assert _day(shell)["deletable_from"] == "2025-11-23T00:00:00.000000Z"
    shell.ok("hold", "2025-11-20", "--reason", "an audit")
    assert _day(shell)["deletable_from"] is None
    shell.ok("hold", "2025-11-20", "--release")
    shell.ok("archive", "2025-11-20")
    [line] = shell.ok("verify", "2025-11-20").splitlines()
    assert line.endswith(": ok")
    assert shell.ok("verify", "2015-01-01", "--to", "2026-01-01").splitlines() == [line]
    assert "--to 2025-11-20 must lie after" in shell.refused("verify", "2025-11-20", "--to", "2025-11-20")
    assert "deleted 40 event(s)" in shell.ok("cleanup", "2025-11-20")

    facts = json.loads(shell.ok("status", "--format", "json"))
    assert (facts["received"], facts["stored"], facts["rejected"], facts["live"], facts["deleted"]) == (
        41,
        40,
        1,
        0,
        40,
    )
    assert [(day["state"], day["archived"], day["waiting"]) for day in facts["days"]] == [("cleaned", 40, 0)]
    assert "give either" in shell.refused("restore", "2025-11-20")
    assert "give either" in shell.refused("restore", "2025-11-20", "--to-warehouse", "--to", tmp_path / "back")
    assert shell.ok("restore", "2025-11-20", "--to-warehouse") == "2025-11-20 g0001: 40 of 40 events put back\n"
    assert shell.ok("restore", "2025-11-20", "--to-warehouse") == "2025-11-20 g0001: 0 of 40 events put back\n"
    assert "40 stored = 40 live + 0 archived and deleted" in shell.ok("status")
    assert "deleted 40 event(s)" in shell.ok("cleanup", "2025-11-20")
    with duckdb.connect(str(shell.warehouse)) as connection:
        connection.execute("DELETE FROM pathstats.archives")
    assert "is not in pathstats.archives; materialise archive_metadata: drift" in shell.refused("verify", "2025-11-20")
    shell.ok("archive", "2025-11-20")
    shell.ok("verify", "2025-11-20")
    with duckdb.connect(str(shell.warehouse)) as connection:
        connection.execute("UPDATE pathstats.loads SET deleted_rows = 39 WHERE NOT rejected_load")
    assert "40 events stored, but 0 are in the warehouse and 39 deleted" in shell.refused("status")

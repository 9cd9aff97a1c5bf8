"""Settings: they work without any, and a wrong one is refused in one line that names it."""

import pathlib
import re

import pytest

from pathstats_pipeline.settings import Settings, SettingsError, load_settings


def test_there_is_a_working_default_for_everything() -> None:
    """Without a single variable there is a warehouse, a landing zone and a local S3, all below the home."""
    settings = load_settings()
    assert settings.warehouse_path.is_absolute()
    assert settings.warehouse_path.is_relative_to(settings.home)
    assert pathlib.Path(settings.landing_uri).is_relative_to(settings.home)
    assert settings.uses_local_s3
    assert (settings.bucket, settings.s3_prefix, settings.hot_days) == ("pathstats", "archive", 3)
    assert settings.cleanup_batch_rows == 5_000


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, value) for name in ("S3_BUCKET",) for value in ("", "   ", "ab", "Upper", "a/b", "a b", "x" * 64)),
        *(
            (name, value)
            for name in ("S3_ENDPOINT_URL", "SQS_ENDPOINT_URL")
            for value in ("", "x", "ftp://x", "http://x/y")
        ),
        ("S3_ENDPOINT_URL", "http://x y"),
        *(("SQS_QUEUE_URL", value) for value in ("", "queue", "http://x")),
        *(("LANDING", value) for value in ("", " ", "s3://", "s3:///x", "s3://B/x")),
        *(("WAREHOUSE", value) for value in ("", " ")),
        *(("HOME", value) for value in ("", " ")),
        *(("START_DATE", value) for value in ("", "yesterday", "2026-02-30", "2026-13-01", "2999-01-01")),
        *(("HOT_DAYS", value) for value in ("", "-1", "3.5", "three", "4000", "nan")),
        *(("PATH_RULES", value) for value in ("", "/no/such/file.toml", "/")),
        *(("MAX_TEMPLATES", value) for value in ("", "0", "x")),
        *(("SKETCHES", value) for value in ("", "hll", "TDIGEST_HLL", "tdigest_hll,reservoir_bloom")),
        *(("ARCHIVE_ROW_BYTES", value) for value in ("", "0", "-1", "nan", "inf", "x")),
        *(("ARCHIVE_GZIP_RATIO", value) for value in ("", "0", "2", "nan", "x")),
        *(("ARCHIVE_MULTIPART_MB", value) for value in ("", "-1", "nan", "inf", "x")),
        *(("CLEANUP_BATCH_ROWS", value) for value in ("", "0", "1e9", "x")),
        *(("MAX_REJECTED_SHARE", value) for value in ("", "-0.1", "1.5", "5%", "nan")),
        *(("HOT_STORE_LIMIT_GB", value) for value in ("", "0", "-1", "nan", "inf", "10G")),
        *(("LOCK_TIMEOUT_SECONDS", value) for value in ("", "0", "-1", "nan", "inf", "x")),
    ],
)
def test_a_wrong_value_is_one_line_that_names_the_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """Every variable is checked at start; a blank one isn't taken for an unset one."""
    monkeypatch.setenv(f"PATHSTATS_{name}", value)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert f"PATHSTATS_{name}=" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("name", Settings.model_fields)
def test_no_variable_takes_a_blank_but_the_prefix(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A variable that someone forgot to fill is refused; only an empty prefix means something."""
    monkeypatch.setenv(f"PATHSTATS_{name.upper()}", "")
    if name == "s3_prefix":
        assert load_settings().s3_prefix == ""
        return
    with pytest.raises(SettingsError, match=f"PATHSTATS_{name.upper()}="):
        load_settings()


def test_every_variable_stands_in_the_table_of_the_readme() -> None:
    """And no row names one that isn't there."""
    readme = (pathlib.Path(__file__).parents[1] / "README.md").read_text("utf-8")
    rows = [line.partition(" | ")[0] for line in readme.splitlines() if line.startswith("| `PATHSTATS_")]
    named = {name for row in rows for name in re.findall(r"`PATHSTATS_(\w+)`", row)}
    assert named == {name.upper() for name in Settings.model_fields}


def test_dead_letters_without_a_queue_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever sets one alone has forgotten the other, and would drain the local server's."""
    monkeypatch.setenv("PATHSTATS_SQS_DEAD_LETTER_QUEUE_URL", "https://sqs.example/1/letters")
    with pytest.raises(SettingsError, match=r"^PATHSTATS_SQS_DEAD_LETTER_QUEUE_URL=.*QUEUE_URL is not set$"):
        load_settings()


def test_every_wrong_value_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two wrong variables are told in one go."""
    monkeypatch.setenv("PATHSTATS_HOT_DAYS", "x")
    monkeypatch.setenv("PATHSTATS_S3_BUCKET", "\n")
    with pytest.raises(SettingsError, match=r"PATHSTATS_S3_BUCKET=.*PATHSTATS_HOT_DAYS=|HOT_DAYS=.*S3_BUCKET="):
        load_settings()


@pytest.mark.parametrize(
    ("name", "value", "attribute", "expected"),
    [
        ("S3_BUCKET", "my.bucket-1", "bucket", "my.bucket-1"),
        ("S3_PREFIX", "/a/b/", "s3_prefix", "a/b"),
        ("S3_ENDPOINT_URL", "http://127.0.0.1:9000", "uses_local_s3", False),
        ("LANDING", "s3://bucket/land/", "landing_uri", "s3://bucket/land"),
        ("LANDING", "s3://bucket", "landing_uri", "s3://bucket"),
        (
            "SQS_QUEUE_URL",
            "https://sqs.eu-west-1.amazonaws.com/1/q",
            "sqs_queue_url",
            "https://sqs.eu-west-1.amazonaws.com/1/q",
        ),
        ("HOT_DAYS", "0", "hot_days", 0),
    ],
)
def test_right_values_are_taken(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, attribute: str, expected: object
) -> None:
    """What a user of S3 would write is understood."""
    monkeypatch.setenv(f"PATHSTATS_{name}", value)
    assert getattr(load_settings(), attribute) == expected


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "PATHSTATS_HOTDAYS",
            "PATHSTATS_HOTDAYS is no setting of pathstats, and does nothing; is it PATHSTATS_HOT_DAYS?",
        ),
        (
            "pathstats_s3_buckt",
            "pathstats_s3_buckt is no setting of pathstats, and does nothing; is it PATHSTATS_S3_BUCKET?",
        ),
        ("PATHSTATS_XYZZY", "PATHSTATS_XYZZY is no setting of pathstats, and does nothing"),
    ],
)
def test_a_name_that_is_no_setting_is_told_once_with_the_nearest(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str, said: str
) -> None:
    """A day would be deleted sooner than its operator thinks."""
    monkeypatch.setenv(name, "30")
    assert load_settings().hot_days == load_settings().hot_days == 3
    assert caplog.messages == [said]


def test_what_others_are_called_is_nobodys_business(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Settings in any case, and what the compose file and the command line read."""
    for name in ("PATHSTATS_TRACEBACK", "PATHSTATS_FOLLOWED", "MY_PATHSTATS_X"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("pathstats_hot_days", "4")
    assert load_settings().hot_days == 4
    assert caplog.messages == []

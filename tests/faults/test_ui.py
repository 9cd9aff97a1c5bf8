"""The UI as an operator has it, in a headless Chromium: graph, asset page, partitions, a backfill, a failed check.

With `SCREENSHOTS=folder` it leaves the pictures of the documentation there.
"""

import datetime as dt
import os
import pathlib
import re
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from commands import Shell
from dagster_server import Server, serving, wait_for

from pathstats_pipeline.events.window import DAY
from pathstats_pipeline.sample import write_sample

pytestmark = pytest.mark.faults
DAYS = 2
LOCATION = "pathstats_pipeline"
SECONDS = 60_000
_SHOTS = os.environ.get("SCREENSHOTS")


@pytest.fixture(scope="module")
def browser() -> str:
    """Where Chromium is; tests without it are skipped, and say so."""
    return shutil.which("chromium") or pytest.skip("Chromium is not installed (Debian's package chromium)")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, browser: str) -> Iterator[Server]:  # noqa: ARG001 - before it starts
    """`pathstats dev` on two days of sample traffic that automation has taken all the way."""
    folder = tmp_path_factory.mktemp("ui")
    today = dt.datetime.now(dt.UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    settings = {
        "PATHSTATS_START_DATE": str(today.date() - DAYS * DAY),
        "PATHSTATS_AUTOMATION_SECONDS": "5",
        "PATHSTATS_ARCHIVE_AFTER_HOURS": "0",
        "PATHSTATS_MAX_REJECTED_SHARE": "0.0000001",
    }
    shell = Shell(folder / "home", tuple(settings.items()))
    garbage = folder / "garbage.log"
    garbage.write_text("".join(f"garbage {number}\n" for number in range(50)))
    shell.ok("ingest", "--format", "combined", garbage)
    shell.ok("ingest", *write_sample(folder / "logs", end=today, days=DAYS, events_per_day=20_000))
    with serving(shell, folder / "dev.log") as running:
        wait_for("both days archived by automation", lambda: running.materialized("archive_metadata") == DAYS, 420)
        yield running


@pytest.fixture(scope="module")
def page(server: Server, browser: str) -> Iterator[Any]:
    """A browser's page."""
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - only where there is a browser

    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        opened = launched.new_page(viewport={"width": 1400, "height": 900}, base_url=server.url)
        opened.set_default_timeout(SECONDS)
        yield opened
        launched.close()


def shoot(page: Any, name: str) -> None:
    """Keep a picture for the documentation, where it is asked for."""
    if _SHOTS:
        page.wait_for_timeout(1_500)
        page.screenshot(path=pathlib.Path(_SHOTS) / f"{name}.png")


def show(page: Any, path: str, *texts: str) -> None:
    """Open a page, and wait until it shows texts."""
    page.goto(path)
    for text in texts:
        page.get_by_text(text).first.wait_for()


def test_the_asset_graph_shows_all_six(page: Any) -> None:
    """By their groups."""
    show(
        page,
        f"/locations/{LOCATION}/asset-groups/archive/lineage",
        "events_archive",
        "archive_metadata",
        "events_cleanup",
    )
    show(page, "/asset-groups", "archive")
    shoot(page, "asset-graph")


def test_an_asset_page_has_a_picture_and_a_table(page: Any) -> None:
    """Of the day: latencies and traffic by hour, the top paths; figures as time series."""
    day = dt.datetime.now(dt.UTC).date() - DAY
    show(page, f"/assets/path_stats_daily?view=partitions&partition={day}", "top_paths")
    shoot(page, "asset-page")
    page.get_by_text("top_paths").first.scroll_into_view_if_needed()
    shoot(page, "asset-table")
    page.get_by_text("[Show Markdown]").first.click()  # the UI shows longer ones in a dialogue
    picture = page.locator("img[src^='data:image/png']").first
    picture.wait_for()
    assert picture.evaluate("image => image.naturalWidth") > 200
    shoot(page, "asset-picture")


def test_the_partitions_of_hours_are_all_there(page: Any, server: Server) -> None:
    """Each hour of the two days is materialised, and the page says so."""
    show(page, "/assets/path_stats_hourly?view=partitions", "Materialized")
    assert server.materialized("path_stats_hourly") >= DAYS * 24
    shoot(page, "partitions")


def test_a_failed_check_is_seen(page: Any) -> None:
    """A file of garbage: the hour that it came in warns, and says how many lines."""
    show(page, "/assets/raw_events?view=checks", "rejected_share", "queue_backlog")
    page.get_by_text("rejected_share").first.click()
    page.get_by_text("Execution history").first.click()
    page.get_by_text(re.compile("50 of .* lines were rejected")).first.wait_for()
    shoot(page, "checks")


def test_a_backfill_is_launched_from_the_ui(page: Any, server: Server) -> None:
    """The button of the asset's page, all partitions, launch; it ends well."""
    before = len(_backfills(server))
    show(page, "/assets/path_stats_daily", "Materialize")
    page.get_by_role("button", name=re.compile("Materialize")).first.click()
    page.get_by_role("button", name="All").first.click()
    page.get_by_role("button", name=re.compile("Launch")).last.click()
    wait_for("a backfill", lambda: len(_backfills(server)) > before, 60)
    backfill_id = _backfills(server)[0]
    wait_for("its end", lambda: server.backfill_status(backfill_id) != "REQUESTED", 180)
    assert server.backfill_status(backfill_id) == "COMPLETED_SUCCESS"
    show(page, f"/runs/b/{backfill_id}", "path_stats_daily")
    shoot(page, "backfill")


def _backfills(server: Server) -> list[str]:
    query = "{ partitionBackfillsOrError(limit: 20) { ... on PartitionBackfills { results { id } } } }"
    return [each["id"] for each in server.ask(query)["partitionBackfillsOrError"]["results"]]

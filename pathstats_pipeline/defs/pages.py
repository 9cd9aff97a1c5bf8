"""What the page of an asset shows besides its description and figures: columns and where they come from, places, code.

Also how old an asset may become. An asset's own description stands in its docstring; figures are presentation.py's.
"""

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import dagster as dg

from pathstats_pipeline.defs.presentation import columns_of
from pathstats_pipeline.events.schema import EVENT_NAMES
from pathstats_pipeline.settings import Settings
from pathstats_pipeline.stats.hourly import DAILY_COLUMNS, HOURLY_COLUMNS, MEASURES
from pathstats_pipeline.storage.tables import TABLES

FRESH_HOURLY: Final = dg.FreshnessPolicy.time_window(
    warn_window=dt.timedelta(hours=3), fail_window=dt.timedelta(hours=12)
)
"""Something that is built each hour: the third hour that is missing is worth a look, the twelfth is an outage."""
FRESH_DAILY: Final = dg.FreshnessPolicy.time_window(
    warn_window=dt.timedelta(hours=30), fail_window=dt.timedelta(hours=54)
)
"""Something that is built each day: it may be late by a morning, and by a day it may not."""

_TABLES: Final = {
    "raw_events": "traffic_events",
    "path_stats_hourly": "path_stats_hourly",
    "path_stats_daily": "path_stats_daily",
    "archive_metadata": "archives",
}
"""The table of schema `pathstats` that an asset writes."""

_OF_EVENTS: Final[Mapping[str, tuple[str, ...]]] = {
    "hour": ("event_time",),
    "path": ("path",),
    "method": ("method",),
    "requests": ("event_id",),
    **{f"status_{each}xx": ("status",) for each in range(2, 6)},
    "bytes_sent": ("bytes_sent",),
    **{name: ("response_time_ms",) for name in (column.name for column in MEASURES) if name.startswith("response_")},
    "unique_ips": ("client_ip",),
    "latency_sketch": ("response_time_ms",),
    "visitors_sketch": ("client_ip",),
}
"""Which columns of an event a column of the hourly statistics is made of."""


def table_of(asset: str) -> dict[str, Any]:
    """Metadata of an asset that is a table of the warehouse: its name and columns."""
    table = _TABLES[asset]
    return {"dagster/table_name": f"pathstats.{table}", "dagster/column_schema": columns_of(TABLES[table])}


def hourly_lineage() -> dg.TableColumnLineage:
    """From which columns of `raw_events` those of `path_stats_hourly` come."""
    return _lineage("raw_events", {column.name: _OF_EVENTS[column.name] for column in HOURLY_COLUMNS})


def daily_lineage() -> dg.TableColumnLineage:
    """From which columns of `path_stats_hourly` those of `path_stats_daily` come: times and visitors from sketches."""
    return _lineage("path_stats_hourly", {column.name: _of_hours(column.name) for column in DAILY_COLUMNS})


def archive_lineage() -> dg.TableColumnLineage:
    """The archive has each column of an event as it is."""
    return _lineage("raw_events", {name: (name,) for name in EVENT_NAMES})


def _of_hours(name: str) -> tuple[str, ...]:
    if name.startswith("response_time_ms"):
        return ("latency_sketch",)
    return {"day": ("hour",), "unique_ips": ("visitors_sketch",)}.get(name, (name,))


def _lineage(upstream: str, columns: Mapping[str, Iterable[str]]) -> dg.TableColumnLineage:
    key = dg.AssetKey(upstream)
    return dg.TableColumnLineage(
        {name: [dg.TableColumnDep(key, source) for source in sources] for name, sources in columns.items()}
    )


def with_places(assets: Sequence[dg.AssetsDefinition], settings: Settings) -> Sequence[Any]:
    """The assets with the place of their data by these settings, and of their code on this machine."""
    warehouse = settings.warehouse_path.as_uri()
    archive = "/".join(filter(None, (f"s3://{settings.bucket}", settings.s3_prefix, "events")))
    uris = {**{asset: f"{warehouse}#pathstats.{table}" for asset, table in _TABLES.items()}, "events_archive": archive}

    def placed(spec: dg.AssetSpec) -> dg.AssetSpec:
        uri = uris.get(spec.key.to_user_string())
        return spec.merge_attributes(metadata={"dagster/uri": uri}) if uri else spec

    return dg.with_source_code_references([asset.map_asset_specs(placed) for asset in assets])

"""How large the warehouse's file is, as a check's verdict, which remembers its growth: each carries the peaks on.

What is an alarm is decided in archive/growth.py.
"""

import dataclasses
import datetime as dt
from typing import Any, Final

import dagster as dg

# Not public, though the history of a check is asked for by it. Exit: when Dagster exports it.
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

from pathstats_pipeline.archive.growth import Peaks, growth_bytes_per_day, judge_size, with_size
from pathstats_pipeline.defs.presentation import day_key
from pathstats_pipeline.defs.verdicts import result_of
from pathstats_pipeline.storage.space import Space

HOT_STORE_SIZE: Final = dg.AssetCheckKey(dg.AssetKey("raw_events"), "hot_store_size")
_ENDED: Final = {AssetCheckExecutionRecordStatus.SUCCEEDED, AssetCheckExecutionRecordStatus.FAILED}
_PEAKS: Final = "peaks_bytes"
_GIB: Final = 1024**3


def judge_hot_store(
    instance: dg.DagsterInstance, space: Space, limit_gb: float | None, today: dt.date
) -> dg.AssetCheckResult:
    """The verdict on the file as it is now. It carries the peaks of the last days on to the next one."""
    peaks = with_size(_remembered(instance), today, space.size_bytes)
    limit = None if limit_gb is None else int(limit_gb * _GIB)
    judged = judge_size(space.size_bytes, space.free_bytes, limit, growth_bytes_per_day(peaks, today))
    told = {day_key(day): peak for day, peak in sorted(peaks.items())}
    figures = {**judged.figures, _PEAKS: dg.MetadataValue.json(told)}
    return result_of(dataclasses.replace(judged, figures=figures))


def _remembered(instance: dg.DagsterInstance) -> Peaks:
    """The peaks in the last verdict; none where there is no verdict yet."""
    last = instance.event_log_storage.get_asset_check_execution_history(HOT_STORE_SIZE, limit=1, status=_ENDED)
    told: Any = last[0].evaluation.metadata.get(_PEAKS) if last and last[0].evaluation else None
    return {dt.date.fromisoformat(day): peak for day, peak in (told.value if told else {}).items()}

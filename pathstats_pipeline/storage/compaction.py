"""Writing the warehouse's file anew: without the blocks that clean-up has freed, or elsewhere, as a backup.

DuckDB fills freed blocks again, but hardly ever shortens its file, and blocks stay half full: with a hot window of
three days, the file settled at almost twice what lives in it. A copy is as small as its content, and takes the file's
place by one rename, so a crash leaves either the old file or the new one.
"""

import dataclasses
import os
import pathlib
from typing import Final

import duckdb

from pathstats_pipeline.storage.duck import WarehouseError, exclusive, lock_of, open_connection

_FREE_SHARE: Final = 0.1
"""Less than that isn't worth writing the file for."""
_MEMORY_MB: Final = 512


@dataclasses.dataclass(frozen=True)
class Compaction:
    """Size of the file before and after, in bytes; equal where there was too little to win."""

    before: int
    after: int


def compact(path: pathlib.Path, *, lock_timeout_seconds: float, deleted: bool = False) -> Compaction:
    """Write the file anew when rows were `deleted`, or a tenth of its blocks are free. Waits for others who hold it.

    Needs room for the copy beside the file. Raises WarehouseError, with the file as it was, when it can't be done.
    """
    with open_connection(path, lock_timeout_seconds=lock_timeout_seconds) as connection:
        connection.execute("CHECKPOINT")
        [(total, free)] = connection.execute("SELECT total_blocks, free_blocks FROM pragma_database_size()").fetchall()
    before = path.stat().st_size
    # Deleted rows free no block where others of their row group live on.
    if not total or (free / total < _FREE_SHARE and not deleted):
        return Compaction(before, before)
    with exclusive(lock_of(path), timeout_seconds=lock_timeout_seconds, what=str(path)):
        copy = path.with_name(f"{path.name}.compact")
        try:
            _copy(path, copy)
            copy.replace(path)
        except (duckdb.Error, OSError) as error:
            raise WarehouseError(f"cannot compact {path}: {str(error).splitlines()[0]}") from error
        finally:
            copy.unlink(missing_ok=True)
            copy.with_name(f"{copy.name}.wal").unlink(missing_ok=True)
    return Compaction(before, path.stat().st_size)


def backup(path: pathlib.Path, target: pathlib.Path, *, lock_timeout_seconds: float) -> int:
    """Copy the warehouse as it stands, durably and under its lock; the size of the copy in bytes.

    The copy is made beside `target` and takes its place by one rename: what can be seen there is whole, the backup
    before it or this one. Raises WarehouseError, with `target` as it was, when it can't be done.
    """
    if not path.exists():
        raise WarehouseError(f"there is no warehouse at {path}")
    if target.exists() and target.samefile(path):
        raise WarehouseError(f"{target} is the warehouse itself")
    copy = target.with_name(f".{target.name}.unfinished")
    with exclusive(lock_of(path), timeout_seconds=lock_timeout_seconds, what=str(path)):
        try:
            _copy(path, copy)
            copy.replace(target)
        except (duckdb.Error, OSError) as error:
            raise WarehouseError(f"cannot copy {path} to {target}: {str(error).splitlines()[0]}") from error
        finally:
            copy.unlink(missing_ok=True)
            copy.with_name(f"{copy.name}.wal").unlink(missing_ok=True)
    return target.stat().st_size


def _copy(path: pathlib.Path, copy: pathlib.Path) -> None:
    """All tables of a file into a new one, durable on return."""
    copy.unlink(missing_ok=True)
    with duckdb.connect(str(copy), config={"memory_limit": f"{_MEMORY_MB}MB", "threads": 1}) as connection:
        connection.execute("SET enable_progress_bar = false")
        quoted = str(path).replace("'", "''")
        connection.execute(f"ATTACH '{quoted}' AS old (READ_ONLY)")
        [(name,)] = connection.execute("SELECT current_database()").fetchall()
        connection.execute(f'COPY FROM DATABASE old TO "{name}"')
        connection.execute("DETACH old")
        connection.execute("CHECKPOINT")
    descriptor = os.open(copy, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

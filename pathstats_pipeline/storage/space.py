"""How large the warehouse's file is, and how much room its disk has."""

import dataclasses
import pathlib
import shutil


@dataclasses.dataclass(frozen=True)
class Space:
    """The file with its write-ahead log, and what is free on its disk, in bytes."""

    size_bytes: int
    free_bytes: int


def space_of(path: pathlib.Path) -> Space:
    """The space of a DuckDB file; of none, where there is no file yet."""
    files = [path, path.with_name(f"{path.name}.wal")]
    size = sum(file.stat().st_size for file in files if file.exists())
    return Space(size, shutil.disk_usage(path.parent).free)

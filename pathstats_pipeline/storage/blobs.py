"""A BLOB column of a DuckDB file, for whoever must know that bytes come back as they were; see `verify-sketches`."""

import pathlib
import tempfile

import duckdb


def through_blob(state: bytes) -> bytes:
    """The bytes as they stand in a BLOB of a DuckDB file that was written, closed and opened again."""
    with tempfile.TemporaryDirectory(prefix="pathstats-") as directory:
        path = str(pathlib.Path(directory) / "blob.duckdb")
        with duckdb.connect(path) as connection:
            connection.execute("CREATE TABLE states (state BLOB)")
            connection.execute("INSERT INTO states VALUES (?)", [state])
        with duckdb.connect(path, read_only=True) as connection:
            [(returned,)] = connection.execute("SELECT state FROM states").fetchall()
    return bytes(returned)

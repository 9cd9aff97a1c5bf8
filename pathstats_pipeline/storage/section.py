"""A section of a stream, for servers that give the whole object where a range of it was asked for."""

import io
from typing import BinaryIO, Final

_SKIP_BYTES: Final = 1 << 20


class Section(io.RawIOBase):
    """So many bytes of a stream, after skipping some; fewer where the stream ends before. Doesn't close it."""

    def __init__(self, stream: BinaryIO, skip: int, size: int) -> None:
        self._stream, self._skip, self._left = stream, skip, size

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fill the buffer; 0 at the end."""
        while self._skip:
            skipped = len(self._stream.read(min(self._skip, _SKIP_BYTES)))
            self._skip = self._skip - skipped if skipped else 0
        data = self._stream.read(min(len(buffer), self._left))
        self._left -= len(data)
        buffer[: len(data)] = data
        return len(data)

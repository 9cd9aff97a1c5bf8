"""What tests of the local servers share: the process of one, how it is killed, and where it listens."""

import contextlib
import os
import pathlib
import signal

from pathstats_pipeline.storage.local_server import LocalServer, wait_until


def pid_of(server: LocalServer) -> int:
    """Tell the process of the server, which must live."""
    state = server._read_state()
    assert state is not None
    assert state.pid is not None
    assert server._lives()
    return state.pid


def kill(server: LocalServer) -> None:
    """Kill the server and wait until it is gone."""
    os.kill(pid_of(server), signal.SIGKILL)
    assert wait_until(lambda: not server._lives(), 5)


def listening(pid: int) -> set[tuple[str, int]]:
    """Tell the addresses, as the kernel writes them, and ports on which a process listens."""
    inodes = set()
    for descriptor in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the server has closed it since
            target = str(descriptor.readlink())
            if target.startswith("socket:["):
                inodes.add(target[8:-1])
    found = set()
    for table in ("tcp", "tcp6"):
        for line in pathlib.Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                address, port = fields[1].rsplit(":", 1)
                found.add((address, int(port, 16)))
    return found

"""A process that has imported everything, and forks a child for each life that is to be killed.

Reads one JSON object a line (see `Life`) and answers with the child's exit code: `python -m faults.nursery`.
"""

import dataclasses
import json
import os
import pathlib
import sys
import traceback

import boto3
from archive.worlds import PARTS_OF_FIVE_MIB, SMALL, world

from faults.boundaries import Boundaries
from pathstats_pipeline.storage.local_s3 import REGION
from pathstats_pipeline.storage.objects import S3Objects


@dataclasses.dataclass(frozen=True)
class Life:
    """A run of archive and clean-up: where, on which S3 server, and at which boundary it dies."""

    directory: str
    log: str
    endpoint: str
    access_key: str
    secret_key: str
    bucket: str
    prefix: str
    multipart: bool
    crash_at: int | None

    def objects(self) -> S3Objects:
        """The archive's store."""
        client = boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
        )
        return S3Objects(client, self.bucket, self.prefix)


def live(life: Life) -> None:
    """Archive and clean up the day, as the assets do."""
    objects = life.objects()
    boundaries = Boundaries(pathlib.Path(life.log), life.crash_at)
    boundaries.watch_client(objects.client)
    boundaries.watch_warehouse()
    boundaries.watch_landing()
    with world(pathlib.Path(life.directory), objects) as here:
        here.archive(PARTS_OF_FIVE_MIB if life.multipart else SMALL)
        here.clean()


def main() -> None:
    """Fork a child for each line."""
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            try:
                live(Life(**json.loads(line)))
            except BaseException:  # noqa: BLE001 - the parent must hear of it, whatever it is
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()

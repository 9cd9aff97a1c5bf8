"""A process that has imported everything, and forks a consumer for each order; consumers are there to be killed.

Reads one JSON object a line, answers with the child's process id and, when it is gone, with its exit code:
`python -m faults.queue_nursery`.
"""

import dataclasses
import json
import os
import pathlib
import sys
import traceback

from queues import Queues, consumer_of, landing_at, sqs_client

from pathstats_pipeline.intake.consumer import Bounds
from pathstats_pipeline.storage.queue import SqsQueue


@dataclasses.dataclass(frozen=True)
class Order:
    """Drain a queue of a server into a landing zone until nothing is received any more."""

    server: str
    queue: str
    letters: str
    landing: str
    messages: int
    hidden_seconds: int

    def run(self) -> None:
        """Do it."""
        client = sqs_client(self.server)
        queues = Queues(SqsQueue(client, self.queue), SqsQueue(client, self.letters))
        bounds = Bounds(messages=self.messages, hidden_seconds=self.hidden_seconds)
        consumer_of(queues, landing_at(pathlib.Path(self.landing)), bounds=bounds).drain(lambda: True)


def main() -> None:
    """Fork a child for each line."""
    for line in sys.stdin:
        order = Order(**json.loads(line))
        if child := os.fork():
            print(child, flush=True)
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
            continue
        code = 1
        try:
            order.run()
            code = 0
        except BaseException:  # noqa: BLE001 - told by the exit code
            traceback.print_exc()
        # Not the interpreter's own end: C++ libraries would miss the threads that the fork has left behind.
        os._exit(code)


if __name__ == "__main__":
    main()

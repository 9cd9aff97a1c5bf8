"""Claims: who may publish a generation. For warehouses on several hosts, and for a worker that was paused meanwhile.

One warehouse is held by one process at a time, so its own runs can't meet. A claim is a small object, created only if
it isn't there; the highest epoch holds. Claims are never changed or deleted, so they need no right to do so, and stay
as the record of who wrote what. They guard against waste, not against loss: what is published is named by its content,
and a manifest is create-only.
"""

import dataclasses
import datetime as dt
import json
from collections.abc import Callable
from typing import Final

from pathstats_pipeline.archive.keys import claim_epoch, claim_folder, claim_key
from pathstats_pipeline.events.window import from_rfc3339, rfc3339
from pathstats_pipeline.storage.objects import Objects

_ATTEMPTS: Final = 10
"""Claims that may be lost to others who are as quick, before it looks as if they were hidden from us."""

Clock = Callable[[], dt.datetime]


class ClaimedError(RuntimeError):
    """Somebody else holds the claim on a generation; one line that says who, and until when."""


@dataclasses.dataclass(frozen=True)
class Claimant:
    """Who claims: a name that is the same for all runs of one warehouse, and for how long a claim holds."""

    name: str
    lease: dt.timedelta = dt.timedelta(minutes=15)


@dataclasses.dataclass(frozen=True)
class _Epoch:
    """A claim as it stands on the store."""

    number: int
    holder: str
    until: dt.datetime


@dataclasses.dataclass
class Claim:
    """A claim on a generation of a day, held by us when it was taken; obtained from `take`."""

    objects: Objects
    date: dt.date
    generation: int
    claimant: Claimant
    clock: Clock
    epoch: int = 0

    def assert_held(self) -> None:
        """Before anything is published: still ours, or ours again because nobody took it when it ran out.

        Raises ClaimedError when somebody else has taken over.
        """
        last = self._last()
        if last is not None and last.number > self.epoch:
            raise ClaimedError(
                f"g{self.generation:04d} of {self.date} was taken over by {last.holder}; nothing was published"
            )
        if last is None or last.until <= self.clock():
            self.renew()

    def renew(self) -> None:
        """Take the next epoch, unless somebody else holds the last. One of our own is taken over: its holder is dead.

        Raises ClaimedError when somebody else holds it.
        """
        for _ in range(_ATTEMPTS):
            last, now = self._last(), self.clock()
            if last is not None and last.holder != self.claimant.name and last.until > now:
                raise ClaimedError(
                    f"g{self.generation:04d} of {self.date} is being archived by {last.holder}, "
                    f"who has until {last.until:%Y-%m-%d %H:%M:%S} UTC; run again then"
                )
            epoch = last.number + 1 if last else 1
            body = json.dumps({"holder": self.claimant.name, "until": rfc3339(now + self.claimant.lease)}).encode()
            key = claim_key(self.date, self.generation, epoch)
            # A key that is taken may be our own write, whose answer was lost.
            if self.objects.put(key, body) or self.objects.get(key) == body:
                self.epoch = epoch
                return
        raise ClaimedError(
            f"g{self.generation:04d} of {self.date}: {self.objects.uri} has claims that it doesn't list; may we list?"
        )

    def _last(self) -> _Epoch | None:
        folder = claim_folder(self.date, self.generation)
        keys = {claim_epoch(key): key for key in self.objects.list(folder)}
        if not keys:
            return None
        number, key = max(keys.items())
        try:
            document = json.loads(self.objects.get(key) or b"")
            return _Epoch(number, str(document["holder"]), from_rfc3339(document["until"]))
        except (ValueError, KeyError, TypeError):
            raise ClaimedError(f"{self.objects.uri}/{key} is no claim; remove it") from None


def take(objects: Objects, date: dt.date, generation: int, claimant: Claimant, clock: Clock) -> Claim:
    """The claim on a generation; raises ClaimedError when somebody else holds it."""
    claim = Claim(objects, date, generation, claimant, clock)
    claim.renew()
    return claim

"""Where a subscription stands: what both clients do alike when a connection is lost."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from ._errors import (
    Ended,
    NotAllowed,
    NotUnderstood,
    PerennialError,
    Refused,
    Unavailable,
    Unreachable,
)
from ._events import End, Event, parse
from ._requests import Asked, pause, subscription

LOG = logging.getLogger("perennial_client")


@dataclass
class Standing:
    """A subscription over several connections."""

    view: str
    snapshot: bool
    progress: bool
    early: bool
    key: str | None
    #: From where to go on.
    last_id: str | None = None
    #: Attempts since an epoch was told whole.
    n_failures: int = 0

    def asked(self) -> Asked:
        """The next request: what has been told is not asked for again."""
        return subscription(
            self.view,
            last_id=self.last_id,
            snapshot=self.snapshot,
            progress=self.progress,
            early=self.early,
            key=self.key,
        )

    def read(self, line: bytes) -> Event | None:
        """The event of a whole line, if it has one; raises what the last one stands for."""
        if not line.strip():
            return None
        try:
            last_id, event = parse(line.decode())
        except ValueError as error:
            # From the same id the same line would come again.
            raise NotUnderstood(str(error)) from error
        if isinstance(event, End):
            raise _ending(event)
        if last_id is not None:
            self.last_id = last_id
            self.n_failures = 0
        return event

    def pause_after(self, error: PerennialError) -> float:
        """Seconds until the next attempt; raises what another attempt would not mend."""
        if not _may_pass(error):
            raise error
        self.n_failures += 1
        retry_after = error.retry_after if isinstance(error, Unavailable) else None
        seconds = pause(self.n_failures - 1, retry_after)
        LOG.warning("%s: %s; asking again in %.1f s", self.view, error, seconds)
        return seconds


def _ending(end: End) -> PerennialError:
    """The error that the end of a subscription is."""
    if end.code == "server_ends":
        # It is gone on with at the one that is started next.
        return Unreachable(end.reason)
    if end.code == "token":
        return NotAllowed(401, end.reason)
    return Ended(end.reason, end.code)


def _may_pass(error: PerennialError) -> bool:
    """Whether another attempt may come to something else."""
    if isinstance(error, Refused):
        return isinstance(error, Unavailable) or error.status >= 500
    return isinstance(error, Unreachable)

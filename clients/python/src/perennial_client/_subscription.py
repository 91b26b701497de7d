"""Where a subscription stands: what both clients do alike when a connection is lost."""

from __future__ import annotations

from dataclasses import dataclass

from ._errors import Ended, NotAllowed, NotFound, PerennialError, Refused, Unavailable, Unreachable
from ._events import End, Event, parse
from ._requests import Asked, pause, subscription


@dataclass
class Standing:
    """A subscription over several connections."""

    view: str
    snapshot: bool
    progress: bool
    key: str | None
    #: From where to go on.
    last_id: str | None
    n_failures: int = 0

    def asked(self) -> Asked:
        """The next request: what has been told is not asked for again."""
        return subscription(self.view, self.last_id, self.snapshot, self.progress, self.key)

    def read(self, line: str) -> Event | None:
        """The event of a line, if it has one."""
        if not line.strip():
            return None
        try:
            last_id, event = parse(line)
        except ValueError as error:
            # Half a line, where the connection broke: what it said is told again.
            raise Unreachable(str(error)) from error
        if isinstance(event, End):
            raise Ended(event.reason)
        self.n_failures = 0
        if last_id is not None:
            self.last_id = last_id
        return event

    def pause_after(self, error: PerennialError) -> float:
        """Seconds until the next attempt; raises what another attempt would not mend."""
        if isinstance(error, (Ended, NotAllowed, NotFound)):
            raise error
        if isinstance(error, Refused) and not isinstance(error, Unavailable) and error.status < 500:
            raise error
        self.n_failures += 1
        retry_after = error.retry_after if isinstance(error, Unavailable) else None
        return pause(self.n_failures - 1, retry_after)

"""What can go wrong, by what the caller can do about it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


class PerennialError(Exception):
    """Anything that goes wrong here."""


class Unreachable(PerennialError):
    """The server cannot be reached, or the connection was lost."""


class NotUnderstood(PerennialError):
    """What came is nothing that a server of Perennial says. Asking again would not mend it."""


class Ended(PerennialError):
    """A subscription ended for good, for this ``reason``.

    ``code`` is ``dropped`` where the view was, ``failed`` where the engine did, and None where an
    older server does not say.
    """

    def __init__(self, reason: str, code: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.code = code


class Refused(PerennialError):
    """The server refused a request.

    ``status`` is HTTP's, ``error`` says why, ``hint`` what to do, where the server knows.
    """

    def __init__(self, status: int, error: str, hint: str | None = None) -> None:
        super().__init__(f"{error} ({hint})" if hint else error)
        self.status = status
        self.error = error
        self.hint = hint


class NotAllowed(Refused):
    """The token is missing, unknown, or may not do that; or not any more."""


class NotFound(Refused):
    """There is no such view, stream, key or token, or it is gone for good."""


class Unavailable(Refused):
    """Not now. ``retry_after`` seconds later it may be possible."""

    def __init__(
        self, status: int, error: str, hint: str | None, retry_after: float | None
    ) -> None:
        super().__init__(status, error, hint)
        self.retry_after = retry_after


class StatementFailed(Refused):
    """A statement of SQL is wrong, or could not be carried out.

    ``line`` and ``column`` say where, counted from one, if it can be said; ``outcomes`` are those
    of the statements before it, which were carried out. Where the text is no SQL, none were.
    """

    def __init__(
        self,
        status: int,
        error: str,
        hint: str | None,
        line: int | None,
        column: int | None,
        outcomes: list[dict[str, Any]],
    ) -> None:
        super().__init__(status, error, hint)
        self.line = line
        self.column = column
        self.outcomes = outcomes

    def __str__(self) -> str:
        said = super().__str__()
        return said if self.line is None else f"line {self.line}, column {self.column}: {said}"


@dataclass(frozen=True)
class Rejected:
    """A line that is no record: counted from one, where it is known which."""

    line: int | None
    key: str | None
    reason: str


class NothingAccepted(Refused):
    """Of records that were posted none was accepted.

    ``rejected`` are the first of them, each with the reason; ``n_rejected`` is how many there are.
    """

    def __init__(
        self,
        status: int,
        error: str,
        hint: str | None,
        rejected: tuple[Rejected, ...],
        n_rejected: int,
    ) -> None:
        super().__init__(status, error, hint)
        self.rejected = rejected
        self.n_rejected = n_rejected


def rejected_lines(told: Mapping[str, Any]) -> tuple[Rejected, ...]:
    """The lines that a reply names as rejected."""
    return tuple(
        Rejected(one["line"], one.get("key"), one["reason"]) for one in told.get("rejected", ())
    )


def refusal(status: int, body: bytes, retry_after: str | None) -> Refused:
    """The error that a reply tells. One that is no JSON, as of a proxy, is told by its status."""
    try:
        told = json.loads(body)
    except ValueError:
        told = None
    if not isinstance(told, dict) or not isinstance(told.get("error"), str):
        told = {"error": f"the server replied with status {status}"}
    error, hint = told["error"], told.get("hint")
    if "outcomes" in told or "line" in told:
        line, column, outcomes = told.get("line"), told.get("column"), told.get("outcomes", [])
        return StatementFailed(status, error, hint, line, column, outcomes)
    if "rejected" in told:
        try:
            rejected = rejected_lines(told)
        except (AttributeError, KeyError, TypeError):
            return Refused(status, error, hint)
        return NothingAccepted(
            status, error, hint, rejected, told.get("n_rejected", len(rejected))
        )
    if status in (401, 403):
        return NotAllowed(status, error, hint)
    if status in (404, 410):
        return NotFound(status, error, hint)
    if status in (408, 429, 502, 503, 504):
        return Unavailable(status, error, hint, _seconds(retry_after))
    return Refused(status, error, hint)


def _seconds(retry_after: str | None) -> float | None:
    # A date, which it may be too, is not read.
    if retry_after is None or not retry_after.isdecimal():
        return None
    return float(retry_after)

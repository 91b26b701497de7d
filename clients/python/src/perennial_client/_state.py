"""A view, as it stands at one epoch.

The server tells changes one by one, and marks where a whole epoch has been told. ``ViewState``
keeps what came since the last mark apart, so that nobody sees half an epoch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ._events import Answer, Epoch, Event, Reset, Row, Snapshot, UpToDate


@dataclass(frozen=True)
class Update:
    """A view that moved to another epoch.

    ``answers`` (by key) or ``rows`` (with how often each stands) are all that stands; ``changes``
    is what is other than at the update before. Where ``is_snapshot``, everything was told anew, and
    ``changes`` is all that stands.
    """

    epoch: int | None
    answers: Mapping[str, Answer]
    rows: tuple[tuple[Mapping[str, Any], int], ...]
    changes: tuple[Answer | Row, ...]
    is_snapshot: bool


class ViewState:
    """Folds the events of a subscription."""

    def __init__(self) -> None:
        self._answers: dict[str, Answer] = {}
        self._rows: dict[str, tuple[Mapping[str, Any], int]] = {}
        self._pending: list[Answer | Row] = []
        self._is_snapshot = False

    def apply(self, event: Event) -> Update | None:
        """Takes an event in. Returns the view where a whole epoch has been told."""
        if isinstance(event, (Reset, Snapshot)):
            # What was told of an epoch that did not become whole is told again.
            self._pending.clear()
            self._is_snapshot = True
        elif isinstance(event, Answer) and not event.is_early:
            self._pending.append(event)
        elif isinstance(event, Row):
            self._pending.append(event)
        elif isinstance(event, (UpToDate, Epoch)):
            return self._complete(event.epoch)
        return None

    def restart(self) -> None:
        """The connection was lost: what came since the last mark will be told again."""
        self._pending.clear()
        self._is_snapshot = False

    def _complete(self, epoch: int | None) -> Update:
        if self._is_snapshot:
            self._answers.clear()
            self._rows.clear()
        for change in self._pending:
            if isinstance(change, Row):
                self._count(change)
            elif change.change == "gone":
                self._answers.pop(change.key, None)
            else:
                self._answers[change.key] = change
        update = Update(
            epoch=epoch,
            answers=dict(self._answers),
            rows=tuple(self._rows.values()),
            changes=tuple(self._pending),
            is_snapshot=self._is_snapshot,
        )
        self._pending.clear()
        self._is_snapshot = False
        return update

    def _count(self, change: Row) -> None:
        same = json.dumps(change.row, sort_keys=True)
        n = change.count + self._rows.get(same, (change.row, 0))[1]
        if n == 0:
            self._rows.pop(same, None)
        else:
            self._rows[same] = (change.row, n)

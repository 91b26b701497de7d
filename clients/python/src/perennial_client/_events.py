"""What a subscription tells.

Fields that a newer server adds are in ``raw``; an event of a kind that is not known here is an
``Other``. Both are no errors.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Citation:
    """A passage that a sentence leans on: the ``ordinal``-th of a document, from zero.

    ``share`` is its part among the passages that the sentence leans on, from 0 to 1.
    """

    document: str
    ordinal: int
    share: float


@dataclass(frozen=True)
class SubParagraph:
    """A sentence or list item of an answer."""

    text: str
    sources: tuple[Citation, ...]


@dataclass(frozen=True)
class Work:
    """What an answer, or an epoch, cost, in tokens.

    ``from_scratch`` is what it would have cost without anything kept.
    """

    forwarded: int = 0
    from_scratch: int = 0
    decoded: int = 0


@dataclass(frozen=True)
class Answer:
    """An answer: of the snapshot, or one that changed.

    ``change`` is ``new``, ``changed``, ``stands`` or ``gone``. ``text`` is None where it is gone,
    and where there is an ``error`` in its place.
    """

    key: str
    change: str
    epoch: int
    text: str | None
    error: str | None
    question: str | None
    rung: str | None
    is_exact: bool
    is_memoised: bool
    is_early: bool
    sub_paragraphs: tuple[SubParagraph, ...]
    work: Work
    raw: Mapping[str, Any] = field(repr=False, compare=False)


@dataclass(frozen=True)
class Row:
    """By how much the number of a row grows: of a view that asks no model."""

    epoch: int | None
    count: int
    row: Mapping[str, Any]


@dataclass(frozen=True)
class Snapshot:
    """All that stands as of ``epoch`` follows. What was held of this view is void."""

    view: str
    kind: str
    epoch: int | None
    n_rows: int


@dataclass(frozen=True)
class UpToDate:
    """All up to ``epoch`` has been told. With ``id`` another subscription goes on from here."""

    epoch: int | None
    id: str | None = None


@dataclass(frozen=True)
class Epoch:
    """All changes of ``epoch`` have been told. ``raw`` has its summary.

    With ``id`` another subscription goes on from here.
    """

    epoch: int
    n_changes: int
    work: Work
    id: str | None
    raw: Mapping[str, Any] = field(repr=False, compare=False)


@dataclass(frozen=True)
class Progress:
    """How far something is. ``stage`` says what; ``writing`` has ``text`` at byte ``at``."""

    stage: str
    key: str | None
    raw: Mapping[str, Any] = field(repr=False, compare=False)


@dataclass(frozen=True)
class Started:
    """An epoch has begun."""

    epoch: int
    raw: Mapping[str, Any] = field(repr=False, compare=False)


@dataclass(frozen=True)
class Reset:
    """What was held cannot be gone on from, for this reason. A snapshot follows."""

    reason: str


@dataclass(frozen=True)
class Notice:
    """A word of a source or a model."""

    source: str | None
    message: str


@dataclass(frozen=True)
class End:
    """Nothing follows. ``code`` says why in one word; None where an older server has none."""

    reason: str
    code: str | None = None


@dataclass(frozen=True)
class Other:
    """An event of a kind that this client does not know."""

    event: str
    raw: Mapping[str, Any]


Event = (
    Snapshot | Answer | Row | UpToDate | Epoch | Progress | Started | Reset | Notice | End | Other
)


def parse(line: str) -> tuple[str | None, Event]:
    """A line of a subscription: the id from which to go on, where it has one, and the event.

    Raises ValueError for a line that is no event.
    """
    try:
        told = json.loads(line)
        kind, last_id = told["event"], told.get("id")
        if not isinstance(kind, str) or not isinstance(last_id, str | None):
            raise TypeError("an event or an id is no text")
        return last_id, _event(kind, told)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"no event ({error!r}): {line[:200]}") from error


def _event(kind: str, told: dict[str, Any]) -> Event:
    if kind == "answer":
        return answer(told)
    if kind == "row":
        return Row(told.get("epoch"), told["count"], told["row"])
    if kind == "snapshot":
        return Snapshot(told["view"], told["kind"], told.get("epoch"), told["n_rows"])
    if kind == "up_to_date":
        return UpToDate(told.get("epoch"), told.get("id"))
    if kind == "epoch":
        work = _work(told.get("work"))
        return Epoch(told["epoch"], told.get("n_changes", 0), work, told.get("id"), told)
    if kind == "progress":
        return Progress(told["stage"], told.get("key"), told)
    if kind == "started":
        return Started(told["epoch"], told)
    if kind == "reset":
        return Reset(told["reason"])
    if kind == "notice":
        return Notice(told.get("source"), told["message"])
    if kind == "end":
        return End(told["reason"], told.get("code"))
    return Other(kind, told)


def answer(told: Mapping[str, Any]) -> Answer:
    """An answer, as a subscription or a snapshot has it."""
    return Answer(
        key=told["key"],
        change=told.get("change", "new"),
        epoch=told["epoch"],
        text=told.get("text"),
        error=told.get("error"),
        question=told.get("question"),
        rung=told.get("rung"),
        is_exact=bool(told.get("exact")),
        is_memoised=bool(told.get("memoised")),
        is_early=bool(told.get("early")),
        sub_paragraphs=tuple(
            SubParagraph(
                one["text"],
                tuple(
                    Citation(source["document"], source["ordinal"], source["share"])
                    for source in one.get("sources", ())
                ),
            )
            for one in told.get("sub_paragraphs") or ()
        ),
        work=_work(told.get("work")),
        raw=told,
    )


def _work(told: Mapping[str, Any] | None) -> Work:
    told = told or {}
    return Work(
        forwarded=told.get("forwarded", 0),
        from_scratch=told.get("from_scratch", 0),
        decoded=told.get("decoded", 0),
    )

"""What is fed to a stream or a table, and what comes of it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ._errors import NotUnderstood, Rejected, rejected_lines


@dataclass(frozen=True)
class Upsert:
    """A record that comes, or takes the place of the one with its key.

    ``columns`` are all that it has besides.
    """

    key: str
    text: str
    title: str | None = None
    updated_at: str | None = None
    supersedes: tuple[str, ...] = ()
    columns: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The line that says so."""
        line: dict[str, Any] = {**self.columns, "key": self.key, "text": self.text}
        if self.title is not None:
            line["title"] = self.title
        if self.updated_at is not None:
            line["updated_at"] = self.updated_at
        if self.supersedes:
            line["supersedes"] = list(self.supersedes)
        return line


@dataclass(frozen=True)
class Delete:
    """A record that goes."""

    key: str

    def to_json(self) -> dict[str, Any]:
        """The line that says so."""
        return {"delete": {"key": self.key}}


Record = Upsert | Delete | Mapping[str, Any]


def lines(records: Iterable[Record]) -> bytes:
    """Records as lines of JSON."""
    said = (
        record.to_json() if isinstance(record, (Upsert, Delete)) else dict(record)
        for record in records
    )
    text = "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in said)
    # Half a surrogate pair is in no encoding. Escaped it is refused as what else is malformed.
    return text.encode(errors="backslashreplace")


@dataclass(frozen=True)
class Receipt:
    """What became of records that were posted.

    ``is_visible`` means: in a complete epoch, and stored where the server keeps a state. Until
    then ``token`` asks for it.
    """

    n_accepted: int
    n_rejected: int
    rejected: tuple[Rejected, ...]
    token: str | None
    is_visible: bool
    epoch: int | None
    #: Columns that the stream does not declare, which were left out, and of how many records.
    left_out: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Visibility:
    """Whether what a token stands for is visible yet, and as of which epoch that was told."""

    is_visible: bool
    epoch: int | None


def receipt(told: Mapping[str, Any]) -> Receipt:
    """What a reply tells."""
    try:
        rejected = rejected_lines(told)
        return Receipt(
            n_accepted=told["accepted"],
            n_rejected=told.get("n_rejected", len(rejected)),
            rejected=rejected,
            token=told.get("token"),
            is_visible=bool(told.get("visible")),
            epoch=told.get("epoch"),
            left_out={one["column"]: one["n_records"] for one in told.get("left_out", ())},
        )
    except (AttributeError, KeyError, TypeError) as error:
        raise NotUnderstood(f"the reply is no receipt ({error!r})") from error

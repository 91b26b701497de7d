"""What is asked of the server, and how replies are read: the same for both clients."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import httpx

from ._errors import NotUnderstood
from ._records import Receipt, Record, Visibility, lines, receipt

#: Seconds between attempts to go on with a subscription: the least, and the most.
PAUSES = (0.2, 10.0)
#: Seconds between attempts where the server, or a proxy, asks for more: the most.
LONGEST_PAUSE = 300.0
#: Seconds without a byte after which a subscription counts as lost. The server says something
#: every fifteen.
SILENCE = 45.0
#: Seconds that the server waits at most before it replies that something is not visible yet.
LONGEST_WAIT = 60.0
#: Bytes of the longest line of a subscription that is read.
LINE_BYTES = 64 << 20
#: Seconds that a reply may take besides what the request itself waits for.
PATIENCE = 60.0
#: Each subscription has a connection as long as it lasts: they are as many as the caller wants.
CONNECTIONS = httpx.Limits(max_connections=None, max_keepalive_connections=20)


@dataclass(frozen=True)
class Asked:
    """A request."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    json: Any = None
    #: Seconds that the server may wait before it replies.
    wait: float = 0.0


def sql(statements: str) -> Asked:
    """Statements, carried out in order."""
    return Asked("POST", "/v1/sql", json={"sql": statements}, wait=600.0)


def post(stream: str, records: Iterable[Record], wait: float) -> Asked:
    """Records for a stream or a table."""
    seconds = _whole(wait)
    path = f"/v1/streams/{_part(stream)}"
    return Asked("POST", path, _waiting(seconds), body=lines(records), wait=seconds)


def token(name: str, wait: float) -> Asked:
    """Whether what was posted is visible."""
    seconds = _whole(wait)
    return Asked("GET", f"/v1/tokens/{_part(name)}", _waiting(seconds), wait=seconds)


def view(
    name: str, key: str | None, as_of: int | None, limit: int | None, offset: int | None
) -> Asked:
    """What a view holds."""
    query = {"key": key, "as_of": as_of, "limit": limit, "offset": offset}
    said = {name: str(value) for name, value in query.items() if value is not None}
    return Asked("GET", f"/v1/views/{_part(name)}", said)


def lineage(name: str, key: str) -> Asked:
    """What each sentence of an answer leans on."""
    return Asked("GET", f"/v1/views/{_part(name)}/lineage", {"key": key})


def subscription(
    name: str,
    *,
    last_id: str | None,
    snapshot: bool,
    progress: bool,
    early: bool,
    key: str | None,
) -> Asked:
    """All changes of a view."""
    query = {
        "format": "ndjson",
        "snapshot": _word(snapshot),
        "progress": _word(progress),
        "early": _word(early),
    }
    if key is not None:
        query["key"] = key
    if last_id is not None:
        query["as_of"] = last_id
    return Asked("GET", f"/v1/views/{_part(name)}/subscribe", query)


def told(body: bytes) -> dict[str, Any]:
    """The object that a reply is."""
    try:
        said = json.loads(body)
    except ValueError as error:
        raise NotUnderstood(f"the reply is no JSON: {body[:200]!r}") from error
    if not isinstance(said, dict):
        raise NotUnderstood(f"the reply is no object: {body[:200]!r}")
    return said


def listed(told: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """The objects that a reply lists."""
    found = told.get(name)
    if not isinstance(found, list):
        raise NotUnderstood(f"the reply has no {name}")
    return found


def rows(outcomes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those of the last outcome; raises ValueError where the statement was none that has any."""
    found = outcomes[-1].get("rows") if outcomes else None
    if not isinstance(found, list):
        raise ValueError("the statement gives no rows: `sql` takes any")
    return found


def visibility(told: Mapping[str, Any]) -> Visibility:
    """What a reply about a token tells."""
    return Visibility(bool(told.get("visible")), told.get("epoch"))


def pause(n_failures: int, retry_after: float | None) -> float:
    """Seconds until the next attempt: longer each time, and never all clients at once."""
    least, most = PAUSES
    grown = min(most, least * 2.0 ** min(n_failures, 16))
    asked_for = min(retry_after or 0.0, LONGEST_PAUSE)
    return max(asked_for, grown * (0.5 + random.random() / 2))


def _whole(wait: float) -> int:
    """Seconds to wait, as the server takes them."""
    return math.ceil(max(0.0, min(wait, LONGEST_WAIT)))


def _waiting(seconds: int) -> dict[str, str]:
    return {"wait": str(seconds)} if seconds else {}


def _part(name: str) -> str:
    return quote(name, safe="")


def _word(flag: bool) -> str:
    return "true" if flag else "false"


__all__ = [
    "CONNECTIONS",
    "LINE_BYTES",
    "PATIENCE",
    "SILENCE",
    "Asked",
    "Receipt",
    "lineage",
    "listed",
    "pause",
    "post",
    "receipt",
    "rows",
    "sql",
    "subscription",
    "token",
    "told",
    "view",
    "visibility",
]

"""The client that blocks. Written by ``blocking.py``."""

from __future__ import annotations

import ssl
import time
from collections.abc import Generator, Iterable
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx

from . import _address as address
from . import _requests as requests
from ._errors import PerennialError, Unreachable, refusal
from ._events import Event
from ._lines import Lines
from ._records import Receipt, Record, Visibility
from ._state import Update, ViewState
from ._subscription import Standing


class Client:
    """A server of Perennial.

    ``url`` is its address, ``token`` what its token file gives to this client. ``verify`` says
    which certificates are trusted: those that are known (True), that of a private authority (the
    path of its PEM file), or as a context says.

    >>> with Client("http://127.0.0.1:7070") as server:
    ...     server.upsert("questions", "q", "When do you open?")
    ...     for update in server.follow("answers"):
    ...         print(update.answers["q"].text)
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:7070",
        *,
        token: str | None = None,
        verify: ssl.SSLContext | str | Path | bool = True,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._http = httpx.Client(
            base_url=address.base(url),
            headers=address.headers(token),
            verify=address.trust(verify),
            limits=requests.CONNECTIONS,
            transport=transport,
        )

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes all connections."""
        self._http.close()

    def sql(self, statements: str) -> list[dict[str, Any]]:
        """Carries statements out, and returns what came of each.

        Raises ``StatementFailed`` with the place of what is wrong, and what came of the statements
        before it.
        """
        return requests.listed(self._json(requests.sql(statements)), "outcomes")

    def query(self, select: str) -> list[dict[str, Any]]:
        """The rows of one ``SELECT``, or of what else gives rows."""
        return requests.rows(self.sql(select))

    def post(self, stream: str, records: Iterable[Record], *, wait: float = 0.0) -> Receipt:
        """Feeds records to a stream or a table: all in one epoch, or none.

        Waits until they are visible, for up to ``wait`` seconds: whole ones, and no more than 60.
        What the server rejects is in the receipt, and no exception; where it accepts none,
        ``NothingAccepted`` is raised.
        """
        return requests.receipt(self._json(requests.post(stream, records, wait)))

    def upsert(
        self, stream: str, key: str, text: str, *, wait: float = 0.0, **columns: Any
    ) -> Receipt:
        """Feeds one record."""
        return self.post(stream, [{**columns, "key": key, "text": text}], wait=wait)

    def delete(self, stream: str, key: str, *, wait: float = 0.0) -> Receipt:
        """Takes one record away."""
        return self.post(stream, [{"delete": {"key": key}}], wait=wait)

    def visible(self, token: str, *, wait: float = 0.0) -> Visibility:
        """Whether what a receipt's token stands for is visible, after waiting as ``post`` does."""
        return requests.visibility(self._json(requests.token(token, wait)))

    def view(
        self,
        name: str,
        *,
        key: str | None = None,
        as_of: int | None = None,
        limit: int | None = None,
        offset: int | None = None,
    ) -> dict[str, Any]:
        """What a view, stream or table holds: ``epoch``, ``n_rows`` and a page of ``rows``."""
        return self._json(requests.view(name, key, as_of, limit, offset))

    def lineage(self, view: str, key: str) -> dict[str, Any]:
        """What each sentence of an answer leans on, with the texts."""
        return self._json(requests.lineage(view, key))

    def relations(self) -> list[dict[str, Any]]:
        """What there is."""
        told = self._json(requests.Asked("GET", "/v1/relations"))
        return requests.listed(told, "relations")

    def status(self) -> dict[str, Any]:
        """The engine in numbers."""
        return self._json(requests.Asked("GET", "/v1/status"))

    def subscribe(
        self,
        view: str,
        *,
        snapshot: bool = True,
        progress: bool = False,
        early: bool = True,
        key: str | None = None,
        last_id: str | None = None,
    ) -> Generator[Event, None, None]:
        """Every event of a view, for ever; a lost connection and a restart are gone on with.

        After a loss, events of an epoch that was not told whole come again: apply what comes
        between two events with an id together, or use ``follow``, which does. While the server is
        away, each attempt is logged, as a warning of ``perennial_client``. ``last_id`` goes on where
        another subscription was: it is the ``id`` of its last event that has one.

        Raises ``Ended`` when the view is dropped or the engine fails, ``NotAllowed`` when the token
        is taken back, and what the server refuses for good.
        """
        standing = Standing(view, snapshot, progress, early, key, last_id)
        with closing(self._events(standing)) as events:
            for _, event in events:
                if event is not None:
                    yield event

    def follow(self, view: str, *, key: str | None = None) -> Generator[Update, None, None]:
        """The view at each epoch that changed it, whole, beginning with what stands.

        Goes on, logs and raises as ``subscribe`` does.
        """
        state = ViewState()
        standing = Standing(view, snapshot=True, progress=False, early=False, key=key)
        with closing(self._events(standing)) as events:
            for is_anew, event in events:
                if is_anew:
                    state.restart()
                if event is not None and (update := state.apply(event)) is not None:
                    # A connection that was gone on with may have missed nothing.
                    if update.changes or update.is_snapshot:
                        yield update

    def _events(self, standing: Standing) -> Generator[tuple[bool, Event | None], None, None]:
        """Events, and where a connection began."""
        while True:
            try:
                with closing(self._connection(standing)) as connection:
                    for one in connection:
                        yield one
                error: PerennialError = Unreachable("the server closed the connection")
            except PerennialError as raised:
                error = raised
            time.sleep(standing.pause_after(error))

    def _connection(
        self, standing: Standing
    ) -> Generator[tuple[bool, Event | None], None, None]:
        asked = standing.asked()
        timeout = httpx.Timeout(requests.PATIENCE, read=requests.SILENCE)
        # A proxy that packs a reply gathers it first.
        headers = {"Accept-Encoding": "identity"}
        try:
            with self._http.stream(
                asked.method, asked.path, params=asked.query, headers=headers, timeout=timeout
            ) as reply:
                if reply.status_code != 200:
                    body = reply.read()
                    raise refusal(reply.status_code, body, reply.headers.get("retry-after"))
                yield True, None
                lines = Lines(requests.LINE_BYTES)
                for data in reply.iter_bytes():
                    for line in lines.push(data):
                        if (event := standing.read(line)) is not None:
                            yield False, event
        except httpx.RequestError as error:
            raise Unreachable(f"{type(error).__name__}: {error}") from error

    def _json(self, asked: requests.Asked) -> dict[str, Any]:
        try:
            reply = self._http.request(
                asked.method,
                asked.path,
                params=asked.query,
                content=asked.body,
                json=asked.json,
                timeout=httpx.Timeout(requests.PATIENCE + asked.wait),
            )
        except httpx.RequestError as error:
            raise Unreachable(f"{type(error).__name__}: {error}") from error
        if reply.status_code >= 300:
            raise refusal(reply.status_code, reply.content, reply.headers.get("retry-after"))
        return requests.told(reply.content)

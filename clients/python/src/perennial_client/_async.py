"""The client that awaits."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
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


class AsyncClient:
    """A server of Perennial.

    ``url`` is its address, ``token`` what its token file gives to this client. ``verify`` says
    which certificates are trusted: those that are known (True), that of a private authority (the
    path of its PEM file), or as a context says.

    >>> async with AsyncClient("http://127.0.0.1:7070") as server:
    ...     await server.upsert("questions", "q", "When do you open?")
    ...     async for update in server.follow("answers"):
    ...         print(update.answers["q"].text)
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:7070",
        *,
        token: str | None = None,
        verify: ssl.SSLContext | str | Path | bool = True,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._http = httpx.AsyncClient(
            base_url=address.base(url),
            headers=address.headers(token),
            verify=address.trust(verify),
            limits=requests.CONNECTIONS,
            transport=transport,
        )

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes all connections."""
        await self._http.aclose()

    async def sql(self, statements: str) -> list[dict[str, Any]]:
        """Carries statements out, and returns what came of each.

        Raises ``StatementFailed`` with the place of what is wrong, and what came of the statements
        before it.
        """
        return requests.listed(await self._json(requests.sql(statements)), "outcomes")

    async def query(self, select: str) -> list[dict[str, Any]]:
        """The rows of one ``SELECT``, or of what else gives rows."""
        return requests.rows(await self.sql(select))

    async def post(self, stream: str, records: Iterable[Record], *, wait: float = 0.0) -> Receipt:
        """Feeds records to a stream or a table: all in one epoch, or none.

        Waits until they are visible, for up to ``wait`` seconds: whole ones, and no more than 60.
        What the server rejects is in the receipt, and no exception; where it accepts none,
        ``NothingAccepted`` is raised.
        """
        return requests.receipt(await self._json(requests.post(stream, records, wait)))

    async def upsert(
        self, stream: str, key: str, text: str, *, wait: float = 0.0, **columns: Any
    ) -> Receipt:
        """Feeds one record."""
        return await self.post(stream, [{**columns, "key": key, "text": text}], wait=wait)

    async def delete(self, stream: str, key: str, *, wait: float = 0.0) -> Receipt:
        """Takes one record away."""
        return await self.post(stream, [{"delete": {"key": key}}], wait=wait)

    async def visible(self, token: str, *, wait: float = 0.0) -> Visibility:
        """Whether what a receipt's token stands for is visible, after waiting as ``post`` does."""
        return requests.visibility(await self._json(requests.token(token, wait)))

    async def view(
        self,
        name: str,
        *,
        key: str | None = None,
        as_of: int | None = None,
        limit: int | None = None,
        offset: int | None = None,
    ) -> dict[str, Any]:
        """What a view, stream or table holds: ``epoch``, ``n_rows`` and a page of ``rows``."""
        return await self._json(requests.view(name, key, as_of, limit, offset))

    async def lineage(self, view: str, key: str) -> dict[str, Any]:
        """What each sentence of an answer leans on, with the texts."""
        return await self._json(requests.lineage(view, key))

    async def relations(self) -> list[dict[str, Any]]:
        """What there is."""
        told = await self._json(requests.Asked("GET", "/v1/relations"))
        return requests.listed(told, "relations")

    async def status(self) -> dict[str, Any]:
        """The engine in numbers."""
        return await self._json(requests.Asked("GET", "/v1/status"))

    async def subscribe(
        self,
        view: str,
        *,
        snapshot: bool = True,
        progress: bool = False,
        early: bool = True,
        key: str | None = None,
        last_id: str | None = None,
    ) -> AsyncGenerator[Event, None]:
        """Every event of a view, for ever; a lost connection and a restart are gone on with.

        After a loss, events of an epoch that was not told whole come again: apply what comes
        between two events with an id together, or use ``follow``, which does. While the server is
        away, each attempt is logged, as a warning of ``perennial_client``. ``last_id`` goes on where
        another subscription was: it is the ``id`` of its last event that has one.

        Raises ``Ended`` when the view is dropped or the engine fails, ``NotAllowed`` when the token
        is taken back, and what the server refuses for good.
        """
        standing = Standing(view, snapshot, progress, early, key, last_id)
        async with aclosing(self._events(standing)) as events:
            async for _, event in events:
                if event is not None:
                    yield event

    async def follow(self, view: str, *, key: str | None = None) -> AsyncGenerator[Update, None]:
        """The view at each epoch that changed it, whole, beginning with what stands.

        Goes on, logs and raises as ``subscribe`` does.
        """
        state = ViewState()
        standing = Standing(view, snapshot=True, progress=False, early=False, key=key)
        async with aclosing(self._events(standing)) as events:
            async for is_anew, event in events:
                if is_anew:
                    state.restart()
                if event is not None and (update := state.apply(event)) is not None:
                    # A connection that was gone on with may have missed nothing.
                    if update.changes or update.is_snapshot:
                        yield update

    async def _events(self, standing: Standing) -> AsyncGenerator[tuple[bool, Event | None], None]:
        """Events, and where a connection began."""
        while True:
            try:
                async with aclosing(self._connection(standing)) as connection:
                    async for one in connection:
                        yield one
                error: PerennialError = Unreachable("the server closed the connection")
            except PerennialError as raised:
                error = raised
            await asyncio.sleep(standing.pause_after(error))

    async def _connection(
        self, standing: Standing
    ) -> AsyncGenerator[tuple[bool, Event | None], None]:
        asked = standing.asked()
        timeout = httpx.Timeout(requests.PATIENCE, read=requests.SILENCE)
        # A proxy that packs a reply gathers it first.
        headers = {"Accept-Encoding": "identity"}
        try:
            async with self._http.stream(
                asked.method, asked.path, params=asked.query, headers=headers, timeout=timeout
            ) as reply:
                if reply.status_code != 200:
                    body = await reply.aread()
                    raise refusal(reply.status_code, body, reply.headers.get("retry-after"))
                yield True, None
                lines = Lines(requests.LINE_BYTES)
                async for data in reply.aiter_bytes():
                    for line in lines.push(data):
                        if (event := standing.read(line)) is not None:
                            yield False, event
        except httpx.RequestError as error:
            raise Unreachable(f"{type(error).__name__}: {error}") from error

    async def _json(self, asked: requests.Asked) -> dict[str, Any]:
        try:
            reply = await self._http.request(
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

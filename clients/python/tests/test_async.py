"""The client that awaits goes the same ways; that they are the same code, another test says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import httpx
import pytest

import perennial_client as perennial
from perennial_client import _requests


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_requests, "PAUSES", (0.0, 0.001))


def said(event: str, **fields: Any) -> bytes:
    return json.dumps({"event": event, **fields}, ensure_ascii=False).encode() + b"\n"


BEGINNING = said("snapshot", view="v", kind="answers", epoch=1, n_rows=0) + said(
    "up_to_date", id="o.1", epoch=1
)
SECOND = said("answer", key="a", epoch=2, text="two\u2028lines", change="new") + said(
    "epoch", id="o.2", epoch=2
)


class Endless(httpx.AsyncByteStream):
    """Tells something, then nothing more; knows whether somebody still listens."""

    def __init__(self, told: bytes) -> None:
        self.told = told
        self.is_closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self.told
        await asyncio.Event().wait()

    async def aclose(self) -> None:
        self.is_closed = True


def test_a_view_is_followed_over_a_restart_and_its_reader_may_stop() -> None:
    last = Endless(SECOND)
    ends = said("end", reason="the server ends", code="server_ends")
    replies = iter(
        [httpx.Response(200, content=BEGINNING + ends), httpx.Response(200, stream=last)]
    )
    transport = httpx.MockTransport(lambda _: next(replies))

    async def followed() -> list[str | None]:
        texts = []
        async with perennial.AsyncClient(transport=transport) as server:
            async with aclosing(server.follow("v")) as updates:
                async for update in updates:
                    texts += [answer.text for answer in update.answers.values()]
                    if texts:
                        break
            # Before the client is closed, too.
            assert last.is_closed
        return texts

    assert asyncio.run(followed()) == ["two\u2028lines"]


def test_who_waits_may_be_cancelled() -> None:
    told = Endless(BEGINNING)
    transport = httpx.MockTransport(lambda _: httpx.Response(200, stream=told))

    async def cancelled() -> None:
        async with perennial.AsyncClient(transport=transport) as server:
            updates = server.follow("v")
            assert (await anext(updates)).epoch == 1
            waiting = asyncio.create_task(anext(updates))
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert told.is_closed

    asyncio.run(cancelled())


def test_followers_leave_room_for_requests() -> None:
    """More follow at once than a pool of httpx has connections, unless it is told otherwise."""
    n_followers = 101

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        if b"/subscribe?" in head:
            writer.write(BEGINNING)
            await writer.drain()
            # Until the client is gone.
            await reader.read()
        else:
            writer.write(b'{"ready": true}')
        writer.close()

    async def followed() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server, perennial.AsyncClient(f"http://127.0.0.1:{port}") as client:
            views = [client.follow("v") for _ in range(n_followers)]
            updates = await asyncio.gather(*(anext(view) for view in views))
            assert {update.epoch for update in updates} == {1}
            assert await client.status() == {"ready": True}
            for view in views:
                await view.aclose()

    asyncio.run(asyncio.wait_for(followed(), 30))

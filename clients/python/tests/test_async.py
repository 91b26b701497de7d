"""The client that awaits goes the same ways; that they are the same code, another test says."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest

import perennial_client as perennial


def test_a_view_is_followed_and_a_slow_reader_may_stop() -> None:
    lines = [
        {"event": "snapshot", "view": "v", "kind": "answers", "epoch": 1, "n_rows": 0},
        {"event": "up_to_date", "id": "o.1", "epoch": 1},
        {"event": "answer", "key": "a", "epoch": 2, "text": "two", "change": "new"},
        {"event": "epoch", "id": "o.2", "epoch": 2},
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    transport = httpx.MockTransport(lambda _: httpx.Response(200, text=text))

    async def first_answer() -> str | None:
        async with perennial.AsyncClient(transport=transport) as server:
            async for update in server.follow("v"):
                if "a" in update.answers:
                    return update.answers["a"].text
        pytest.fail("nothing was told")

    assert asyncio.run(first_answer()) == "two"

"""Writes the client that blocks from the one that awaits, so that the two cannot differ.

    python blocking.py        # after a change of src/perennial_client/_async.py

A test fails where this was forgotten.
"""

from pathlib import Path

HERE = Path(__file__).parent / "src" / "perennial_client"

WORDS = [
    ('"""The client that awaits."""', '"""The client that blocks. Written by ``blocking.py``."""'),
    ("import asyncio\n", "import time\n"),
    ("import AsyncIterator, Iterable\n", "import Iterable, Iterator\n"),
    ("AsyncIterator", "Iterator"),
    ("AsyncBaseTransport", "BaseTransport"),
    ("AsyncClient", "Client"),
    ("__aenter__", "__enter__"),
    ("__aexit__", "__exit__"),
    ("aclose", "close"),
    ("aread", "read"),
    ("aiter_bytes", "iter_bytes"),
    ("asyncio.sleep", "time.sleep"),
    ("async def", "def"),
    ("async with", "with"),
    ("async for", "for"),
    ("await ", ""),
]


def blocking() -> str:
    """The text of the client that blocks."""
    text = (HERE / "_async.py").read_text(encoding="utf-8")
    for awaits, blocks in WORDS:
        text = text.replace(awaits, blocks)
    return text


if __name__ == "__main__":
    (HERE / "_sync.py").write_text(blocking(), encoding="utf-8")

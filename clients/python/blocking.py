"""Writes the client that blocks from the one that awaits, so that the two cannot differ.

    python blocking.py        # after a change of src/perennial_client/_async.py

A test fails where this was forgotten.
"""

from pathlib import Path

HERE = Path(__file__).parent / "src" / "perennial_client"

WORDS = [
    ('"""The client that awaits."""', '"""The client that blocks. Written by ``blocking.py``."""'),
    ("import asyncio\nimport ssl\n", "import ssl\nimport time\n"),
    ("import AsyncGenerator, Iterable\n", "import Generator, Iterable\n"),
    # What awaits returns nothing at its end, and its type does not say so.
    (", None]:\n", ", None, None]:\n"),
    ("AsyncGenerator", "Generator"),
    ("AsyncBaseTransport", "BaseTransport"),
    ("AsyncClient", "Client"),
    ("__aenter__", "__enter__"),
    ("__aexit__", "__exit__"),
    ("aclosing", "closing"),
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

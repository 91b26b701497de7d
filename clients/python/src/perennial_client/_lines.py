"""Which lines does a subscription consist of?

They end with a line feed and with nothing else. The server writes other characters at which Python
breaks lines, such as U+2028, as they are: they may stand in the middle of a text.
"""

from __future__ import annotations

from ._errors import NotUnderstood


class Lines:
    """Cuts bytes into lines, as they come. Holds no more than ``limit`` bytes of one line."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._unfinished = bytearray()

    def push(self, data: bytes) -> list[bytes]:
        """The lines that end in ``data``, without their line feeds.

        What is left at the end is half a line, where the connection broke: it is told again.
        Raises ``NotUnderstood`` for a line that is too long.
        """
        first, *others = data.split(b"\n")
        self._extend(first)
        lines = []
        for other in others:
            lines.append(bytes(self._unfinished))
            self._unfinished.clear()
            self._extend(other)
        return lines

    def _extend(self, piece: bytes) -> None:
        if len(self._unfinished) + len(piece) > self._limit:
            raise NotUnderstood(f"a line is longer than {self._limit:,} bytes")
        self._unfinished += piece

"""Where is the server, and how is it spoken to?

What is wrong with that is said at once: a follower would take it for a server that is away, and
wait for it.
"""

from __future__ import annotations

import ssl
from pathlib import Path


def base(url: str) -> str:
    """The address of a server; raises ValueError for what is none."""
    if not url.lower().startswith(("http://", "https://")):
        raise ValueError(f"an address begins with http:// or https://, and this does not: {url!r}")
    return url


def headers(token: str | None) -> dict[str, str]:
    """Of every request; raises ValueError for a token that no header can hold."""
    if token is None:
        return {}
    if not token or not all("!" <= character <= "~" for character in token):
        raise ValueError(
            "a token is letters, digits and signs of ASCII, without spaces or ends of lines"
        )
    return {"Authorization": f"Bearer {token}"}


def trust(verify: ssl.SSLContext | str | Path | bool) -> ssl.SSLContext | bool:
    """Which certificates are trusted, as httpx takes it."""
    if isinstance(verify, (str, Path)):
        return ssl.create_default_context(cafile=verify)
    return verify

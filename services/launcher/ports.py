"""Which TCP ports on loopback are free."""

from __future__ import annotations

import secrets
import socket

from services.shared.errors import InvalidInput

_LOW, _HIGH = 20_000, 32_000
"""Below every system's range for outgoing connections, so that a port stays free over a restart."""


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Whether a server could listen on `port` now."""
    with socket.socket() as probe:
        if hasattr(socket, "SO_REUSEADDR") and not hasattr(socket, "SO_EXCLUSIVEADDRUSE"):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def free_port(*, usual: int | None = None, taken: frozenset[int] = frozenset()) -> int:
    """The `usual` port when it is free, otherwise a random free one; none that is in `taken`.

    Raises InvalidInput when the machine has no free port left to find.
    """
    if usual is not None and usual not in taken and is_free(usual):
        return usual
    for _ in range(200):
        port = _LOW + secrets.randbelow(_HIGH - _LOW)
        if port not in taken and is_free(port):
            return port
    raise InvalidInput(f"expected a free TCP port between {_LOW} and {_HIGH}, found none in 200 tries")


__all__ = ["free_port", "is_free"]

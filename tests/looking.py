"""Looking until something holds, for what tells nobody when it does: a process, a container, a page over HTTP.

Where there is an event to wait for, that is waited for instead (`following`).
"""

from __future__ import annotations

import time
from collections.abc import Callable

_EVERY = 0.1


def until(
    holds: Callable[[], bool],
    what: str,
    *,
    within: float,
    told: Callable[[], str],
    over: Callable[[], bool] = lambda: False,
) -> None:
    """Look until `holds`. Fails after `within` seconds, or once it is `over`, with what the other side has `told`."""
    deadline = time.monotonic() + within
    while not holds():
        if over() or time.monotonic() > deadline:
            raise AssertionError(f"not within {within} s: {what}\n{told()}")
        time.sleep(_EVERY)


__all__ = ["until"]

"""One process at a time: a lock on an open file that ends with the process, however that ends."""

from __future__ import annotations

import sys
from typing import IO


def hold(handle: IO[bytes]) -> None:
    """Hold the file until it is closed; raises OSError when another process does."""
    if sys.platform == "win32":
        import msvcrt

        handle.seek(0)
        msvcrt.locking(handle.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


__all__ = ["hold"]

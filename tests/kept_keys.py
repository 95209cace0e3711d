"""A bucket in which one key is written often and one seldom: what a server that is restarted must still have.

NATS keeps a bucket in blocks of some megabytes. The seldom written key is left written just once in the newest
of them, as a guard's memory beside a busy trader's is.
"""

from __future__ import annotations

from services.shared import subjects
from services.shared.bus import Bus

SELDOM = "guard.main"
_OFTEN = "trader.main"
_VALUE = b"x" * 500_000
_WRITTEN = 40  # of that size: more than any block holds


async def write(bus: Bus) -> int:
    """Write both, the seldom one `before` the others and `after` them; returns the revision of its last."""
    revision = await bus.put(subjects.SNAPSHOTS, SELDOM, b"before", revision=0)
    often = 0
    for _ in range(_WRITTEN):
        often = await bus.put(subjects.SNAPSHOTS, _OFTEN, _VALUE, revision=often)
    revision = await bus.put(subjects.SNAPSHOTS, SELDOM, b"after", revision=revision)
    await bus.put(subjects.SNAPSHOTS, _OFTEN, b"last", revision=often)
    return revision


async def read_and_write(bus: Bus) -> None:
    """After a restart: both are there, and can be written on what was read, once."""
    for key, value in ((SELDOM, b"after"), (_OFTEN, b"last")):
        found = await bus.get(subjects.SNAPSHOTS, key)
        assert found is not None, key
        assert found[0] == value
        written = await bus.put(subjects.SNAPSHOTS, key, b"anew", revision=found[1])
        assert await bus.get(subjects.SNAPSHOTS, key) == (b"anew", written)

"""The trader's memory over restarts: one value, written before anything of a step leaves (PROTOCOL 2).

Kept in the `snapshots` bucket, conditional on its revision, so that a trader whose id has another owner by now
notices before it does anything; and on the trader's own disk while NATS is away, so that an exit need not wait.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import structlog
from pydantic import BaseModel, ConfigDict, ValidationError

from services.shared import subjects
from services.shared.bus import Bus
from services.shared.commands import parse_command
from services.shared.errors import BusError, Conflict, DeskError
from services.shared.wire import explain
from services.trader.inbox import StoredCommand
from services.trader.journal import Message

log = structlog.get_logger(__name__)

LIMIT = 64 * 1024


class Latch(BaseModel):
    """A halt that has not been reset: why, and the sequence of the command that set it (0: the guard's)."""

    model_config = ConfigDict(frozen=True)

    reason: str
    run_id: str
    command_seq: int


class RunSnapshot(BaseModel):
    """A run: what was asked, how far it is, and the state of engine and broker as JSON. `question` is what
    the guard was being asked when the snapshot was taken, word for word; `carried` goes into the next one."""

    model_config = ConfigDict(frozen=True)

    run_id: str
    command_id: str
    command: dict[str, Any]
    feed: str
    speed: float
    cursor: int
    loop: dict[str, Any]
    seqs: dict[str, int]
    carried: list[str]
    deployment_time: str
    question: str | None = None
    judge: list[int] = []
    unguarded: bool = False
    steps: int = 0
    bar_seconds: int | None = None


class Deferred(BaseModel):
    """A stored command that has been taken on and waits until its run can go on."""

    model_config = ConfigDict(frozen=True)

    seq: int
    verb: str
    command_id: str
    data: str

    @classmethod
    def of(cls, taken: StoredCommand) -> Deferred:
        """The command as it is kept; what is said in it is cut, since a snapshot must stay small."""
        assert taken.command is not None
        short = {"reason": taken.command.reason[:500], "by": taken.command.by[:100]}
        data = taken.command.model_copy(update=short).model_dump_json(exclude_none=True)
        return cls(seq=taken.seq, verb=taken.verb, command_id=taken.command_id, data=data)

    def stored(self) -> StoredCommand:
        """The command as it came, but for what would tell a repeat: it was noted when it was taken on."""
        command, _ = parse_command(self.verb, self.data.encode())
        return StoredCommand(self.seq, self.verb, self.command_id, command)


class Snapshot(BaseModel):
    """Everything. `owner` is the tenure of the lease it was written in. `outputs` are messages that may not have been
    stored yet: sent again after a restart; `carried_out` is what a repeat of a command is told by, `deferred` and
    `told` belong to a run that waits for its files."""

    model_config = ConfigDict(frozen=True)

    version: int = 1
    owner: str = ""
    number: int
    commands_seq: int
    signals_seq: int
    carried_out: dict[str, int] = {}
    latch: Latch | None = None
    run: RunSnapshot | None = None
    outputs: list[tuple[str, str, str]] = []
    deferred: list[Deferred] = []
    told: str = ""

    @property
    def messages(self) -> list[Message]:
        """The outputs as messages."""
        return [Message(subject, msg_id, text.encode()) for subject, msg_id, text in self.outputs]


class SnapshotStore:
    """Where snapshots are kept. `restore` first, then `save` in order."""

    def __init__(self, bus: Bus, trader: str, folder: Path) -> None:
        self._bus = bus
        self._key = f"trader.{trader}"
        self._file = folder / f"trader-{trader}.snapshot.json"
        self._revision = 0
        self._on_disk = False

    async def restore(self) -> Snapshot | None:
        """The newest snapshot there is, or None. Raises BusError, and DeskError for one that is damaged."""
        found = await self._bus.get(subjects.SNAPSHOTS, self._key)
        kept = None
        if found is not None:
            self._revision = found[1]
            kept = _parse(found[0])
        if self._file.exists():
            local = _parse(self._file.read_bytes())
            self._on_disk = True
            # Of another tenure than what NATS has: somebody else has gone on from before it.
            if kept is None or (local.owner == kept.owner and local.number > kept.number):
                return local
            if local.owner != kept.owner:
                log.warning("disk_copy_superseded", detail="another trader of this id has gone on since")
        return kept

    async def save(self, snapshot: Snapshot, *, or_disk: bool = False) -> bool:
        """Write it; returns whether it is in the bucket (False: on disk, because NATS is away).

        Raises Conflict when another trader has written, BusError when NATS is away and not `or_disk`, and
        DeskError when it is larger than 64 KiB.
        """
        data = snapshot.model_dump_json().encode()
        if len(data) > LIMIT * 4:
            raise DeskError(f"the snapshot is {len(data)} bytes: a strategy's state must be small")
        if or_disk and not self._bus.connected:
            self._write_file(data)
            return False
        try:
            self._revision = await self._bus.put(subjects.SNAPSHOTS, self._key, data, revision=self._revision)
        except Conflict:
            raise
        except BusError:
            if not or_disk:
                raise
            self._write_file(data)
            return False
        if self._on_disk:
            self._file.unlink(missing_ok=True)
            self._on_disk = False
        return True

    def _write_file(self, data: bytes) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        beside = self._file.with_suffix(".new")
        with beside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self._file)
        self._on_disk = True
        log.warning(
            "snapshot_on_disk", detail="NATS is away; the trader's disk keeps its state until it is back"
        )


def _parse(data: bytes) -> Snapshot:
    try:
        return Snapshot.model_validate_json(data)
    except ValidationError as error:
        raise DeskError(f"the trader's snapshot is damaged: {explain(error)}") from None

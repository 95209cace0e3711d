"""What of the streams may come back: nothing that the traders' and guards' memory does not know. Pure.

Their snapshots are taken at one moment, the streams after it. What was said in between would be said again
by the restored services under the same seqs, with another content perhaps, which NATS and the database would
drop as a repeat (PROTOCOL 1). So it is left out; docs/decisions/0014 says why this is enough.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from services.shared import subjects

_PER_COMMAND = 16
"""Seqs of what is said outside a run, for each command, signal or snapshot it is about: the trader's
`journal.outside_run`."""


@dataclass(frozen=True, slots=True)
class Memory:
    """What one trader and its guard know: the run and the last seqs used, by the emitter and, of the guard,
    by the run."""

    run_id: str = ""
    lockstep: bool = False
    seqs: Mapping[str, int] = field(default_factory=dict)
    number: int = 0
    commands_seq: int = 0
    signals_seq: int = 0
    guard_seqs: Mapping[str, int] = field(default_factory=dict)
    guard_run: str = ""
    guard_lockstep: bool = False

    @classmethod
    def of(cls, trader: Mapping[str, Any], guard: Mapping[str, Any]) -> Memory:
        """From the JSON of the keys `trader.<t>` and `guard.<t>`; {} where there is none."""
        run = trader.get("run") or {}
        state = guard.get("guard") or {}
        return cls(
            run_id=run.get("run_id", ""),
            lockstep=bool(run) and not run.get("speed"),
            seqs=run.get("seqs") or {},
            number=trader.get("number", 0),
            commands_seq=trader.get("commands_seq", 0),
            signals_seq=trader.get("signals_seq", 0),
            guard_seqs=guard.get("seqs") or {},
            guard_run=state.get("run_id", ""),
            guard_lockstep=state.get("mode") == "lockstep",
        )

    @property
    def same_while(self) -> tuple[str, int]:
        """While this stays the same no run has begun or ended."""
        return self.run_id, self.commands_seq

    def last_seq(self, trader: str, run_id: str, emitter: str) -> int | None:
        """The last seq used there; None for an emitter who never uses one again."""
        if emitter == "guard":
            return self.guard_seqs.get(run_id, 0)
        if emitter not in ("trader", "feed"):
            return None
        if run_id and run_id == self.run_id:
            return self.seqs.get(emitter, 0)
        passed = {
            f"desk.{trader}.command": self.commands_seq,
            f"desk.{trader}.waiting": self.commands_seq,
            f"desk.{trader}.signal": self.signals_seq,
            f"desk.{trader}.files": self.number,
        }.get(run_id)
        return 0 if passed is None else (passed + 1) * _PER_COMMAND


def survives(stream: str, subject: str, said: Mapping[str, Any], memory: Mapping[str, Memory]) -> bool:
    """Whether a message beyond the stream's fence comes back. `said` are its fields, `memory` is by trader.

    Of commands all do, a guard's own halts in lockstep excepted: a replay would hear tomorrow's.
    """
    parts = subject.split(".")
    if stream == subjects.COMMANDS:
        known = memory.get(parts[1] if len(parts) > 1 else "", Memory())
        of_guard = parts[-1] == "halt" and said.get("by") == "guard"
        return not (of_guard and known.guard_lockstep and said.get("run_id") == known.guard_run)
    trader, run_id, emitter, seq = (said.get(name) for name in ("trader", "run_id", "emitter", "seq"))
    if not (isinstance(trader, str) and isinstance(run_id, str) and isinstance(seq, int)):
        return True  # a person's, or nobody's: it has no seq
    last = memory.get(trader, Memory()).last_seq(trader, run_id, str(emitter))
    return last is None or seq <= last


__all__ = ["Memory", "survives"]

"""What people and the service ask of the guard: halt, latch, reset, change limits, alert. Pure.

Each answers with the events it brings. What is found out from prices and fills is in `watch` and `guard`.
"""

from __future__ import annotations

from collections.abc import Mapping

from services.risk.state import Latch
from services.risk.watch import Watch
from services.shared.errors import Refused
from services.shared.events import LimitsChanged, Severity
from services.shared.limits import changes, parse, text_of
from services.shared.verdicts import NOD, Answer


class Asked(Watch):
    """The latch and the limits, as whoever may change them does."""

    __slots__ = ()

    @property
    def halted(self) -> bool:
        """Whether anything is latched."""
        return bool(self.state.halts)

    def halt(self, code: str, text: str) -> Answer:
        """Halt for a reason the service found, such as a silent trader. Nothing when halted already."""
        self._halt(code, text)
        return self._taken()

    def alert(self, severity: Severity, code: str, text: str, action: str) -> Answer:
        """An alert of the service's own, as an answer to be kept and published like any other."""
        self._alert(severity, code, text, action)
        return self._taken()

    def latch(self, command_id: str, seq: int | None, *, by: str, reason: str) -> Answer:
        """Note a halt command somebody stored at `seq`; its own command only gets its place."""
        for halt in self.state.halts:
            if halt.command_id == command_id:
                halt.seq = seq if seq is not None else halt.seq
                return NOD
        self._latch(Latch(command_id, "commanded", reason or f"asked by {by or 'somebody'}", seq), by=by)
        return self._taken()

    def reset(self, command_id: str, seq: int, *, by: str, reason: str) -> Answer:
        """Clear the halts stored before `seq`; peak, day's opening and streak begin anew from now.

        Raises Refused unless flat. A reset with nothing to clear changes nothing.
        """
        state = self.state
        cleared = [halt for halt in state.halts if halt.seq is not None and halt.seq < seq]
        if not cleared:
            return NOD
        if not state.flat:
            raise Refused("reset needs a flat account: a position or order is open")
        old: dict[str, str | None] = {
            "halted": ", ".join(halt.code for halt in cleared),
            "peak": text_of(state.peak),
            "day_open": text_of(state.day_open),
            "losing_streak": text_of(state.losses),
        }
        state.halts = [halt for halt in state.halts if halt not in cleared]
        state.peak = state.day_open = state.equity
        state.losses, state.paused_until = 0, None
        state.breaches.clear()
        state.differs_since = None
        self._set_alarm()
        new: dict[str, str | None] = {
            "halted": ", ".join(halt.code for halt in state.halts) or None,
            "peak": text_of(state.peak),
            "day_open": text_of(state.day_open),
            "losing_streak": "0",
        }
        self._answer().events.append(
            LimitsChanged(action="reset", by=by, reason=reason, old=old, new=new, command_id=command_id)
        )
        return self._taken()

    def change_limits(self, values: Mapping[str, str], *, by: str, reason: str) -> Answer:
        """Change limits. Raises InvalidInput for what is no limit, Refused for loosening while deployed."""
        state = self.state
        new = parse(values, state.limits)
        risk = state.risk_per_trade if state.risk_per_trade > 0 else None
        found = changes(state.limits, new, risk)
        looser = [name for name, change in found.items() if change == "looser"]
        if looser and (state.deployed or not state.flat):
            raise Refused(f"{', '.join(looser)}: limits loosen only when flat and not deployed; stop first")
        if not found:
            return NOD
        old = state.limits
        state.limits = new
        state.cancel_next = bool(state.approved)
        self._start_over()
        self._answer().events.append(
            LimitsChanged(
                action="change",
                by=by,
                reason=reason,
                old={name: text_of(getattr(old, name)) for name in found},
                new={name: text_of(getattr(new, name)) for name in found},
            )
        )
        return self._taken()

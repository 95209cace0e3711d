"""What the engine is given, one at a time: prices, commands, signals, and what its shell has noticed.

Data only. What each does is in `engine` and `deployment`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeAlias

from services.shared.commands import Signal, StopMode
from services.trader.feeds.base import MarketStep


@dataclass(frozen=True, slots=True)
class CommandInput:
    """A stored command that concerns a running deployment. `urgent`: take the last price, don't wait."""

    verb: Literal["pause", "resume", "stop", "halt"]
    command_id: str
    by: str = ""
    reason: str = ""
    mode: StopMode = "flatten"
    urgent: bool = True


@dataclass(frozen=True, slots=True)
class SignalInput:
    """A signal, and the wall's time it was taken at: that is what its expiry is held against."""

    signal: Signal
    now: datetime


@dataclass(frozen=True, slots=True)
class EndOfData:
    """A replay has no more prices."""


@dataclass(frozen=True, slots=True)
class GuardSilent:
    """The guard does not answer: resting entries go (live only)."""


@dataclass(frozen=True, slots=True)
class Notice:
    """Something about the run that a person should know, noticed outside of the engine."""

    severity: Literal["INFO", "WARNING", "CRITICAL"]
    code: str
    text: str
    action: str


@dataclass(frozen=True, slots=True)
class Broken:
    """Something the run cannot go on without has failed; `reason` is for a person."""

    reason: str


Input: TypeAlias = MarketStep | CommandInput | SignalInput | EndOfData | GuardSilent | Notice | Broken

"""What a strategy is: typed parameters, a look at closed bars, and a few words to trade with.

A strategy decides where to get in and out; how much, whether it may, and what becomes of the order is the
desk's. It must not read a clock or chance: the same bars give the same decisions, also after a restore.
What it has to remember beyond its look-back goes into `ctx.state`, which is saved with every snapshot.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from services.shared.commands import Signal
from services.shared.errors import InvalidInput
from services.shared.events import Direction, Purpose, Side
from services.shared.market import Quote
from services.shared.wire import explain
from services.trader.history import History

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


class Parameters(BaseModel):
    """A strategy's parameters: pydantic fields with ranges and a description each."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True, slots=True)
class Fill:
    """One fill, as a strategy hears of it."""

    instrument: str
    purpose: Purpose
    side: Side
    amount: Decimal
    price: Decimal
    time: datetime


@dataclass(frozen=True, slots=True)
class Holding:
    """The true position of an instrument. Prices in the quote currency."""

    side: Direction
    amount: Decimal
    entry_price: float
    stop: float | None
    target: float | None


class Context(Protocol):
    """What a strategy sees and may do at one closed bar of one instrument."""

    instrument: str
    time: datetime

    @property
    def state(self) -> dict[str, Any]:
        """This instrument's memory: JSON values only, saved in every snapshot."""

    @property
    def shared(self) -> dict[str, Any]:
        """The memory all instruments of the strategy have in common."""

    @property
    def quote(self) -> Quote:
        """The last two sides of this instrument."""

    def history(self, instrument: str | None = None, timeframe: str | None = None) -> History:
        """Closed bars; of this instrument and the feed's own timeframe unless told otherwise."""

    def position(self, instrument: str | None = None) -> Holding | None:
        """The true position, or None when flat."""

    def enter(
        self,
        side: Side,
        stop: float,
        target: float | None = None,
        *,
        instrument: str | None = None,
        limit: float | None = None,
        breakout: float | None = None,
        reason: str = "",
    ) -> None:
        """Open a position from flat, at market, at a `limit`, or when `breakout` is passed. Prices are
        absolute and are rounded to the tick. Nothing happens while in a position, warming up or paused."""

    def exit(self, fraction: float = 1.0, *, instrument: str | None = None, reason: str = "signal") -> None:
        """Leave the position at market, or a fraction of it."""

    def move_stop(self, price: float, *, instrument: str | None = None) -> None:
        """Move the stop closer; a price that is not closer is ignored."""


P = TypeVar("P", bound=Parameters)


class Strategy(ABC, Generic[P]):
    """Subclass, declare, and implement `on_bar`.

    `look_back` is the number of closed bars of each timeframe that `ctx.history` holds; `warmup` the number
    of the feed's bars before the first trade. `timeframes` are longer ones than the feed's, such as `4h`.
    """

    name: ClassVar[str]
    Parameters: ClassVar[type[Parameters]]
    timeframes: ClassVar[tuple[str, ...]] = ()
    instruments: ClassVar[tuple[str, ...]] = ()

    def __init__(self, parameters: P) -> None:
        self.parameters = parameters

    @property
    @abstractmethod
    def look_back(self) -> int:
        """How many bars of history it needs."""

    @property
    def warmup(self) -> int:
        """How many bars pass before it may trade."""
        return self.look_back

    @abstractmethod
    def on_bar(self, ctx: Context) -> None:
        """A bar of `ctx.instrument` has closed."""

    def on_fill(self, ctx: Context, fill: Fill) -> None:
        """An order of this strategy was filled."""

    def on_signal(self, ctx: Context, signal: Signal) -> None:  # noqa: ARG002 - for those who take some
        """A decision came from outside. Raises InvalidInput: most strategies take none."""
        raise InvalidInput(f"the strategy {self.name} takes no signals; deploy `signals` for that")


def timeframe_seconds(text: str) -> int:
    """Seconds of `15m`, `4h`, `1d`; raises InvalidInput for anything that does not divide a day."""
    count, unit = text[:-1], text[-1:]
    if unit in _UNITS and count.isascii() and count.isdigit():
        seconds = int(count) * _UNITS[unit]
        if 0 < seconds <= _UNITS["d"] and _UNITS["d"] % seconds == 0:
            return seconds
    raise InvalidInput(
        f"timeframe: expected for example 15m, 4h or 1d (a divisor of a day), was {text[:20]!r}"
    )


def make(kind: type[Strategy[Any]], settings: Mapping[str, str]) -> Strategy[Any]:
    """A strategy with `settings` as its parameters; raises InvalidInput naming each wrong one."""
    try:
        parameters = kind.Parameters.model_validate(dict(settings))
    except ValidationError as error:
        known = ", ".join(kind.Parameters.model_fields) or "none"
        raise InvalidInput(f"parameters of {kind.name}: {explain(error)} (it knows: {known})") from None
    return kind(parameters)

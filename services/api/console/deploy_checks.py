"""What could go wrong with a deployment now, as checks: red forbids it, amber should be read, green is well.

A look before the question: trader and guard decide for themselves when they are asked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_UP, Decimal
from typing import TYPE_CHECKING, Literal, TypeAlias

from services.api.answers.state import StatusAnswer
from services.api.console.wording import money
from services.api.desk import Desk
from services.api.watch import LATE_AFTER
from services.shared import instruments
from services.shared.commands import Deploy
from services.shared.errors import InvalidInput, StorageUnavailable
from services.shared.limits import Limits, deploy_check
from services.shared.pulses import Pulse

if TYPE_CHECKING:
    from services.api.ledger import Proxy

Level: TypeAlias = Literal["red", "amber", "green", "open"]
_ATR_BARS = 200
_CLOCK_OFF = 2.0
"""Seconds; a heartbeat may be on its way for a moment."""
_STOP_ATR = Decimal(2)
_RANGE = """
select avg(high - low)::float8 as average, count(*) as bars from (
    select bid_high as high, bid_low as low from bars where instrument = $1 order by time desc limit $2) as last"""
_UNDER_WAY = frozenset({"DEPLOYED", "STOPPING"})


@dataclass(frozen=True, slots=True)
class Check:
    """One finding. `open`: it cannot be known yet."""

    level: Level
    text: str


async def deploy_checks(
    desk: Desk, status: StatusAnswer | None, command: Deploy, limits: Limits | None, channels: int
) -> list[Check]:
    """All of them, for this very command."""
    return [
        _state(status),
        *_services(desk),
        *_limits(command, limits),
        await _size(desk, command),
        _channel(channels),
        clock_check(desk.watch.pulses(), datetime.now(UTC)),
        Check("green", "Paper replays recorded prices: its market is open at any time"),
        Check("green", "Paper needs no broker's token: none can end before the run does"),
    ]


def _state(status: StatusAnswer | None) -> Check:
    if status is None:
        return Check("red", "Where the desk stands is not known: NATS does not answer")
    if status.deployment_status in _UNDER_WAY:
        return Check("red", f"Already deployed ({status.phase.lower()}): stop it first")
    if status.halted:
        return Check("red", f"Halted, and stays so until somebody resets it with a reason: {status.reason}")
    if status.holding != "flat":
        return Check("red", f"The last deployment left its position {status.holding}")
    return Check("green", "Nothing is deployed, nothing is open")


def _services(desk: Desk) -> Iterator[Check]:
    levels: dict[str, Level] = {"trader": "red", "risk": "red", "recorder": "amber"}
    says = {
        "trader": "the trader has not been heard",
        "risk": "the guard has not been heard, so no order that adds risk could leave",
        "recorder": "the recorder has not been heard, so nothing is written down",
    }
    late = [name for name in levels if desk.watch.silence(name) > LATE_AFTER]
    for name in late:
        yield Check(levels[name], f"For {desk.watch.silence(name):.0f} s {says[name]}")
    if not late:
        yield Check("green", "Trader, guard and recorder answer")
    if desk.ledger.problem is not None:
        yield Check("amber", f"Figures will be missing: {desk.ledger.problem}")


def clock_check(pulses: Sequence[Pulse], now: datetime) -> Check:
    """Whether the services' clocks agree with this one's: what is stale, and when a run ends, go by them."""
    off = {
        pulse.beat.service: (pulse.beat.time - now).total_seconds() + pulse.age
        for pulse in pulses
        if pulse.age <= LATE_AFTER
    }
    worst = max(off, key=lambda service: abs(off[service]), default=None)
    if worst is None:
        return Check("open", "The clocks: no service has been heard yet")
    if abs(off[worst]) > _CLOCK_OFF:
        return Check("amber", f"The clock of {worst} is {off[worst]:+.0f} s off: set the machine's time")
    return Check("green", "The services' clocks agree")


def _limits(command: Deploy, limits: Limits | None) -> Iterator[Check]:
    if limits is None:
        yield Check("red", "The guard's limits are not known")
        return
    far = [line for line in deploy_check(limits, command.risk_per_trade, command.balance) if line.amber]
    for line in far:
        yield Check(
            "amber",
            f"{line.name.replace('_', ' ').capitalize()} limit is {money(line.amount)} {command.currency}:"
            f" {line.in_r} R, {line.percent} % of the balance; 30 R would be {money(line.proposed)}",
        )
    if not far:
        yield Check("green", "Limits are in proportion to risk and balance")


async def _size(desk: Desk, command: Deploy) -> Check:
    """An estimate from the last recorded bars; the trader makes its own from the feed."""
    symbol = command.traded()[0]
    try:
        pair = instruments.find(symbol)
        async with desk.ledger.reading() as connection:
            average = await _average_range(connection, symbol)
    except (InvalidInput, StorageUnavailable) as error:
        return Check("open", f"Trade size: {error}")
    if average is None or pair.quote != command.currency:
        return Check("open", "Trade size: known from the first bars on; an alert tells when it is too small")
    distance = average * Decimal(command.parameters.get("stop_atr") or _STOP_ATR)
    amount = command.risk_per_trade / distance
    if amount >= pair.min_amount:
        return Check(
            "green", f"A trade would be about {amount:,.0f} {pair.base} (the least is {pair.min_amount:,})"
        )
    if command.min_amount:
        return Check("amber", f"A trade would be raised to the least amount, {pair.min_amount:,} {pair.base}")
    needed = (pair.min_amount * distance).quantize(Decimal(1), ROUND_UP)
    return Check(
        "amber",
        f"A trade would be about {amount:,.0f} {pair.base}, under the least of {pair.min_amount:,}, and so refused;"
        f" it takes a risk of about {needed} {command.currency}",
    )


async def _average_range(connection: Proxy, symbol: str) -> Decimal | None:
    row = await connection.fetchrow(_RANGE, symbol, _ATR_BARS)
    return Decimal(repr(row["average"])) if row is not None and row["bars"] >= 14 and row["average"] else None


def _channel(channels: int) -> Check:
    if not channels:
        return Check("amber", "No alert channel: nobody is told when the desk halts or falls silent")
    return Check("green", f"{channels} alert channel{'s' if channels > 1 else ''}")

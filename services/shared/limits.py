"""The guard's limits (TRADING 6): their names, defaults, text forms, and which change tightens.

Pure. What a breach does is in `services.risk.guard`; who may change limits when is in `services.risk`.
People type `drawdown=2500`, `daily_loss=8x` or `losing_streak=off`; `parse` reads that, `as_text` writes it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError
from pydantic_core import PydanticCustomError

from services.shared.errors import InvalidInput
from services.shared.wire import explain

OFF: Final = "off"
Action: TypeAlias = Literal["deny", "pause", "halt", "alert"]
Change: TypeAlias = Literal["tighter", "looser"]

_NUMBER = re.compile(r"[0-9]{1,12}(\.[0-9]{1,8})?")
_AMBER_R = Decimal(50)
_AMBER_PERCENT = Decimal(10)
PROPOSED_R = Decimal(30)
"""The drawdown, in multiples of the risk per trade, that the deploy check proposes."""


@dataclass(frozen=True, slots=True)
class Bound:
    """An amount of account currency, or so many times something that is known only when deployed."""

    value: Decimal
    times: bool

    def amount(self, unit: Decimal) -> Decimal:
        """The bound in account currency, where `unit` is what a multiple multiplies."""
        return self.value * unit if self.times else self.value

    def __str__(self) -> str:
        return _plain(self.value) + ("x" if self.times else "")


def _plain(value: Decimal) -> str:
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _complaint(expected: str, found: object) -> PydanticCustomError:
    # pydantic fills {…} in its template: the text goes in as a value, so braces in it stay text.
    return PydanticCustomError("limit", "{text}", {"text": f"expected {expected}, was {str(found)[:40]!r}"})


def _number(found: object, expected: str, suffix: str = "") -> Decimal:
    text = str(found).strip().removesuffix(suffix).strip() if suffix else str(found).strip()
    if not _NUMBER.fullmatch(text):
        raise _complaint(expected, found)
    return Decimal(text)


def _positive(found: object, *, expected: str, suffix: str = "", off: bool = False) -> Decimal | None:
    if found is None or found == OFF:
        if off:
            return None
        raise _complaint(f"{expected} (it cannot be switched off)", OFF)
    number = _number(found, expected, suffix)
    if number == 0:
        raise _complaint(expected, found)
    return number


def _whole(found: object, *, least: int, off: bool = False) -> int | None:
    expected = f"a whole number of at least {least}" + (" or off" if off else "")
    if found is None or found == OFF:
        if off:
            return None
        raise _complaint(f"{expected} (it cannot be switched off)", OFF)
    text = str(found).strip()
    if not text.isascii() or not text.isdigit() or len(text) > 9 or int(text) < least:
        raise _complaint(expected, found)
    return int(text)


def _bound(found: object, *, off: bool = False) -> Bound | None:
    expected = "an amount of money such as 100, or a multiple such as 10x" + (", or off" if off else "")
    if isinstance(found, Bound):
        return found
    if found is None or found == OFF:
        if off:
            return None
        raise _complaint(f"{expected} (it cannot be switched off)", OFF)
    text = str(found).strip()
    number = _number(text, expected, "x")
    if number == 0:
        raise _complaint(expected, found)
    return Bound(number, text.endswith("x"))


_Money = Annotated[Decimal, BeforeValidator(partial(_positive, expected="an amount of money above 0"))]
_Percent = Annotated[
    Decimal, BeforeValidator(partial(_positive, expected="a percentage above 0", suffix="%"))
]
_PercentOrOff = Annotated[
    Decimal | None,
    BeforeValidator(partial(_positive, expected="a percentage above 0, or off", suffix="%", off=True)),
]
_Seconds = Annotated[Decimal, BeforeValidator(partial(_positive, expected="seconds above 0", suffix="s"))]
_Times = Annotated[Decimal, BeforeValidator(partial(_positive, expected="a multiple above 0", suffix="x"))]
_Bound = Annotated[Bound, BeforeValidator(_bound)]
_BoundOrOff = Annotated[Bound | None, BeforeValidator(partial(_bound, off=True))]
_Count = Annotated[int, BeforeValidator(partial(_whole, least=0))]
_StreakOrOff = Annotated[int | None, BeforeValidator(partial(_whole, least=1, off=True))]


class Limits(BaseModel):
    """Every limit in force. Frozen; `Limits()` has the defaults of TRADING 6.

    Money is account currency, percentages are percent, ages and silences seconds. Multiples (`2x`) are of
    the deployed risk per trade, for `notional` of equity. `None` is off.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", arbitrary_types_allowed=True, validate_default=True
    )

    drawdown: _Money = Decimal(3000)
    drawdown_percent: _PercentOrOff = None
    daily_loss: _BoundOrOff = Bound(Decimal(10), times=True)
    losing_streak: _StreakOrOff = None
    trade_risk: _Bound = Bound(Decimal(2), times=True)
    open_risk: _Bound = Bound(Decimal(3), times=True)
    positions_per_instrument: _Count = 1
    positions: _Count = 3
    notional: _Bound = Bound(Decimal(5), times=True)
    entries_per_minute: _Count = 10
    price_collar: _Percent = Decimal("0.5")
    quote_age: _Seconds = Decimal(30)
    bar_age: _Times = Decimal(2)
    spread: _Times = Decimal(5)
    silence_alert: _Seconds = Decimal(15)
    silence_halt: _Seconds = Decimal(120)
    equity_difference: _Percent = Decimal("0.5")
    equity_difference_seconds: _Seconds = Decimal(60)

    def as_text(self) -> dict[str, str]:
        """Every limit by name, as a person would type it; `parse` of it gives the same limits."""
        return {name: text_of(getattr(self, name)) for name in NAMES}

    def amounts(self, risk_per_trade: Decimal) -> Amounts:
        """What the limits come to for a deployment that risks `risk_per_trade` on each trade."""
        return Amounts(
            drawdown=self.drawdown,
            drawdown_percent=self.drawdown_percent,
            daily_loss=None if self.daily_loss is None else self.daily_loss.amount(risk_per_trade),
            trade_risk=self.trade_risk.amount(risk_per_trade),
            open_risk=self.open_risk.amount(risk_per_trade),
        )


@dataclass(frozen=True, slots=True)
class Amounts:
    """Limits resolved for a deployment, in account currency."""

    drawdown: Decimal
    drawdown_percent: Decimal | None
    daily_loss: Decimal | None
    trade_risk: Decimal
    open_risk: Decimal


NAMES: tuple[str, ...] = tuple(Limits.model_fields)
DEFAULTS: Final = Limits()

MEANING: dict[str, tuple[Action, str]] = {
    "drawdown": ("halt", "equity this much money below its peak"),
    "drawdown_percent": ("halt", "equity this many percent below its peak"),
    "daily_loss": ("pause", "equity this much below the trading day's opening (x: of the risk per trade)"),
    "losing_streak": ("pause", "this many losing trades in a row"),
    "trade_risk": ("deny", "most that one trade may lose at its stop (x: of the risk per trade)"),
    "open_risk": ("deny", "most that all open trades together may lose (x: of the risk per trade)"),
    "positions_per_instrument": ("deny", "open positions in one instrument"),
    "positions": ("deny", "open positions in all instruments"),
    "notional": ("deny", "worth of everything held (x: of equity)"),
    "entries_per_minute": ("deny", "entries within any minute"),
    "price_collar": ("deny", "percent an order may be away from the last quote"),
    "quote_age": ("deny", "seconds since the last quote"),
    "bar_age": ("deny", "bar lengths since the last bar"),
    "spread": ("deny", "times the median spread"),
    "silence_alert": ("alert", "seconds without a word from the trader"),
    "silence_halt": ("halt", "seconds without a word from the trader while a position or order is open"),
    "equity_difference": ("halt", "percent the trader's equity may differ from the guard's own sum"),
    "equity_difference_seconds": ("halt", "how long it may differ so much"),
}
"""What each limit does when it is reached, and what it counts."""


def text_of(value: Bound | Decimal | int | None) -> str:
    """A limit's value as a person would type it."""
    if value is None:
        return OFF
    return _plain(value) if isinstance(value, Decimal) else str(value)


def parse(values: Mapping[str, str], base: Limits = DEFAULTS) -> Limits:
    """`base` with the named limits changed. Raises InvalidInput naming the limit and what it takes."""
    known: dict[str, Any] = {name: getattr(base, name) for name in NAMES}
    for given, value in values.items():
        name = given.strip().lower().replace("-", "_")
        if name not in known:
            raise InvalidInput(f"limit {given[:40]!r} is not one of {', '.join(NAMES)}")
        known[name] = value.strip().lower()
    try:
        return Limits(**known)
    except ValidationError as error:
        raise InvalidInput(explain(error)) from None


def parse_assignments(items: tuple[str, ...] | list[str]) -> dict[str, str]:
    """`["drawdown=2500", …]` as names and values; raises InvalidInput for anything else."""
    values: dict[str, str] = {}
    for item in items:
        name, sign, value = item.partition("=")
        if not sign or not name.strip() or not value.strip():
            raise InvalidInput(f"expected name=value such as drawdown=2500, was {item[:60]!r}")
        values[name.strip()] = value.strip()
    return values


def changes(old: Limits, new: Limits, risk_per_trade: Decimal | None = None) -> dict[str, Change]:
    """Every limit that differs, and whether the new value is tighter or looser.

    Off is loosest. Money and a multiple compare at `risk_per_trade`; where that cannot be done the change
    counts as looser, since nobody can say that it is not.
    """
    found: dict[str, Change] = {}
    for name in NAMES:
        before, after = getattr(old, name), getattr(new, name)
        if before != after:
            found[name] = "tighter" if _is_tighter(name, before, after, risk_per_trade) else "looser"
    return found


def tightens(old: Limits, new: Limits, risk_per_trade: Decimal | None = None) -> bool:
    """Whether no limit of `new` is looser than in `old`."""
    return "looser" not in changes(old, new, risk_per_trade).values()


def _is_tighter(name: str, before: Any, after: Any, risk_per_trade: Decimal | None) -> bool:
    if after is None:
        return False
    if before is None:
        return True
    if isinstance(before, Bound) and isinstance(after, Bound):
        if before.times == after.times:
            return after.value < before.value
        if risk_per_trade is None or name == "notional":
            return False
        return after.amount(risk_per_trade) <= before.amount(risk_per_trade)
    return bool(after < before)


@dataclass(frozen=True, slots=True)
class LimitLine:
    """A money limit as the deploy check shows it: in R, in percent of equity, amber when it is far off."""

    name: str
    amount: Decimal
    in_r: Decimal
    percent: Decimal
    amber: bool
    proposed: Decimal


def deploy_check(limits: Limits, risk_per_trade: Decimal, equity: Decimal) -> list[LimitLine]:
    """Each money limit at this deployment; amber above 50 R or 10 % of equity, 30 R proposed."""
    amounts = limits.amounts(risk_per_trade)
    lines = []
    for name in ("drawdown", "daily_loss", "trade_risk", "open_risk"):
        amount: Decimal | None = getattr(amounts, name)
        if amount is None:
            continue
        in_r = (amount / risk_per_trade).quantize(Decimal("0.1"))
        percent = (amount / equity * 100).quantize(Decimal("0.1"))
        amber = in_r > _AMBER_R or percent > _AMBER_PERCENT
        lines.append(LimitLine(name, amount, in_r, percent, amber, PROPOSED_R * risk_per_trade))
    return lines

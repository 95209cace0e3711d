"""What a new value of a limit would mean: tighter or looser, in R, in percent of equity. Pure.

Said before it is sent; whether the guard takes it is the guard's decision.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from services.api.console.wording import money
from services.shared.errors import InvalidInput
from services.shared.limits import MEANING, Bound, Limits, changes, parse

_MONEY = frozenset({"drawdown", "daily_loss", "trade_risk", "open_risk"})


@dataclass(frozen=True, slots=True)
class Proposal:
    """A value somebody may want; `change` is None where it is the one in force. `problem` says why it is none."""

    change: Literal["tighter", "looser"] | None
    means: str
    problem: str = ""


def propose(limits: Limits, name: str, text: str, risk: Decimal | None, equity: Decimal | None) -> Proposal:
    """What `text` as the value of limit `name` would mean."""
    try:
        wanted = parse({name: text}, limits)
    except InvalidInput as error:
        return Proposal(None, "", str(error))
    return Proposal(changes(limits, wanted, risk).get(name), worth(name, getattr(wanted, name), risk, equity))


def worth(name: str, value: object, risk: Decimal | None, equity: Decimal | None) -> str:
    """A money limit in account currency, in R and in percent of equity, as far as these are known."""
    if name not in _MONEY or not isinstance(value, Bound | Decimal):
        return ""
    if isinstance(value, Bound) and value.times:
        amount = None if risk is None else value.amount(risk)
        parts = [f"{value.value.normalize():f} R"]
        if amount is not None:
            parts.insert(0, money(amount))
    else:
        amount = value.value if isinstance(value, Bound) else value
        parts = [money(amount)] if risk is None else [money(amount), f"{_short(amount / risk)} R"]
    if amount is not None and equity:
        parts.append(f"{_short(amount / equity * 100)} % of equity")
    return " · ".join(parts)


def _short(value: Decimal) -> str:
    return f"{value.quantize(Decimal('0.1')).normalize():,f}"


def takes(name: str) -> str:
    """What may be typed, by example."""
    meaning = MEANING[name][1]
    if "(x:" in meaning:
        return "An amount such as 100, or a multiple such as 10x" + (", or off" if _can_be_off(name) else "")
    return "A number" + (", or off" if _can_be_off(name) else "")


def _can_be_off(name: str) -> bool:
    try:
        parse({name: "off"})
    except InvalidInput:
        return False
    return True

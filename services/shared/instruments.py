"""What can be traded: currency pairs with their ticks, pips and lots, and rounding prices to them.

Pure and fixed; where a real broker says otherwise, its adapter makes an `Instrument` of its own. Money
is rounded in `money`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import ROUND_HALF_EVEN, Decimal
from functools import lru_cache

from services.shared.errors import InvalidInput
from services.shared.money import round_to_step

# ISO 4217, currencies of countries and the euro; metals and funds are quoted by other rules.
_CODES = (
    "AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BRL BSD BTN BWP BYN BZD CAD "
    "CDF CHF CLP CNH CNY COP CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GNF "
    "GTQ GYD HKD HNL HTG HUF IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP "
    "LKR LRD LSL LYD MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB "
    "PEN PGK PHP PKR PLN PYG QAR RON RSD RUB RWF SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL "
    "THB TJS TMT TND TOP TRY TTD TWD TZS UAH UGX USD UYU UZS VED VES VND VUV WST XAF XCD XOF XPF YER ZAR ZMW "
    "ZWG"
)
CURRENCIES = frozenset(_CODES.split())

_NEAR_TICK = 0.49
"""A float further than this from a whole tick is rounded by its decimal: it may lie in the middle of two."""
_LARGE = 1e9
"""Above so many ticks a float's own error may reach the middle."""


@dataclass(slots=True, frozen=True)
class Instrument:
    """A pair: one unit of `base` costs so much of `quote`.

    Prices are multiples of `tick` and shown with `decimals` digits; a `pip` is what costs are counted in;
    amounts are units of `base`, at least `min_amount`, in multiples of `amount_step`. `plain_tick`: one unit
    of the last digit, so that rounding to the digits is rounding to the tick.
    """

    symbol: str
    base: str
    quote: str
    tick: Decimal
    pip: Decimal
    decimals: int
    min_amount: Decimal
    amount_step: Decimal
    plain_tick: bool = field(init=False, repr=False)
    ticks_per_unit: float = field(init=False, repr=False)

    def __post_init__(self) -> None:
        plain = self.tick.as_tuple() == (0, (1,), -self.decimals)
        object.__setattr__(self, "plain_tick", plain)
        object.__setattr__(self, "ticks_per_unit", float(1 / self.tick))


@lru_cache(maxsize=512)
def find(symbol: str) -> Instrument:
    """The instrument called `symbol`; raises InvalidInput, saying what is expected, for anything else."""
    base, quote = symbol[:3], symbol[3:]
    if len(symbol) != 6 or base == quote or not {base, quote} <= CURRENCIES:
        raise InvalidInput(
            f"instrument: expected a currency pair of two ISO 4217 codes such as EURUSD or USDJPY, was "
            f"{symbol[:20]!r}"
        )
    digits = 3 if quote == "JPY" else 5
    return Instrument(
        symbol=symbol,
        base=base,
        quote=quote,
        tick=Decimal(1).scaleb(-digits),
        pip=Decimal(1).scaleb(1 - digits),
        decimals=digits,
        min_amount=Decimal(1000),
        amount_step=Decimal(1),
    )


def price(value: float | Decimal, instrument: Instrument) -> Decimal:
    """`value` as an exact price: half-even to the tick, with the instrument's decimals."""
    tick = instrument.tick
    if type(value) is float and instrument.plain_tick:
        ticks = value * instrument.ticks_per_unit
        whole = round(ticks)
        if -_NEAR_TICK < ticks - whole < _NEAR_TICK and -_LARGE < ticks < _LARGE:
            return whole * tick
    known = value if isinstance(value, Decimal) else Decimal(repr(float(value)))
    if instrument.plain_tick:
        return known.quantize(tick, ROUND_HALF_EVEN)
    return round_to_step(known, tick).quantize(Decimal(1).scaleb(-instrument.decimals), ROUND_HALF_EVEN)


@lru_cache(maxsize=64)
def _grid(tick: Decimal | float) -> tuple[float, int]:
    """Tick as a float, or 0.0 for a power of ten, where rounding to its digits is exact; and digits."""
    exact = tick if isinstance(tick, Decimal) else Decimal(repr(tick))
    sign, digits, exponent = exact.normalize().as_tuple()
    if sign or not isinstance(exponent, int) or not any(digits):
        raise InvalidInput(f"tick: expected a positive number, was {tick}")
    return (0.0 if digits == (1,) else float(exact)), -exponent


def level(value: float, tick: Decimal | float) -> float:
    """`value` to the nearest multiple of `tick`, as the canonical float of that price (see `money`)."""
    step, digits = _grid(tick)
    return round(round(value / step) * step if step else value, digits)

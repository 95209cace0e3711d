"""What the guard remembers, and its form as JSON: small enough for one key, exact to the last digit.

Only data. What it means and how it changes is in `guard`; how it is stored is the service's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Literal

from services.shared.commands import HaltOrder, Verdict
from services.shared.errors import InvalidInput
from services.shared.events import DeploymentTerms, Direction, Reason, Side
from services.shared.limits import Limits, parse
from services.shared.market import Quote
from services.shared.money import ZERO
from services.shared.verdicts import Answer

VERSION = 1
SPREADS_KEPT = 200
"""Spreads the median is taken of, per instrument, as long as few instruments are traded."""
SPREADS_TOTAL = 2400
JUDGED_KEPT = 64
"""Orders whose digest is remembered; an older number is not judged again."""

LONG_AGO = datetime(1, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class Holding:
    """The guard's own account of one open position, from fills alone. `amount` is never negative. `same`: its
    quote currency is the account's."""

    instrument: str
    side: Direction
    same: bool
    amount: Decimal = ZERO
    opened: Decimal = ZERO
    entry_cost: Decimal = ZERO
    stop: Decimal | None = None
    stop_order: int | None = None
    unprotected: bool = False
    entry: float = 0.0
    units: float = 0.0

    @property
    def sign(self) -> int:
        """1 for a long, -1 for a short."""
        return 1 if self.side == "long" else -1

    @property
    def entry_price(self) -> Decimal:
        """The average price of what opened it."""
        return self.entry_cost / self.opened

    def refresh(self) -> None:
        """Bring the floats that the equity check reads up to the exact numbers."""
        self.entry = float(self.entry_price)
        self.units = float(self.amount) * self.sign


@dataclass(slots=True)
class Approved:
    """An order let go: what of it may still fill, and where it would be stopped."""

    order: int
    instrument: str
    side: Side
    left: Decimal
    stop: Decimal | None
    price: Decimal
    digest: str
    adds: bool


@dataclass(slots=True)
class Latch:
    """One halt. `seq` is its command's place in COMMANDS (or that of one just before it, where only the
    trader's word is known), None while it is on its way there."""

    command_id: str
    code: str
    text: str
    seq: int | None


@dataclass(slots=True)
class Spreads:
    """The latest spreads of an instrument, one per quote time, oldest first."""

    last: datetime
    values: deque[float]

    def take(self, quote: Quote) -> None:
        """Take in a newer quote's."""
        self.last = quote.time
        self.values.append(abs(quote.ask - quote.bid))


@dataclass(slots=True)
class Told:
    """The last answer that was more than a nod, for the step asked again."""

    step: int
    answer: Answer


@dataclass(slots=True)
class State:
    """Everything the guard knows. Money in account currency, times on the run's clock."""

    trader: str
    limits: Limits
    run_id: str = ""
    currency: str = ""
    risk_per_trade: Decimal = ZERO
    instruments: tuple[str, ...] = ()
    mode: Literal["lockstep", "live"] = "lockstep"
    bar_seconds: int = 0
    phase: str = "NOT_DEPLOYED"
    holding: str = "flat"
    step: int = -1
    mark_step: int = -1
    time: datetime = LONG_AGO
    balance: Decimal = ZERO
    unrealised: Decimal = ZERO
    equity: Decimal = ZERO
    peak: Decimal = ZERO
    day_until: datetime = LONG_AGO
    day_open: Decimal = ZERO
    losses: int = 0
    paused_until: datetime | None = None
    cancel_next: bool = False
    commands_seen: int = 0
    halts: list[Latch] = field(default_factory=list)
    holdings: dict[str, Holding] = field(default_factory=dict)
    approved: dict[int, Approved] = field(default_factory=dict)
    judged: dict[int, str] = field(default_factory=dict)
    withdrawn: list[int] = field(default_factory=list)
    entries: list[datetime] = field(default_factory=list)
    stops_seen: dict[str, int] = field(default_factory=dict)
    breaches: dict[str, datetime] = field(default_factory=dict)
    differs_since: datetime | None = None
    spreads: dict[str, Spreads] = field(default_factory=dict)
    told: Told | None = None

    @property
    def deployed(self) -> bool:
        """Whether a run is under way."""
        return self.phase in ("STARTING", "MONITORING", "STOPPING")

    @property
    def flat(self) -> bool:
        """Whether neither the guard's own account nor the trader's word knows of a position or order."""
        return not self.holdings and not self.approved and self.holding == "flat"


def snapshot(state: State) -> dict[str, Any]:
    """`state` as plain JSON; `restore` of it gives an equal state."""
    return {
        "version": VERSION,
        "trader": state.trader,
        "limits": state.limits.as_text(),
        **{name: getattr(state, name) for name in _AS_THEY_ARE},
        **{name: format(getattr(state, name), "f") for name in _DECIMALS},
        **{name: _when(getattr(state, name)) for name in _TIMES},
        "instruments": list(state.instruments),
        "halts": [[halt.command_id, halt.code, halt.text, halt.seq] for halt in state.halts],
        "holdings": [_holding(holding) for holding in state.holdings.values()],
        "approved": [_approved(order) for order in state.approved.values()],
        "judged": [[order, digest] for order, digest in state.judged.items()],
        "entries": [_when(moment) for moment in state.entries],
        "withdrawn": list(state.withdrawn),
        "stops_seen": dict(state.stops_seen),
        "breaches": {name: _when(moment) for name, moment in state.breaches.items()},
        "spreads": {
            name: [_when(window.last), *(f"{value:.10g}" for value in window.values)]
            for name, window in state.spreads.items()
        },
        "told": None if state.told is None else _told(state.told),
    }


_AS_THEY_ARE = (
    "run_id",
    "currency",
    "mode",
    "bar_seconds",
    "phase",
    "holding",
    "step",
    "mark_step",
    "losses",
    "cancel_next",
    "commands_seen",
)
_DECIMALS = ("risk_per_trade", "balance", "unrealised", "equity", "peak", "day_open")
_TIMES = ("time", "day_until", "paused_until", "differs_since")


def _when(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def _text(value: Decimal | None) -> str | None:
    return None if value is None else format(value, "f")


def _decimal(value: str | None) -> Decimal | None:
    return None if value is None else Decimal(value)


def _holding(holding: Holding) -> list[Any]:
    return [
        holding.instrument,
        holding.side,
        _text(holding.amount),
        _text(holding.opened),
        _text(holding.entry_cost),
        _text(holding.stop),
        holding.stop_order,
        holding.unprotected,
    ]


def _approved(order: Approved) -> list[Any]:
    return [
        order.order,
        order.instrument,
        order.side,
        _text(order.left),
        _text(order.stop),
        _text(order.price),
        order.digest,
        order.adds,
    ]


def _told(told: Told) -> dict[str, Any]:
    answer = told.answer
    return {
        "step": told.step,
        "verdicts": [
            [
                verdict.order,
                verdict.approved,
                verdict.digest,
                [[why.code, why.text] for why in verdict.reasons],
            ]
            for verdict in answer.verdicts
        ],
        "halt": answer.halt and [answer.halt.command_id, answer.halt.reason.code, answer.halt.reason.text],
        "cancel_entries": answer.cancel_entries,
    }


def restore(data: Mapping[str, Any]) -> State:
    """The state a `snapshot` was made of; raises InvalidInput for anything else."""
    try:
        return _restore(data)
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        raise InvalidInput(f"the guard's stored state is unreadable: {type(error).__name__}") from None


def _restore(data: Mapping[str, Any]) -> State:
    if data["version"] != VERSION:
        raise InvalidInput(f"the guard's stored state has version {data['version']}, expected {VERSION}")
    state = State(trader=data["trader"], limits=parse(data["limits"]))
    for name in _AS_THEY_ARE:
        setattr(state, name, data[name])
    for name in _DECIMALS:
        setattr(state, name, Decimal(data[name]))
    for name in _TIMES:
        setattr(state, name, None if data[name] is None else datetime.fromisoformat(data[name]))
    state.instruments = tuple(data["instruments"])
    state.halts = [Latch(*halt) for halt in data["halts"]]
    for row in data["holdings"]:
        holding = Holding(
            row[0],
            row[1],
            row[0].endswith(state.currency),
            Decimal(row[2]),
            Decimal(row[3]),
            Decimal(row[4]),
            _decimal(row[5]),
            row[6],
            row[7],
        )
        holding.refresh()
        state.holdings[holding.instrument] = holding
    for row in data["approved"]:
        order = Approved(
            row[0], row[1], row[2], Decimal(row[3]), _decimal(row[4]), Decimal(row[5]), row[6], row[7]
        )
        state.approved[order.order] = order
    state.judged = dict(data["judged"])
    state.entries = [datetime.fromisoformat(moment) for moment in data["entries"]]
    state.withdrawn = list(data["withdrawn"])
    state.stops_seen = dict(data["stops_seen"])
    state.breaches = {name: datetime.fromisoformat(moment) for name, moment in data["breaches"].items()}
    for name, (last, *values) in data["spreads"].items():
        window = deque((float(value) for value in values), maxlen=window_of(state.instruments))
        state.spreads[name] = Spreads(datetime.fromisoformat(last), window)
    state.told = None if data["told"] is None else _restore_told(data["told"])
    return state


def _restore_told(data: Mapping[str, Any]) -> Told:
    verdicts = tuple(
        Verdict(
            order=order,
            approved=approved,
            digest=digest,
            reasons=tuple(Reason(code=code, text=text) for code, text in reasons),
        )
        for order, approved, digest, reasons in data["verdicts"]
    )
    halt = None
    if data["halt"] is not None:
        command_id, code, text = data["halt"]
        halt = HaltOrder(command_id=command_id, reason=Reason(code=code, text=text))
    return Told(data["step"], Answer(verdicts, halt, bool(data["cancel_entries"])))


def window_of(instruments: tuple[str, ...]) -> int:
    """How many spreads to keep of each instrument, so that the stored state stays small."""
    return min(SPREADS_KEPT, SPREADS_TOTAL // max(1, len(instruments)))


def begin(state: State, run_id: str, terms: DeploymentTerms) -> None:
    """Start a run's own sums. Halts and limits go on over runs.

    A paper or replay run starts its own peak and day; a live account's go on (TRADING 3).
    """
    own = terms.broker == "paper"
    state.run_id = run_id
    state.currency, state.risk_per_trade = terms.currency, terms.risk_per_trade
    state.instruments, state.mode, state.bar_seconds = terms.instruments, terms.mode, terms.bar_seconds
    state.step = state.mark_step = -1
    state.balance = state.equity = terms.balance
    state.unrealised = ZERO
    state.peak = terms.balance if own else max(state.peak, terms.balance)
    if own or state.day_until == LONG_AGO:
        state.day_until, state.day_open, state.paused_until = LONG_AGO, terms.balance, None
    state.time = LONG_AGO
    state.losses = 0
    state.cancel_next, state.differs_since, state.told = False, None, None
    for memory in (
        state.holdings,
        state.approved,
        state.judged,
        state.stops_seen,
        state.breaches,
        state.spreads,
    ):
        memory.clear()
    state.entries.clear()
    state.withdrawn.clear()

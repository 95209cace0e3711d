"""Pages of closed trades: narrowed down, in any useful order, forwards and backwards, at a cost of its own.

Trades fall into few kinds (strategy, instrument, side, outcome), which the recorder counts. A page takes the
few rows it needs of each kind that is wanted, from an index in the page's own order, and merges them: the
deepest page of the narrowest filter reads no more than the first one of all. The number of matches is exact as
long as no dates are given, and counted up to a bound otherwise.
"""

# ruff: noqa: S608 - statements are put together from fixed texts, values only travel as parameters
from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from services.api.answers.records import TradeRow, TradesPage
from services.api.cursor import read_cursor, write_cursor
from services.api.queries import Conditions
from services.shared.errors import InvalidInput

if TYPE_CHECKING:
    from services.api.ledger import Proxy, Record

TradeSort: TypeAlias = Literal["time", "instrument", "side", "pnl", "r_multiple", "outcome"]
Order: TypeAlias = Literal["newest", "oldest", "descending", "ascending"]
Way: TypeAlias = Literal["asc", "desc"]

COUNTED = 20_000
"""Up to how many matches are counted when dates are given."""
FALLING: frozenset[Order] = frozenset({"newest", "descending"})
LAST = write_cursor("last")
"""The cursor of the last page."""
_KIND = ("strategy", "instrument", "side", "outcome")
_COLUMNS = ", ".join(f"t.{name}" for name in TradeRow.model_fields)
# Without a stop there is no R: such trades come below all others, as in the index.
_R = "coalesce(t.r_multiple, '-Infinity'::numeric)"
_OF_KIND = " and ".join(f"t.{name} = k.{name}" for name in _KIND)
_MEASURED: dict[str, str] = {"pnl": "t.pnl", "r_multiple": _R}


@dataclass(frozen=True, slots=True, kw_only=True)
class TradeFilter:
    """Which trades: of one run, or of all runs of the trader when `run_id` is None."""

    trader: str
    run_id: str | None = None
    strategy: str | None = None
    instrument: str | None = None
    outcome: str | None = None
    start: datetime | None = None
    end: datetime | None = None

    @property
    def dated(self) -> bool:
        """Whether it has to do with time."""
        return self.start is not None or self.end is not None

    def conditions(self) -> Conditions:
        """As SQL over `trades`."""
        found = Conditions()
        if self.run_id is None:
            found.add("trader = ?", self.trader)
        else:
            found.add("run_id = ?", self.run_id)
        self._narrow(found)
        found.given("trade_time >= ?", self.start)
        found.given("trade_time < ?", self.end)
        return found

    def kinds(self) -> Conditions:
        """As SQL over `trade_kinds`; dates are not in it."""
        found = Conditions()
        found.add("trader = ?", self.trader)
        found.given("run_id = ?", self.run_id)
        self._narrow(found)
        return found

    def _narrow(self, found: Conditions) -> None:
        found.given("strategy = ?", self.strategy)
        found.given("instrument = ?", self.instrument)
        found.given("outcome = ?", self.outcome)


@dataclass(frozen=True, slots=True)
class Choices:
    """What the trades of a trader could be narrowed down to."""

    strategies: list[str]
    instruments: list[str]


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a page begins: after or before a trade's key, or at the end of all."""

    side: Literal["after", "before", "last"]
    key: tuple[Any, ...] = ()

    @property
    def backwards(self) -> bool:
        return self.side != "after"


async def trades(
    connection: Proxy,
    wanted: TradeFilter,
    *,
    sort: TradeSort = "time",
    order: Order = "newest",
    cursor: str | None = None,
    limit: int = 100,
    counted: bool = False,
) -> TradesPage:
    """A page of trades, and with `counted` how many there are. Where a value repeats, the run's clock, run and
    seq decide, so that every trade is on one page. Raises InvalidInput for a cursor of another order."""
    place = _read(wanted, sort, cursor)
    crossed = wanted.dated and sort in _MEASURED
    matches, exact = await count(connection, wanted) if counted or crossed else (None, False)
    few = crossed and exact
    rows = await _rows(connection, wanted, sort, order, place, limit, few=few)
    if place is not None and place.side == "before" and len(rows) <= limit:
        # The beginning is reached: show it as the first page is, and not the few rows before the place.
        place = None
        rows = await _rows(connection, wanted, sort, order, place, limit, few=few)
    page, more = rows[:limit], len(rows) > limit
    backwards = place is not None and place.backwards
    if backwards:
        page.reverse()
    before = more if backwards else place is not None
    after = place is not None and place.side == "before" if backwards else more
    return TradesPage(
        trades=[trade_row(row) for row in page],
        next=_cursor(wanted, sort, "after", page[-1]) if after and page else None,
        previous=_cursor(wanted, sort, "before", page[0]) if before and page else None,
        last=LAST if after and page else None,
        count=matches if counted else None,
        count_is=None if not counted else "exact" if exact else "more_than",
        run_id=wanted.run_id,
    )


async def count(connection: Proxy, wanted: TradeFilter) -> tuple[int, bool]:
    """How many trades match, and whether that is exact; if not, there are more."""
    kinds = wanted.kinds()
    if not wanted.dated:
        known = await connection.fetchval(
            f"select coalesce(sum(trades), 0)::bigint from trade_kinds where {kinds}", *kinds.values
        )
        return int(known), True
    inner = _of_scope(wanted, kinds)
    found = await connection.fetchval(
        f"""with {_kinds(wanted)}
        select count(*) from (select from kinds k cross join lateral (
            select from trades t where {inner} limit {COUNTED + 1}) t limit {COUNTED + 1}) as found""",
        *kinds.values,
    )
    return min(found, COUNTED), found <= COUNTED


async def choices(connection: Proxy, trader: str) -> Choices:
    """The strategies and instruments that the trader has traded."""
    rows = await connection.fetch(
        "select distinct strategy, instrument from trade_kinds where trader = $1", trader
    )
    return Choices(*(sorted({row[name] for row in rows}) for name in ("strategy", "instrument")))


def trade_row(row: Record) -> TradeRow:
    """A trade as the API shows it; the recorder wrote it from a validated event, so it is not checked again."""
    return TradeRow.model_construct(**dict(row))


async def _rows(
    connection: Proxy,
    wanted: TradeFilter,
    sort: TradeSort,
    order: Order,
    place: _Place | None,
    limit: int,
    *,
    few: bool,
) -> list[Record]:
    """One more than `limit`, in the order of the page, or against it when it is read backwards."""
    falling = (order in FALLING) != (place is not None and place.backwards)
    statement, values = page_statement(
        wanted, sort, "desc" if falling else "asc", place.key if place else (), limit + 1, few=few
    )
    return list(await connection.fetch(statement, *values))


def page_statement(
    wanted: TradeFilter,
    sort: TradeSort,
    way: Way,
    key: tuple[Any, ...],
    rows: int,
    *,
    few: bool = False,
) -> tuple[str, list[Any]]:
    """The statement of a page that goes on after `key` this way, and its values. With `few` (dates that leave
    few trades, to be put in an order that has nothing to do with dates) all that match are sorted."""
    conditions = wanted.kinds()
    beyond = "" if not key else f" and {_beyond(wanted, sort, way, key, conditions)}"
    scope = _of_scope(wanted, conditions)
    inner = ", ".join(f"{column} {way}" for column in _inner(wanted, sort))
    outer = ", ".join(f"{column} {way}" for column in _outer(wanted, sort))
    taken = f"where {scope}{beyond} order by {inner} limit {int(rows)}"
    if few:
        return (
            f"""with {_kinds(wanted)}, t as materialized (
                select t.* from kinds k cross join lateral (
                    select t.* from trades t where {scope} order by t.trade_time limit {COUNTED}) t)
            select {_COLUMNS} from t where true{beyond} order by {outer} limit {int(rows)}""",
            conditions.values,
        )
    return (
        f"""with {_kinds(wanted)}
        select {_COLUMNS} from kinds k cross join lateral (select t.* from trades t {taken}) t
        order by {outer} limit {int(rows)}""",
        conditions.values,
    )


def _kinds(wanted: TradeFilter) -> str:
    # Its conditions are always the first that are numbered.
    kind = ", ".join(_KIND)
    return f"kinds as materialized (select {kind} from trade_kinds where {wanted.kinds()} and true group by {kind})"


def _of_scope(wanted: TradeFilter, values: Conditions) -> str:
    """The condition on a kind's trades: whose, of the kind, between the dates. Adds its values."""
    found = Conditions(values=values.values)
    if wanted.run_id is None:
        found.add("t.trader = ?", wanted.trader)
    else:
        found.add("t.run_id = ?", wanted.run_id)
    found.add(_OF_KIND)
    found.given("t.trade_time >= ?", wanted.start)
    found.given("t.trade_time < ?", wanted.end)
    return str(found)


def _tie(wanted: TradeFilter) -> tuple[str, ...]:
    return ("t.seq",) if wanted.run_id is not None else ("t.run_id", "t.seq")


def _inner(wanted: TradeFilter, sort: TradeSort) -> tuple[str, ...]:
    """The order within a kind, which is an index's."""
    return (_MEASURED.get(sort, "t.trade_time"), *_tie(wanted))


def _outer(wanted: TradeFilter, sort: TradeSort) -> tuple[str, ...]:
    """The order over all kinds."""
    within = _inner(wanted, sort)
    return within if sort == "time" or sort in _MEASURED else (f"t.{sort}", *within)


def _beyond(wanted: TradeFilter, sort: TradeSort, way: Way, key: tuple[Any, ...], values: Conditions) -> str:
    """The condition for what comes after `key`. A kind that is wholly beyond it is taken from its start, so
    that each kind's own bound is one that its index knows."""
    found = Conditions(values=values.values)
    sign = ">" if way == "asc" else "<"
    columns = ", ".join(_inner(wanted, sort))
    places = ", ".join("?" for _ in _inner(wanted, sort))
    if len(_outer(wanted, sort)) == len(_inner(wanted, sort)):
        found.add(f"({columns}) {sign} ({places})", *key)
    else:
        value, moment, *tie = key
        found.add(f"k.{sort} {sign}= ?::text", value)
        start = "-infinity" if way == "asc" else "infinity"
        bound = f"case when k.{sort} = ?::text then ?::timestamptz else '{start}'::timestamptz end"
        rest = places.removeprefix("?")
        found.add(f"({columns}) {sign} ({bound}{rest})", value, moment, *tie)
    return str(found)


def _key_kinds(wanted: TradeFilter, sort: TradeSort) -> tuple[type, ...]:
    tie: tuple[type, ...] = (int,) if wanted.run_id is not None else (str, int)
    if sort in _MEASURED:
        return (Decimal, *tie)
    return (datetime, *tie) if sort == "time" else (str, datetime, *tie)


def _read(wanted: TradeFilter, sort: TradeSort, cursor: str | None) -> _Place | None:
    if cursor is None:
        return None
    if cursor == LAST:
        return _Place("last")
    side, known, *key = read_cursor(cursor, str, str, *_key_kinds(wanted, sort))
    if known != sort or side not in ("after", "before"):
        raise InvalidInput("cursor: expected one of a page in the same order")
    return _Place("after" if side == "after" else "before", tuple(key))


def _cursor(wanted: TradeFilter, sort: TradeSort, side: str, row: Record) -> str:
    r_multiple = row["r_multiple"]
    values = {
        "pnl": row["pnl"],
        "r_multiple": Decimal("-Infinity") if r_multiple is None else r_multiple,
    }
    first: tuple[Any, ...] = (values[sort],) if sort in values else (row["trade_time"],)
    if sort not in values and sort != "time":
        first = (row[sort], *first)
    tie = (row["seq"],) if wanted.run_id is not None else (row["run_id"], row["seq"])
    return write_cursor(side, sort, *first, *tie)


def of_run(wanted: TradeFilter, run_id: str) -> TradeFilter:
    """The same of one run."""
    return replace(wanted, run_id=run_id)

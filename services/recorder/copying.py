"""The quick way into the busiest tables: COPY, for rows that are all new and were read the fast way.

COPY knows no ON CONFLICT: one row that is there already refuses the lot, and the writer then takes the
careful way of `statements`. Rows read the fast way hold no character that COPY's text format escapes.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Final

import asyncpg

from services.recorder import statements
from services.recorder.reading import BODY_AT, ENVELOPE, FIELDS, Row
from services.shared.events import BODIES


@dataclass(frozen=True, slots=True)
class Target:
    """Where COPY puts a type's rows; all of one table's have the same columns. `before_body` is what a
    line has between the columns picked and the body, which then ends it; None where the table takes none.
    """

    table: str
    columns: tuple[str, ...]
    places: tuple[int, ...]
    before_body: str | None = None

    def lines(self, rows: Iterable[Row]) -> list[str]:
        """The rows in COPY's text format."""
        pick = itemgetter(*self.places)
        lines = []
        for row in rows:
            try:
                line = "\t".join(pick(row))
            except TypeError:
                line = "\t".join("\\N" if value is None else value for value in pick(row))
            lines.append(line if self.before_body is None else f"{line}{self.before_body}{row[BODY_AT]}")
        return lines


def _whole(kind: str, table: str) -> Target:
    fields = range(BODY_AT + 1, BODY_AT + 1 + len(FIELDS[kind]))
    return Target(table, (*ENVELOPE, *FIELDS[kind]), (*range(BODY_AT), *fields))


def _orders(kind: str) -> Target:
    columns = statements.order_columns(kind)
    places = (BODY_AT + 1 + FIELDS[kind].index(field) for field in columns.values())
    untold = "\t\\N" * (len(_ORDER_COLUMNS) - len(columns))
    return Target(
        "orders",
        (*ENVELOPE, *_ORDER_COLUMNS, "state", "detail"),
        (*range(BODY_AT), *places),
        f"{untold}\t{kind.removeprefix('order.')}\t{{",
    )


# What a type does not tell comes last, so that one COPY takes them all.
_ORDER_COLUMNS: Final = tuple(statements.order_columns("order.intended"))

JOURNAL: Final = {
    kind: Target("events", (*ENVELOPE, "type", "version", "body"), tuple(range(BODY_AT)), f"\t{kind}\t1\t{{")
    for kind in BODIES
}
TARGETS: Final[dict[str, Target]] = {
    "equity": _whole("equity", "equity"),
    "market.bar": _whole("market.bar", "bars"),
    # Not denials, which have their reasons counted.
    **{kind: _orders(kind) for kind in BODIES if kind.startswith("order.") and kind != "order.denied"},
}


_VERDICTS: Final = {"order.approved": 2, "order.denied": 3}
"""Where in a run's counts a verdict is counted."""

_COLUMNS: Final = {target.table: target.columns for target in (JOURNAL["equity"], *TARGETS.values())}


async def copy(connection: asyncpg.Connection, table: str, lines: Sequence[str]) -> None:
    """Send lines to a table. Raises UniqueViolationError when one is there already."""
    text = io.BytesIO(("\n".join(lines) + "\n").encode("ascii"))
    await connection.copy_to_table(table, source=text, columns=_COLUMNS[table], format="text")


async def copy_events(connection: asyncpg.Connection, kinds: Mapping[str, Sequence[Row]]) -> None:
    """Journal, typed tables where they are copied, and what is counted from both. All rows must be new."""
    journal: list[str] = []
    for kind in sorted(kinds):
        journal += JOURNAL[kind].lines(kinds[kind])
    await copy(connection, "events", journal)
    await _count(connection, kinds)
    tables: dict[str, list[str]] = {}
    for kind in sorted(kinds.keys() & TARGETS.keys()):
        tables.setdefault(TARGETS[kind].table, []).extend(TARGETS[kind].lines(kinds[kind]))
    for table, lines in tables.items():
        await copy(connection, table, lines)
    marks = kinds.get("equity")
    if marks:
        columns = list(zip(*marks, strict=True))
        await connection.execute(statements.ROLL_UP, *(columns[place] for place in statements.ROLLED_UP))


async def _count(connection: asyncpg.Connection, kinds: Mapping[str, Sequence[Row]]) -> None:
    """The trader's events and the guard's verdicts by run."""
    counts: dict[tuple[str, str], list[int]] = {}
    for kind, rows in kinds.items():
        verdict = _VERDICTS.get(kind)
        for _, trader, run_id, emitter, seq, *_ in rows:
            if not run_id or not (verdict or emitter == "trader"):
                continue
            counted = counts.setdefault((str(trader), run_id), [0, 0, 0, 0])
            if emitter == "trader":
                counted[0] += 1
                counted[1] = max(counted[1], int(seq or 0))
            if verdict:
                counted[verdict] += 1
    if counts:
        totals = [(*run, *counted) for run, counted in sorted(counts.items())]
        await connection.execute(statements.COUNT, *(list(column) for column in zip(*totals, strict=True)))


__all__ = ["JOURNAL", "TARGETS", "copy_events"]

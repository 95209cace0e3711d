"""Price files: CSV or Parquet with bars or quotes, read a block at a time and checked row by row.

Strict, since a wrong price costs money: what cannot be is an error with file and line. Gaps and crossed
sides are normal in recordings; they are left as they are and counted. Turning rows into market steps is
`replay`'s business.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as arrow_csv
import pyarrow.parquet as arrow_parquet

from services.shared.errors import PriceFileError
from services.shared.money import canonical
from services.trader.feeds.arrow_scalars import NOTHING, first_false, first_true, real, whole

Kind: TypeAlias = Literal["mid", "sides", "quotes"]

MID = ("open", "high", "low", "close")
SIDES = tuple(f"{side}_{name}" for side in ("bid", "ask") for name in MID)
QUOTES = ("bid", "ask")
_PRICES: dict[Kind, tuple[str, ...]] = {"mid": MID, "sides": SIDES, "quotes": QUOTES}
EXPECTED = (
    "time,open,high,low,close[,volume] or time,bid_open,bid_high,bid_low,bid_close,"
    "ask_open,ask_high,ask_low,ask_close[,volume] or time,bid,ask"
)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_EARLIEST = whole(0)
_LATEST = whole((datetime(2200, 1, 1, tzinfo=UTC) - EPOCH) // _MICROSECOND)
_BLOCK = 1 << 20
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")
_WORD = re.compile(r"[A-Za-z_ ]{1,20}")
# Up to here a price times 10**10 is an exact integer in a double, and the division rounds correctly.
_SCALED_UP_TO = 4e5
_SCALE, _ZERO = real(1e10), real(0.0)


@dataclass(slots=True, frozen=True)
class PriceTable:
    """A whole file, checked: `times` in microseconds since 1970 (UTC) as the file has them, and a column
    of canonical floats for each price. `crossed` counts rows with a bid above its ask."""

    path: Path
    kind: Kind
    times: pa.Int64Array
    columns: dict[str, pa.DoubleArray]
    crossed: int

    def __len__(self) -> int:
        return len(self.times)

    def error(self, row: int, text: str) -> PriceFileError:
        """What is wrong with a row, counted from 0."""
        return _error(self.path, row, text)


class _Bad(Exception):
    """A row of a block cannot be used."""

    def __init__(self, row: int, text: str) -> None:
        super().__init__(text)
        self.row = row
        self.text = text


def moment(microseconds: int) -> datetime:
    """The moment so many microseconds after 1970."""
    return EPOCH + timedelta(microseconds=microseconds)


def microseconds(when: datetime) -> int:
    """Microseconds since 1970 of an aware moment."""
    return (when - EPOCH) // _MICROSECOND


def read_prices(path: Path) -> PriceTable:
    """Read and check a price file, told by its header; `.parquet` is Parquet, anything else CSV.

    Raises PriceFileError, its text beginning with `file:line` (for Parquet `file:row n`), at the first
    row that cannot be: times not rising (of quotes: falling) or without a zone, missing or unusable
    values, prices not above 0, high below low, open or close outside of them.
    """
    parquet = path.suffix.lower() in {".parquet", ".pq"}
    try:
        blocks = _parquet_blocks(path) if parquet else _csv_blocks(path)
        return _gather(path, blocks)
    except (OSError, pa.ArrowInvalid) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0][:200]
        raise PriceFileError(f"{path}: cannot be read: {reason}") from None


def _error(path: Path, row: int, text: str) -> PriceFileError:
    parquet = path.suffix.lower() in {".parquet", ".pq"}
    return PriceFileError(f"{path}:row {row + 1}: {text}" if parquet else f"{path}:{row + 2}: {text}")


def _gather(path: Path, blocks: Iterator[pa.RecordBatch]) -> PriceTable:
    kind: Kind | None = None
    times: list[pa.Array] = []
    columns: dict[str, list[pa.Array]] = {}
    rows = crossed = 0
    last: int | None = None
    for block in blocks:
        kind = _kind(path, block.schema.names)
        if not block.num_rows:
            continue
        try:
            checked = _checked(block, kind, last)
        except _Bad as bad:
            raise _error(path, rows + bad.row, bad.text) from None
        crossed += _crossed(checked, kind)
        times.append(checked.pop("time"))
        for name, column in checked.items():
            columns.setdefault(name, []).append(column)
        last = times[-1][-1].as_py()
        rows += block.num_rows
    if kind is None or not rows:
        raise PriceFileError(f"{path}: holds no prices; expected a header ({EXPECTED}) and rows")
    whole = {name: pa.chunked_array(parts).combine_chunks() for name, parts in columns.items()}
    return PriceTable(path, kind, pa.chunked_array(times).combine_chunks(), whole, crossed)


def _kind(path: Path, names: list[str]) -> Kind:
    found = set(names)
    for kind, prices in _PRICES.items():
        optional = set() if kind == "quotes" else {"volume"}
        if found - optional == {"time", *prices} and len(found) == len(names):
            return kind
    # Only words are repeated: what is no price file may hold what nobody should read in a log.
    shown = ",".join(name if _WORD.fullmatch(name) else "…" for name in names[:12])
    raise PriceFileError(f"{path}:1: columns: expected {EXPECTED}, was {shown}")


def _parquet_blocks(path: Path) -> Iterator[pa.RecordBatch]:
    with arrow_parquet.ParquetFile(path) as file:
        names = [name.strip().lower() for name in file.schema_arrow.names]
        _kind(path, names)
        for block in file.iter_batches(batch_size=65_536):
            yield pa.RecordBatch.from_arrays(block.columns, names=names)


def _csv_blocks(path: Path) -> Iterator[pa.RecordBatch]:
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as lines:
        header = next(csv.reader([lines.readline(65_536)]), [])
    names = [name.strip().lower() for name in header]
    _kind(path, names)
    torn: list[PriceFileError] = []

    def invalid(row: Any) -> str:
        torn.append(_error(path, row.number - 2, f"expected {len(names)} values, was {row.actual_columns}"))
        return "error"

    if path.stat().st_size <= len(",".join(header)) + 2:
        return
    try:
        with arrow_csv.open_csv(
            path,
            read_options=arrow_csv.ReadOptions(
                use_threads=False, block_size=_BLOCK, column_names=names, skip_rows=1
            ),
            parse_options=arrow_csv.ParseOptions(ignore_empty_lines=False, invalid_row_handler=invalid),
            convert_options=arrow_csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string())),
        ) as reader:
            yield from _without_blank_end(path, reader)
    except pa.ArrowInvalid:
        if torn:
            raise torn[0] from None
        raise


def _without_blank_end(path: Path, blocks: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Blank lines are rows of empty cells here: nothing at a file's end, and an error anywhere else."""
    rows, ended = 0, None
    for block in blocks:
        empty = pc.equal(block.column(0), NOTHING)
        for column in block.columns[1:]:
            empty = pc.and_(empty, pc.equal(column, NOTHING))
        blank = first_true(empty)
        content = block.num_rows if blank < 0 else blank
        if (ended is not None and content) or first_false(empty.slice(content)) >= 0:
            raise _error(path, rows + content if ended is None else ended, "a blank line between rows")
        if ended is None and content < block.num_rows:
            ended = rows + content
        rows += block.num_rows
        yield block.slice(0, content)


def _checked(block: pa.RecordBatch, kind: Kind, last: int | None) -> dict[str, pa.Array]:
    """The block's columns as numbers, raising _Bad for the first row that cannot be."""
    faults: list[tuple[int, str]] = []
    times = _column(block, "time", _times, faults)
    prices = {name: _column(block, name, _numbers, faults) for name in _PRICES[kind]}
    if "volume" in block.schema.names:
        prices["volume"] = _column(block, "volume", _numbers, faults)
    # Columns end at their first unusable cell; rows before it are still looked at, for an earlier fault.
    sound = min([block.num_rows, *(row for row, _ in faults)])
    columns = {name: column.slice(0, sound) for name, column in {"time": times, **prices}.items()}
    if not sound:
        raise _Bad(*min(faults, key=lambda fault: fault[0]))
    faults += _impossible(columns, kind)
    faults += _disorder(columns["time"], kind, last)
    if faults:
        raise _Bad(*min(faults, key=lambda fault: fault[0]))
    return {name: column if name == "time" else canonical_column(column) for name, column in columns.items()}


def _column(
    block: pa.RecordBatch, name: str, read: Callable[[pa.Array], pa.Array], faults: list[tuple[int, str]]
) -> pa.Array:
    column = block.column(name)
    if column.null_count:
        row = first_true(column.is_null())
        faults.append((row, f"{name}: missing value"))
        column = column.slice(0, row)
    try:
        return read(column)
    except _Bad as bad:
        faults.append((bad.row, f"{name}: {bad.text}"))
        return read(column.slice(0, bad.row)) if bad.row else pa.nulls(0, pa.float64())


def _numbers(column: pa.Array) -> pa.DoubleArray:
    try:
        return pc.cast(column, pa.float64(), safe=not pa.types.is_integer(column.type))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        values = column.to_pylist() if pa.types.is_string(column.type) else [str(column.type)]
    for row, text in enumerate(values):
        if not text.strip():
            raise _Bad(row, "missing value")
        if not _NUMBER.fullmatch(text.strip()):
            raise _Bad(row, f"expected a number, was {text[:30]!r}")
    return pa.array([float(text) for text in values], pa.float64())


def _times(column: pa.Array) -> pa.Int64Array:
    kind = column.type
    if pa.types.is_timestamp(kind):
        if kind.tz is None:
            raise _Bad(0, "no time zone; expected RFC 3339 such as 2024-01-02T12:00:00Z")
        return pc.cast(column, pa.timestamp("us", "UTC"), safe=False).cast(pa.int64())
    if not pa.types.is_string(kind) and not pa.types.is_large_string(kind):
        raise _Bad(0, f"expected times with a zone, was {kind}")
    try:
        return pc.cast(column, pa.timestamp("us", "UTC")).cast(pa.int64())
    except pa.ArrowInvalid:
        return pa.array([_time(row, text) for row, text in enumerate(column.to_pylist())], pa.int64())


def _time(row: int, text: str) -> int:
    if not text.strip():
        raise _Bad(row, "missing value")
    try:
        when = datetime.fromisoformat(text.strip().upper())
        if when.tzinfo is None:
            raise _Bad(
                row, f"no time zone; expected RFC 3339 such as 2024-01-02T12:00:00Z, was {text[:40]!r}"
            )
        if not _TIME.fullmatch(text.strip()):
            raise ValueError
        return microseconds(when)
    except (ValueError, OverflowError):
        raise _Bad(row, f"expected RFC 3339 such as 2024-01-02T12:00:00Z, was {text[:40]!r}") from None


def _impossible(columns: dict[str, pa.Array], kind: Kind) -> list[tuple[int, str]]:
    faults: list[tuple[int, str]] = []

    def check(wrong: pa.Array, text: str, *names: str) -> None:
        row = first_true(wrong)
        if row >= 0:
            faults.append(
                (row, text.format(*(f"{name} {columns[name][row].as_py():.10g}" for name in names)))
            )

    for name in _PRICES[kind]:
        check(pc.invert(pc.is_finite(columns[name])), "{} is no price", name)
        check(pc.less_equal(columns[name], _ZERO), "{} is not above 0", name)
    for side in () if kind == "quotes" else ("",) if kind == "mid" else ("bid_", "ask_"):
        high, low = side + "high", side + "low"
        check(pc.less(columns[high], columns[low]), "{} is below {}", high, low)
        for name in (side + "open", side + "close"):
            outside = pc.or_(pc.greater(columns[name], columns[high]), pc.less(columns[name], columns[low]))
            check(outside, "{} is outside of {} to {}", name, low, high)
    if "volume" in columns:
        volume = columns["volume"]
        sound = pc.and_(pc.is_finite(volume), pc.greater_equal(volume, _ZERO))
        check(pc.invert(sound), "{} is no volume", "volume")
    return faults


def _disorder(times: pa.Int64Array, kind: Kind, last: int | None) -> list[tuple[int, str]]:
    faults = []
    far = pc.or_(pc.less(times, _EARLIEST), pc.greater(times, _LATEST))
    row = first_true(far)
    if row >= 0:
        faults.append((row, "time: expected one between 1970 and 2200"))
    before = pa.concat_arrays([_single(-1 if last is None else last), times])[:-1]
    wrong = (pc.less if kind == "quotes" else pc.less_equal)(times, before)
    row = first_true(wrong)
    if row >= 0 and not (row == 0 and last is None):
        now, then = (
            moment(value).isoformat().replace("+00:00", "Z")
            for value in (times[row].as_py(), before[row].as_py())
        )
        faults.append(
            (
                row,
                f"time {now} is given twice"
                if now == then
                else f"time {now} is not after {then}: rows must be in order of time",
            )
        )
    return faults


def _single(value: int) -> pa.Int64Array:
    return pa.repeat(whole(value), 1)


def canonical_column(column: pa.DoubleArray) -> pa.DoubleArray:
    """Each value as `money.canonical` makes it."""
    if len(column) and pc.max(column).as_py() > _SCALED_UP_TO:
        return pa.array([canonical(value) for value in column.to_pylist()], pa.float64())
    return pc.divide(pc.round(pc.multiply(column, _SCALE)), _SCALE)


def _crossed(columns: dict[str, pa.Array], kind: Kind) -> int:
    if kind == "mid":
        return 0
    pairs = [("bid", "ask")] if kind == "quotes" else list(zip(SIDES[:4], SIDES[4:], strict=True))
    crossed = None
    for bid, ask in pairs:
        above = pc.greater(columns[bid], columns[ask])
        crossed = above if crossed is None else pc.or_(crossed, above)
    return int(pc.sum(crossed).as_py() or 0)

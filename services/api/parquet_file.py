"""The trades file's columns as Parquet with exact decimals. Apart, because pyarrow takes its time to load."""

from __future__ import annotations

from collections.abc import Sequence
from io import RawIOBase
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from services.api.ledger import Record

SCHEMA = pa.schema(
    [
        ("trade_time", pa.timestamp("us", tz="UTC")),
        ("entry_price", pa.decimal128(38, 12)),
        ("exit_price", pa.decimal128(38, 12)),
        ("pnl", pa.decimal128(38, 12)),
        ("outcome", pa.string()),
        ("r_multiple", pa.decimal128(38, 18)),
        ("equity", pa.decimal128(38, 12)),
        ("trade", pa.int64()),
        ("instrument", pa.string()),
        ("side", pa.string()),
        ("amount", pa.decimal128(38, 12)),
        ("entry_time", pa.timestamp("us", tz="UTC")),
        ("stop", pa.decimal128(38, 12)),
        ("target", pa.decimal128(38, 12)),
        ("initial_risk", pa.decimal128(38, 12)),
        ("commission", pa.decimal128(38, 12)),
        ("slippage", pa.decimal128(38, 12)),
        ("exit_reason", pa.string()),
        ("strategy", pa.string()),
    ]
)


def open_writer(sink: RawIOBase) -> pq.ParquetWriter:
    """A writer into `sink`; to be closed."""
    return pq.ParquetWriter(sink, SCHEMA, compression="zstd")


def write_group(writer: pq.ParquetWriter, rows: Sequence[Record]) -> None:
    """Write rows, whose columns are the trades file's, as one row group."""
    columns = zip(*(tuple(row) for row in rows), strict=True)
    arrays = [pa.array(column, type=field.type) for field, column in zip(SCHEMA, columns, strict=True)]
    writer.write_table(pa.Table.from_arrays(arrays, schema=SCHEMA))

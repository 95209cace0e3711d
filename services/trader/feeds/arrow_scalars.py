"""Plain numbers as arrow's, made from their bytes.

`pa.scalar` and `pa.array` import pandas wherever there is one, which takes several times as long as reading
a price file; the trader starts without.
"""

from __future__ import annotations

import struct

import pyarrow as pa
import pyarrow.compute as pc


def _made(kind: pa.DataType, *buffers: bytes) -> pa.Scalar:
    return pa.Array.from_buffers(kind, 1, [None, *(pa.py_buffer(buffer) for buffer in buffers)])[0]


def whole(value: int) -> pa.Scalar:
    """A 64-bit integer."""
    return _made(pa.int64(), struct.pack("=q", value))


def real(value: float) -> pa.Scalar:
    """A double."""
    return _made(pa.float64(), struct.pack("=d", value))


def byte(value: int) -> pa.Scalar:
    """An unsigned byte."""
    return _made(pa.uint8(), bytes([value]))


NOTHING = _made(pa.string(), bytes(8), b"")
_TRUE = _made(pa.bool_(), b"\x01")
_FALSE = _made(pa.bool_(), b"\x00")


def first_true(mask: pa.Array) -> int:
    """Where `mask` is true first, or -1."""
    row: int = pc.index(mask, _TRUE).as_py()
    return row


def first_false(mask: pa.Array) -> int:
    """Where `mask` is false first, or -1."""
    row: int = pc.index(mask, _FALSE).as_py()
    return row

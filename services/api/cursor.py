"""Cursors of pages: opaque to the caller, a keyset to us, and refused when they were not made here."""

from __future__ import annotations

import base64
import binascii
import json
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, TypeAlias
from uuid import UUID

from services.shared.errors import InvalidInput

Key: TypeAlias = tuple[Any, ...]
_BIG = 2**62
_BELOW_ALL = Decimal("-Infinity")
_MOST_DIGITS = 60


def write_cursor(*key: str | int | datetime | Decimal | UUID) -> str:
    """The cursor that goes on after `key`."""
    plain = [value.isoformat() if isinstance(value, datetime) else value for value in key]
    text = json.dumps([str(value) if isinstance(value, UUID | Decimal) else value for value in plain])
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def read_cursor(cursor: str, *kinds: type) -> Key:
    """The key in `cursor`, its parts of these kinds. Raises InvalidInput for any other text."""
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        values = json.loads(text)
        if not isinstance(values, list) or len(values) != len(kinds):
            raise ValueError("parts")
        return tuple(_part(value, kind) for value, kind in zip(values, kinds, strict=True))
    except (ValueError, TypeError, binascii.Error, OverflowError, RecursionError, InvalidOperation):
        raise InvalidInput("cursor: expected `next` of an earlier page") from None


def _part(value: Any, kind: type) -> Any:
    if kind is int:
        if type(value) is not int or not -_BIG < value < _BIG:
            raise ValueError("number")
        return value
    if not isinstance(value, str) or "\x00" in value:
        raise ValueError("text")
    value.encode()
    if kind is datetime:
        moment = datetime.fromisoformat(value).astimezone(UTC)
        if not 1970 <= moment.year < 2200:
            raise ValueError("time")
        return moment
    if kind is Decimal:
        number = Decimal(value)
        if number != _BELOW_ALL and not (number.is_finite() and abs(number.adjusted()) < _MOST_DIGITS):
            raise ValueError("number")
        return number
    return kind(value)

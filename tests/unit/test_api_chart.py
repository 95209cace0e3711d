"""The equity curve is bounded in size and cost, and loses no peak and no trough."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from services.api.chart import Candle, choose_level, thin, unfold

START = datetime(2017, 4, 19, 9, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
equities = st.lists(st.floats(-1e6, 1e6, allow_nan=False), min_size=1, max_size=400)


def _marks(values: list[float]) -> list[tuple[datetime, float, float]]:
    return [(START + place * MINUTE, value, max(values) - value) for place, value in enumerate(values)]


def _candles(values: list[float]) -> list[Candle]:
    """Rollups of five marks as the recorder makes them: drawdowns are the run's deepest so far."""
    found = []
    peak, deepest = values[0], 0.0
    for place in range(0, len(values), 5):
        part = values[place : place + 5]
        for value in part:
            peak = max(peak, value)
            deepest = max(deepest, peak - value)
        start = START + place * MINUTE
        found.append(
            Candle(
                start, start + 5 * MINUTE, part[0], min(part), max(part), part[-1], max(values) - min(part)
            )
        )
    return found


@given(equities, st.integers(20, 100))
def test_thinned_marks_keep_ends_peak_and_trough_in_order_within_the_bound(
    values: list[float], points: int
) -> None:
    marks = _marks(values)
    thinned = list(thin(marks, points))
    assert len(thinned) <= max(points, 4)
    assert thinned[0][:2] == marks[0][:2]
    assert thinned[-1][:2] == marks[-1][:2]
    assert max(point[1] for point in thinned) == max(values)
    assert min(point[1] for point in thinned) == min(values)
    assert max(point[2] for point in thinned) == max(mark[2] for mark in marks)
    times = [point[0] for point in thinned]
    assert times == sorted(set(times))


@given(equities)
def test_unfolded_candles_show_every_extreme_in_order_of_time(values: list[float]) -> None:
    latest = START + len(values) * MINUTE
    candles = _candles(values)
    points = list(unfold(candles, START, latest, values[0], 0.0))
    shown = {point[1] for point in points}
    assert {max(values), min(values), values[0], values[-1]} <= shown
    times = [point[0] for point in points]
    assert times == sorted(times)
    assert times[0] >= START
    assert times[-1] <= latest


@given(st.integers(1, 10**8), st.integers(0, 365 * 86400 * 20), st.integers(20, 5000))
def test_the_level_bounds_the_rows_unless_days_themselves_are_too_many(
    marks: int, seconds: int, points: int
) -> None:
    level = choose_level(marks, timedelta(seconds=seconds), points)
    rows = {"raw": marks, "minute": seconds / 60, "hour": seconds / 3600}.get(level, 0)
    assert min(rows, marks) <= points * 4


def test_few_marks_are_shown_as_they_are() -> None:
    assert choose_level(1000, timedelta(days=400), 1000) == "raw"
    marks = _marks([1.0, 2.0, 3.0])
    assert list(thin(marks, 20)) == marks

"""The replay feed: what price files may hold, what is refused and where, and the steps they make."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.shared.errors import InvalidInput, PriceFileError
from services.shared.market import Bar
from services.shared.money import canonical, exact
from services.trader.feeds.base import MarketStep
from services.trader.feeds.price_files import read_prices
from services.trader.feeds.replay import ReplayFeed, open_replay, parse_spec, sample_path

MID = "time,open,high,low,close"
GOOD = ["2024-01-02T10:00:00Z,1.1,1.2,1.0,1.15", "2024-01-02T11:00:00Z,1.15,1.25,1.05,1.2"]
START = datetime(2024, 1, 2, 10, tzinfo=UTC)


def written(folder: Path, header: str, rows: list[str], name: str = "prices.csv") -> Path:
    path = folder / name
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def hours(prices: list[str], start: datetime = START) -> list[str]:
    return [
        f"{(start + timedelta(hours=n)).isoformat()},{price},{price},{price},{price}"
        for n, price in enumerate(prices)
    ]


def replay(path: Path, **given: Any) -> ReplayFeed:
    return open_replay({"EURUSD": path}, **given)


def bars(feed: ReplayFeed) -> list[Bar]:
    return [bar for step in feed.steps() for bar in step.bars]


def test_the_sample_is_5000_hours_with_their_gaps_counted() -> None:
    report = replay(sample_path()).reports[0]
    assert (report.rows, report.seconds, report.crossed) == (5000, 3600, 0)
    assert report.weekends == 40
    assert report.gaps == 42
    assert report.first == datetime(2017, 4, 19, 9, tzinfo=UTC)
    assert report.last == datetime(2018, 2, 7, 16, tzinfo=UTC)


def test_the_samples_first_weekend_gaps_166_pips() -> None:
    all_bars = bars(replay(sample_path()))
    gaps = [
        (after.bid_open - before.bid_close) / 0.0001
        for before, after in pairwise(all_bars)
        if after.start - before.end > timedelta(hours=40)
    ]
    assert round(gaps[0]) == 166


def test_a_bar_is_known_at_its_start_and_length(tmp_path: Path) -> None:
    steps = list(replay(written(tmp_path, MID, GOOD)).steps())
    assert [step.time for step in steps] == [START + timedelta(hours=1), START + timedelta(hours=2)]
    assert (steps[0].bars[0].start, steps[0].bars[0].end) == (START, steps[0].time)


def test_mid_prices_get_half_the_spread_on_each_side_as_canonical_floats(tmp_path: Path) -> None:
    bar = bars(replay(written(tmp_path, MID, GOOD), spread=Decimal("1.6")))[0]
    assert (bar.bid_open, bar.ask_open) == (1.09992, 1.10008)
    assert (bar.bid_low, bar.ask_high) == (0.99992, 1.20008)


@settings(max_examples=30)
@given(
    st.lists(st.integers(50_000, 300_000), min_size=2, max_size=50),
    st.decimals(0, 50, places=1),
)
def test_every_price_is_the_canonical_float_of_the_exact_one(
    tmp_path_factory: pytest.TempPathFactory, ticks: list[int], spread: Decimal
) -> None:
    prices = [Decimal(tick).scaleb(-5) for tick in ticks]
    path = written(tmp_path_factory.mktemp("prices"), MID, hours([str(price) for price in prices]))
    half = spread * Decimal("0.0001") / 2
    for bar, price in zip(bars(replay(path, spread=spread)), prices, strict=True):
        assert exact(bar.bid_close) == price - half
        assert bar.ask_high == float(price + half) == canonical(bar.ask_high)


def test_a_price_beyond_the_fast_path_is_canonical_too(tmp_path: Path) -> None:
    rows = hours(["512345.123456", "512345.2"])
    assert bars(replay(written(tmp_path, MID, rows), spread=Decimal(0)))[0].bid_open == 512345.123456


def test_bid_and_ask_bars_are_taken_as_they_are_and_crossed_rows_counted(tmp_path: Path) -> None:
    header = "time,bid_open,bid_high,bid_low,bid_close,ask_open,ask_high,ask_low,ask_close"
    rows = [
        "2024-01-02T10:00:00Z,1.1,1.2,1.0,1.15,1.1001,1.2001,1.0001,1.1501",
        "2024-01-02T11:00:00Z,1.1,1.2,1.0,1.15,1.0999,1.2001,1.0001,1.1501",
    ]
    feed = replay(written(tmp_path, header, rows))
    assert feed.reports[0].crossed == 1
    crossed = bars(feed)[1]
    assert (crossed.bid_open, crossed.ask_open) == (1.1, 1.0999)


def test_quotes_are_a_step_each_and_their_bars_close_between_them(tmp_path: Path) -> None:
    rows = [
        "2024-01-02T10:00:10Z,1.10,1.11",
        "2024-01-02T10:00:10Z,1.20,1.21",
        "2024-01-02T10:00:59.5Z,1.00,0.99",
        "2024-01-02T10:01:00Z,1.30,1.31",
        "2024-01-02T10:03:30Z,1.40,1.41",
    ]
    feed = replay(written(tmp_path, "time,bid,ask", rows))
    steps = list(feed.steps())
    assert [len(step.bars) for step in steps] == [0, 0, 0, 1, 0, 1, 0]
    assert [quote.bid for step in steps for quote in step.quotes] == [1.10, 1.20, 1.00, 1.30, 1.40]
    minute = steps[3].bars[0]
    assert (minute.bid_open, minute.bid_high, minute.bid_low, minute.bid_close) == (1.1, 1.2, 1.0, 1.0)
    assert (minute.ask_low, minute.volume) == (0.99, 3)
    assert minute.end == steps[3].time == datetime(2024, 1, 2, 10, 1, tzinfo=UTC)
    assert feed.reports[0].crossed == 1
    assert feed.bar_seconds == 60


def test_a_bar_of_quotes_that_had_not_closed_by_the_files_end_is_never_seen(tmp_path: Path) -> None:
    rows = ["2024-01-02T10:00:10Z,1.10,1.11", "2024-01-02T10:01:10Z,1.20,1.21"]
    assert [bar.volume for bar in bars(replay(written(tmp_path, "time,bid,ask", rows)))] == [1]


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ("2024-01-02T11:00:00Z,1.15,1.04,1.05,1.2", "high 1.04 is below low 1.05"),
        ("2024-01-02T11:00:00Z,1.3,1.25,1.05,1.2", "open 1.3 is outside of low 1.05 to high 1.25"),
        ("2024-01-02T11:00:00Z,1.15,1.25,1.05,1.0", "close 1 is outside of low 1.05 to high 1.25"),
        ("2024-01-02T11:00:00Z,0,1.25,0,1.2", "open 0 is not above 0"),
        ("2024-01-02T11:00:00Z,1.15,1.25,-1.05,1.2", "low -1.05 is not above 0"),
        ("2024-01-02T11:00:00Z,nan,1.25,1.05,1.2", "open nan is no price"),
        ("2024-01-02T11:00:00Z,1.15,inf,1.05,1.2", "high inf is no price"),
        ("2024-01-02T11:00:00Z,,1.25,1.05,1.2", "open: missing value"),
        (",1.15,1.25,1.05,1.2", "time: missing value"),
        ("2024-01-02T11:00:00Z,1.15,1.25,1.05", "expected 5 values, was 4"),
        ("2024-01-02T11:00:00Z,1.15,1.25,1.05,x", "close: expected a number, was 'x'"),
        ("2024-01-02T11:00:00Z,1_0,1.25,1.05,1.2", "open: expected a number, was '1_0'"),
        ("2024-01-02T11:00:00,1.15,1.25,1.05,1.2", "time: no time zone"),
        ("02.01.2024 11:00,1.15,1.25,1.05,1.2", "time: expected RFC 3339"),
        ("2024-02-30T11:00:00Z,1.15,1.25,1.05,1.2", "time: expected RFC 3339"),
        ("2024-01-02T10:00:00Z,1.15,1.25,1.05,1.2", "time 2024-01-02T10:00:00Z is given twice"),
        ("2024-01-02T09:00:00Z,1.15,1.25,1.05,1.2", "rows must be in order of time"),
        ("1824-01-02T09:00:00Z,1.15,1.25,1.05,1.2", "between 1970 and 2200"),
        ("", "a blank line between rows"),
    ],
)
def test_a_row_that_cannot_be_is_refused_with_file_and_line(tmp_path: Path, row: str, complaint: str) -> None:
    path = written(tmp_path, MID, [GOOD[0], row, "2024-01-02T12:00:00Z,1.15,1.25,1.05,1.2"])
    with pytest.raises(PriceFileError) as caught:
        replay(path)
    assert str(caught.value).startswith(f"{path}:3: ")
    assert complaint in str(caught.value)


def test_the_first_of_several_wrong_rows_is_named(tmp_path: Path) -> None:
    rows = [*GOOD, "2024-01-02T12:00:00Z,1,0.9,1,1", "2024-01-02T13:00:00Z,x,1,1,1"]
    with pytest.raises(PriceFileError, match=r":4: high 0\.9 is below low 1"):
        replay(written(tmp_path, MID, rows))


def test_a_wrong_row_far_into_a_large_file_is_named_by_its_line(tmp_path: Path) -> None:
    rows = hours(["1.1"] * 60_000)
    rows[54_320] = rows[54_320].replace(",1.1,1.1", ",1.1,1.0", 1)
    with pytest.raises(PriceFileError, match=r"prices\.csv:54322: high 1 is below low 1\.1"):
        replay(written(tmp_path, MID, rows))


def test_a_time_given_twice_across_two_blocks_is_found(tmp_path: Path) -> None:
    rows = hours(["1.1"] * 30_000)
    for line in range(1000, 30_000, 997):
        broken = [*rows[:line], rows[line - 1], *rows[line:]]
        with pytest.raises(PriceFileError, match=f":{line + 2}: .*given twice"):
            read_prices(written(tmp_path, MID, broken))
        if line > 10_000:
            break


def test_a_bar_within_the_one_before_is_refused(tmp_path: Path) -> None:
    rows = [*hours(["1.1"] * 4), "2024-01-02T13:30:00Z,1.1,1.1,1.1,1.1"]
    with pytest.raises(PriceFileError, match=r":6: .*within the bar before"):
        replay(written(tmp_path, MID, rows))


def test_a_spread_that_leaves_nothing_of_a_price_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PriceFileError, match=r":2: low 4e-05 is not above half the spread, 0\.00005"):
        replay(written(tmp_path, MID, hours(["0.00004", "0.00004"])))


def test_blank_lines_at_the_end_and_windows_line_ends_and_a_mark_do_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "prices.csv"
    path.write_bytes(("\ufeff" + "\r\n".join([MID, *GOOD, "", ""])).encode())
    assert len(replay(path)) == 2


@pytest.mark.parametrize(
    "text", ["2024-01-02t10:00:00z", "2024-01-02T12:00:00+02:00", "2024-01-02T10:00:00.000000000Z"]
)
def test_every_way_to_write_rfc_3339_means_the_same(tmp_path: Path, text: str) -> None:
    path = written(tmp_path, MID, [GOOD[0].replace("2024-01-02T10:00:00Z", text), GOOD[1]])
    assert bars(replay(path))[0].start == START


@pytest.mark.parametrize(
    "header", ["date,open,high,low,close", "time,price", "time,open,high,low,close,close", ""]
)
def test_an_unknown_header_is_refused_with_what_is_expected(tmp_path: Path, header: str) -> None:
    with pytest.raises(PriceFileError, match="expected time,open,high,low,close"):
        replay(written(tmp_path, header, GOOD))


def test_what_is_no_price_file_is_not_repeated_in_the_error(tmp_path: Path) -> None:
    path = written(tmp_path, "root:x:0:0:secret,$6$hash", [])
    with pytest.raises(PriceFileError) as caught:
        replay(path)
    assert "secret" not in str(caught.value)
    assert "hash" not in str(caught.value)


@pytest.mark.parametrize("content", ["", MID, MID + "\n", "\n\n"])
def test_a_file_without_prices_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "empty.csv"
    path.write_text(content)
    with pytest.raises(PriceFileError, match=r"empty\.csv"):
        replay(path)


def test_a_missing_file_and_one_bar_alone_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PriceFileError, match="cannot be read"):
        replay(tmp_path / "nothing.csv")
    alone = written(tmp_path, MID, GOOD[:1])
    with pytest.raises(InvalidInput, match="give --bar"):
        replay(alone)
    assert replay(alone, bar_seconds=3600).bar_seconds == 3600


def test_the_length_of_bars_is_their_commonest_spacing_or_given(tmp_path: Path) -> None:
    rows = [row for n, row in enumerate(hours(["1.1"] * 12)) if n not in (3, 4, 8)]
    feed = replay(written(tmp_path, MID, rows))
    assert feed.bar_seconds == 3600
    assert feed.reports[0].gaps == 2
    assert replay(written(tmp_path, MID, rows), bar_seconds=1800).bar_seconds == 1800


def test_parquet_gives_the_same_steps_as_csv(tmp_path: Path) -> None:
    mid = read_prices(sample_path())
    times = pa.array(mid.times.to_pylist(), pa.timestamp("us", "UTC"))
    parquet.write_table(pa.table({"time": times, **mid.columns}), tmp_path / "sample.parquet")
    assert list(replay(tmp_path / "sample.parquet").steps()) == list(replay(sample_path()).steps())


def test_a_wrong_parquet_row_is_named_by_its_number(tmp_path: Path) -> None:
    times = [START, START + timedelta(hours=1)]
    columns: dict[str, Any] = {name: [1.1, None] for name in ("open", "high", "low", "close")}
    path = tmp_path / "prices.parquet"
    parquet.write_table(pa.table({"time": pa.array(times), **columns}), path)
    with pytest.raises(PriceFileError, match=r"prices\.parquet:row 2: open: missing value"):
        replay(path)
    naive = pa.array([time.replace(tzinfo=None) for time in times])
    parquet.write_table(pa.table({"time": naive, **{name: [1.1, 1.1] for name in columns}}), path)
    with pytest.raises(PriceFileError, match=r"row 1: time: no time zone"):
        replay(path)


def test_instruments_are_merged_by_time_one_step_a_moment(tmp_path: Path) -> None:
    euro = written(tmp_path, MID, hours(["1.1", "1.2", "1.3"]), "e.csv")
    pound = written(tmp_path, MID, hours(["1.5", "1.6"], START + timedelta(hours=1)), "g.csv")
    feed = open_replay({"GBPUSD": pound, "EURUSD": euro})
    assert [[bar.instrument for bar in step.bars] for step in feed.steps()] == [
        ["EURUSD"],
        ["GBPUSD", "EURUSD"],
        ["GBPUSD", "EURUSD"],
    ]
    assert feed.instruments == ("GBPUSD", "EURUSD")


def test_instruments_with_bars_of_different_length_are_refused(tmp_path: Path) -> None:
    euro = written(tmp_path, MID, hours(["1.1", "1.2"]), "e.csv")
    rows = ["2024-01-02T10:00:00Z,1,1,1,1", "2024-01-02T10:30:00Z,1,1,1,1"]
    pound = written(tmp_path, MID, rows, "g.csv")
    with pytest.raises(InvalidInput, match="EURUSD 3600 s, GBPUSD 1800 s"):
        open_replay({"EURUSD": euro, "GBPUSD": pound})


def test_prices_of_a_pair_that_is_not_traded_ride_with_the_next_step(tmp_path: Path) -> None:
    euro = written(tmp_path, MID, hours(["0.9", "0.91", "0.92", "0.93"]), "e.csv")
    franc = [
        "2024-01-02T10:20:00Z,0.88,0.88",
        "2024-01-02T12:10:00Z,0.87,0.87",
        "2024-01-02T12:30:00Z,0.86,0.86",
    ]
    rate = written(tmp_path, "time,bid,ask", franc, "r.csv")
    feed = open_replay({"EURCHF": euro}, rate_files={"USDCHF": rate})
    assert feed.rate_pairs == ("USDCHF",)
    assert [[bar.instrument for bar in step.bars] for step in feed.steps()] == [
        ["USDCHF", "EURCHF"],
        ["EURCHF"],
        ["USDCHF", "EURCHF"],
        ["EURCHF"],
    ]
    assert list(feed.steps())[2].bars[0].ask_close == 0.86
    assert list(feed.steps(2)) == list(feed.steps())[2:]


def test_rates_that_begin_after_the_first_price_are_refused(tmp_path: Path) -> None:
    euro = written(tmp_path, MID, hours(["0.9", "0.91"]), "e.csv")
    late = written(tmp_path, "time,bid,ask", ["2024-01-02T11:30:00Z,0.9,0.9"], "r.csv")
    with pytest.raises(InvalidInput, match="prices of USDCHF begin after"):
        open_replay({"EURCHF": euro}, rate_files={"USDCHF": late})


MOMENTS = st.lists(st.integers(0, 400), min_size=1, max_size=40).map(sorted)


@settings(max_examples=40)
@given(MOMENTS, MOMENTS, st.data())
def test_steps_from_any_cursor_are_the_rest_of_all_steps(
    tmp_path_factory: pytest.TempPathFactory, euros: list[int], pounds: list[int], data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("quotes")

    def quotes(seconds: list[int], name: str) -> Path:
        rows = [f"{(START + timedelta(seconds=n)).isoformat()},1.1,{1.1 + n / 1000:.3f}" for n in seconds]
        return written(folder, "time,bid,ask", rows, name)

    feed = open_replay({"EURUSD": quotes(euros, "e.csv"), "GBPUSD": quotes(pounds, "g.csv")})
    everything = list(feed.steps())
    assert len(everything) == len(feed)
    assert [step.time for step in everything] == sorted(step.time for step in everything)
    cursor = data.draw(st.integers(0, len(feed)))
    assert list(feed.steps(cursor)) == everything[cursor:]
    count = data.draw(st.integers(1, 5))
    expected: list[MarketStep] = []
    for name in feed.instruments:
        closed = [bar for step in everything[:cursor] for bar in step.bars if bar.instrument == name]
        expected += [MarketStep(bar.end, (bar,)) for bar in closed[-count:]]
    assert sorted(feed.history(cursor, count), key=repr) == sorted(expected, key=repr)
    assert [step.time for step in feed.history(cursor, count)] == sorted(step.time for step in expected)


@pytest.mark.parametrize(
    ("spec", "traded", "files"),
    [
        ("", ["EURUSD"], {"EURUSD": sample_path()}),
        ("replay", ["EURUSD"], {"EURUSD": sample_path()}),
        ("replay:a=b/c.csv", ["GBPUSD"], {"GBPUSD": Path("a=b/c.csv")}),
        ("x.csv", ["GBPUSD"], {"GBPUSD": Path("x.csv")}),
        (
            "replay:EURUSD=a,b.csv,GBPUSD=c.csv",
            ["GBPUSD", "EURUSD"],
            {"GBPUSD": Path("c.csv"), "EURUSD": Path("a,b.csv")},
        ),
    ],
)
def test_a_feed_is_named_by_file_or_by_instrument(
    spec: str, traded: list[str], files: dict[str, Path]
) -> None:
    assert parse_spec(spec, traded) == files


@pytest.mark.parametrize(
    ("spec", "traded", "complaint"),
    [
        ("", ["GBPUSD"], "the packaged sample has EURUSD only"),
        ("replay:x.csv", ["EURUSD", "GBPUSD"], "a file for each of EURUSD, GBPUSD"),
        ("replay:EURUSD=x.csv", ["EURUSD", "GBPUSD"], "no file for GBPUSD"),
        ("replay:EURUSD=", ["EURUSD"], "no file for EURUSD"),
    ],
)
def test_a_feed_that_lacks_an_instrument_is_refused(spec: str, traded: list[str], complaint: str) -> None:
    with pytest.raises(InvalidInput, match=complaint):
        parse_spec(spec, traded)

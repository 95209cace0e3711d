"""When a backup is due, how it is called, which are thrown away, and what its archive is."""

from __future__ import annotations

import subprocess
import tarfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.backup.archive import Archive, ArchiveWriter, Manifest, drop_unfinished
from services.backup.keeping import archives, due, late, made_at, name_of, to_prune
from services.backup.restoring import check_version
from services.shared.errors import InvalidInput

NOW = datetime(2026, 11, 26, 3, 0, tzinfo=UTC)


def test_a_name_tells_when_and_two_of_a_minute_have_two() -> None:
    first = name_of(NOW)
    assert first == "desk-2026-11-26T0300Z.tar"
    second = name_of(NOW + timedelta(seconds=7), [first])
    assert second == "desk-2026-11-26T030007Z.tar"
    assert [made_at(first), made_at(second)] == [NOW, NOW + timedelta(seconds=7)]
    assert list(archives([first, second, "notes.txt", "desk-2026-99-26T0300Z.tar"])) == [second, first]


@pytest.mark.parametrize(
    ("newest", "now", "expected"),
    [
        (None, NOW, NOW),
        (None, NOW - timedelta(minutes=1), NOW - timedelta(days=1)),
        (NOW, NOW + timedelta(hours=5), NOW + timedelta(days=1)),
        (NOW - timedelta(hours=1), NOW - timedelta(minutes=1), NOW),
        (NOW - timedelta(hours=1), NOW + timedelta(hours=9), NOW),
        (NOW - timedelta(days=3), NOW + timedelta(hours=2), NOW),
    ],
    ids=["never, on the hour", "never", "done today", "soon", "missed the hour", "was off for days"],
)
def test_one_is_due_at_its_hour_and_at_once_when_that_was_missed(
    newest: datetime | None, now: datetime, expected: datetime
) -> None:
    assert due(newest, now, 3) == expected


def test_a_day_and_two_hours_without_one_is_late_unless_the_process_is_young() -> None:
    day = timedelta(hours=26)
    assert not late(NOW - day, NOW - 9 * day, NOW)
    assert late(NOW - day - timedelta(seconds=1), NOW - 9 * day, NOW)
    assert not late(NOW - 9 * day, NOW - timedelta(hours=1), NOW)
    assert late(None, NOW - 2 * day, NOW)


def test_days_weeks_and_months_are_kept_and_everything_of_the_last_day() -> None:
    daily = [name_of(NOW - timedelta(days=n)) for n in range(400)]
    of_today = [name_of(NOW - timedelta(hours=n, minutes=1)) for n in range(5)]
    names = {*daily, *of_today}
    kept = names - set(to_prune(names, NOW))
    assert set(of_today) <= kept
    assert set(daily[:7]) <= kept
    moments = [moment for moment in archives(kept).values() if moment < NOW - timedelta(days=7)]
    # The last days of weeks 47 to 44 and of the months June to October; of week 47 the day is kept already.
    assert [f"{moment:%m-%d}" for moment in moments] == [
        "11-15",
        "11-08",
        "10-31",
        "09-30",
        "08-31",
        "07-31",
        "06-30",
    ]


@given(st.sets(st.integers(0, 500), max_size=60))
def test_the_newest_is_never_thrown_away_and_what_was_kept_stays_kept(days: set[int]) -> None:
    names = {name_of(NOW - timedelta(days=day)) for day in days}
    gone = set(to_prune(names, NOW))
    assert set(list(archives(names))[:7]).isdisjoint(gone)
    assert to_prune(names - gone, NOW) == []


def _archive(path: Path) -> None:
    with ArchiveWriter(path) as out:
        with out.member("database/events.gz", compress=True) as member:
            for number in range(20_000):
                member.write(f"{number}\tan event\n".encode())
            member.count = 20_000
        with out.member("strategies/own.py") as member:
            member.write(b"pass\n")
        out.finish(
            Manifest(
                name=path.name,
                made=NOW.isoformat(),
                versions={"nats": "2.12.8"},
                schema_revision="0004",
                fences={},
                parts=out.parts,
            )
        )


def test_an_archive_of_a_newer_nats_is_refused_before_anything_is_changed(tmp_path: Path) -> None:
    path = tmp_path / name_of(NOW)
    _archive(path)
    with Archive(path) as archive:
        for fits in ("2.12.0", "2.13.0", "3.0.0"):
            check_version(archive.manifest, fits)
        for older in ("2.11.9", "1.20.0"):
            with pytest.raises(InvalidInput, match="update NATS"):
                check_version(archive.manifest, older)


def test_an_archive_is_a_plain_tar_whose_sums_anybody_can_check(tmp_path: Path) -> None:
    path = tmp_path / name_of(NOW)
    _archive(path)
    with Archive(path) as archive:
        archive.verify()
        rows = b"".join(archive.read("database/events.gz", decompress=True)).splitlines()
        assert len(rows) == archive.part("database/events.gz").count == 20_000
        assert rows[-1] == b"19999\tan event"
    assert [each.name for each in tmp_path.iterdir()] == [path.name]
    subprocess.run(["tar", "xf", path], cwd=tmp_path, check=True)
    subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=tmp_path, check=True)


def test_one_changed_byte_anywhere_in_a_member_is_found(tmp_path: Path) -> None:
    path = tmp_path / name_of(NOW)
    _archive(path)
    whole = path.read_bytes()
    with tarfile.open(path) as tar:
        members = tar.getmembers()
    for member in members:
        place = member.offset_data + member.size // 2
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(InvalidInput), Archive(path) as archive:
            archive.verify()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InvalidInput, match=path.name):
        Archive(path)


def test_one_that_was_not_finished_is_no_archive_and_is_thrown_away(tmp_path: Path) -> None:
    path = tmp_path / name_of(NOW)

    def fail() -> None:
        with ArchiveWriter(path) as out, out.member("database/events.gz") as member:
            member.write(b"1")
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        fail()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / f"{path.name}.part").write_bytes(b"of a process that was killed")
    drop_unfinished(tmp_path)
    assert list(tmp_path.iterdir()) == []

"""One process at a time owns a trader id: who gets the lease, when, and what an owner that lost it may still do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from services.shared import subjects
from services.shared.bus import Bus
from services.shared.errors import Conflict
from services.shared.streams import prepare
from services.trader.keeper import Keeper
from services.trader.lease import Lease, Owner
from services.trader.settings import TraderSettings
from services.trader.snapshot import Snapshot, SnapshotStore
from tests.conftest import NatsForTests

PATIENCE = 60
LASTS = subjects.FORGOTTEN_AFTER[subjects.LEASES]


def nobody(owner: Owner) -> None:
    raise AssertionError(f"{owner.instance} owns it, and nobody should")


@asynccontextmanager
async def waiting(lease: Lease) -> AsyncIterator[asyncio.Task[Owner | None]]:
    """A process that has seen the owner and waits for the lease to be free."""
    stands_by = asyncio.Event()
    acquiring = asyncio.create_task(lease.acquire(lambda _: stands_by.set()))
    async with asyncio.timeout(PATIENCE):
        await stands_by.wait()
        yield acquiring
        await acquiring


def settings_of(trader: str, folder: Path, server: NatsForTests) -> TraderSettings:
    password = server.password_file("trader")
    return TraderSettings(trader=trader, data_dir=folder, nats_url=server.url, nats_password_file=password)


def disk_copy(folder: Path, trader: str) -> Path:
    return folder / f"trader-{trader}.snapshot.json"


async def owned(bus: Bus, trader: str, instance: str, *, contested: bool = True) -> Lease:
    lease = Lease(bus, trader, instance, contested=contested)
    assert await lease.acquire(nobody) is None
    return lease


async def test_a_lease_that_is_given_up_is_the_next_ones_at_once(connect: Any, trader_id: str) -> None:
    bus = await connect("trader")
    first = await owned(bus, trader_id, "1")
    second = Lease(bus, trader_id, "2", contested=True)
    async with waiting(second) as acquiring:
        assert not acquiring.done()
        at = asyncio.get_running_loop().time()
        await first.give_up()
        # Left in order: nobody let it run out, and there is nothing to tell of.
        assert await acquiring is None
        assert asyncio.get_running_loop().time() - at < LASTS
    assert (first.lost, second.lost) == (True, False)


async def test_a_lease_that_nobody_renews_is_the_next_ones(connect: Any, trader_id: str) -> None:
    bus = await connect("trader")
    first = await owned(bus, trader_id, "1")
    second = Lease(bus, trader_id, "2", contested=True)
    async with waiting(second) as acquiring:
        assert await acquiring == first.owner
    # By its own clock the old owner knows before anybody tells it.
    assert first.lost
    with pytest.raises(Conflict, match="owned by instance 2 now"):
        await first.keep()


async def test_a_lease_that_is_renewed_stays_its_owners(connect: Any, trader_id: str) -> None:
    bus = await connect("trader")
    first = await owned(bus, trader_id, "1")
    keeping = asyncio.create_task(first.keep())
    second = Lease(bus, trader_id, "2", contested=True)
    async with waiting(second) as acquiring:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(acquiring), LASTS + 2)
        assert not first.lost
        keeping.cancel()


async def test_who_is_started_again_in_its_place_waits_for_nobody(connect: Any, trader_id: str) -> None:
    bus = await connect("trader")
    first = await owned(bus, trader_id, "1")
    again = await owned(bus, trader_id, "1")
    assert again.owner.tenure != first.owner.tenure
    with pytest.raises(Conflict, match="give each process its own DESK_INSTANCE"):
        await first.keep()


async def test_of_two_that_wait_one_gets_it(connect: Any, trader_id: str) -> None:
    bus = await connect("trader")
    first = await owned(bus, trader_id, "1")
    others = [Lease(bus, trader_id, instance, contested=True) for instance in ("2", "3")]
    async with asyncio.timeout(PATIENCE):
        seen: list[asyncio.Event] = [asyncio.Event(), asyncio.Event()]
        tasks = [
            asyncio.create_task(lease.acquire(lambda _, event=event: event.set()))  # type: ignore[misc]
            for lease, event in zip(others, seen, strict=True)
        ]
        await asyncio.gather(*(event.wait() for event in seen))
        await first.give_up()
        done, left = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        assert (len(done), len(left)) == (1, 1)
        winner = others[tasks.index(done.pop())]
        await winner.give_up()
        await left.pop()


async def test_nothing_is_written_once_the_lease_may_be_anothers(
    fresh_nats: NatsForTests, connect: Any, trader_id: str, tmp_path: Path
) -> None:
    bus = await connect("trader", fresh_nats)
    settings = settings_of(trader_id, tmp_path, fresh_nats)
    contested, alone = (
        await owned(bus, trader_id, "1"),
        await owned(bus, f"{trader_id}b", "1", contested=False),
    )
    keeper = Keeper(bus, settings, contested)
    assert await keeper.restore() is None
    fresh_nats.stop()
    # NATS away and the lease ours: an exit goes out, by the trader's own disk.
    assert not await keeper.save(lambda: None, (), wait=False)
    before = disk_copy(tmp_path, trader_id).read_bytes()
    keeping_alone = asyncio.create_task(alone.keep())
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(Conflict, match="a standby may own the account"):
            await contested.keep()
    with pytest.raises(Conflict, match="a standby may own the account"):
        await keeper.save(lambda: None, (), wait=False)
    assert disk_copy(tmp_path, trader_id).read_bytes() == before
    # Where nobody stands by, it goes on: nobody else would send the exit.
    assert not keeping_alone.done()
    keeping_alone.cancel()


async def test_a_new_owner_shuts_the_old_one_out_by_its_first_snapshot(
    nats_server: NatsForTests, connect: Any, trader_id: str, tmp_path: Path
) -> None:
    bus = await connect("trader")
    keepers = []
    for instance in ("1", "1"):
        lease = await owned(bus, trader_id, instance)
        settings = settings_of(trader_id, tmp_path / instance, nats_server)
        keepers.append(Keeper(bus, settings, lease))
        await keepers[-1].restore()
    with pytest.raises(Conflict):
        await keepers[0].save(lambda: None, (), wait=True)
    assert await keepers[1].save(lambda: None, (), wait=True)


async def test_a_disk_copy_counts_only_while_nobody_else_has_gone_on(
    fresh_nats: NatsForTests, connect: Any, trader_id: str, tmp_path: Path
) -> None:
    def snapshot(owner: str, number: int) -> Snapshot:
        return Snapshot(owner=owner, number=number, commands_seq=0, signals_seq=0, outputs=[])

    bus = await connect("trader", fresh_nats)
    old = SnapshotStore(bus, trader_id, tmp_path)
    assert await old.restore() is None
    await old.save(snapshot("old", 5))
    fresh_nats.stop()
    assert not await old.save(snapshot("old", 6), or_disk=True)
    fresh_nats.start()
    bus = await connect("trader", fresh_nats)
    assert await SnapshotStore(bus, trader_id, tmp_path).restore() == snapshot("old", 6)
    other = SnapshotStore(bus, trader_id, tmp_path / "other")
    await other.restore()
    await other.save(snapshot("new", 6))
    again = SnapshotStore(bus, trader_id, tmp_path)
    assert await again.restore() == snapshot("new", 6)
    # What was superseded is gone with the first snapshot that follows.
    await again.save(snapshot("third", 7))
    assert not disk_copy(tmp_path, trader_id).exists()


async def test_a_bucket_of_an_earlier_version_learns_to_forget(
    fresh_nats: NatsForTests, connect: Any
) -> None:
    bus = await connect("admin", fresh_nats)
    name = subjects.bucket_stream(subjects.LEASES)
    config = (await bus.js.stream_info(name)).config
    assert config.max_age == LASTS
    config.max_age, config.duplicate_window = 0, 120
    await bus.js.update_stream(config)
    await prepare(bus)
    config = (await bus.js.stream_info(name)).config
    assert (config.max_age, config.duplicate_window) == (LASTS, LASTS)

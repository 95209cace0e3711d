"""Sessions over a real NATS: what they outlive, what ends them, who may do what, and what the journal says."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from services.api.console.sockets import SESSION_ENDED
from services.shared import subjects
from services.shared.bus import Bus
from tests import console_guest as guest
from tests.api_process import ApiProcess, api_process
from tests.conftest import Database, NatsForTests
from tests.following import following

pytestmark = pytest.mark.xdist_group("console")


@pytest.fixture
def api(own_api: ApiProcess) -> ApiProcess:
    return own_api


async def test_a_session_outlives_the_api(
    nats_server: NatsForTests, database: Database, trader_id: str, tmp_path: Path
) -> None:
    async with api_process(nats_server, database, trader_id, tmp_path) as first:
        cookie = await guest.log_in(first, name="Anna")
    async with api_process(nats_server, database, trader_id, tmp_path) as second:
        assert await guest.state_once_known(second, cookie) == "holds"
        assert (await guest.get(second, "/", cookie)).status_code == 200
        assert await guest.state(second, cookie[:-1]) == "ended"


async def test_logging_out_ends_the_session_and_its_sockets_and_no_other(api: ApiProcess) -> None:
    mine, other = await guest.log_in(api), await guest.log_in(api)
    my_socket, other_socket = await guest.socket(api, mine), await guest.socket(api, other)
    left = await guest.post(api, "/logout", mine)
    assert (left.status_code, left.headers["location"]) == (303, "/login")
    assert "Max-Age=0" in left.headers["set-cookie"]
    assert await guest.closed(my_socket) == SESSION_ENDED
    assert (await guest.state(api, mine), await guest.state(api, other)) == ("ended", "holds")
    assert (await guest.get(api, "/", mine)).headers["location"] == "/login"
    await other_socket.close()


async def test_logging_out_everywhere_ends_all_and_is_the_operators(
    api: ApiProcess, trader_id: str, connect: Any
) -> None:
    anna = await guest.log_in(api, name="Anna")
    viewer = await guest.log_in(api, api.viewer_token)
    sockets = [await guest.socket(api, anna), await guest.socket(api, viewer)]
    refused = await guest.post(api, "/logout/everywhere", viewer)
    assert refused.status_code == 403
    assert (await guest.state(api, anna), await guest.state(api, viewer)) == ("holds", "holds")
    done = await guest.post(api, "/logout/everywhere", anna)
    assert done.headers["location"] == "/login?said=everywhere"
    assert [await guest.closed(socket) for socket in sockets] == [SESSION_ENDED] * 2
    assert (await guest.state(api, anna), await guest.state(api, viewer)) == ("ended", "ended")
    assert "Every session has been ended" in (await guest.get(api, "/login?said=everywhere")).text

    actions = await guest.actions(await connect("admin"), trader_id, lambda found: len(found) >= 4)
    assert [(each.action, each.by, each.role) for each in actions] == [
        ("login", "Anna (console)", "operator"),
        ("login", "viewer (console)", "viewer"),
        ("logout.everywhere.refused", "viewer (console)", "viewer"),
        ("logout.everywhere", "Anna (console)", "operator"),
    ]
    assert (actions[0].subject, actions[0].detail) == ("127.0.0.1", "Firefox on Linux")
    assert actions[3].detail == "2 sessions"


async def test_a_login_ends_the_session_it_replaces(api: ApiProcess) -> None:
    first = await guest.log_in(api)
    second = guest.secret(await guest.post(api, "/login", first, token=api.token))
    assert (await guest.state(api, first), await guest.state(api, second)) == ("ended", "holds")


async def test_a_new_token_ends_its_sessions_and_no_others(
    nats_server: NatsForTests, database: Database, trader_id: str, tmp_path: Path
) -> None:
    async with api_process(nats_server, database, trader_id, tmp_path) as before:
        operator, viewer = await guest.log_in(before), await guest.log_in(before, before.viewer_token)
    (tmp_path / "token").unlink()
    async with api_process(nats_server, database, trader_id, tmp_path) as after:
        assert await guest.state_once_known(after, viewer) == "holds"
        assert await guest.state(after, operator) == "ended"
        assert (await guest.post(after, "/login", token=before.token)).status_code == 401
        assert await guest.state(after, await guest.log_in(after)) == "holds"


async def test_too_many_wrong_tokens_have_to_wait_and_the_api_does_not(
    api: ApiProcess, trader_id: str, connect: Any
) -> None:
    held = await guest.log_in(api)
    tried = ""
    for number in range(20):
        tried = f"wrong-token-of-some-length-{number}"
        answer = await guest.post(api, "/login", token=tried, name=tried)
        if answer.status_code == 429:
            break
        assert answer.status_code == 401
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) >= 1
    assert "Too many wrong tokens. Try again in" in answer.text
    # What needs no login goes on: sessions there are, and the token in a header.
    assert await guest.state(api, held) == "holds"
    assert (await api.client.get("/api/runs")).status_code == 200
    refusals = await guest.actions(
        await connect("admin"), trader_id, lambda found: sum(x.action == "login.refused" for x in found) >= 5
    )
    assert not any("wrong" in str(each) for each in refusals)
    written = api.log.read_text()
    assert "wrong-token" not in written
    assert api.token not in written


async def test_nobody_gets_in_before_the_sessions_were_read(
    fresh_nats: NatsForTests, database: Database, trader_id: str, tmp_path: Path
) -> None:
    async with api_process(fresh_nats, database, trader_id, tmp_path) as before:
        cookie = await guest.log_in(before)
    await asyncio.to_thread(fresh_nats.stop)
    async with api_process(fresh_nats, database, trader_id, tmp_path, ready=False) as api:
        assert await guest.state(api, cookie) == "unknown"
        refused = await guest.post(api, "/login", token=api.token)
        assert refused.status_code == 503
        assert "cannot reach NATS" in refused.text
        assert "cannot reach NATS" in (await guest.get(api, "/", cookie)).text
        assert (await guest.get(api, "/api/export", cookie)).status_code == 401
        assert (await guest.get(api, "/")).headers["location"] == "/login"
        await asyncio.to_thread(fresh_nats.start)
        assert await guest.state_once_known(api, cookie) == "holds"


async def test_a_logout_while_nats_is_away_holds_at_once_and_for_good(
    fresh_nats: NatsForTests, database: Database, trader_id: str, tmp_path: Path
) -> None:
    async with api_process(fresh_nats, database, trader_id, tmp_path) as api:
        cookie, other = await guest.log_in(api), await guest.log_in(api)
        await asyncio.to_thread(fresh_nats.stop)
        await guest.post(api, "/logout", cookie)
        assert (await guest.state(api, cookie), await guest.state(api, other)) == ("ended", "holds")
        assert (await guest.post(api, "/login", token=api.token)).status_code == 503
        await asyncio.to_thread(fresh_nats.start)
        bus = await fresh_nats.connect("admin")
        async with following(bus, subjects.bucket_stream(subjects.SESSIONS), "$KV.sessions.>") as kept:
            while (await anext(kept)).data:
                pass  # until one is kept as ended
        await bus.close()
    async with api_process(fresh_nats, database, trader_id, tmp_path) as again:
        assert await guest.state_once_known(again, cookie) == "ended"
        assert await guest.state(again, other) == "holds"


async def test_what_another_process_ends_is_ended_here(api: ApiProcess, connect: Any) -> None:
    cookie = await guest.log_in(api)
    socket = await guest.socket(api, cookie)
    bus: Bus = await connect("api")
    stream = subjects.bucket_stream(subjects.SESSIONS)
    kept = [stored async for stored in bus.read(stream) if stored.data]
    assert cookie.encode() not in b"".join(stored.data + stored.subject.encode() for stored in kept)
    await bus.put(subjects.SESSIONS, kept[-1].subject.rpartition(".")[2], b"")
    assert await guest.closed(socket) == SESSION_ENDED
    assert await guest.state(api, cookie) == "ended"


async def test_after_a_login_people_are_where_they_were(api: ApiProcess) -> None:
    asked = await guest.get(api, "/trades")
    assert asked.headers["location"] == "/login?next=/trades"
    page = await guest.get(api, "/login?next=/trades&said=ended")
    assert 'name="next" value="/trades"' in page.text
    assert "Your session has ended" in page.text
    await guest.log_in(api)
    for wanted, found in (("/trades", "/trades"), ("https://evil.example/", "/"), ("//evil.example", "/")):
        answer = await guest.post(api, "/login", token=api.token, next=wanted)
        assert (answer.status_code, answer.headers["location"]) == (303, found)
    hostile = (await guest.get(api, '/login?next=/"><script>&said=<script>')).text
    assert "<script" not in hostile

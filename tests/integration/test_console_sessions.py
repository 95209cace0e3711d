"""Sessions over a real NATS: what they outlive, what ends them, who may do what, and what the journal says."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as open_socket
from websockets.exceptions import ConnectionClosed

from services.api.console.sockets import SESSION_ENDED
from services.shared import subjects
from services.shared.bus import Bus
from services.shared.events import ActionTaken
from services.shared.wire import decode
from tests.api_process import ApiProcess, api_process
from tests.conftest import Database, NatsForTests
from tests.following import following

pytestmark = pytest.mark.xdist_group("console")


@pytest.fixture
async def api(
    nats_server: NatsForTests, database: Database, trader_id: str, tmp_path: Path
) -> AsyncIterator[ApiProcess]:
    async with api_process(nats_server, database, trader_id, tmp_path) as process:
        yield process


async def _post(api: ApiProcess, path: str, cookie: str = "", **form: str) -> httpx.Response:
    """A form posted by a page of our own; `cookie` is a session's secret."""
    async with httpx.AsyncClient(base_url=api.url, timeout=30) as browser:
        headers = {"Origin": api.url, "User-Agent": "Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0"}
        return await browser.post(path, data=form, headers=headers | _with(api, cookie))


async def _get(api: ApiProcess, path: str, cookie: str = "", **headers: str) -> httpx.Response:
    async with httpx.AsyncClient(base_url=api.url, timeout=30) as browser:
        return await browser.get(path, headers={**headers, **_with(api, cookie)})


def _with(api: ApiProcess, cookie: str) -> dict[str, str]:
    return {"Cookie": f"desk_session_{api.url.rpartition(':')[2]}={cookie}"} if cookie else {}


def _secret(answer: httpx.Response) -> str:
    ((_, morsel),) = SimpleCookie(answer.headers["set-cookie"]).items()
    return morsel.value


async def _log_in(api: ApiProcess, token: str | None = None, name: str = "") -> str:
    """The secret of a new session; waits until the API knows the sessions of before."""

    async def known() -> bool:
        return (await _state(api)) == "ended"

    await api.until(known)
    answer = await _post(api, "/login", token=token or api.token, name=name)
    assert answer.status_code == 303, answer.text
    return _secret(answer)


async def _state(api: ApiProcess, cookie: str = "") -> str:
    return str((await _get(api, "/console/session", cookie)).json()["session"])


async def _socket(api: ApiProcess, cookie: str) -> ClientConnection:
    """An open socket, once NiceGUI is loaded."""

    async def loaded() -> bool:
        return "is starting" not in (await _get(api, "/", cookie)).text

    await api.until(loaded)
    address = api.url.replace("http", "ws") + "/_nicegui_ws/socket.io/?EIO=4&transport=websocket"
    socket = await open_socket(address, additional_headers={"Origin": api.url, **_with(api, cookie)})
    await socket.recv()  # engine.io's greeting
    return socket


async def _closed(socket: ClientConnection) -> int | None:
    """The code a socket is closed with."""
    async with asyncio.timeout(10):
        try:
            while True:
                await socket.recv()
        except ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd is not None else None


async def _actions(bus: Bus, trader: str, enough: Callable[[list[ActionTaken]], bool]) -> list[ActionTaken]:
    """What the journal says of a trader's desk, as soon as it says enough."""
    actions: list[ActionTaken] = []
    async with following(bus, subjects.EVENTS, subjects.event("action", trader)) as stored:
        while not enough(actions):
            body = decode((await anext(stored)).data).body
            assert isinstance(body, ActionTaken)
            actions.append(body)
    return actions


async def test_a_session_outlives_the_api(
    nats_server: NatsForTests, database: Database, trader_id: str, tmp_path: Path
) -> None:
    async with api_process(nats_server, database, trader_id, tmp_path) as first:
        cookie = await _log_in(first, name="Anna")
    async with api_process(nats_server, database, trader_id, tmp_path) as second:
        assert await _state_once_known(second, cookie) == "holds"
        assert (await _get(second, "/", cookie)).status_code == 200
        assert await _state(second, cookie[:-1]) == "ended"


async def _state_once_known(api: ApiProcess, cookie: str) -> str:
    async def known() -> bool:
        return await _state(api) != "unknown"

    await api.until(known)
    return await _state(api, cookie)


async def test_logging_out_ends_the_session_and_its_sockets_and_no_other(api: ApiProcess) -> None:
    mine, other = await _log_in(api), await _log_in(api)
    my_socket, other_socket = await _socket(api, mine), await _socket(api, other)
    left = await _post(api, "/logout", mine)
    assert (left.status_code, left.headers["location"]) == (303, "/login")
    assert "Max-Age=0" in left.headers["set-cookie"]
    assert await _closed(my_socket) == SESSION_ENDED
    assert (await _state(api, mine), await _state(api, other)) == ("ended", "holds")
    assert (await _get(api, "/", mine)).headers["location"] == "/login"
    await other_socket.close()


async def test_logging_out_everywhere_ends_all_and_is_the_operators(
    api: ApiProcess, trader_id: str, connect: Any
) -> None:
    anna = await _log_in(api, name="Anna")
    viewer = await _log_in(api, api.viewer_token)
    sockets = [await _socket(api, anna), await _socket(api, viewer)]
    refused = await _post(api, "/logout/everywhere", viewer)
    assert refused.status_code == 403
    assert (await _state(api, anna), await _state(api, viewer)) == ("holds", "holds")
    done = await _post(api, "/logout/everywhere", anna)
    assert done.headers["location"] == "/login?said=everywhere"
    assert [await _closed(socket) for socket in sockets] == [SESSION_ENDED] * 2
    assert (await _state(api, anna), await _state(api, viewer)) == ("ended", "ended")
    assert "Every session has been ended" in (await _get(api, "/login?said=everywhere")).text

    actions = await _actions(await connect("admin"), trader_id, lambda found: len(found) >= 4)
    assert [(each.action, each.by, each.role) for each in actions] == [
        ("login", "Anna (console)", "operator"),
        ("login", "viewer (console)", "viewer"),
        ("logout.everywhere.refused", "viewer (console)", "viewer"),
        ("logout.everywhere", "Anna (console)", "operator"),
    ]
    assert (actions[0].subject, actions[0].detail) == ("127.0.0.1", "Firefox on Linux")
    assert actions[3].detail == "2 sessions"


async def test_a_login_ends_the_session_it_replaces(api: ApiProcess) -> None:
    first = await _log_in(api)
    second = _secret(await _post(api, "/login", first, token=api.token))
    assert (await _state(api, first), await _state(api, second)) == ("ended", "holds")


async def test_a_new_token_ends_its_sessions_and_no_others(
    nats_server: NatsForTests, database: Database, trader_id: str, tmp_path: Path
) -> None:
    async with api_process(nats_server, database, trader_id, tmp_path) as before:
        operator, viewer = await _log_in(before), await _log_in(before, before.viewer_token)
    (tmp_path / "token").unlink()
    async with api_process(nats_server, database, trader_id, tmp_path) as after:
        assert await _state_once_known(after, viewer) == "holds"
        assert await _state(after, operator) == "ended"
        assert (await _post(after, "/login", token=before.token)).status_code == 401
        assert await _state(after, await _log_in(after)) == "holds"


async def test_too_many_wrong_tokens_have_to_wait_and_the_api_does_not(
    api: ApiProcess, trader_id: str, connect: Any
) -> None:
    held = await _log_in(api)
    tried = ""
    for number in range(20):
        tried = f"wrong-token-of-some-length-{number}"
        answer = await _post(api, "/login", token=tried, name=tried)
        if answer.status_code == 429:
            break
        assert answer.status_code == 401
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) >= 1
    assert "Too many wrong tokens. Try again in" in answer.text
    # What needs no login goes on: sessions there are, and the token in a header.
    assert await _state(api, held) == "holds"
    assert (await api.client.get("/api/runs")).status_code == 200
    refusals = await _actions(
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
        cookie = await _log_in(before)
    await asyncio.to_thread(fresh_nats.stop)
    async with api_process(fresh_nats, database, trader_id, tmp_path, ready=False) as api:
        assert await _state(api, cookie) == "unknown"
        refused = await _post(api, "/login", token=api.token)
        assert refused.status_code == 503
        assert "cannot reach NATS" in refused.text
        assert "cannot reach NATS" in (await _get(api, "/", cookie)).text
        assert (await _get(api, "/api/export", cookie)).status_code == 401
        assert (await _get(api, "/")).headers["location"] == "/login"
        await asyncio.to_thread(fresh_nats.start)
        assert await _state_once_known(api, cookie) == "holds"


async def test_a_logout_while_nats_is_away_holds_at_once_and_for_good(
    fresh_nats: NatsForTests, database: Database, trader_id: str, tmp_path: Path
) -> None:
    async with api_process(fresh_nats, database, trader_id, tmp_path) as api:
        cookie, other = await _log_in(api), await _log_in(api)
        await asyncio.to_thread(fresh_nats.stop)
        await _post(api, "/logout", cookie)
        assert (await _state(api, cookie), await _state(api, other)) == ("ended", "holds")
        assert (await _post(api, "/login", token=api.token)).status_code == 503
        await asyncio.to_thread(fresh_nats.start)
        bus = await fresh_nats.connect("admin")
        async with following(bus, subjects.bucket_stream(subjects.SESSIONS), "$KV.sessions.>") as kept:
            while (await anext(kept)).data:
                pass  # until one is kept as ended
        await bus.close()
    async with api_process(fresh_nats, database, trader_id, tmp_path) as again:
        assert await _state_once_known(again, cookie) == "ended"
        assert await _state(again, other) == "holds"


async def test_what_another_process_ends_is_ended_here(api: ApiProcess, connect: Any) -> None:
    cookie = await _log_in(api)
    socket = await _socket(api, cookie)
    bus: Bus = await connect("api")
    stream = subjects.bucket_stream(subjects.SESSIONS)
    kept = [stored async for stored in bus.read(stream) if stored.data]
    assert cookie.encode() not in b"".join(stored.data + stored.subject.encode() for stored in kept)
    await bus.put(subjects.SESSIONS, kept[-1].subject.rpartition(".")[2], b"")
    assert await _closed(socket) == SESSION_ENDED
    assert await _state(api, cookie) == "ended"


async def test_a_foreign_page_can_neither_log_in_nor_out(api: ApiProcess) -> None:
    cookie = await _log_in(api)
    for path in ("/login", "/logout", "/logout/everywhere"):
        for origin in ("https://evil.example", "null", "http://127.0.0.1:1"):
            answer = await api.stranger.post(
                path, data={"token": api.token}, headers={"Origin": origin, **_with(api, cookie)}
            )
            assert answer.status_code == 403
        # 200 while the pages are still being loaded.
        assert (await _get(api, path, cookie)).status_code in (200, 303, 404)
    assert await _state(api, cookie) == "holds"


async def test_the_api_takes_a_cookie_for_the_export_alone(api: ApiProcess, trader_id: str) -> None:
    cookie = await _log_in(api, api.viewer_token)
    export = await _get(api, f"/api/export?trader={trader_id}&all=true", cookie)
    assert export.status_code == 200
    assert export.headers["content-type"].startswith("text/csv")
    foreign = {"Sec-Fetch-Site": "cross-site"}
    assert (await _get(api, "/api/export?all=true", cookie, **foreign)).status_code == 401
    assert (await _get(api, "/api/export?all=true")).status_code == 401
    assert (await _get(api, "/api/status", cookie)).status_code == 401
    operator = await _log_in(api)
    stopped = await api.stranger.post(
        "/api/stop", json={}, headers={"Origin": api.url, **_with(api, operator)}
    )
    assert stopped.status_code == 401
    await _post(api, "/logout", cookie)
    assert (await _get(api, "/api/export?all=true", cookie)).status_code == 401


async def test_a_viewers_token_reads_and_changes_nothing(api: ApiProcess) -> None:
    key = {"Authorization": f"Bearer {api.viewer_token}"}
    for path in ("/api/runs", "/api/trades", "/api/openapi.json", "/metrics", "/api/commands/none-such"):
        answer = await api.stranger.get(path, headers=key)
        assert answer.status_code in (200, 404), path
    for method, path in (
        ("POST", "/api/deploy"),
        ("POST", "/api/stop"),
        ("POST", "/api/halt"),
        ("PUT", "/api/risk"),
        ("POST", "/api/signals"),
        ("DELETE", "/api/runs"),
    ):
        answer = await api.stranger.request(method, path, headers=key, json={})
        assert answer.status_code == 403
        assert answer.json()["type"] == "urn:tradedesk:problem:viewer-may-not"
        assert "change nothing" in answer.json()["detail"]


async def test_after_a_login_people_are_where_they_were(api: ApiProcess) -> None:
    asked = await _get(api, "/trades")
    assert asked.headers["location"] == "/login?next=/trades"
    page = await _get(api, "/login?next=/trades&said=ended")
    assert 'name="next" value="/trades"' in page.text
    assert "Your session has ended" in page.text
    await _log_in(api)
    for wanted, found in (("/trades", "/trades"), ("https://evil.example/", "/"), ("//evil.example", "/")):
        answer = await _post(api, "/login", token=api.token, next=wanted)
        assert (answer.status_code, answer.headers["location"]) == (303, found)
    hostile = (await _get(api, '/login?next=/"><script>&said=<script>')).text
    assert "<script" not in hostile


class _Opened:
    """A page of the console as its socket sees it, for whoever wants to press what is disabled there."""

    def __init__(self, api: ApiProcess, html: str, cookie: str) -> None:
        (self._client,) = re.findall(r"'client_id': '([0-9a-f-]+)'", html)
        (elements,) = re.findall(r"parseElements\(String.raw`(.*?)`\)", html, re.DOTALL)
        for sign, escaped in _ESCAPED.items():
            elements = elements.replace(escaped, sign)
        self._elements: dict[str, Any] = json.loads(elements)
        self._address = (
            f"{api.url.replace('http', 'ws')}/_nicegui_ws/socket.io/?EIO=4&transport=websocket&client_id="
            f"{self._client}&implicit_handshake=true&next_message_id=0&document_id=d&tab_id=t"
        )
        self._headers = {"Origin": api.url, **_with(api, cookie)}

    async def click(self, label: str, answer: str) -> None:
        """Press a button whatever it looks like, and wait until the server says `answer` to it."""
        number, element = next(
            (number, element)
            for number, element in self._elements.items()
            if element.get("props", {}).get("label") == label
        )
        listener = next(event["listener_id"] for event in element["events"] if event["type"] == "click")
        pressed = {"id": int(number), "client_id": self._client, "listener_id": listener, "args": ["{}"]}
        said = ""
        async with open_socket(self._address, additional_headers=self._headers) as socket:
            await socket.send("40")
            while not said.startswith("40"):
                said = str(await socket.recv())
            await socket.send("42" + json.dumps(["event", pressed]))
            async with asyncio.timeout(30):
                while answer not in said:
                    said = str(await socket.recv())


_ESCAPED = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "`": "&#96;", "$": "&#36;"}


async def _opened(api: ApiProcess, cookie: str) -> _Opened:
    (await _socket(api, cookie)).transport.abort()
    return _Opened(api, (await _get(api, "/risk", cookie)).text, cookie)


async def test_a_viewer_who_presses_stop_all_the_same_stops_nothing(
    api: ApiProcess, trader_id: str, connect: Any
) -> None:
    """Not in the page's markup alone: the click itself is sent, as no button there would."""
    bus: Bus = await connect("admin")
    viewer = await _opened(api, await _log_in(api, api.viewer_token))
    for label in ("Stop", "Deploy", "Stop now"):
        await viewer.click(label, "only an operator may do this")
    assert await _commands(bus, trader_id) == []

    operator = await _opened(api, await _log_in(api, name="Anna"))
    clicking = asyncio.create_task(operator.click("Stop now", "what it is told at the end"))
    async with following(bus, subjects.COMMANDS, f"command.{trader_id}.>") as commands:
        stored = json.loads((await anext(commands)).data)
    assert (stored["mode"], stored["by"]) == ("flatten", "Anna (console)")
    clicking.cancel()


async def test_a_page_may_do_no_more_than_its_session_that_has_ended(
    api: ApiProcess, trader_id: str, connect: Any
) -> None:
    """An operator's page, gone on with by the cookie of a viewer who logged in after them."""
    operator, viewer = await _log_in(api), await _log_in(api, api.viewer_token)
    (await _socket(api, operator)).transport.abort()
    html = (await _get(api, "/risk", operator)).text
    await _post(api, "/logout", operator)
    await _Opened(api, html, viewer).click("Stop now", "only an operator may do this")
    assert await _commands(await connect("admin"), trader_id) == []


async def _commands(bus: Bus, trader: str) -> list[dict[str, Any]]:
    subject = f"command.{trader}.>"
    return [json.loads(stored.data) async for stored in bus.read(subjects.COMMANDS, subject=subject)]

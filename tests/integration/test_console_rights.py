"""Who may do what at the console and the API: foreign pages, viewers, pages whose session has ended."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import pytest
from websockets.asyncio.client import connect as open_socket

from services.shared import subjects
from services.shared.bus import Bus
from tests import console_guest as guest
from tests.api_process import ApiProcess
from tests.following import following

pytestmark = pytest.mark.xdist_group("console")


@pytest.fixture
def api(own_api: ApiProcess) -> ApiProcess:
    return own_api


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
        self._headers = {"Origin": api.url, **guest.with_cookie(api, cookie)}

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
    (await guest.socket(api, cookie)).transport.abort()
    return _Opened(api, (await guest.get(api, "/risk", cookie)).text, cookie)


async def test_a_foreign_page_can_neither_log_in_nor_out(api: ApiProcess) -> None:
    cookie = await guest.log_in(api)
    for path in ("/login", "/logout", "/logout/everywhere"):
        for origin in ("https://evil.example", "null", "http://127.0.0.1:1"):
            answer = await api.stranger.post(
                path, data={"token": api.token}, headers={"Origin": origin, **guest.with_cookie(api, cookie)}
            )
            assert answer.status_code == 403
        # 200 while the pages are still being loaded.
        assert (await guest.get(api, path, cookie)).status_code in (200, 303, 404)
    assert await guest.state(api, cookie) == "holds"


async def test_the_api_takes_a_cookie_for_the_export_alone(api: ApiProcess, trader_id: str) -> None:
    cookie = await guest.log_in(api, api.viewer_token)
    export = await guest.get(api, f"/api/export?trader={trader_id}&all=true", cookie)
    assert export.status_code == 200
    assert export.headers["content-type"].startswith("text/csv")
    foreign = {"Sec-Fetch-Site": "cross-site"}
    assert (await guest.get(api, "/api/export?all=true", cookie, **foreign)).status_code == 401
    assert (await guest.get(api, "/api/export?all=true")).status_code == 401
    assert (await guest.get(api, "/api/status", cookie)).status_code == 401
    operator = await guest.log_in(api)
    stopped = await api.stranger.post(
        "/api/stop", json={}, headers={"Origin": api.url, **guest.with_cookie(api, operator)}
    )
    assert stopped.status_code == 401
    await guest.post(api, "/logout", cookie)
    assert (await guest.get(api, "/api/export?all=true", cookie)).status_code == 401


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


async def test_a_viewer_who_presses_stop_all_the_same_stops_nothing(
    api: ApiProcess, trader_id: str, connect: Any
) -> None:
    """Not in the page's markup alone: the click itself is sent, as no button there would."""
    bus: Bus = await connect("admin")
    viewer = await _opened(api, await guest.log_in(api, api.viewer_token))
    for label in ("Stop", "Deploy", "Stop now"):
        await viewer.click(label, "only an operator may do this")
    assert await guest.commands(bus, trader_id) == []

    operator = await _opened(api, await guest.log_in(api, name="Anna"))
    clicking = asyncio.create_task(operator.click("Stop now", "what it is told at the end"))
    async with following(bus, subjects.COMMANDS, f"command.{trader_id}.>") as commands:
        stored = json.loads((await anext(commands)).data)
    assert (stored["mode"], stored["by"]) == ("flatten", "Anna (console)")
    clicking.cancel()


async def test_a_page_may_do_no_more_than_its_session_that_has_ended(
    api: ApiProcess, trader_id: str, connect: Any
) -> None:
    """An operator's page, gone on with by the cookie of a viewer who logged in after them."""
    operator, viewer = await guest.log_in(api), await guest.log_in(api, api.viewer_token)
    (await guest.socket(api, operator)).transport.abort()
    html = (await guest.get(api, "/risk", operator)).text
    await guest.post(api, "/logout", operator)
    await _Opened(api, html, viewer).click("Stop now", "only an operator may do this")
    assert await guest.commands(await connect("admin"), trader_id) == []

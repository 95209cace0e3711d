"""Somebody at the console's door without a browser: forms, cookies, sockets, and what is written down of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from http.cookies import SimpleCookie
from typing import Any

import httpx
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as open_socket
from websockets.exceptions import ConnectionClosed

from services.shared import subjects
from services.shared.bus import Bus
from services.shared.events import ActionTaken
from services.shared.wire import decode
from tests.api_process import ApiProcess
from tests.following import following


async def post(api: ApiProcess, path: str, cookie: str = "", **form: str) -> httpx.Response:
    """A form posted by a page of our own; `cookie` is a session's secret."""
    async with httpx.AsyncClient(base_url=api.url, timeout=30) as browser:
        headers = {"Origin": api.url, "User-Agent": "Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0"}
        return await browser.post(path, data=form, headers=headers | with_cookie(api, cookie))


async def get(api: ApiProcess, path: str, cookie: str = "", **headers: str) -> httpx.Response:
    async with httpx.AsyncClient(base_url=api.url, timeout=30) as browser:
        return await browser.get(path, headers={**headers, **with_cookie(api, cookie)})


def with_cookie(api: ApiProcess, cookie: str) -> dict[str, str]:
    return {"Cookie": f"desk_session_{api.url.rpartition(':')[2]}={cookie}"} if cookie else {}


def secret(answer: httpx.Response) -> str:
    ((_, morsel),) = SimpleCookie(answer.headers["set-cookie"]).items()
    return morsel.value


async def log_in(api: ApiProcess, token: str | None = None, name: str = "") -> str:
    """The secret of a new session; waits until the API knows the sessions of before."""

    async def known() -> bool:
        return (await state(api)) == "ended"

    await api.until(known)
    answer = await post(api, "/login", token=token or api.token, name=name)
    assert answer.status_code == 303, answer.text
    return secret(answer)


async def state(api: ApiProcess, cookie: str = "") -> str:
    return str((await get(api, "/console/session", cookie)).json()["session"])


async def socket(api: ApiProcess, cookie: str) -> ClientConnection:
    """An open socket, once NiceGUI is loaded."""

    async def loaded() -> bool:
        return "is starting" not in (await get(api, "/", cookie)).text

    await api.until(loaded)
    address = api.url.replace("http", "ws") + "/_nicegui_ws/socket.io/?EIO=4&transport=websocket"
    socket = await open_socket(address, additional_headers={"Origin": api.url, **with_cookie(api, cookie)})
    await socket.recv()  # engine.io's greeting
    return socket


async def closed(socket: ClientConnection) -> int | None:
    """The code a socket is closed with."""
    async with asyncio.timeout(10):
        try:
            while True:
                await socket.recv()
        except ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd is not None else None


async def actions(bus: Bus, trader: str, enough: Callable[[list[ActionTaken]], bool]) -> list[ActionTaken]:
    """What the journal says of a trader's desk, as soon as it says enough."""
    actions: list[ActionTaken] = []
    async with following(bus, subjects.EVENTS, subjects.event("action", trader)) as stored:
        while not enough(actions):
            body = decode((await anext(stored)).data).body
            assert isinstance(body, ActionTaken)
            actions.append(body)
    return actions


async def state_once_known(api: ApiProcess, cookie: str) -> str:
    async def known() -> bool:
        return await state(api) != "unknown"

    await api.until(known)
    return await state(api, cookie)


async def commands(bus: Bus, trader: str) -> list[dict[str, Any]]:
    subject = f"command.{trader}.>"
    return [json.loads(stored.data) async for stored in bus.read(subjects.COMMANDS, subject=subject)]

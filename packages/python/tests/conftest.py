"""The real service and a real livekit-server, which test/e2e/python-package.test.ts starts and names in the environment.
Between the client and the service is a network that fails where a test says so."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from livekit import rtc

import behalf.client
import behalf.token
from behalf import AgentClient, Pair

SERVICE = os.environ["BEHALF_URL"]
LIVEKIT = os.environ["LIVEKIT_URL"]

Answer = web.StreamResponse
Forward = Callable[[], Awaitable[Answer]]
Fault = Callable[[web.Request, Forward], Awaitable[Answer]]


async def lost(request: web.Request, forward: Forward) -> Answer:
    """The answer never arrives, but the service has done its work."""
    await forward()
    return await cut(request, forward)


async def cut(request: web.Request, forward: Forward) -> Answer:
    """The request never arrives."""
    assert request.transport
    request.transport.close()
    return web.Response()


def answer(status: int, body: object = None, content_type: str = "application/json", **headers: str) -> Fault:
    """Someone else answers. `_` in the names of headers stands for `-`."""

    async def fault(request: web.Request, forward: Forward) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if isinstance(body, str):
            return web.Response(status=status, text=body, content_type=content_type, headers=named)
        return web.json_response(body, status=status, content_type=content_type, headers=named)

    return fault


@dataclass
class Sent:
    method: str
    path: str
    query: dict[str, str]
    key: str | None
    body: bytes


@dataclass
class Network:
    url: str = ""
    sent: list[Sent] = field(default_factory=list)
    faults: list[tuple[str, Fault]] = field(default_factory=list)
    # The tokens that the service refuses, because it gets one of another signature instead.
    revoked: set[str] = field(default_factory=set)

    def plan(self, path: str, *faults: Fault) -> None:
        """The next requests to that path meet these, one each."""
        self.faults += [(path, fault) for fault in faults]

    def sent_to(self, path: str) -> list[Sent]:
        return [request for request in self.sent if request.path == path]

    async def handle(self, request: web.Request) -> Answer:
        body = await request.read()
        key = request.headers.get("Idempotency-Key")
        self.sent.append(Sent(request.method, request.path, dict(request.query), key, body))

        async def forward() -> Answer:
            headers = dict(request.headers)
            if headers.get("Authorization", "").removeprefix("Bearer ") in self.revoked:
                headers["Authorization"] = "Bearer eyJhbGciOiJFUzI1NiJ9.e30.AAAA"
            async with (
                aiohttp.ClientSession(auto_decompress=False) as http,
                http.request(request.method, SERVICE + request.path_qs, data=body, headers=headers) as got,
            ):
                return web.Response(status=got.status, body=await got.read(), headers=got.headers)

        for index, (path, fault) in enumerate(self.faults):
            if path == request.path:
                del self.faults[index]
                return await fault(request, forward)
        return await forward()


@pytest.fixture
async def network() -> AsyncIterator[Network]:
    network = Network()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", network.handle)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0]
    network.url = f"http://{host}:{port}"
    yield network
    await runner.cleanup()


@dataclass
class Clock:
    """Time in which waiting takes none: it moves the clock, and is remembered."""

    passed: float = 0.0
    waits: list[float] = field(default_factory=list)

    def monotonic(self) -> float:
        return time.monotonic() + self.passed

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.passed += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(behalf.client, "sleep", clock.sleep)
    for module in (behalf.client, behalf.token):
        monkeypatch.setattr(module, "monotonic", clock.monotonic)
    return clock


MakeAgent = Callable[..., AgentClient]


@pytest.fixture
async def make_agent(network: Network) -> AsyncIterator[MakeAgent]:
    """A client of the agent account that the environment names."""
    made: list[AgentClient] = []

    def make(url: str = network.url, **options: Any) -> AgentClient:
        made.append(AgentClient(url, **options))
        return made[-1]

    yield make
    for agent in made:
        await agent.close()


@pytest.fixture
def agent(make_agent: MakeAgent) -> AgentClient:
    return make_agent()


@dataclass
class User:
    """A guest with a session, who joins its room when told so."""

    pair: Pair
    bearer: str
    join_token: str
    room: rtc.Room = field(default_factory=rtc.Room)

    async def join(self) -> None:
        """Returns when the service knows it, so that no call is too early."""
        await self.room.connect(LIVEKIT, self.join_token)
        for _ in range(500):
            if (await self.request("GET", f"/sessions/{self.pair.session_id}"))["status"] == "live":
                return
            await asyncio.sleep(0.02)
        raise TimeoutError("the service does not see that the user has joined")

    async def request(self, method: str, path: str) -> Any:
        return await ask(method, path, bearer=self.bearer)

    async def end(self) -> None:
        await self.request("DELETE", f"/sessions/{self.pair.session_id}")

    async def reports(self) -> list[Any]:
        """What agents reported, as the user reads it."""
        page = await self.request("GET", f"/sessions/{self.pair.session_id}/events")
        return [event["data"] for event in page["events"] if "agentId" in event]


async def ask(method: str, path: str, *, bearer: str | None = None, json: object = None) -> Any:
    headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
    async with (
        aiohttp.ClientSession(raise_for_status=True) as http,
        http.request(method, SERVICE + path, headers=headers, json=json) as got,
    ):
        return None if got.status == 204 else await got.json()


@pytest.fixture
async def user() -> AsyncIterator[User]:
    signed_in = await ask("POST", "/auth/guest", json={"name": "Ada"})
    token = await ask("POST", "/token", bearer=signed_in["access_token"], json={})
    pair = Pair(signed_in["user"]["id"], token["session_id"])
    user = User(pair, signed_in["access_token"], token["participant_token"])
    yield user
    await user.room.disconnect()


@pytest.fixture
async def present(user: User) -> User:
    """A user who is in the room."""
    await user.join()
    return user

from __future__ import annotations

import asyncio
import json
import os
import random
from asyncio import sleep
from collections.abc import Awaitable, Callable, Mapping
from time import monotonic
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit
from uuid import uuid4

import aiohttp

from .job import Pair
from .problem import ProblemError, problem_of
from .token import AccessToken, IssuedToken
from .wire import Context, Session, StoredProgress

T = TypeVar("T")

# The service answers within a few seconds, even if LiveKit does not.
ATTEMPT_SECONDS = 10
FIRST_BACKOFF_SECONDS = 0.25
LONGEST_BACKOFF_SECONDS = 8.0
# Too many requests, or unavailable; a proxy answers with these too.
TRANSIENT = (429, 502, 503, 504)


class AgentClient:
    """The agent's client. Calls are retried with backoff while the user is not in the room yet or the service is
    unavailable, and raise `ProblemError`; after `session_ended`, stop calling. It belongs to one event loop: make one
    for each job, and close it with `ctx.add_shutdown_callback(behalf.close)` or `async with`.

    Args:
        url: Where the service is. Default: `BEHALF_URL`, such as `https://api.example.com`.
        id: The agent account's id. Default: `BEHALF_AGENT_ID`.
        secret: Its secret. Default: `BEHALF_AGENT_SECRET`.
        not_live_patience: For how many seconds a call is retried while the user is not in the room.
        unavailable_patience: For how many seconds a call is retried while the service is unavailable.

    Raises:
        ValueError: one of the first three is missing, or the URL is not one.
    """

    def __init__(
        self,
        url: str | None = None,
        id: str | None = None,
        secret: str | None = None,
        *,
        not_live_patience: float = 10.0,
        unavailable_patience: float = 30.0,
    ) -> None:
        self._url = _setting("BEHALF_URL", url).rstrip("/")
        self._account = (_setting("BEHALF_AGENT_ID", id), _setting("BEHALF_AGENT_SECRET", secret))
        parts = urlsplit(self._url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"BEHALF_URL is {self._url!r}: give an address such as https://api.example.com.")
        self._not_live_patience = not_live_patience
        self._unavailable_patience = unavailable_patience
        self._token = AccessToken(self._issue)
        self._http: aiohttp.ClientSession | None = None

    def session(self, pair: Pair) -> UserSession:
        """The calls on behalf of this user in this session."""
        return UserSession(self, pair)

    async def access_token(self) -> str:
        """The agent's own access token, valid for at least a minute, for requests that you send yourself."""
        return await self._retrying(self._token.current)

    async def close(self) -> None:
        if self._http:
            await self._http.close()

    async def __aenter__(self) -> AgentClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _call(self, method: str, path: str, fields: Mapping[str, Any], key: str | None = None) -> Any:
        headers, query, body = {}, {}, None
        if method == "GET":
            given = {name: value for name, value in fields.items() if value is not None}
            query = {name: value if isinstance(value, str) else json.dumps(value) for name, value in given.items()}
        else:
            # Made here, so that all attempts send the same bytes and the same key.
            headers = {"Content-Type": "application/json", "Idempotency-Key": key or str(uuid4())}
            body = json.dumps(fields, allow_nan=False).encode()

        def send(token: str) -> Awaitable[Any]:
            authorized = {**headers, "Authorization": f"Bearer {token}"}
            return self._send(method, path, headers=authorized, params=query, data=body)

        async def attempt() -> Any:
            token = await self._token.current()
            try:
                return await send(token)
            except ProblemError as refusal:
                if refusal.code != "invalid_token":
                    raise
            # Refused before its time: the service's key or the account's secret was replaced.
            return await send(await self._token.instead_of(token))

        return await self._retrying(attempt)

    async def _issue(self) -> IssuedToken:
        """RFC 6749 §4.4."""
        id, secret = self._account
        form = {"grant_type": "client_credentials", "client_id": id, "client_secret": secret}
        return cast(IssuedToken, await self._send("POST", "/agent/token", data=form))

    async def _send(self, method: str, path: str, **request: Any) -> Any:
        # The slash keeps a path from becoming part of the host's name.
        url = f"{self._url}/{path.lstrip('/')}"
        if not self._http:
            self._http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ATTEMPT_SECONDS))
        try:
            # A redirect could carry the secret to another host.
            async with self._http.request(method, url, allow_redirects=False, **request) as answer:
                content = await answer.read()
        except (aiohttp.ClientError, OSError, asyncio.TimeoutError) as error:
            raise ProblemError("unreachable", "The service did not answer.") from error
        if not 200 <= answer.status < 300:
            raise problem_of(answer.status, answer.headers, content)
        if answer.status == 204:
            return None
        try:
            return json.loads(content)
        except ValueError as error:
            raise ProblemError("unexpected_answer", "The answer is not JSON.", status=answer.status) from error

    async def _retrying(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Repeats the attempt with backoff, never sooner than `Retry-After` says; gives up with the last problem."""
        start, tries = monotonic(), 0
        while True:
            try:
                return await attempt()
            except ProblemError as problem:
                # Half of the backoff and a tenth beyond Retry-After are random, so that agents do not retry in step.
                backoff = min(LONGEST_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2**tries) * random.uniform(0.5, 1)
                wait = max(backoff, (problem.retry_after or 0) * random.uniform(1, 1.1))
                if monotonic() - start + wait > self._patience(problem):
                    raise
            await sleep(wait)
            tries += 1

    def _patience(self, problem: ProblemError) -> float:
        if problem.code == "unreachable" or problem.status in TRANSIENT:
            return self._unavailable_patience
        return self._not_live_patience if problem.code == "session_not_live" else 0


def _setting(name: str, given: str | None) -> str:
    value = given or os.environ.get(name)
    if not value:
        raise ValueError(
            f"{name} is not set. The first start of the service prints an agent's id and secret;"
            " `npm run agent -- create my-agent` in its folder prints those of another one."
        )
    return value


class UserSession:
    """The calls on behalf of one user in one session."""

    def __init__(self, client: AgentClient, pair: Pair) -> None:
        self._client = client
        self._pair = {"userId": pair.user_id, "sessionId": pair.session_id}

    async def progress(
        self, data: Mapping[str, Any], *, type: str = "progress", idempotency_key: str | None = None
    ) -> StoredProgress:
        """Reports to the user's session what the agent is doing. Stored once, even if it is sent several times.

        Args:
            data: What the user reads.
            type: What kind of event it is.
            idempotency_key: Your own key, so that a call can be repeated after a crash. Default: one for each call.
        """
        fields = {"type": type, "data": data}
        return cast(StoredProgress, await self.call("/agent/progress", fields, idempotency_key=idempotency_key))

    async def context(self) -> Context:
        """Who the agent is talking to, and what happened in the session so far."""
        return cast(Context, await self.call("/agent/context", method="GET"))

    async def end(self, *, reason: str | None = None, result: Mapping[str, Any] | None = None) -> Session:
        """Ends the session and removes the user from the room. `session_ended` means that it had ended already,
        perhaps by an earlier attempt of this call."""
        given = {"reason": reason, "result": result}
        fields = {name: value for name, value in given.items() if value is not None}
        return cast(Session, await self.call("/agent/session/end", fields))

    async def call(
        self,
        path: str,
        fields: Mapping[str, Any] | None = None,
        *,
        method: str = "POST",
        idempotency_key: str | None = None,
    ) -> Any:
        """Calls your own guarded route for this user, with the same token, retries and errors. GET sends the fields as
        the query, other methods send them as JSON; the route must answer with JSON or 204.

        Args:
            path: Such as `/agent/orders`.
            fields: What the route needs besides the pair.
            method: Any HTTP method, in capitals.
            idempotency_key: Sent with every attempt (but not with a GET); honour it in a route that must not run
                twice. Default: one for each call.
        """
        return await self._client._call(method, path, {**(fields or {}), **self._pair}, idempotency_key)

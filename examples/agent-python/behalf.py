"""How an agent calls Behalf: with a token of its own, and again while the answer may still change."""

import asyncio
import os
import time
import uuid
from contextlib import suppress
from typing import Any, Callable

import httpx

BEHALF_URL = os.environ.get("BEHALF_URL", "http://localhost:8008")
AGENT_ID, _ = ACCOUNT = (os.environ.get("BEHALF_AGENT_ID"), os.environ.get("BEHALF_AGENT_SECRET"))
if not all(ACCOUNT):
    raise SystemExit(
        "BEHALF_AGENT_ID or BEHALF_AGENT_SECRET is not set: take the lines that the first `npm start` of the service"
        " printed, or run `npm run agent -- create my-agent` there"
    )
RENEW_SECONDS = float(os.environ.get("RENEW_SECONDS", "60"))  # a token is renewed this long before it expires
PATIENCE_SECONDS = float(os.environ.get("PATIENCE_SECONDS", "15"))  # how long a user who left may take to come back
UNAVAILABLE = (429, 502, 503, 504)  # too many requests, or unavailable; a proxy answers with these too
UNAVAILABLE_SECONDS = 90  # how long that may last: a restart of the service, or a rate limit's minute


class Refused(Exception):
    """A refusal that a retry would not change."""


class Behalf:
    def __init__(self, say: Callable[[str], None], over: asyncio.Event) -> None:
        self.http = httpx.AsyncClient(base_url=BEHALF_URL, timeout=10)
        self.say, self.over, self.token, self.renew_at = say, over, "", 0.0

    async def send(self, method: str, path: str, key: str, **request: Any) -> httpx.Response:
        """Sends with the agent's own token (RFC 6749 client credentials), never the user's."""
        try:
            if time.monotonic() >= self.renew_at:
                answer = await self.http.post("/agent/token", data={"grant_type": "client_credentials"}, auth=ACCOUNT)
                if not answer.is_success:
                    return answer
                grant = answer.json()
                self.say("renewed its token" if self.token else "got its own token")
                self.token = grant["access_token"]
                self.renew_at = time.monotonic() + grant["expires_in"] - RENEW_SECONDS
            headers = {"Authorization": f"Bearer {self.token}", "Idempotency-Key": key}
            return await self.http.request(method, path, headers=headers, **request)
        except httpx.TransportError as error:
            return httpx.Response(503, text=f"no answer ({error!r})")

    async def call(self, method: str, path: str, **request: Any) -> dict[str, Any]:
        """Retries until the answer is final, with one key, so that a lost answer never causes a second event."""
        key, start, may_renew = str(uuid.uuid4()), time.monotonic(), True
        while True:
            answer = await self.send(method, path, key, **request)
            if answer.is_success:
                return answer.json()
            problem = answer.json() if "json" in answer.headers.get("content-type", "") else {}
            code = problem.get("code") or problem.get("error", "")
            why = f"{answer.status_code} {code}: {problem.get('detail') or answer.text[:80]}"
            # The service's key or the account's secret was replaced. A second refusal has another cause.
            if code == "invalid_token" and may_renew:
                self.renew_at, may_renew = 0.0, False
                continue
            # The user is not in the room, or the service cannot tell: that may change. Other refusals are final.
            unavailable = UNAVAILABLE_SECONDS if answer.status_code in UNAVAILABLE else 0
            patience = PATIENCE_SECONDS if code == "session_not_live" else unavailable
            after = answer.headers.get("Retry-After", "")
            seconds = float(after) if after.isdigit() else 1.0
            if self.over.is_set() or time.monotonic() - start + seconds > patience:
                raise Refused(why)
            self.say(f"refused for now: {why} Again in {seconds:.0f} s")
            await wait(self.over, seconds)


async def wait(event: asyncio.Event, seconds: float) -> None:
    with suppress(asyncio.TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)

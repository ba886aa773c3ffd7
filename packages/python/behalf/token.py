from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import TypedDict

# A token is renewed this long before it expires, but not before half of its lifetime.
AHEAD_SECONDS = 60.0


class IssuedToken(TypedDict):
    access_token: str
    expires_in: float


class AccessToken:
    """Holds one access token and renews it before it expires; concurrent callers share one renewal."""

    def __init__(self, issue: Callable[[], Awaitable[IssuedToken]]) -> None:
        self._issue = issue
        self._token = ""
        self._renew_at = 0.0
        self._renewal: asyncio.Task[str] | None = None

    async def current(self) -> str:
        """A token that stays valid for a while."""
        return self._token if self._token and monotonic() < self._renew_at else await self._renewed()

    async def instead_of(self, refused: str) -> str:
        """A token other than the one that was refused."""
        return self._token if self._token != refused else await self._renewed()

    async def _renewed(self) -> str:
        if self._renewal is None or self._renewal.done():
            self._renewal = asyncio.create_task(self._renew())
        # A cancelled call stops waiting for the renewal and leaves it to the others.
        return await asyncio.shield(self._renewal)

    async def _renew(self) -> str:
        asked_at = monotonic()
        issued = await self._issue()
        lifetime = issued["expires_in"]
        self._renew_at = asked_at + lifetime - min(AHEAD_SECONDS, lifetime / 2)
        self._token = issued["access_token"]
        return self._token

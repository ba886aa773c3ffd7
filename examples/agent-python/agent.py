"""A worker that acts on behalf of the user it was dispatched for. It has no speech models and needs no cloud keys:
it counts what it hears, answers with a tone and reports progress. See README.md for its settings."""

import asyncio
import json
import math
import os
import time
import uuid
from array import array
from contextlib import suppress
from functools import partial
from typing import Any, Callable

import httpx
from livekit import rtc
from livekit.agents import AgentServer, JobContext, cli

BEHALF_URL = os.environ.get("BEHALF_URL", "http://localhost:8008")
AGENT_ID, _ = ACCOUNT = (os.environ["BEHALF_AGENT_ID"], os.environ["BEHALF_AGENT_SECRET"])
REPORT_SECONDS = float(os.environ.get("REPORT_SECONDS", "1"))
RENEW_SECONDS = float(os.environ.get("RENEW_SECONDS", "60"))  # a token is renewed this long before it expires
PATIENCE_SECONDS = float(os.environ.get("PATIENCE_SECONDS", "15"))  # how long a user who left may take to come back
UNAVAILABLE = (429, 502, 503, 504)  # too many requests, or unavailable; a proxy answers with these too
UNAVAILABLE_SECONDS = 90  # how long that may last: a restart of the service, or a rate limit's minute
SAMPLE_RATE, LOUD = 16_000, 100  # of 32767: anything quieter counts as silence


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


def tone(hertz: int) -> rtc.AudioFrame:
    wave = array("h", (round(3000 * math.sin(math.tau * hertz * i / SAMPLE_RATE)) for i in range(SAMPLE_RATE // 3)))
    return rtc.AudioFrame(wave.tobytes(), SAMPLE_RATE, 1, len(wave))


# This worker needs little CPU, so it takes jobs even on a busy machine.
server = AgentServer(host="127.0.0.1", port=int(os.environ.get("WORKER_PORT", "8081")), load_fnc=lambda: 0.0)


@server.rtc_session(agent_name=AGENT_ID)
async def work(ctx: JobContext) -> None:
    job = json.loads(ctx.job.metadata)  # written by the service with the join token: the trustworthy source
    pair = {"userId": job["userId"], "sessionId": job["sessionId"]}
    say = partial(print, f"[{AGENT_ID} {pair['sessionId']}]", flush=True)
    say(f"job {ctx.job.id} for user {pair['userId']} in room {job['room']}")
    left, over, ears, heard, before, step = asyncio.Event(), asyncio.Event(), set(), 0.0, 0.0, 0

    async def listen(track: rtc.Track) -> None:
        nonlocal heard
        async for event in rtc.AudioStream(track, sample_rate=SAMPLE_RATE):
            heard += event.frame.duration if max(event.frame.data) > LOUD else 0
    is_user = lambda who: who.identity == pair["userId"]
    ctx.room.on("track_subscribed", lambda track, _, who: is_user(who) and ears.add(asyncio.create_task(listen(track))))
    ctx.room.on("participant_disconnected", lambda who: is_user(who) and left.set())
    ctx.room.on("disconnected", lambda _reason: (left.set(), over.set()))
    user = await ctx.wait_for_participant(identity=pair["userId"])  # connects; the job may start before its user joins
    say(f"the user is here: {user.identity}")
    api, speaker = Behalf(say, over), rtc.AudioSource(SAMPLE_RATE, 1)
    try:
        context = await api.call("GET", "/agent/context", params=pair)
        say(f"hello, {context['user'].get('name', 'guest')}")
        await ctx.room.local_participant.publish_track(rtc.LocalAudioTrack.create_audio_track("answer", speaker))
        while True:
            spoke, before, step = heard > before, heard, step + 1
            data = {"message": f"Heard you for {before:.1f} s", "heard": before, "step": step}
            await api.call("POST", "/agent/progress", json={**pair, "data": data})
            say(f"progress {step}: accepted, heard {before:.1f} s")
            left.clear()
            await wait(left, REPORT_SECONDS)
            if step == 1 or (spoke and heard == before):  # a greeting, then an answer whenever the user falls silent
                await speaker.capture_frame(tone(660))
    except Refused as refusal:
        say(f"refused: {refusal} Stopping after {step - 1} reports, heard {heard:.1f} s")
    ctx.shutdown("no longer acting for this user")


if __name__ == "__main__":
    cli.run_app(server)

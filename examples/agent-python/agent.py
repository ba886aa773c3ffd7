"""A worker that acts on behalf of the user it was dispatched for. It has no speech models and needs no cloud keys:
it counts what it hears, answers with a tone and reports progress. See README.md for its settings."""

import asyncio
import json
import math
import os
from array import array
from functools import partial

from livekit import rtc
from livekit.agents import AgentServer, JobContext, cli

from behalf import AGENT_ID, Behalf, Refused, wait

REPORT_SECONDS = float(os.environ.get("REPORT_SECONDS", "1"))
SAMPLE_RATE, LOUD = 16_000, 100  # of 32767: anything quieter counts as silence


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

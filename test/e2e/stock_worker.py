"""A worker of LiveKit's Python SDK as it is, for the gateway's test: it reports each second for the user of its job."""

import asyncio
import base64
import json
import os
import urllib.error
import urllib.request

from livekit.agents import AgentServer, JobContext, cli

URL, KEY, SECRET = (os.environ[name] for name in ("BEHALF_URL", "LIVEKIT_API_KEY", "LIVEKIT_API_SECRET"))
server = AgentServer(host="127.0.0.1", port=int(os.environ["WORKER_PORT"]), load_fnc=lambda: 0.0)


def post(path: str, authorization: str, content: str, body: bytes) -> dict:
    headers = {"Authorization": authorization, "Content-Type": content}
    with urllib.request.urlopen(urllib.request.Request(URL + path, body, headers), timeout=10) as answer:
        return json.load(answer)


@server.rtc_session(agent_name=os.environ["AGENT_NAME"])
async def work(ctx: JobContext) -> None:
    pair = {name: ctx.job.attributes[name] for name in ("userId", "sessionId")}
    await ctx.wait_for_participant(identity=pair["userId"])
    basic = base64.b64encode(f"{KEY}:{SECRET}".encode()).decode()
    form = ("application/x-www-form-urlencoded", b"grant_type=client_credentials")
    token = (await asyncio.to_thread(post, "/agent/token", f"Basic {basic}", *form))["access_token"]
    step = 0
    while True:
        body = json.dumps({**pair, "data": {"step": step + 1}}).encode()
        try:
            await asyncio.to_thread(post, "/agent/progress", f"Bearer {token}", "application/json", body)
            step += 1
            print(f"[{KEY} {pair['sessionId']}] progress {step}: accepted", flush=True)
        except urllib.error.HTTPError as refused:
            code = json.load(refused).get("code")
            print(f"[{KEY} {pair['sessionId']}] refused: {refused.code} {code}", flush=True)
            if code == "session_ended":
                break
        except urllib.error.URLError:
            pass  # the service is restarting
        await asyncio.sleep(1)
    ctx.shutdown("no longer acting for this user")


if __name__ == "__main__":
    cli.run_app(server)

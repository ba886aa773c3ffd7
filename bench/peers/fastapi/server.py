"""Bare mint with FastAPI and livekit-api, one worker: python server.py <port> <key> <secret>"""

import sys
from datetime import timedelta

import uvicorn
from fastapi import FastAPI
from livekit import api
from pydantic import BaseModel

_, port, key, secret = sys.argv
app = FastAPI()


class Wanted(BaseModel):
    room: str
    identity: str


@app.post("/")
async def mint(wanted: Wanted) -> dict[str, str]:
    grants = api.VideoGrants(
        room_join=True, room=wanted.room, can_publish=True, can_subscribe=True, can_publish_data=True
    )
    token = api.AccessToken(key, secret).with_identity(wanted.identity).with_ttl(timedelta(minutes=15))
    return {"server_url": "ws://127.0.0.1:7880", "participant_token": token.with_grants(grants).to_jwt()}


uvicorn.run(app, host="127.0.0.1", port=int(port), loop="uvloop", http="httptools", access_log=False, log_level="error")

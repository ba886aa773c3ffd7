"""A voice agent with a tool that calls a guarded route for the user. Its models are LiveKit Inference's, so it needs a
LiveKit Cloud project; the route is examples/your-route.   python tool.py dev"""

import asyncio
import json

from livekit.agents import Agent, AgentServer, AgentSession, JobContext, ToolError, cli, function_tool, room_io

from behalf import AGENT_ID, Behalf, Refused

server = AgentServer()


class Waiter(Agent):
    def __init__(self, job: dict[str, str]) -> None:
        super().__init__(instructions="You take orders.")
        self.pair = {"userId": job["userId"], "sessionId": job["sessionId"]}
        self.behalf = Behalf(print, asyncio.Event())

    @function_tool
    async def place_order(self, item: str) -> str:
        """Places an order for the user.

        Args:
            item: What to order.
        """
        try:
            order = await self.behalf.call("POST", "/agent/orders", json={**self.pair, "item": item})
        except Refused as refusal:
            raise ToolError(str(refusal)) from refusal  # such as: The user is not in the room now.
        return f"Order {order['orderId']} is placed."


@server.rtc_session(agent_name=AGENT_ID)
async def work(ctx: JobContext) -> None:
    job = json.loads(ctx.job.metadata)  # {userId, sessionId, room}, written by the service
    session = AgentSession(stt="deepgram/nova-3", llm="openai/gpt-4.1-mini", tts="cartesia/sonic-3")
    # Listen only to this user, even if others are in the room.
    options = room_io.RoomOptions(participant_identity=job["userId"])
    await session.start(agent=Waiter(job), room=ctx.room, room_options=options)


if __name__ == "__main__":
    cli.run_app(server)

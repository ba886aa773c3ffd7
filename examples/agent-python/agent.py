import os

from behalf import AgentClient, ProblemError, UserSession, pair_from
from livekit.agents import Agent, AgentServer, AgentSession, JobContext, ToolError, cli, function_tool, room_io

server = AgentServer()


class Waiter(Agent):
    def __init__(self, user: UserSession) -> None:
        super().__init__(instructions="You take orders.")
        self.user = user

    @function_tool
    async def place_order(self, item: str) -> str:
        """Places an order for the user.

        Args:
            item: What to order.
        """
        try:
            order = await self.user.call("/agent/orders", {"item": item})
        except ProblemError as problem:
            raise ToolError(problem.detail) from problem  # such as: The user is not in the room now.
        return f"Order {order['orderId']} is placed."


@server.rtc_session(agent_name=os.environ["BEHALF_AGENT_ID"])
async def work(ctx: JobContext) -> None:
    await ctx.connect()
    pair = pair_from(ctx)
    behalf = AgentClient()
    ctx.add_shutdown_callback(behalf.close)
    session = AgentSession(stt="deepgram/nova-3", llm="openai/gpt-4.1-mini", tts="cartesia/sonic-3")
    # Listen only to this user, even if others are in the room.
    options = room_io.RoomOptions(participant_identity=pair.user_id)
    await session.start(agent=Waiter(behalf.session(pair)), room=ctx.room, room_options=options)


if __name__ == "__main__":
    cli.run_app(server)

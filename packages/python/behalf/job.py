from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from livekit.agents import JobContext

# LiveKit's ParticipantInfo.Kind. A phone caller's attributes may come from the caller, so they are not looked at.
STANDARD = 0


class Pair(NamedTuple):
    """Who the agent acts for, and in which session."""

    user_id: str
    session_id: str


def pair_from(ctx: JobContext) -> Pair:
    """The user and session that the job is for: from its attributes; else, for a job that the service did not dispatch,
    from the attributes of the only user in the room. The service wrote both. Never from the job's metadata, which may be
    the client's own.

    The service checks the pair in every call.

    Raises:
        LookupError: there is none; a job without its own needs `ctx.connect()` and `ctx.wait_for_participant()` first.
    """
    if pair := _pair_in(ctx.job.attributes):
        return pair
    users = set()
    for participant in ctx.room.remote_participants.values():
        pair = _pair_in(participant.attributes)
        if participant.kind == STANDARD and pair and pair.user_id == participant.identity:
            users.add(pair)
    if len(users) != 1:
        raise LookupError(
            f"The job has no userId and sessionId, and {len(users)} users with both attributes are in the room:"
            " dispatch the agent through the service, or wait for the participant first and let it be the only one."
        )
    return users.pop()


def _pair_in(attributes: Mapping[str, str]) -> Pair | None:
    user_id, session_id = attributes.get("userId"), attributes.get("sessionId")
    return Pair(user_id, session_id) if user_id and session_id else None

"""The client of a Behalf service, for LiveKit agents: calls on behalf of the user that the agent's job is for."""

from .client import AgentClient, UserSession
from .job import Pair, pair_from
from .problem import ProblemError
from .wire import Context, FieldError, ProblemCode, Session, SessionEvent, StoredProgress, User

__all__ = [
    "AgentClient",
    "Context",
    "FieldError",
    "Pair",
    "ProblemCode",
    "ProblemError",
    "Session",
    "SessionEvent",
    "StoredProgress",
    "User",
    "UserSession",
    "pair_from",
]

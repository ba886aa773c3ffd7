"""What goes over the wire. tests/test_wire.py compares it with the service's OpenAPI document."""

from typing import Any, Literal, TypedDict

# Those of the routes for agents.
ProblemCode = Literal[
    "malformed_json",
    "invalid_request",
    "unsupported_media_type",
    "body_too_large",
    "validation_failed",
    "not_found",
    "method_not_allowed",
    "rate_limited",
    "missing_token",
    "invalid_token",
    "insufficient_scope",
    "agent_disabled",
    "session_ended",
    "session_full",
    "session_mismatch",
    "not_sessions_agent",
    "no_assignment",
    "session_not_live",
    "liveness_unknown",
    "invalid_idempotency_key",
    "idempotency_key_reused",
    "store_unavailable",
    "internal_error",
    # POST /agent/token (RFC 6749 §5.2)
    "invalid_client",
    "unsupported_grant_type",
    "invalid_scope",
    # the client's own
    "unreachable",  # the service did not answer; the call may have taken effect all the same
    "unexpected_answer",  # the answer did not come from the service, such as a proxy's error page
    "refused",  # your own route refused without a code: see `status` and `detail`
]


class FieldError(TypedDict):
    """An offending field of a request."""

    field: str
    message: str


class _User(TypedDict):
    id: str
    guest: bool


class User(_User, total=False):
    """A guest has no e-mail address."""

    email: str
    name: str


class _Session(TypedDict):
    id: str
    userId: str
    room: str
    status: Literal["pending", "live", "disconnected", "ended"]
    createdAt: str


class Session(_Session, total=False):
    """One user in one room, from the first join token to the end."""

    endedAt: str
    endReason: Literal["user", "agent", "limit", "superseded", "never_joined", "left", "signed_out"]


class _SessionEvent(TypedDict):
    seq: int
    type: str
    data: Any
    createdAt: str


class SessionEvent(_SessionEvent, total=False):
    """Something that happened in a session: an agent's progress, or `session.status`, which has no `agentId`."""

    agentId: str


class _Assignment(TypedDict):
    jobId: str
    workerId: str
    assignedAt: str


class Assignment(_Assignment, total=False):
    """A job that LiveKit gave to a worker; without `endedAt` and `end` while it runs."""

    endedAt: str
    end: Literal["finished", "failed", "left", "replaced"]


class _Context(TypedDict):
    user: User
    session: Session
    events: list[SessionEvent]
    cursor: int


class Context(_Context, total=False):
    """With `assignment` if the agent's worker connects through the service: its newest job in the session."""

    assignment: Assignment


class StoredProgress(TypedDict):
    sessionId: str
    seq: int
    createdAt: str

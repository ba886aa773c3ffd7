from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from livekit import rtc
from livekit.protocol import agent

from behalf import Pair, pair_from
from behalf.job import STANDARD

ADA, EVE = Pair("user_ada", "sess_1"), Pair("user_eve", "sess_2")


def attributes_of(pair: Pair) -> dict[str, str]:
    return {"userId": pair.user_id, "sessionId": pair.session_id}


def participant(pair: Pair, **fields: Any) -> SimpleNamespace:
    return SimpleNamespace(**{"identity": pair.user_id, "kind": STANDARD, "attributes": attributes_of(pair), **fields})


def context(*participants: SimpleNamespace, **job: Any) -> Any:
    others = {participant.identity: participant for participant in participants}
    return SimpleNamespace(job=agent.Job(**job), room=SimpleNamespace(remote_participants=others))


def test_standard_is_livekits() -> None:
    assert rtc.ParticipantKind.PARTICIPANT_KIND_STANDARD == STANDARD


def test_the_jobs_attributes_have_the_pair() -> None:
    assert pair_from(context(participant(EVE), attributes=attributes_of(ADA))) == ADA


def test_what_a_client_writes_into_the_metadata_is_not_believed() -> None:
    forged = json.dumps({**attributes_of(EVE), "room": "r"})
    assert pair_from(context(attributes=attributes_of(ADA), metadata=forged)) == ADA
    assert pair_from(context(participant(ADA), metadata=forged)) == ADA
    with pytest.raises(LookupError):
        pair_from(context(metadata=forged))


@pytest.mark.parametrize("attributes", [{}, {"userId": "user_eve"}, {"userId": "user_eve", "sessionId": ""}])
def test_a_job_without_a_pair_is_for_the_only_user_in_the_room(attributes: dict[str, str]) -> None:
    agents = SimpleNamespace(identity="agent-AJ_1", kind=4, attributes={"lk.agent.state": "listening"})
    assert pair_from(context(participant(ADA), agents, attributes=attributes)) == ADA


@pytest.mark.parametrize(
    "others",
    [
        [],
        [participant(ADA), participant(EVE)],
        # A trunk can turn a caller's headers into attributes.
        [participant(ADA, kind=rtc.ParticipantKind.PARTICIPANT_KIND_SIP)],
        [participant(ADA, identity="user_ada#screen")],
    ],
    ids=["nobody", "two users", "a phone caller", "a second connection"],
)
def test_it_does_not_guess(others: list[SimpleNamespace]) -> None:
    with pytest.raises(LookupError, match="dispatch the agent through the service"):
        pair_from(context(*others))


async def test_a_room_that_is_not_connected_yet_has_no_user() -> None:
    unconnected: Any = SimpleNamespace(job=agent.Job(), room=rtc.Room())
    with pytest.raises(LookupError, match="0 users"):
        pair_from(unconnected)

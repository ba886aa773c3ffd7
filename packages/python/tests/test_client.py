from __future__ import annotations

import asyncio
import json
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime

import pytest
from aiohttp import web

from behalf import AgentClient, Pair, ProblemError

from .conftest import Clock, Fault, Forward, MakeAgent, Network, User, answer, cut, lost

TOKEN, PROGRESS, CONTEXT, ORDERS = "/agent/token", "/agent/progress", "/agent/context", "/agent/orders"


async def test_reports_progress_reads_the_context_and_ends_the_session(agent: AgentClient, present: User) -> None:
    session = agent.session(present.pair)
    stored = await session.progress({"step": 1}, type="lesson.step")
    assert stored["sessionId"] == present.pair.session_id
    context = await session.context()
    assert context["user"] == {"id": present.pair.user_id, "name": "Ada", "guest": True}
    assert context["session"]["status"] == "live"
    assert context["cursor"] == stored["seq"]
    assert context["events"][-1]["type"] == "lesson.step"
    assert context["events"][-1]["data"] == {"step": 1}
    ended = await session.end(reason="lesson over", result={"score": 3})
    assert (ended["status"], ended.get("endReason")) == ("ended", "agent")
    page = await present.request("GET", f"/sessions/{present.pair.session_id}/events")
    assert page["events"][-1]["data"]["result"] == {"score": 3}


async def test_calls_a_route_of_your_own_with_the_pair(agent: AgentClient, present: User, network: Network) -> None:
    session = agent.session(present.pair)
    order = await session.call("/agent/orders", {"item": "tea", "userId": "user_of_somebody_else"})
    assert isinstance(order["orderId"], int)
    [sent] = network.sent_to(ORDERS)
    pair = {"userId": present.pair.user_id, "sessionId": present.pair.session_id}
    assert (sent.method, json.loads(sent.body)) == ("POST", {"item": "tea", **pair})
    assert sent.key
    network.plan("/agent/menu", answer(200, {"menu": []}))
    assert await session.call("agent/menu?page=1", {"hot": True, "size": None}, method="GET") == {"menu": []}
    network.plan(ORDERS, answer(204))
    assert await session.call("/agent/orders", method="DELETE") is None
    menu, deleted = network.sent[-2:]
    assert (menu.method, menu.query, menu.key, menu.body) == ("GET", {"page": "1", "hot": "true", **pair}, None, b"")
    assert (deleted.method, json.loads(deleted.body)) == ("DELETE", pair)


# Tokens


async def test_simultaneous_calls_share_one_token_which_is_renewed_before_it_expires(
    agent: AgentClient, present: User, network: Network, clock: Clock
) -> None:
    session = agent.session(present.pair)
    await asyncio.gather(*(session.progress({"step": step}) for step in range(10)))
    assert len(network.sent_to(TOKEN)) == 1
    assert len({sent.key for sent in network.sent_to(PROGRESS)}) == 10
    clock.passed += 15 * 60 - 65
    await session.context()
    assert len(network.sent_to(TOKEN)) == 1
    clock.passed += 5
    await asyncio.gather(session.context(), session.context())
    assert len(network.sent_to(TOKEN)) == 2


async def test_a_refused_token_is_replaced_once(agent: AgentClient, present: User, network: Network) -> None:
    session = agent.session(present.pair)
    network.revoked.add(await agent.access_token())
    assert (await session.context())["session"]["status"] == "live"
    assert len(network.sent_to(TOKEN)) == 2

    network.revoked.add(await agent.access_token())
    same = {"access_token": next(iter(network.revoked)), "expires_in": 900}
    network.plan(TOKEN, answer(200, same))
    with pytest.raises(ProblemError) as refusal:
        await session.context()
    assert (refusal.value.code, refusal.value.status) == ("invalid_token", 401)
    assert len(network.sent_to(CONTEXT)) == 4


async def test_calls_whose_tokens_are_refused_get_one_new_token(
    agent: AgentClient, present: User, network: Network
) -> None:
    asked, renewed = asyncio.Event(), asyncio.Event()

    async def answered_late(request: web.Request, forward: Forward) -> web.StreamResponse:
        asked.set()
        await renewed.wait()
        return await forward()

    session = agent.session(present.pair)
    network.revoked.add(await agent.access_token())
    network.plan(CONTEXT, answered_late)
    late = asyncio.create_task(session.context())
    await asked.wait()
    await asyncio.gather(*(session.context() for _ in range(5)))
    renewed.set()
    await late
    assert len(network.sent_to(TOKEN)) == 2


async def test_a_cancelled_call_leaves_the_renewal_to_the_others(
    agent: AgentClient, present: User, network: Network
) -> None:
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def held(request: web.Request, forward: Forward) -> web.StreamResponse:
        asked.set()
        await go_on.wait()
        return await forward()

    network.plan(TOKEN, held)
    session = agent.session(present.pair)
    cancelled, other = asyncio.create_task(session.context()), asyncio.create_task(session.context())
    await asked.wait()
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    go_on.set()
    assert (await other)["user"]["name"] == "Ada"
    assert len(network.sent_to(TOKEN)) == 1


async def test_a_wrong_secret_is_not_tried_again(make_agent: MakeAgent, user: User, network: Network) -> None:
    agent = make_agent(secret="wrong")
    with pytest.raises(ProblemError) as refusal:
        await agent.session(user.pair).context()
    problem = refusal.value
    assert (problem.code, problem.status) == ("invalid_client", 401)
    assert problem.detail == "Client authentication failed."
    assert problem.request_id
    assert len(network.sent) == 1


async def test_its_token_can_be_used_without_the_client(agent: AgentClient, network: Network, clock: Clock) -> None:
    network.plan(TOKEN, cut)
    token = await agent.access_token()
    assert token.count(".") == 2
    assert len(clock.waits) == 1
    assert await agent.access_token() == token


# Retries


async def test_a_lost_answer_stores_nothing_twice(
    agent: AgentClient, present: User, network: Network, clock: Clock
) -> None:
    network.plan(PROGRESS, lost, cut, answer(502, "<p>", "text/html"), lost)
    data: dict[str, object] = {"step": 1}
    call = asyncio.create_task(agent.session(present.pair).progress(data))
    while not network.sent_to(PROGRESS):
        await asyncio.sleep(0.01)
    data["step"] = 2
    await call
    assert await present.reports() == [{"step": 1}]
    sent = network.sent_to(PROGRESS)
    assert len(sent) == 5
    assert len({(request.key, request.body) for request in sent}) == 1


async def test_your_own_key_survives_a_crash(make_agent: MakeAgent, present: User) -> None:
    for _ in range(2):
        await make_agent().session(present.pair).progress({"step": 1}, idempotency_key="lesson-7")
    assert await present.reports() == [{"step": 1}]
    with pytest.raises(ProblemError) as refusal:
        await make_agent().session(present.pair).progress({"step": 2}, idempotency_key="lesson-7")
    assert refusal.value.code == "idempotency_key_reused"


@pytest.mark.parametrize(
    "fault",
    [
        answer(429, {"code": "rate_limited", "detail": "Too many."}, Retry_After="7"),
        answer(503, "<p>", "text/html", Retry_After="7"),
        answer(503, Retry_After=format_datetime(datetime.now(timezone.utc) + timedelta(hours=1), usegmt=True)),
    ],
    ids=["429", "503 of a proxy", "a date"],
)
async def test_retry_after_is_waited_for_and_a_little_longer(
    make_agent: MakeAgent, present: User, network: Network, clock: Clock, fault: Fault
) -> None:
    agent = make_agent(unavailable_patience=2 * 3600)
    network.plan(PROGRESS, fault)
    await agent.session(present.pair).progress({})
    [wait] = clock.waits
    seconds = 7 if wait < 60 else 3600
    assert seconds - 300 * (seconds > 7) <= wait <= seconds * 1.1
    assert wait != seconds


async def test_a_retry_after_beyond_its_patience_ends_the_call_at_once(
    agent: AgentClient, present: User, network: Network, clock: Clock
) -> None:
    network.plan(PROGRESS, answer(429, {"code": "rate_limited", "detail": "Too many."}, Retry_After="600"))
    with pytest.raises(ProblemError) as refusal:
        await agent.session(present.pair).progress({})
    problem = refusal.value
    assert (problem.code, problem.status, problem.detail, problem.retry_after) == ("rate_limited", 429, "Too many.", 600)
    assert clock.waits == []


async def test_it_gives_up_in_the_end_with_waits_that_grow(
    make_agent: MakeAgent, user: User, network: Network, clock: Clock
) -> None:
    network.plan(TOKEN, *[cut] * 100)
    with pytest.raises(ProblemError) as refusal:
        await make_agent(unavailable_patience=30).session(user.pair).end()
    assert (refusal.value.code, refusal.value.status) == ("unreachable", 0)
    assert 15 < sum(clock.waits) <= 30
    assert all(0.125 * 2**n <= wait <= min(8, 0.25 * 2**n) for n, wait in enumerate(clock.waits[:6]))


async def test_a_user_who_has_not_joined_yet_is_waited_for(agent: AgentClient, user: User, network: Network) -> None:
    async def refused_once(request: web.Request, forward: Forward) -> web.StreamResponse:
        refusal = await forward()
        await user.join()
        return refusal

    network.plan(PROGRESS, refused_once)
    await agent.session(user.pair).progress({"step": 1})
    assert await user.reports() == [{"step": 1}]
    assert len({sent.key for sent in network.sent_to(PROGRESS)}) == 1


@pytest.mark.parametrize(("patience", "tries"), [(0, 1), (3, 2), (10, 5)])
async def test_a_user_who_does_not_join_is_given_up(
    make_agent: MakeAgent, user: User, network: Network, clock: Clock, patience: float, tries: int
) -> None:
    with pytest.raises(ProblemError) as refusal:
        await make_agent(not_live_patience=patience).session(user.pair).context()
    assert (refusal.value.code, refusal.value.retry_after) == ("session_not_live", 2)
    assert sum(clock.waits) <= patience
    assert len(network.sent_to(CONTEXT)) == tries


async def test_what_a_retry_would_not_change_is_refused_at_once(
    agent: AgentClient, present: User, clock: Clock
) -> None:
    async def code_of(pair: Pair, data: dict[str, object], type: str = "progress") -> str:
        with pytest.raises(ProblemError) as refusal:
            await agent.session(pair).progress(data, type=type)
        if refusal.value.code == "validation_failed":
            assert [error["field"] for error in refusal.value.errors] == ["type"]
        return refusal.value.code

    assert await code_of(Pair(present.pair.user_id, "sess_1"), {}) == "session_mismatch"
    assert await code_of(present.pair, {}, "session.status") == "validation_failed"
    await present.end()
    assert await code_of(present.pair, {}) == "session_ended"
    assert clock.waits == []


# Answers of others


async def test_a_redirect_is_not_followed_with_the_secret(agent: AgentClient, user: User, network: Network) -> None:
    network.plan(TOKEN, answer(307, Location="/elsewhere"))
    with pytest.raises(ProblemError, match="/elsewhere: is the service's URL right") as refusal:
        await agent.session(user.pair).context()
    assert (refusal.value.code, refusal.value.status) == ("unexpected_answer", 307)
    assert [sent.path for sent in network.sent] == [TOKEN]


async def test_a_page_instead_of_json_is_no_success(agent: AgentClient, user: User, network: Network) -> None:
    network.plan(CONTEXT, answer(200, "<p>Welcome", "text/html"))
    with pytest.raises(ProblemError) as refusal:
        await agent.session(user.pair).context()
    assert (refusal.value.code, refusal.value.status) == ("unexpected_answer", 200)


async def test_your_own_route_may_refuse_with_its_own_problem(
    agent: AgentClient, user: User, network: Network
) -> None:
    problem = {"title": "Not Found", "status": 404, "detail": "No such tea.", "requestId": "r1"}
    network.plan(ORDERS, answer(404, problem, "application/problem+json"))
    with pytest.raises(ProblemError, match="refused: No such tea.") as refusal:
        await agent.session(user.pair).call(ORDERS, {"item": "tea"})
    assert (refusal.value.code, refusal.value.status, refusal.value.request_id) == ("refused", 404, "r1")


# Settings


@pytest.mark.parametrize("name", ["BEHALF_URL", "BEHALF_AGENT_ID", "BEHALF_AGENT_SECRET"])
def test_a_missing_setting_is_named(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.delenv(name)
    with pytest.raises(ValueError, match=f"{name} is not set"):
        AgentClient()


@pytest.mark.parametrize("url", ["api.example.com", "localhost:8008", "ws://api.example.com", "https://"])
def test_a_url_of_another_kind_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="give an address such as https://api.example.com"):
        AgentClient(url)

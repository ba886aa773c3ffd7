"""Holds the types to what the service says of itself."""

from __future__ import annotations

from typing import Any, get_args, get_type_hints

from behalf import wire

from .conftest import ask

TYPES: dict[str, Any] = {
    "Me": wire.User,
    "Session": wire.Session,
    "SessionEvent": wire.SessionEvent,
    "Context": wire.Context,
    "StoredEvent": wire.StoredProgress,
}
# RFC 6749 §5.2; any request; the client itself.
OTHER_CODES = {"invalid_client", "unsupported_grant_type", "invalid_scope"}
OTHER_CODES |= {"not_found", "method_not_allowed"}
OTHER_CODES |= {"unreachable", "unexpected_answer", "refused"}


async def test_answers_have_the_services_fields() -> None:
    schemas = (await ask("GET", "/openapi.json"))["components"]["schemas"]

    def fields(schema: dict[str, Any], kind: str) -> set[str]:
        inherited = [schemas[part["$ref"].split("/")[-1]] if "$ref" in part else part for part in schema.get("allOf", [])]
        return set(schema.get(kind, [])).union(*(fields(part, kind) for part in inherited))

    for name, written in TYPES.items():
        required, optional = set(written.__required_keys__), set(written.__optional_keys__)
        assert required | optional == fields(schemas[name], "properties"), name
        # The document names nothing of type "any" as required.
        assert required - {"data"} == fields(schemas[name], "required"), name
    session = schemas["Session"]["properties"]
    for field in ("status", "endReason"):
        assert set(get_args(get_type_hints(wire.Session)[field])) == set(session[field]["enum"])


async def test_codes_are_those_that_a_route_for_agents_may_answer_with() -> None:
    codes = set(OTHER_CODES)
    for path, methods in (await ask("GET", "/openapi.json"))["paths"].items():
        for operation in methods.values() if path.startswith("/agent/") else []:
            for answer in operation["responses"].values():
                schema = answer.get("content", {}).get("application/problem+json", {}).get("schema", {})
                for part in (schema, *schema.get("allOf", [])):
                    codes |= set(part.get("properties", {}).get("code", {}).get("enum", []))
    assert sorted(get_args(wire.ProblemCode)) == sorted(codes)

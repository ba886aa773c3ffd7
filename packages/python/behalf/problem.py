from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any, cast

from .wire import FieldError, ProblemCode


class ProblemError(Exception):
    """The only error of the client's calls; a cancelled call raises `asyncio.CancelledError` as usual.

    Attributes:
        code: Switch on it; the words of `detail` may change.
        status: HTTP status; 0 where there was no answer.
        detail: Why, in words.
        errors: The offending fields of the request.
        request_id: Identifies the request in the service's log.
        retry_after: Seconds, if the service named a time.
    """

    def __init__(
        self,
        code: ProblemCode,
        detail: str,
        *,
        status: int = 0,
        errors: list[FieldError] | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.status = status
        self.detail = detail
        self.errors = errors or []
        self.request_id = request_id
        self.retry_after = retry_after


def problem_of(status: int, headers: Mapping[str, str], body: bytes) -> ProblemError:
    """What a refusal says: problem+json, RFC 6749's error object, or neither."""
    said = _object_in(body)
    request_id = _text(said.get("requestId")) or headers.get("X-Request-Id")
    retry_after = _seconds(headers.get("Retry-After"))
    is_problem = headers.get("Content-Type", "").startswith("application/problem+json")
    code = _text(said.get("code")) or _text(said.get("error")) or ("refused" if is_problem else None)
    if code is None:
        detail = f"The answer ({status}) did not come from the service."
        if location := headers.get("Location"):
            detail += f" It leads to {location}: is the service's URL right?"
        return ProblemError("unexpected_answer", detail, status=status, request_id=request_id, retry_after=retry_after)
    texts = (_text(said.get(name)) for name in ("detail", "error_description", "title"))
    errors = said.get("errors")
    return ProblemError(
        # A newer service may send codes that this client does not know; they are passed on.
        cast(ProblemCode, code),
        next((text for text in texts if text), ""),
        status=status,
        errors=errors if isinstance(errors, list) else [],
        request_id=request_id,
        retry_after=retry_after,
    )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _object_in(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _seconds(retry_after: str | None) -> float | None:
    """Seconds or an HTTP date (RFC 9110 §10.2.3)."""
    if retry_after is None:
        return None
    if retry_after.isdecimal():
        return float(retry_after)
    try:
        wait = parsedate_to_datetime(retry_after) - datetime.now(timezone.utc)
    except (TypeError, ValueError):
        return None
    return max(0.0, wait.total_seconds())

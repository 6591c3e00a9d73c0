"""What the admin API answers when it did not do what it was asked: a problem (RFC 9457), as application/problem+json.

`code` names the kind of error and never changes; what is said of it stands in one registry (nodes/errors), from which
docs/reference/errors.md is made. `category` is the contract with clients that go from node to node: "rejected",
"not_ready" and "quarantined" mean that nothing was done and another node may do it; "unknown" means that it may have
been done.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from aiohttp import web

from actors.errors import CommandRefused
from eventlog.archived import ArchiveError
from eventlog.errors import LogError, OutcomeUnknown, Rejected
from nodes.errors.kinds import Category
from nodes.errors.registry import kind_of
from nodes.refusals import Refusals
from nodes.services import Logger
from nodes.trail import CODE, TRAIL

if TYPE_CHECKING:
    from nodes.tracing import Tracing

LOGGER = web.AppKey("logger", object)
REFUSALS = web.AppKey("refusals", Refusals)
TRACING: web.AppKey[Callable[[], Tracing | None]] = web.AppKey("tracing")  # gives None where no spans are made
REFUSED = web.RequestKey("refused", str)  # the code of the problem that was answered
STALE = web.RequestKey("stale", bool)  # it was decided on what one node knows: no majority answered
STALE_HEADER = "Mailraft-Stale"
MOST_PATH = 200  # characters of a path in a line of the log
ELSEWHERE_S = 1  # what Retry-After says to who may ask another node at once
CONTENT_TYPE = "application/problem+json"
TYPE = "urn:mailraft:problem:"


class FieldError(NamedTuple):
    """One field of a request that is wrong. `where`: body, query, header or path."""

    where: str
    field: str
    message: str


class ApiError(Exception):
    """Becomes one problem. `code` is the category's where no finer one is given; the registry says the rest."""

    def __init__(
        self,
        status: int,
        category: Category,
        message: str,
        hint: str = "",
        *,
        code: str = "",
        errors: Sequence[FieldError] = (),
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.category = category
        self.code = code or category
        self.kind = kind_of(self.code)
        self.hint = hint or self.kind.hint
        self.errors = tuple(errors)
        self.headers = headers or {}
        retry = self.kind.retry
        if status in (429, 503) and retry.when != "never":
            self.headers.setdefault("Retry-After", str(retry.after_s or ELSEWHERE_S))

    @property
    def retry_after_s(self) -> int | None:
        """When the same may be asked of the same node again; None where that helps nothing."""
        if self.kind.retry.when == "never":
            return None
        return int(self.headers.get("Retry-After", self.kind.retry.after_s or ELSEWHERE_S))

    def response(self) -> web.Response:
        problem = {
            "type": TYPE + self.code,
            "title": self.kind.title,
            "status": self.status,
            "detail": str(self),
            "hint": self.hint,
            "code": self.code,
            "category": self.category,
            "severity": self.kind.severity,
            "retry": self.kind.retry.when,
            "retry_after_s": self.retry_after_s,
            "errors": [one._asdict() for one in self.errors],
        }
        if (trail := TRAIL.get()) is not None:
            problem["instance"] = f"urn:mailraft:session:{trail.id}"
        return web.Response(
            text=json.dumps(problem), status=self.status, content_type=CONTENT_TYPE, headers=dict(self.headers)
        )

    def line(self) -> dict[str, str]:
        """What stands under `error` on the last line of a long answer that could not be ended."""
        return {"code": self.code, "category": self.category, "message": str(self), "hint": self.hint}


def of_code(code: str, message: str, hint: str = "", **how: Any) -> ApiError:
    """A problem that is all as the registry says of its code."""
    kind = kind_of(code)
    return ApiError(kind.status, kind.category, message, hint, code=code, **how)


def bad_request(message: str, hint: str = "") -> ApiError:
    """The request itself is wrong."""
    return ApiError(400, "bad_request", message, hint)


def no_position(position: int, last: int) -> ApiError:
    """A position that the log does not have."""
    hint = f"the log goes from 1 to {last}" if last else "the log is empty"
    return ApiError(404, "not_found", f"the log has no position {position}", hint, code="no_such_position")


def read_problem(data: bytes) -> tuple[str, str]:
    """Category and text of a problem, or of what programs before this one answered. Raises ValueError."""
    try:
        found = json.loads(data)
        old = found.get("error")
        if isinstance(old, dict):
            return str(old["category"]), str(old["message"])
        return str(found["category"]), str(found["detail"])
    except (AttributeError, KeyError) as error:
        raise ValueError(f"no problem: {error}") from None


def of_exception(error: Exception) -> ApiError | None:
    """The answer that an exception of the lower layers becomes; None for a fault of our own."""
    match error:
        case ApiError():
            return error
        case CommandRefused():
            return of_code(error.code, str(error) or type(error).__name__)
        case Rejected() if kind_of(error.reason).category == "refused":
            return of_code(error.code, error.detail or error.reason)
        case Rejected():
            return of_code(error.code, f"the log refused it: {error}")
        case ArchiveError():
            return of_code(error.code, str(error))
        case OutcomeUnknown():
            return of_code(error.code, "no majority answered in time: it may have been done, or may yet be")
        case _:
            return None


@web.middleware
async def answer_errors(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Turns every exception into a problem; a fault of our own is logged and not shown."""
    trail = getattr(request.protocol, "trail", None)  # of the connection (nodes/http/listener.py)
    TRAIL.set(trail)  # in the request's own task
    tracing = request.app[TRACING]() if trail is not None and TRACING in request.app else None
    if tracing is None or trail is None:
        return await _answered(request, handler)
    route = request.match_info.route.resource
    with tracing.command(trail, f"{request.method} {route.canonical if route is not None else 'other'}") as span:
        response = await _answered(request, handler)
        if REFUSED in request:
            span.set_attribute(CODE, request[REFUSED])
        return response


async def _answered(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        return _told(request, _of_http(request, error))
    except Exception as error:
        if (response := _response_to(request, error)) is not None:
            return response
        code = error.code if isinstance(error, LogError) else "internal"
        _logger(request).exception("admin request failed", method=request.method, path=_path(request), code=code)
        return ApiError(500, "internal", "the node failed to do it").response()


def _response_to(request: web.Request, error: Exception) -> web.Response | None:
    """Of its own, so that no name in a frame of the traceback keeps the error, the frames and what they have read."""
    known = of_exception(error)
    return None if known is None else _told(request, known)


def _told(request: web.Request, error: ApiError) -> web.Response:
    request[REFUSED] = error.code
    if error.status >= 500 and error.category == "internal":
        _logger(request).error("request failed", method=request.method, path=_path(request), code=error.code)
    else:
        request.app[REFUSALS].note(error.code, method=request.method, path=_path(request))
    response = error.response()
    if STALE in request:  # also that there is no such thing may be old
        response.headers[STALE_HEADER] = "1"
    return response


def _path(request: web.Request) -> str:
    """As it came, encoded: it can not end the line."""
    return request.raw_path.partition("?")[0][:MOST_PATH]


def _of_http(request: web.Request, error: web.HTTPException) -> ApiError:
    headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
    code = {404: "no_such_path", 405: "no_such_method", 413: "too_large"}.get(error.status, "bad_request")
    text = f"{request.method} {request.path}: {error.reason}"
    return ApiError(error.status, kind_of(code).category, text, code=code, headers=headers)


def _logger(request: web.Request) -> Logger:
    found: Logger = request.app[LOGGER]  # type: ignore[assignment]
    return found

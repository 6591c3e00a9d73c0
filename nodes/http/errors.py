"""What the admin API answers when it did not do what it was asked: a problem (RFC 9457), as application/problem+json.

`code` names the kind of error and never changes (docs/reference/api.md lists them); `category` is the contract with
clients that go from node to node: "rejected", "not_ready" and "quarantined" mean that nothing was done and another
node may do it; "unknown" means that it may have been done.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from aiohttp import web

from actors import errors as actor_errors
from actors.errors import CommandRefused
from eventlog.archived import ArchiveError
from eventlog.errors import OutcomeUnknown, Rejected
from nodes.services import Logger

LOGGER = web.AppKey("logger", object)
CONTENT_TYPE = "application/problem+json"
TYPE = "urn:mailraft:problem:"

_NOT_FOUND = (
    actor_errors.NoSuchAccount,
    actor_errors.NoSuchAlias,
    actor_errors.NoSuchCertificate,
    actor_errors.NoSuchCredential,
    actor_errors.NoSuchDomain,
    actor_errors.NoSuchFolder,
    actor_errors.NoSuchMessage,
    actor_errors.NoSuchFollow,
    actor_errors.NoSuchGrant,
    actor_errors.NoSuchGroup,
    actor_errors.NoSuchKey,
    actor_errors.NoSuchRole,
    actor_errors.NoSuchRoute,
    actor_errors.NoSuchSetting,
    actor_errors.NoSuchTenant,
    actor_errors.NoSuchToken,
    actor_errors.NotLocal,
)
_CONFLICT = (actor_errors.NameTaken, actor_errors.FolderExists)
_ADD_DOMAIN = "add the domain first: mailraft tenant add NAME --domain DOMAIN, or tenant add-domain NAME DOMAIN"
_HINTS: dict[type[CommandRefused], str] = {
    actor_errors.NoSuchTenant: "mailraft tenant list",
    actor_errors.NoSuchDomain: _ADD_DOMAIN,
    actor_errors.NotLocal: _ADD_DOMAIN,
    actor_errors.NoSuchAccount: "mailraft account list",
    actor_errors.NoSuchAlias: "mailraft alias list",
    actor_errors.NoSuchCredential: "mailraft account app-password list ADDRESS, or account totp status ADDRESS",
    actor_errors.NoSuchCertificate: "mailraft certificate list",
    actor_errors.NoSuchGrant: "mailraft region grants",
    actor_errors.NoSuchGroup: "mailraft group list",
    actor_errors.OverTenantQuota: "mailraft quota show TENANT; mailraft quota set TENANT raises it",
    actor_errors.NoSuchKey: "mailraft dkim list",
    actor_errors.NoSuchRole: "mailraft role list",
    actor_errors.NoSuchRoute: "mailraft route list",
    actor_errors.NoSuchToken: "mailraft token list",
    actor_errors.NoSuchSetting: "mailraft config cluster show",
    actor_errors.NoSuchFollow: "mailraft region status",
    actor_errors.IsReplica: "the command on the cell that is its home",
    actor_errors.NameTaken: "another name; mailraft account list, alias list and tenant list tell who has it",
}
_REJECTED_HINTS = {
    "disk_full": "make room on the node's disk",
    "too_large": "less at once",
    "clock": "set the node's clock (NTP)",
    "busy": "the command again in a moment",
    "guard": "the command again: something else changed the same thing",
    "feature_level": "mailraft cluster upgrade, once every node runs this version",
    "change_under_way": "the command again in a moment",
    "members_changed": "the command again",
    "last_voter": "add another node first",
    "was_a_member": "another name",
    "no_majority": "start more nodes, or remove one that is down first",
}
# refused by the leader for what it is: another node would say the same
_NO_SUCH_CHANGE = frozenset({
    "bad_address", "bad_name", "feature_level", "is_a_member", "last_voter", "no_majority", "not_a_member",
    "not_a_voter", "too_many_members", "was_a_member",
})  # fmt: skip
_RETRY_S = {429: 10, 503: 1}  # what Retry-After says where nothing better is known
_TITLES = {
    "bad_request": "The request is wrong",
    "conflict": "It is taken, or not in the state for that",
    "forbidden": "Not allowed",
    "internal": "The node failed",
    "not_found": "There is no such thing",
    "not_ready": "This node can not do it now",
    "precondition": "It has changed meanwhile",
    "quarantined": "This node takes no part",
    "refused": "It can not be done as things are",
    "rejected": "The log refused it",
    "too_many": "Too much at once",
    "unauthenticated": "Who asks is not known",
    "unknown": "The outcome is unknown",
}


class FieldError(NamedTuple):
    """One field of a request that is wrong. `where`: body, query, header or path."""

    where: str
    field: str
    message: str


class ApiError(Exception):
    """Becomes one problem. `code` is the category's where no finer one is given."""

    def __init__(
        self,
        status: int,
        category: str,
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
        self.hint = hint
        self.code = code or category
        self.errors = tuple(errors)
        self.headers = headers or {}

    def response(self) -> web.Response:
        problem = {
            "type": TYPE + self.code,
            "title": _TITLES.get(self.category, self.category.replace("_", " ").capitalize()),
            "status": self.status,
            "detail": str(self),
            "hint": self.hint,
            "code": self.code,
            "category": self.category,
            "errors": [one._asdict() for one in self.errors],
        }
        headers = dict(self.headers)
        if self.status in _RETRY_S:
            headers.setdefault("Retry-After", str(_RETRY_S[self.status]))
        return web.Response(text=json.dumps(problem), status=self.status, content_type=CONTENT_TYPE, headers=headers)


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
            return _refused(error)
        case Rejected():
            hint = _REJECTED_HINTS.get(error.reason, "")
            if error.reason in _NO_SUCH_CHANGE:
                return ApiError(409, "refused", error.detail or error.reason, hint, code=error.reason)
            return ApiError(503, "rejected", f"the log refused it: {error}", hint, code=error.reason)
        case ArchiveError():
            return ApiError(500, "archive_damaged", str(error), "mailraft log archive repair; or another node: --node")
        case OutcomeUnknown():
            return ApiError(
                504,
                "unknown",
                "no majority answered in time: it may have been done, or may yet be",
                "mailraft log tail tells whether it was done; look before you do it again",
                code="outcome_unknown",
            )
        case _:
            return None


def _refused(error: CommandRefused) -> ApiError:
    hint = next((text for kind, text in _HINTS.items() if isinstance(error, kind)), "")
    if isinstance(error, _NOT_FOUND):
        return ApiError(404, "not_found", str(error), hint, code=error.code)
    if isinstance(error, _CONFLICT):
        return ApiError(409, "conflict", str(error), hint, code=error.code)
    return ApiError(422, "refused", str(error) or type(error).__name__, hint, code=error.code)


@web.middleware
async def answer_errors(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Turns every exception into a problem; a fault of our own is logged and not shown."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        return _of_http(request, error).response()
    except Exception as error:
        if (response := _response_to(error)) is not None:
            return response
        _logger(request).exception("admin request failed", method=request.method, path=request.path, code="internal")
        return ApiError(500, "internal", "the node failed to do it", "read the node's log").response()


def _response_to(error: Exception) -> web.Response | None:
    """Of its own, so that no name in a frame of the traceback keeps the error, the frames and what they have read."""
    known = of_exception(error)
    return None if known is None else known.response()


def _of_http(request: web.Request, error: web.HTTPException) -> ApiError:
    headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
    code = {404: "no_such_path", 405: "no_such_method", 413: "too_large"}.get(error.status, "bad_request")
    text = f"{request.method} {request.path}: {error.reason}"
    return ApiError(error.status, "bad_request", text, code=code, headers=headers)


def _logger(request: web.Request) -> Logger:
    found: Logger = request.app[LOGGER]  # type: ignore[assignment]
    return found

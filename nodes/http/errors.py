"""What the admin API answers when it did not do what it was asked: {"error": {"category", "message", "hint"}}.

The categories are a contract with the command line: "rejected", "not_ready" and "quarantined" mean that
nothing was done and another node may do it; "unknown" means that it may have been done.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from actors import errors as actor_errors
from actors.errors import CommandRefused
from eventlog.archived import ArchiveError
from eventlog.errors import OutcomeUnknown, Rejected
from nodes.services import Logger

LOGGER = web.AppKey("logger", object)

_NOT_FOUND = (
    actor_errors.NoSuchAccount,
    actor_errors.NoSuchAlias,
    actor_errors.NoSuchCredential,
    actor_errors.NoSuchDomain,
    actor_errors.NoSuchFolder,
    actor_errors.NoSuchMessage,
    actor_errors.NoSuchFollow,
    actor_errors.NoSuchGrant,
    actor_errors.NoSuchKey,
    actor_errors.NoSuchRoute,
    actor_errors.NoSuchTenant,
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
    actor_errors.NoSuchGrant: "mailraft region grants",
    actor_errors.NoSuchKey: "mailraft dkim list",
    actor_errors.NoSuchRoute: "mailraft route list",
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


class ApiError(Exception):
    """Becomes one error answer."""

    def __init__(self, status: int, category: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.category = category
        self.hint = hint

    def response(self) -> web.Response:
        body = {"error": {"category": self.category, "message": str(self), "hint": self.hint}}
        return web.json_response(body, status=self.status)


def bad_request(message: str, hint: str = "") -> ApiError:
    """The request itself is wrong."""
    return ApiError(400, "bad_request", message, hint)


def no_position(position: int, last: int) -> ApiError:
    """A position that the log does not have."""
    hint = f"the log goes from 1 to {last}" if last else "the log is empty"
    return ApiError(404, "not_found", f"the log has no position {position}", hint)


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
                return ApiError(409, "refused", error.detail or error.reason, hint)
            return ApiError(503, "rejected", f"the log refused it: {error}", hint)
        case ArchiveError():
            return ApiError(500, "archive_damaged", str(error), "mailraft log archive repair; or another node: --node")
        case OutcomeUnknown():
            return ApiError(
                504,
                "unknown",
                "no majority answered in time: it may have been done, or may yet be",
                "mailraft log tail tells whether it was done; look before you do it again",
            )
        case _:
            return None


def _refused(error: CommandRefused) -> ApiError:
    hint = next((text for kind, text in _HINTS.items() if isinstance(error, kind)), "")
    if isinstance(error, _NOT_FOUND):
        return ApiError(404, "not_found", str(error), hint)
    if isinstance(error, _CONFLICT):
        return ApiError(409, "conflict", str(error), hint)
    return ApiError(422, "refused", str(error) or type(error).__name__, hint)


@web.middleware
async def answer_errors(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Turns every exception into an error answer; a fault of our own is logged and not shown."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        return ApiError(error.status, "bad_request", f"{request.method} {request.path}: {error.reason}").response()
    except Exception as error:
        known = of_exception(error)
        if known is not None:
            return known.response()
        _logger(request).exception("admin request failed", method=request.method, path=request.path)
        return ApiError(500, "internal", "the node failed to do it", "read the node's log").response()


def _logger(request: web.Request) -> Logger:
    found: Logger = request.app[LOGGER]  # type: ignore[assignment]
    return found

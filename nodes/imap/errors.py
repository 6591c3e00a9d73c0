"""Errors that know the wire reply they become (RFC 3501 7.1, response codes of RFC 5530).

A `Refusal` ends one command; a `Farewell` ends the session. What the actors and the log raise is translated here and
nowhere else, so that an unknown outcome is never reported as a plain failure.
"""

from actors import errors as actor_errors
from eventlog.errors import LogError, OutcomeUnknown, Rejected

# what response codes (RFC 3501, RFC 5530 and others) tell, as kinds of error
_ERRORS = {
    "ALREADYEXISTS": "folder_exists",
    "AUTHENTICATIONFAILED": "wrong_credentials",
    "CANNOT": "not_allowed",
    "CONTACTADMIN": "login_suspended",
    "EXPUNGEISSUED": "no_such_message",
    "LIMIT": "too_large",
    "METADATA TOOMANY": "too_many_annotations",
    "NONEXISTENT": "no_such_folder",
    "NOPERM": "no_right",
    "OVERQUOTA": "over_quota",
    "PRIVACYREQUIRED": "tls_required",
    "SERVERBUG": "internal",
    "TOOBIG": "too_large",
    "TRYCREATE": "no_such_folder",
    "UNAVAILABLE": "not_ready",
}


class Refusal(Exception):
    """A command's tagged NO or BAD, with a response code where one fits."""

    status = b"NO"
    otherwise = "refused"

    def __init__(self, text: str, code: str | None = None, error: str = "") -> None:
        """`error`: the kind of error (nodes/errors), where the response code does not tell it."""
        super().__init__(text)
        self.text = text
        self.code = code
        self.error = error or _ERRORS.get(code or "", self.otherwise)

    def reply(self) -> bytes:
        """What follows the tag, without the line end."""
        code = b"[" + self.code.encode("ascii") + b"] " if self.code else b""
        return self.status + b" " + code + printable(self.text)


class BadCommand(Refusal):
    """RFC 3501 7.1.3: the command was not understood, or is not legal now."""

    status = b"BAD"
    otherwise = "bad_command"


class Uncertain(Refusal):
    """Nobody can say yet whether it was done. A client takes NO for "not done" and would do it again."""


class Farewell(Exception):
    """The session ends: `* BYE text` is the last line."""

    otherwise = "refused"

    def __init__(self, text: str, code: str | None = None, error: str = "") -> None:
        """`error`: the kind of error (nodes/errors), where the response code does not tell it."""
        super().__init__(text)
        self.text = text
        self.code = code
        self.error = error or _ERRORS.get(code or "", self.otherwise)

    def reply(self) -> bytes:
        code = b"[" + self.code.encode("ascii") + b"] " if self.code else b""
        return b"* BYE " + code + printable(self.text) + b"\r\n"


def no_such_mailbox(code: str = "NONEXISTENT") -> Refusal:
    """The one answer for a mailbox that is not there and for one that one may not know of (RFC 4314 6)."""
    return Refusal("no such mailbox", code)


def printable(text: str) -> bytes:
    """Text for a reply line: ASCII without controls, of bounded length (RFC 3501 9, resp-text)."""
    return "".join(c if " " <= c <= "~" else "?" for c in text[:400]).encode("ascii")


_CODES: tuple[tuple[type[actor_errors.CommandRefused], str], ...] = (
    (actor_errors.NoSuchFolder, "NONEXISTENT"),
    (actor_errors.FolderExists, "ALREADYEXISTS"),
    (actor_errors.InvalidName, "CANNOT"),
    (actor_errors.OverQuota, "OVERQUOTA"),
    (actor_errors.NoSuchMessage, "EXPUNGEISSUED"),
    (actor_errors.NoSuchAccount, "UNAVAILABLE"),
    (actor_errors.IsReplica, "NOPERM"),
    (actor_errors.NoRight, "NOPERM"),
    (actor_errors.TooManyAnnotations, "METADATA TOOMANY"),
    (actor_errors.TooLarge, "LIMIT"),
    (actor_errors.NotAllowed, "CANNOT"),
)


def refusal_of(error: actor_errors.CommandRefused | LogError) -> Refusal:
    """The reply to a write that did not succeed, or may not have."""
    if isinstance(error, OutcomeUnknown):
        text = "no majority confirmed this in time; it may have taken effect, or may yet"
        return Uncertain(text, "UNAVAILABLE", error.code)
    if isinstance(error, Rejected):
        if error.reason == "too_large":
            return Refusal("too large for one record of the log", "LIMIT", error.code)
        text = f"not done: {_REASONS.get(error.reason, error.reason)}; try again later"
        return Refusal(text, "UNAVAILABLE", error.code)
    if isinstance(error, LogError):
        return Refusal("the server can not write now; not done", "SERVERBUG", error.code)
    code = next((code for kind, code in _CODES if isinstance(error, kind)), "CANNOT")
    return Refusal(str(error) or type(error).__name__, code, error.code)


_REASONS = {
    "expired": "it took too long",
    "guard": "the mailbox changed meanwhile",
    "disk_full": "the server's disk is full",
    "no_leader": "the cell has no leader now",
    "busy": "the server is too busy",
    "clock": "this node's clock is off",
    "stopping": "the server is stopping",
}

"""Parameters of MAIL and RCPT as options: RFC 1870, 2852, 3030, 3461, 4865, 4954, 6152, 6531, 6710, 8689.

Pure. Which keywords a session may use follows from what EHLO offered it (extensions.py): any other is answered 555, and
a value that breaks its syntax 501. A keyword that is given twice is an error. Values keep their case.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from actors.mail_options import NO_OPTIONS, MailOptions, RecipientOptions
from nodes.smtp import replies, xtext
from nodes.smtp.replies import Refused

ENVID_OCTETS = 100  # RFC 3461 4.4
ORCPT_OCTETS = 500  # RFC 3461 4.2
PRIORITY_MOST = 9  # RFC 6710 4.1

_PARAMETER = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([\x21-\x3c\x3e-\x7e\x80-\U0010ffff]+))?")
_BY = re.compile(r"([+-]?[0-9]{1,9});([RrNn])([Tt]?)")
_PRIORITY = re.compile(r"0|-?[1-9]")
_HOLD_UNTIL = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d+)?(?:[Zz]|[+-]\d\d:\d\d)", re.ASCII)
_ADDRESS_TYPE = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]+")


NOTHING_ASKED = RecipientOptions()


class MailParameters(NamedTuple):
    """What stands behind the sender; `size_bytes` is 0 when none was declared."""

    size_bytes: int = 0
    options: MailOptions = NO_OPTIONS


class Moment(NamedTuple):
    """When the command came, and how long mail may be held at most."""

    now_ms: int = 0
    hold_s: float = 0.0


def mail_parameters(rest: str, allowed: frozenset[str], moment: Moment) -> MailParameters:
    """What follows the path in MAIL. Raises Refused: 555 a keyword that was not offered, 501 anything malformed."""
    found = _split(rest, allowed)
    size_bytes = _size(found.pop("SIZE")) if "SIZE" in found else 0
    if not found:
        return MailParameters(size_bytes)
    if "HOLDFOR" in found and "HOLDUNTIL" in found:  # RFC 4865 4.2: one of them
        raise Refused(replies.BAD_SYNTAX)
    fields: dict[str, Any] = {}
    for keyword, value in found.items():
        fields |= _MAIL[keyword](value, moment)
    return MailParameters(size_bytes, MailOptions(**fields))


def recipient_parameters(rest: str, allowed: frozenset[str], utf8: bool) -> RecipientOptions:
    """What follows the path in RCPT. Raises Refused as `mail_parameters`."""
    found = _split(rest, allowed)
    notify = _notify(found["NOTIFY"]) if "NOTIFY" in found else ()
    orcpt = _orcpt(found["ORCPT"], utf8) if "ORCPT" in found else ""
    return RecipientOptions(notify, orcpt)


def _split(rest: str, allowed: frozenset[str]) -> dict[str, str | None]:
    """Malformed is said before unknown, so that a slip of the pen in a known keyword is told as one."""
    found: dict[str, str | None] = {}
    for part in rest.split():
        match = _PARAMETER.fullmatch(part)
        if match is None or match[1].upper() in found:
            raise Refused(replies.BAD_SYNTAX)
        found[match[1].upper()] = match[2]
    if not found.keys() <= allowed:
        raise Refused(replies.UNKNOWN_PARAMETER)
    return found


def _bad() -> Refused:
    return Refused(replies.BAD_SYNTAX)


def _size(value: str | None) -> int:
    if value is None or not value.isascii() or not value.isdigit() or len(value) > 20:  # RFC 1870 5
        raise _bad()
    return int(value)


def _body(value: str | None, moment: Moment) -> dict[str, Any]:
    """RFC 6152 3, RFC 3030 3; content is kept as it comes, whichever it is declared to be."""
    body = (value or "").upper()
    if body not in ("7BIT", "8BITMIME", "BINARYMIME"):
        raise _bad()
    return {"body": body}


def _flag(field: str) -> Callable[[str | None, Moment], dict[str, Any]]:
    """A keyword without value: SMTPUTF8 (RFC 6531 3.4), REQUIRETLS (RFC 8689 2), XVERP (nodes/delivery/verp.py)."""

    def read(value: str | None, moment: Moment) -> dict[str, Any]:
        if value is not None:
            raise _bad()
        return {field: True}

    return read


def _auth(value: str | None, moment: Moment) -> dict[str, Any]:
    """RFC 4954 5: the submitter's identity in xtext, or <>; nobody here is trusted to assert it, so it is only read."""
    if value is None or not (value == "<>" or xtext.decoded(value)):
        raise _bad()
    return {}


def _ret(value: str | None, moment: Moment) -> dict[str, Any]:
    """RFC 3461 4.3."""
    ret = (value or "").upper()
    if ret not in ("FULL", "HDRS"):
        raise _bad()
    return {"ret": ret}


def _envid(value: str | None, moment: Moment) -> dict[str, Any]:
    """RFC 3461 4.4."""
    envid = xtext.decoded(value) if value is not None and len(value) <= ENVID_OCTETS else None
    if not envid:
        raise _bad()
    return {"envid": envid}


def _hold_for(value: str | None, moment: Moment) -> dict[str, Any]:
    """RFC 4865 4.2.1: seconds, one to nine digits."""
    if value is None or not value.isascii() or not value.isdigit() or len(value) > 9 or int(value) == 0:
        raise _bad()
    return _held(moment.now_ms + int(value) * 1000, moment)


def _hold_until(value: str | None, moment: Moment) -> dict[str, Any]:
    """RFC 4865 4.2.2: a date and time of RFC 3339; one that has passed holds nothing."""
    if value is None or not _HOLD_UNTIL.fullmatch(value):
        raise _bad()
    try:
        until = datetime.datetime.fromisoformat(value.upper())
        return _held(int(until.timestamp() * 1000), moment)
    except (ValueError, OverflowError):
        raise _bad() from None


def _held(until_ms: int, moment: Moment) -> dict[str, Any]:
    if until_ms > moment.now_ms + moment.hold_s * 1000:
        raise Refused(replies.HELD_TOO_LONG)
    return {"hold_until_ms": until_ms} if until_ms > moment.now_ms else {}


def _by(value: str | None, moment: Moment) -> dict[str, Any]:
    """RFC 2852 4: seconds; R to return, which needs time, or N to notify; T to trace."""
    match = _BY.fullmatch(value or "")
    if match is None or (match[2] in "Rr" and int(match[1]) <= 0):
        raise _bad()
    until_ms = moment.now_ms + int(match[1]) * 1000
    return {"deliver_by_ms": max(until_ms, 1), "by_mode": match[2].upper(), "by_trace": bool(match[3])}


def _priority(value: str | None, moment: Moment) -> dict[str, Any]:
    """RFC 6710 4.1: -9 to 9."""
    if value is None or not _PRIORITY.fullmatch(value) or abs(int(value)) > PRIORITY_MOST:
        raise _bad()
    return {"priority": int(value)}


def _notify(value: str | None) -> tuple[str, ...]:
    """RFC 3461 4.1: NEVER alone, or a list without repetition."""
    asked = tuple((value or "").upper().split(","))
    known = set(asked) <= {"SUCCESS", "FAILURE", "DELAY"} and len(set(asked)) == len(asked)
    if asked != ("NEVER",) and not known:
        raise _bad()
    return asked


def _orcpt(value: str | None, utf8: bool) -> str:
    """RFC 3461 4.2, and the address type utf-8 of RFC 6533 3."""
    kind, semicolon, text = (value or "").partition(";")
    if not semicolon or len((value or "").encode()) > ORCPT_OCTETS or not _ADDRESS_TYPE.fullmatch(kind):
        raise _bad()
    address = xtext.decoded_utf8_address(text) if kind.lower() == "utf-8" else xtext.decoded(text)
    if not address or (not utf8 and not text.isascii()):
        raise _bad()
    return f"{kind};{address}"


_MAIL: dict[str, Callable[[str | None, Moment], dict[str, Any]]] = {
    "BODY": _body,
    "SMTPUTF8": _flag("utf8"),
    "REQUIRETLS": _flag("require_tls"),
    "AUTH": _auth,
    "RET": _ret,
    "ENVID": _envid,
    "HOLDFOR": _hold_for,
    "HOLDUNTIL": _hold_until,
    "BY": _by,
    "MT-PRIORITY": _priority,
    "XVERP": _flag("verp"),
}

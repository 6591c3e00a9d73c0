"""A moment of the log as a person writes it: a time, a position, or how long ago; also behind a login, after `@@`."""

from __future__ import annotations

import datetime
import re
from typing import NamedTuple

MARK = "@@"  # alice@example.test@@-2h
_AGO = re.compile(r"-(\d+(?:\.\d+)?)([smhdw])", re.ASCII)
_MOST_TEXT = 64  # what is longer is no moment, and its digits may be more than a number can have
_UNIT_MS = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 7 * 86_400_000}


class Moment(NamedTuple):
    """One of both is given. `at_ms` is milliseconds since 1970, UTC."""

    position: int | None
    at_ms: int | None


def parse_moment(text: str, now_ms: int, *, future: bool = False) -> Moment:
    """`#12345`, `-2h`, or an ISO 8601 time (UTC if it has no zone). Raises ValueError that says what is wrong."""
    text = text.strip()
    if len(text) > _MOST_TEXT:
        raise ValueError("too long for a moment")
    if text.startswith("#"):
        if not text[1:].isascii() or not text[1:].isdigit():
            raise ValueError("a position is a whole number after #")
        return Moment(int(text[1:]), None)
    if ago := _AGO.fullmatch(text):
        return Moment(None, _not_below_zero(now_ms - int(float(ago[1]) * _UNIT_MS[ago[2]])))
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("neither a time, nor a #position, nor a while ago") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    at_ms = round(moment.timestamp() * 1000)
    if at_ms > now_ms and not future:
        raise ValueError("that is in the future")
    return Moment(None, _not_below_zero(at_ms))


def split_login(login: str) -> tuple[str, str | None]:
    """The login itself and the moment behind it, None where it names none."""
    address, mark, moment = login.rpartition(MARK)
    return (address, moment) if mark else (login, None)


def _not_below_zero(at_ms: int) -> int:
    if at_ms < 0:
        raise ValueError("that is before 1970")
    return at_ms

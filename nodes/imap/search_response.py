"""What searches answer: SEARCH, SORT and ESEARCH responses (RFC 3501 7.2.5, RFC 4731 3.1, RFC 5256 4, RFC 9394 3.1)."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeVar

from nodes.imap.search_commands import Returned
from nodes.imap.sequence import compact

_T = TypeVar("_T")


class Found(NamedTuple):
    """A message that matches: what the response calls it, its UID, and its MODSEQ."""

    shown: int
    uid: int
    modseq: int


def plain(name: bytes, found: Sequence[Found], with_modseq: bool) -> bytes:
    """A SEARCH or SORT response, with the highest MODSEQ where the program asked by it (RFC 7162 3.1.5)."""
    numbers = b"".join([b" %d" % one.shown for one in found])
    modseq = b" (MODSEQ %d)" % _highest(found) if with_modseq and found else b""
    return b"* " + name + numbers + modseq + b"\r\n"


def extended(
    correlator: bytes, found: Sequence[Found], returned: Returned, by_uid: bool, with_modseq: bool
) -> bytes | None:
    """An ESEARCH response; `found` in the order of the result. None where only SAVE was asked for (RFC 5182 2.1)."""
    items = [b"* ESEARCH (" + correlator + b")"]
    if by_uid:
        items.append(b"UID")
    options = returned.options
    if found and "MIN" in options:
        items.append(b"MIN %d" % found[0].shown)
    if found and "MAX" in options:
        items.append(b"MAX %d" % found[-1].shown)
    if "COUNT" in options:
        items.append(b"COUNT %d" % len(found))
    if found and "ALL" in options:
        items.append(b"ALL " + compact(one.shown for one in found))
    if returned.partial is not None:
        page = compact(one.shown for one in page_of(found, returned.partial))
        items.append(b"PARTIAL (%d:%d %b)" % (*returned.partial, page or b"NIL"))
    if with_modseq and (told := _told(found, returned)):
        items.append(b"MODSEQ %d" % _highest(told))
    if options == {"SAVE"} and returned.partial is None:
        return None
    return b" ".join(items) + b"\r\n"


def page_of(found: Sequence[_T], partial: tuple[int, int]) -> Sequence[_T]:
    """What lies in a range of positions, counted from the beginning, or with negative numbers from the end."""
    near, far = sorted(map(abs, partial))
    if partial[0] > 0:
        return found[near - 1 : far]
    return found[max(0, len(found) - far) : max(0, len(found) - near + 1)]


def saved(found: Sequence[Found], returned: Returned) -> frozenset[int]:
    """The UIDs that `$` will stand for (RFC 5182 2.1, RFC 9394 3.1)."""
    return frozenset(one.uid for one in _told(found, returned))


def _told(found: Sequence[Found], returned: Returned) -> Sequence[Found]:
    """The messages that the response tells of; all that were found where it counts them, or tells of nothing."""
    if not found or returned.options & {"ALL", "COUNT"}:
        return found
    told: list[Found] = []
    if returned.partial is not None:
        told += page_of(found, returned.partial)
    if "MIN" in returned.options:
        told.append(found[0])
    if "MAX" in returned.options:
        told.append(found[-1])
    return told if told or returned.partial is not None else found


def _highest(found: Iterable[Found]) -> int:
    return max((one.modseq for one in found), default=0)

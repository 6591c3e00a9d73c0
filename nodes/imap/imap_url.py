"""IMAP URLs (RFC 5092) of messages and their parts on this server, as CATENATE has them (RFC 4469 3). Pure.

Taken are absolute paths (`/mailbox;UIDVALIDITY=1/;UID=2/;SECTION=1.MIME/;PARTIAL=0.100`) and whole URLs that name this
server and this user. A path relative to the selected mailbox means different things to different clients: refused.
"""

import dataclasses
import re
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from nodes.imap.commands import Section
from nodes.imap.cursor import Cursor
from nodes.imap.errors import BadCommand, Refusal
from nodes.imap.framing import Frame
from nodes.imap.section_grammar import read_section

URL_LIMIT = 3000

_AUTHORITY = re.compile(r"imap://(?:([^@/;]*)(?:;AUTH=[^@/]*)?@)?([^@/:]+|\[[0-9a-f:.]+\])(?::\d{1,5})?(?=/)", re.I)
_PATH = re.compile(
    r"/([^?]+?)(?:;UIDVALIDITY=(\d{1,10}))?/?;UID=(\d{1,10})"
    r"(?:/?;SECTION=(.+?))?(?:/?;PARTIAL=(\d{1,10})(?:\.(\d{1,10}))?)?",
    re.I,
)


class MessageUrl(NamedTuple):
    """A message of a mailbox, or with `section` a part of it."""

    mailbox: str
    uidvalidity: int | None
    uid: int
    section: Section


def parse(text: str, host: str, user: str) -> MessageUrl | None:
    """What the URL names; None for one that can name nothing here (`host` and `user` are whom the session is with)."""
    if len(text) > URL_LIMIT:
        return None
    authority = _AUTHORITY.match(text)
    if authority is not None:
        if authority[2].lower() != host.lower() or (authority[1] and _decoded(authority[1]) != user):
            return None
        text = text[authority.end() :]
    found = _PATH.fullmatch(text)
    if found is None:
        return None
    mailbox, section = _decoded(found[1]), _section(_decoded(found[4] or ""), found[5], found[6])
    if mailbox is None or section is None:
        return None
    return MessageUrl(mailbox, int(found[2]) if found[2] else None, int(found[3]), section)


def _decoded(text: str) -> str | None:
    try:
        return unquote_to_bytes(text).decode("utf-8")
    except UnicodeDecodeError:
        return None


def _section(text: str | None, origin: str | None, count: str | None) -> Section | None:
    """By the grammar of FETCH, which URLs share (RFC 5092 5)."""
    if text is None:
        return None
    try:
        cursor = Cursor(Frame(text.encode("ascii") + b"]", ()))
        section = read_section(cursor, peek=True)
        cursor.end()
    except (BadCommand, Refusal, UnicodeEncodeError):
        return None
    if origin is None:
        return section
    return dataclasses.replace(section, partial=(int(origin), int(count or 2**32)))

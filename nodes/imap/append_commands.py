"""What APPEND and REPLACE ask: messages, each whole or to be put together out of pieces."""

from dataclasses import dataclass
from typing import NamedTuple

from nodes.imap.sequence import SequenceSet


class Url(NamedTuple):
    """A piece that lies on this server already (RFC 4469 3), as the client wrote it."""

    text: str


@dataclass(frozen=True, slots=True)
class AppendMessage:
    """One message; `internaldate_ms` None means now."""

    flags: tuple[str, ...]
    internaldate_ms: int | None
    pieces: tuple[bytes | Url, ...]


@dataclass(frozen=True, slots=True)
class Append:
    """APPEND (RFC 3501 6.3.11) of one message or of several at once (RFC 3502)."""

    name: str
    messages: tuple[AppendMessage, ...]


@dataclass(frozen=True, slots=True)
class Replace:
    """REPLACE and UID REPLACE (RFC 8508); `old` names one message."""

    old: SequenceSet
    name: str
    message: AppendMessage
    by_uid: bool

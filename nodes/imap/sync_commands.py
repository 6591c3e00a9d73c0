"""What a client may ask so as to keep its copy of a mailbox in step: ENABLE, and the parameters of SELECT."""

from dataclasses import dataclass

from nodes.imap.sequence import SequenceSet


@dataclass(frozen=True, slots=True)
class Enable:
    """ENABLE (RFC 5161); names in upper case, known or not."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Compress:
    """COMPRESS (RFC 4978)"""

    mechanism: str


@dataclass(frozen=True, slots=True)
class Resync:
    """SELECT's QRESYNC (RFC 7162 3.2.5): what the client kept of the mailbox.

    `known` are the UIDs that it holds, None for all; `matches` pairs some of their sequence numbers and UIDs.
    """

    uidvalidity: int
    modseq: int
    known: SequenceSet | None = None
    matches: tuple[SequenceSet, SequenceSet] | None = None

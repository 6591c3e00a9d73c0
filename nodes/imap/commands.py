"""What a client may ask: one frozen dataclass per IMAP command, made by grammar.py, carried out by the session.

Mailbox names are text with INBOX in its one spelling; nothing here knows of bytes on the wire, except the parts of a
FETCH whose spelling the response repeats.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from nodes.imap.acl_commands import GetAcl, ListRights, MyRights, SetAcl
from nodes.imap.append_commands import Append, Replace
from nodes.imap.content_commands import Binary, Preview
from nodes.imap.metadata_commands import GetMetadata, GetQuota, GetQuotaRoot, SetMetadata, SetQuota
from nodes.imap.notify_commands import Notify
from nodes.imap.search_commands import CancelUpdate, MultiSearch, Search, Sort, Thread
from nodes.imap.sequence import SequenceSet
from nodes.imap.sync_commands import Compress, Enable, Resync


class Capability(NamedTuple):
    """CAPABILITY (RFC 3501 6.1.1)"""


class Noop(NamedTuple):
    """NOOP (6.1.2)"""


class Logout(NamedTuple):
    """LOGOUT (6.1.3)"""


class StartTls(NamedTuple):
    """STARTTLS (6.2.1)"""


class Check(NamedTuple):
    """CHECK (6.4.1)"""


class Close(NamedTuple):
    """CLOSE (6.4.2)"""


class Unselect(NamedTuple):
    """UNSELECT (RFC 3691)"""


class Idle(NamedTuple):
    """IDLE (RFC 2177)"""


class Namespace(NamedTuple):
    """NAMESPACE (RFC 2342)"""


@dataclass(frozen=True, slots=True)
class Id:
    """ID (RFC 2971); what the client says of itself."""

    facts: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Authenticate:
    """AUTHENTICATE (6.2.2) with the initial response of SASL-IR (RFC 4959), still in base64."""

    mechanism: str
    initial: bytes | None


@dataclass(frozen=True, slots=True)
class Login:
    """LOGIN (6.2.3)"""

    login: str
    password: str

    def __repr__(self) -> str:
        return f"Login(login={self.login!r})"


@dataclass(frozen=True, slots=True)
class Select:
    """SELECT and EXAMINE (6.3.1, 6.3.2), with the parameters of RFC 7162."""

    name: str
    read_only: bool
    condstore: bool = False
    resync: Resync | None = None


@dataclass(frozen=True, slots=True)
class Create:
    """CREATE (6.3.3), with the USE of RFC 6154 3."""

    name: str
    special_use: str | None


@dataclass(frozen=True, slots=True)
class Delete:
    """DELETE (6.3.4)"""

    name: str


@dataclass(frozen=True, slots=True)
class Rename:
    """RENAME (6.3.5)"""

    name: str
    new_name: str


@dataclass(frozen=True, slots=True)
class Subscribe:
    """SUBSCRIBE and UNSUBSCRIBE (6.3.6, 6.3.7)"""

    name: str
    subscribed: bool


@dataclass(frozen=True, slots=True)
class List:
    """LIST (6.3.8) with the options of RFC 5258, RFC 6154, RFC 5819 and RFC 9590, and LSUB (6.3.9)."""

    reference: str
    patterns: tuple[str, ...]
    lsub: bool = False
    selection: frozenset[str] = frozenset()
    returned: frozenset[str] = frozenset()
    status: tuple[str, ...] = ()
    metadata: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Status:
    """STATUS (6.3.10)"""

    name: str
    items: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Expunge:
    """EXPUNGE (6.4.3), or UID EXPUNGE (RFC 4315 2.1) where a set is given."""

    uids: SequenceSet | None


SectionKind = Literal["", "HEADER", "HEADER.FIELDS", "HEADER.FIELDS.NOT", "TEXT", "MIME"]


@dataclass(frozen=True, slots=True)
class Section:
    """One BODY[...] (6.4.5): `label` as the response repeats it, without the origin of a partial fetch."""

    label: bytes
    numbers: tuple[int, ...]
    kind: SectionKind
    fields: frozenset[bytes]
    partial: tuple[int, int] | None
    peek: bool


Attribute = Literal[
    "UID", "FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE", "BODYSTRUCTURE", "BODY", "MODSEQ", "EMAILID", "THREADID",
    "SAVEDATE",
]  # fmt: skip
FetchItem = Attribute | Section | Binary | Preview


@dataclass(frozen=True, slots=True)
class Fetch:
    """FETCH and UID FETCH (6.4.5), with the modifiers of RFC 7162 and RFC 9394."""

    messages: SequenceSet
    items: tuple[FetchItem, ...]
    by_uid: bool
    changed_since: int | None = None
    vanished: bool = False
    partial: tuple[int, int] | None = None


Mode = Literal["add", "remove", "replace"]


@dataclass(frozen=True, slots=True)
class Store:
    """STORE and UID STORE (6.4.6), with the modifier of RFC 7162."""

    messages: SequenceSet
    mode: Mode
    flags: tuple[str, ...]
    silent: bool
    by_uid: bool
    unchanged_since: int | None = None


@dataclass(frozen=True, slots=True)
class Copy:
    """COPY (6.4.7), and MOVE (RFC 6851)"""

    messages: SequenceSet
    name: str
    move: bool
    by_uid: bool


# One line a family, so that each grows by itself.
AnyState = Capability | Noop | Logout | Id
NotAuthenticated = StartTls | Authenticate | Login
Authenticated = (
    Select
    | Create
    | Delete
    | Rename
    | Subscribe
    | List
    | Status
    | Append
    | GetMetadata
    | SetMetadata
    | GetQuota
    | GetQuotaRoot
    | SetQuota
    | SetAcl
    | GetAcl
    | ListRights
    | MyRights
    | Idle
    | Enable
    | Compress
    | Notify
    | Namespace
    | MultiSearch
)  # fmt: skip
Selected = (
    Check
    | Close
    | Unselect
    | Expunge
    | Search
    | Sort
    | Thread
    | CancelUpdate
    | Fetch
    | Store
    | Copy
    | Replace
)  # fmt: skip
Command = AnyState | NotAuthenticated | Authenticated | Selected

"""The DKIM keys of one domain (RFC 6376, RFC 8463): made, put into DNS by people, used for signing, retired, deleted.

A key is `pending` until its record is seen in DNS, `active` while mail is signed with it, and `retired` while messages
that it signed may still be on their way: its record must stay in DNS so long. Private keys arrive sealed. Rows: D the
domain and its tenant, k + selector one key, r the schedule of rotation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple, assert_never

from actors.errors import NameTaken, NoSuchKey, NotAllowed, TooLarge
from actors.kind import Command, Fact
from eventlog.record import NO_TENANT, Stamp, stream_id
from eventlog.views import View

Algorithm = Literal["rsa-sha256", "ed25519-sha256"]
KeyState = Literal["pending", "active", "retired"]

MAX_KEYS = 32
DOMAIN_KEY = b"D"
SCHEDULE_KEY = b"r"


class Key(NamedTuple):
    """One key. Times are milliseconds of the log; 0: not yet."""

    selector: str
    algorithm: Algorithm
    public: str  # the p= of its DNS record
    sealed: bytes
    state: KeyState
    added_ms: int
    activated_ms: int
    retired_ms: int


class Schedule(NamedTuple):
    """How often new keys take over, and how long the old ones' records stay."""

    every_ms: int
    overlap_ms: int


class NewKey(NamedTuple):
    selector: str
    algorithm: Algorithm
    public: str
    sealed: bytes


@dataclass(frozen=True, slots=True)
class AddKeys(Command):
    """Keys of one making (one of each algorithm), pending unless `active`: then those that sign now are retired."""

    tenant: bytes
    domain: str
    keys: tuple[NewKey, ...]
    active: bool = False


@dataclass(frozen=True, slots=True)
class ActivateKeys(Command):
    """Their records are in DNS: mail is signed with these, and no longer with others of the same algorithm."""

    selectors: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DeleteKey(Command):
    selector: str
    force: bool = False  # although mail is signed with it


@dataclass(frozen=True, slots=True)
class ScheduleRotation(Command):
    every_ms: int  # 0: by hand alone
    overlap_ms: int


DkimCommand = AddKeys | ActivateKeys | DeleteKey | ScheduleRotation


@dataclass(frozen=True, slots=True)
class DkimKeysAdded(Fact):
    SINCE: ClassVar[int] = 3
    tenant: bytes
    domain: str
    keys: tuple[tuple[str, Algorithm, str], ...]  # selector, algorithm, public
    sealed: tuple[bytes, ...]  # the private ones, in the same order; b"" of keys that are deleted and redacted
    active: bool
    REDACTABLE: ClassVar[tuple[str, ...]] = ("sealed",)


@dataclass(frozen=True, slots=True)
class DkimKeysActivated(Fact):
    SINCE: ClassVar[int] = 3
    selectors: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DkimKeyDeleted(Fact):
    SINCE: ClassVar[int] = 3
    selector: str


@dataclass(frozen=True, slots=True)
class DkimRotationScheduled(Fact):
    SINCE: ClassVar[int] = 3
    every_ms: int
    overlap_ms: int


DkimFact = DkimKeysAdded | DkimKeysActivated | DkimKeyDeleted | DkimRotationScheduled


def dkim_stream(domain: str) -> bytes:
    """The stream of a normalised domain's keys."""
    return stream_id("dkim", domain)


def decide(view: View, command: DkimCommand) -> tuple[DkimFact, ...]:
    """Raises NameTaken (a selector), NoSuchKey, NotAllowed (it signs), TooLarge."""
    match command:
        case AddKeys(tenant, domain, keys, active):
            for key in keys:
                if view.get(row_key(key.selector)) is not None:
                    raise NameTaken(f"{domain} has a selector {key.selector}")
            if len(all_keys(view)) + len(keys) > MAX_KEYS:
                raise TooLarge(f"a domain has at most {MAX_KEYS} keys: mailraft dkim delete")
            told = tuple((key.selector, key.algorithm, key.public) for key in keys)
            return (DkimKeysAdded(tenant, domain, told, tuple(key.sealed for key in keys), active),)
        case ActivateKeys(selectors):
            for selector in selectors:
                if _require(view, selector).state == "retired":
                    raise NotAllowed(f"{selector} is retired; make a new key")
            return (DkimKeysActivated(selectors),)
        case DeleteKey(selector, force):
            if _require(view, selector).state == "active" and not force:
                raise NotAllowed(f"mail is signed with {selector}: mailraft dkim rotate first, or --force")
            return (DkimKeyDeleted(selector),)
        case ScheduleRotation(every_ms, overlap_ms):
            return (DkimRotationScheduled(every_ms, overlap_ms),)
        case _:
            assert_never(command)


def evolve(view: View, fact: DkimFact, stamp: Stamp) -> None:
    """Total: a selector that is gone stays gone, one that is there is left as it is."""
    match fact:
        case DkimKeysAdded():
            view.put(DOMAIN_KEY, (fact.domain, fact.tenant))
            for (selector, algorithm, public), sealed in zip(fact.keys, fact.sealed, strict=True):
                if view.get(row_key(selector)) is None:
                    _put(view, Key(selector, algorithm, public, sealed, "pending", stamp.at_ms, 0, 0))
            if fact.active:
                _activate(view, tuple(key[0] for key in fact.keys), stamp.at_ms)
        case DkimKeysActivated():
            _activate(view, fact.selectors, stamp.at_ms)
        case DkimKeyDeleted():
            view.delete(row_key(fact.selector))
        case DkimRotationScheduled():
            view.put(SCHEDULE_KEY, (fact.every_ms, fact.overlap_ms))
        case _:
            assert_never(fact)


def _activate(view: View, selectors: tuple[str, ...], at_ms: int) -> None:
    keys = all_keys(view)
    begun = [key for key in keys if key.selector in selectors and key.state == "pending"]
    algorithms = {key.algorithm for key in begun}
    for key in keys:
        if key.state == "active" and key.algorithm in algorithms:
            _put(view, key._replace(state="retired", retired_ms=at_ms))
    for key in begun:
        _put(view, key._replace(state="active", activated_ms=at_ms))


def all_keys(view: View) -> list[Key]:
    """The domain's keys, oldest first."""
    found = [Key(*row) for _, row in view.range(b"k")]
    return sorted(found, key=lambda key: (key.added_ms, key.selector))


def signing_keys(view: View) -> list[Key]:
    """Those that mail is signed with: at most one of each algorithm."""
    return [key for key in all_keys(view) if key.state == "active"]


def schedule(view: View) -> Schedule | None:
    """When keys change by themselves; None: by hand alone."""
    row = view.peek(SCHEDULE_KEY)
    return Schedule(*row) if row and row[0] else None


def owner(view: View) -> tuple[str, bytes] | None:
    """The domain and its tenant; None before the first key."""
    row = view.peek(DOMAIN_KEY)
    return (row[0], row[1]) if row else None


def tenant_of(view: View, command: DkimCommand) -> bytes:
    """Whose event a command makes."""
    if isinstance(command, AddKeys):
        return command.tenant
    found = owner(view)
    return found[1] if found else NO_TENANT


def _require(view: View, selector: str) -> Key:
    row = view.get(row_key(selector))
    if row is None:
        raise NoSuchKey(f"there is no key {selector}")
    return Key(*row)


def row_key(selector: str) -> bytes:
    """The row that it stands in."""
    return b"k" + selector.encode()


def _put(view: View, key: Key) -> None:
    view.put(row_key(key.selector), tuple(key))

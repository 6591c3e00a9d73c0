"""What a tenant uses: folded beside its mailboxes, names and queues, in the same transaction as the rows it counts.

A mailbox is a stream of its own, so no event says what a tenant has in all. The fold keeps the sums in a stream that
nothing is guarded by unless a quota is nearly reached: deliveries to a thousand mailboxes of one tenant write one row,
once a tick, and never wait for each other. Sums are kept from a committed event on (UsageCounted) that counts what
is there, so that a log without it folds to the rows it always had. Rows: U octets and messages; N accounts, aliases,
domains, groups; S what was sent, s of one account: hour, recipients in it, day, recipients in it (UTC, log time).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, NamedTuple

from actors.kind import Command, Fact
from actors.mailbox_rows import EMPTY_USAGE, USAGE_KEY
from actors.sharing import public_stream
from eventlog.overlay import OverlayView
from eventlog.record import Event, Stamp, stream_id
from eventlog.views import View

HELD_KEY, NAMES_KEY, SENT_KEY = b"U", b"N", b"S"
HOUR_MS, DAY_MS = 3_600_000, 86_400_000
SUBMITTED = frozenset(("submission", "submissions"))

_HELD = frozenset((
    "MessageDelivered", "MessageAppended", "MessagesExpunged", "MessagesCopied", "MessagesRedacted", "MailboxClosed",
    "FolderDeleted",
))  # fmt: skip
_ARRIVES = frozenset(("MessageDelivered", "MessageAppended"))  # one message, or none where there is no folder any more
_NAMES = {
    "AccountAdded": (0, b"a", "account"),
    "AccountDeleted": (0, b"a", "account"),
    "AliasAdded": (1, b"l", "alias_id"),
    "AliasDeleted": (1, b"l", "alias_id"),
    "DomainAdded": (2, b"d", "domain"),
    "DomainRemoved": (2, b"d", "domain"),
    "GroupAdded": (3, b"g", "group"),
    "GroupRemoved": (3, b"g", "group"),
}
COUNTED = _HELD | frozenset(_NAMES) | {"MailQueued", "UsageCounted"}


class Used(NamedTuple):
    """What a tenant uses now."""

    bytes: int = 0
    messages: int = 0
    accounts: int = 0
    aliases: int = 0
    domains: int = 0
    groups: int = 0


class Sent(NamedTuple):
    """Recipients of submitted mail: in the hour and on the day that the numbers name."""

    hour: int = 0
    in_hour: int = 0
    day: int = 0
    in_day: int = 0

    def at(self, at_ms: int) -> Sent:
        """The same as of a time: a new hour or day begins at nothing."""
        hour, day = at_ms // HOUR_MS, at_ms // DAY_MS
        return Sent(hour, self.in_hour if self.hour == hour else 0, day, self.in_day if self.day == day else 0)


@dataclass(frozen=True, slots=True)
class CountUsage(Command):
    """From here on the tenant's sums are kept."""

    tenant: bytes


@dataclass(frozen=True, slots=True)
class UsageCounted(Fact):
    SINCE: ClassVar[int] = 3
    tenant: bytes


@lru_cache(1024)  # asked in the fold of every event that is counted
def usage_stream(tenant: bytes) -> bytes:
    return stream_id("usage", tenant.hex())


def decide(view: View, command: CountUsage) -> tuple[UsageCounted, ...]:
    return () if view.get(HELD_KEY) is not None else (UsageCounted(command.tenant),)


def evolve(view: View, fact: UsageCounted, stamp: Stamp) -> None:
    """Everything is done by `fold`, which sees the other streams."""


def tenant_of(view: View, command: CountUsage) -> bytes:
    return command.tenant


def fold(view: View, event: Event, fact: Any, stamp: Stamp, evolve: Any) -> Any:
    """Folds one event of COUNTED by its kind's `evolve`, and what it changes in the sums; gives what `evolve` gave.

    Outside the fold of a log (a dry run, a look back) there is nothing beside the stream, and nothing is counted.
    """
    if not isinstance(view, OverlayView):
        return evolve(view, fact, stamp)
    tenant, _, type_, _, _, _ = event
    beside = view.beside(usage_stream(tenant))
    if type_ == "UsageCounted":
        _count_all(view, tenant)
        return evolve(view, fact, stamp)
    if beside.peek(HELD_KEY) is None:
        return evolve(view, fact, stamp)
    if type_ in _ARRIVES:
        changes = evolve(view, fact, stamp)
        if changes:
            _add_held(beside, fact.size, 1)
            if type_ == "MessageDelivered" and fact.protocol in SUBMITTED:
                _add_sent(beside, stamp, 1)
        return changes
    if type_ in _NAMES:
        place, prefix, field = _NAMES[type_]
        name = getattr(fact, field)
        key = prefix + (name.encode() if isinstance(name, str) else name)
        before = view.peek(key) is not None
        result = evolve(view, fact, stamp)
        _add_names(beside, place, (view.peek(key) is not None) - before)
        return result
    if type_ == "MailQueued":
        result = evolve(view, fact, stamp)
        if stamp.by.kind == "account":
            _add_sent(beside, stamp, len(fact.recipients))
        return result
    held = view.peek(USAGE_KEY) or EMPTY_USAGE
    result = evolve(view, fact, stamp)
    after = view.peek(USAGE_KEY) or EMPTY_USAGE
    if after[:2] != held[:2]:
        _add_held(beside, after[0] - held[0], after[1] - held[1])
    return result


def _add_held(beside: View, size_bytes: int, messages: int) -> None:
    total = beside.peek(HELD_KEY)
    beside.put(HELD_KEY, (total[0] + size_bytes, total[1] + messages))


def _add_names(beside: View, place: int, change: int) -> None:
    if change:
        counts = list(beside.peek(NAMES_KEY) or (0, 0, 0, 0))
        counts[place] += change
        beside.put(NAMES_KEY, tuple(counts))


def _add_sent(beside: View, stamp: Stamp, recipients: int) -> None:
    for key in (SENT_KEY, b"s" + stamp.by.id):
        sent = Sent(*(beside.peek(key) or ())).at(stamp.at_ms)
        after = sent._replace(in_hour=sent.in_hour + recipients, in_day=sent.in_day + recipients)
        beside.put(key, tuple(after))


def _count_all(view: OverlayView, tenant: bytes) -> None:
    """As of this event; a second one counts again, to the same sums."""
    found = count(view.beside, tenant)
    view.put(HELD_KEY, (found.bytes, found.messages))
    view.put(NAMES_KEY, (found.accounts, found.aliases, found.domains, found.groups))


def count(view_of: Any, tenant: bytes) -> Used:
    """The sums made anew from the tenant's rows; `view_of` gives a stream's view."""
    own = view_of(tenant)
    accounts = [key[1:] for key, _ in own.range(b"a")]
    size_bytes = messages = 0
    for stream in (*accounts, public_stream(tenant)):
        row = view_of(stream).peek(USAGE_KEY) or EMPTY_USAGE
        size_bytes, messages = size_bytes + row[0], messages + row[1]
    aliases, domains, groups = (sum(1 for _ in own.range(prefix)) for prefix in (b"l", b"d", b"g"))
    return Used(size_bytes, messages, len(accounts), aliases, domains, groups)


def used(view: View) -> Used | None:
    """What the tenant whose usage stream this is uses; None while that is not counted."""
    held = view.peek(HELD_KEY)
    if held is None:
        return None
    return Used(*held, *(view.peek(NAMES_KEY) or (0, 0, 0, 0)))


def sent(view: View, at_ms: int, account: bytes | None = None) -> Sent:
    """What the tenant, or one account of it, has sent in the hour and on the day of `at_ms`."""
    row = view.peek(SENT_KEY if account is None else b"s" + account)
    return Sent(*(row or ())).at(at_ms)

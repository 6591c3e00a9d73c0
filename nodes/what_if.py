"""What would have differed under another rule: the log's deliveries decided again, by the same `decide`.

A rule changes quotas, where addresses lead, or whom mail is taken for. From a moment on each record is read; what the
rule touches is decided anew over the mailbox as it would then have been. What was refused at the time left no trace
in the log, so a laxer rule can not show what it would have let in: only what is in the log is decided again.
"""

from __future__ import annotations

import fnmatch
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from pydantic import TypeAdapter, ValidationError

from actors import mailbox, registry
from actors.errors import CommandRefused, OverQuota
from actors.kind import UnknownEventType, decode
from actors.mailbox import (
    MailboxOpened,
    MessageAppended,
    MessageDelivered,
    MessagesCopied,
    MessagesExpunged,
    NewMessage,
    QuotaSet,
)
from actors.mailbox_terms import FolderCreated, MailboxFact
from actors.names import address_name, holder, name_stream, normalise_address
from eventlog import levels
from eventlog.fold import Outcome
from eventlog.record import By, Record, Stamp, new_id
from eventlog.replay import view_as_of
from eventlog.store import Snapshot, Store
from eventlog.views import DictView
from nodes.config.node import Size
from nodes.record_json import utc

_NOBODY = Stamp(0, 0, 0, b"", By("node", b"", "what-if"), "", levels.NEWEST)
READ_AT_ONCE = 500
MOST_ALIASES = 100
KEPT = -1  # in place of a quota: the rule does not change it

Progress = Callable[[int, int], None]


class RuleError(ValueError):
    """The rule says something that can not be; the text names the key."""


class Refusal(NamedTuple):
    """Mail for recipients like `recipient`, from senders like `sender`, is not taken. Patterns, as `*@example.test`."""

    recipient: str
    sender: str


class Rule(NamedTuple):
    """Quotas in octets by address (None: no limit); where addresses lead; whom mail is refused for."""

    quotas: dict[str, int | None]
    aliases: dict[str, tuple[str, ...]]
    refusals: tuple[Refusal, ...]


class Difference(NamedTuple):
    """One thing that would have gone otherwise. `what`: refused, not delivered, delivered."""

    position: int
    at: str
    what: str
    why: str
    sender: str
    recipient: str
    account: str
    size: int


def read_rule(document: dict[str, Any]) -> Rule:
    """From a rule's TOML: [[quota]] account, limit; [[alias]] address, targets; [[refuse]] recipient, sender.

    Raises RuleError.
    """
    unknown = set(document) - {"quota", "alias", "refuse"}
    if unknown:
        raise RuleError(f"{', '.join(sorted(unknown))}: a rule has quota, alias and refuse")
    quotas = {
        _address(one, "quota.account", "account"): _limit(one)
        for one in _tables(document, "quota", {"account", "limit"})
    }
    aliases = {
        _address(one, "alias.address", "address"): _targets(one)
        for one in _tables(document, "alias", {"address", "targets"})
    }
    refusals = tuple(
        Refusal(_pattern(one, "recipient"), _pattern(one, "sender"))
        for one in _tables(document, "refuse", {"recipient", "sender"})
    )
    if not (quotas or aliases or refusals):
        raise RuleError("the rule changes nothing: [[quota]], [[alias]] or [[refuse]]")
    return Rule(quotas, aliases, refusals)


def what_if(store: Store, rule: Rule, first: int, last: int, progress: Progress | None = None) -> Iterator[Difference]:
    """What the rule would have changed in the records from `first` to `last`, in the log's order."""
    with store.snapshot() as snapshot:
        again = _Again(snapshot, rule, first)
        raised = levels.history(snapshot, last)
    for begin in range(first, last + 1, READ_AT_ONCE):
        with store.snapshot() as snapshot:
            for stored in snapshot.records(begin, min(last, begin + READ_AT_ONCE - 1)):
                record = stored.record
                if record is not None and stored.outcome == Outcome.COMMITTED:
                    level = levels.at(raised, stored.position)
                    stamp = Stamp(stored.position, stored.at_ms, stored.term, record.id, record.by, record.cause, level)
                    yield from again.take(snapshot, record, stamp)
        if progress is not None:
            progress(min(last, begin + READ_AT_ONCE - 1) - first + 1, last - first + 1)


class _Mailbox:
    """A mailbox as it would have been. UIDs stay those of the log, so that what it says of them still fits."""

    def __init__(self, view: DictView, address: str, quota: int | None) -> None:
        self._view = view
        self._quota = quota
        self._extra: bytes | None = None
        self.address = address
        self._set_quota(_NOBODY)

    def _set_quota(self, stamp: Stamp) -> None:
        if self._quota is not KEPT:
            mailbox.evolve(self._view, QuotaSet(self._quota), stamp)  # none in a mailbox that is not there yet

    def follow(self, fact: MailboxFact, stamp: Stamp) -> None:
        """Takes an event as the log has it, but for the quota that the rule sets."""
        mailbox.evolve(self._view.at(stamp.position), fact, stamp)
        if isinstance(fact, QuotaSet | MailboxOpened):
            self._set_quota(stamp)

    def decide(self, fact: MessageDelivered | MessageAppended | MessagesCopied, stamp: Stamp) -> CommandRefused | None:
        """Decides again what put messages here; gives the refusal there would have been."""
        refused = self._refusal(fact)
        changes = mailbox.evolve(self._view.at(stamp.position), fact, stamp)
        if refused is not None:
            self._take_out(changes, stamp)
        return refused

    def leave_out(self, fact: MessageDelivered, stamp: Stamp) -> None:
        """A message that would not have come."""
        self._take_out(mailbox.evolve(self._view.at(stamp.position), fact, stamp), stamp)

    def add(self, fact: MessageDelivered, stamp: Stamp) -> CommandRefused | None:
        """A message that would have come as well: into a folder of its own, so that no UID of the others moves."""
        refused = self._refusal(fact)
        if refused is None:
            if self._extra is None:
                self._extra = new_id(stamp.at_ms)
                mailbox.evolve(self._view, FolderCreated(self._extra, "what-if", None), stamp)
            mailbox.evolve(self._view.at(stamp.position), replace(fact, folder_id=self._extra), stamp)
        return refused

    def _refusal(self, fact: MessageDelivered | MessageAppended | MessagesCopied) -> CommandRefused | None:
        try:
            mailbox.decide(self._view, _command(fact))
        except OverQuota as refused:
            return refused
        except CommandRefused:
            return None  # it differs from what was for another reason, as a folder that is not there any more
        return None

    def _take_out(self, changes: Sequence[mailbox.Change | mailbox.FlagsOfMany], stamp: Stamp) -> None:
        for change in changes:
            if isinstance(change, mailbox.Change) and change.kind == "added":
                gone = MessagesExpunged(change.folder, (change.uid,), True)
                mailbox.evolve(self._view.at(stamp.position), gone, stamp)


class _Again:
    """The records of the log in order, and what they would have come to."""

    def __init__(self, snapshot: Snapshot, rule: Rule, first: int) -> None:
        self._rule = rule
        self._first = first
        self._mailboxes: dict[bytes, _Mailbox] = {}
        for address in rule.quotas:
            self._open(snapshot, address, first)

    def take(self, snapshot: Snapshot, record: Record, stamp: Stamp) -> Iterator[Difference]:
        deliveries: dict[str, list[tuple[bytes, MessageDelivered]]] = defaultdict(list)
        for event in record.events:
            fact = _fact(event.type, event.version, event.data)
            if isinstance(fact, MailboxOpened):
                self._opened(event.stream, fact)
            if isinstance(fact, MessageDelivered):
                deliveries[fact.envelope_to].append((event.stream, fact))
            elif isinstance(fact, MailboxFact) and event.stream in self._mailboxes:
                yield from self._follow(self._mailboxes[event.stream], fact, stamp)
        for recipient, delivered in deliveries.items():
            yield from self._deliver(snapshot, recipient, delivered, stamp)

    def _opened(self, account: bytes, fact: MailboxOpened) -> None:
        if account not in self._mailboxes and fact.address in self._rule.quotas:
            self._mailboxes[account] = _Mailbox(DictView(account), fact.address, self._rule.quotas[fact.address])

    def _follow(self, box: _Mailbox, fact: MailboxFact, stamp: Stamp) -> Iterator[Difference]:
        if isinstance(fact, MessageAppended | MessagesCopied):
            if box.decide(fact, stamp) is not None:
                size = fact.size if isinstance(fact, MessageAppended) else 0
                yield Difference(
                    stamp.position, utc(stamp.at_ms), "refused", "the mailbox would have been full", "", "",
                    box.address, size,
                )  # fmt: skip
        else:
            box.follow(fact, stamp)

    def _deliver(
        self, snapshot: Snapshot, recipient: str, delivered: list[tuple[bytes, MessageDelivered]], stamp: Stamp
    ) -> Iterator[Difference]:
        fact = delivered[0][1]
        if any(_refuses(one, recipient, fact.envelope_from) for one in self._rule.refusals):
            for account, one in delivered:
                yield self._left_out(snapshot, account, one, stamp, "refused", "mail is not taken for the recipient")
            return
        wanted = self._wanted(snapshot, recipient, stamp.position)
        for account, one in delivered:
            if wanted is not None and account not in wanted:
                why = "the address would have led elsewhere" if wanted else "the address would have led nowhere"
                yield self._left_out(snapshot, account, one, stamp, "not delivered" if wanted else "refused", why)
            elif account in self._mailboxes and self._mailboxes[account].decide(one, stamp) is not None:
                yield self._difference(snapshot, account, one, stamp, "refused", "the mailbox would have been full")
        had = {account for account, _ in delivered}
        for account in wanted or {}:
            if account not in had:
                yield self._added(snapshot, account, (wanted or {})[account], fact, stamp)

    def _left_out(
        self, snapshot: Snapshot, account: bytes, fact: MessageDelivered, stamp: Stamp, what: str, why: str
    ) -> Difference:
        if account in self._mailboxes:
            self._mailboxes[account].leave_out(fact, stamp)
        return self._difference(snapshot, account, fact, stamp, what, why)

    def _added(
        self, snapshot: Snapshot, account: bytes, address: str, fact: MessageDelivered, stamp: Stamp
    ) -> Difference:
        if account not in self._mailboxes:
            view = view_as_of(snapshot, account, registry.fold_event, position=stamp.position - 1)
            self._mailboxes[account] = _Mailbox(view, address, KEPT)
        full = self._mailboxes[account].add(fact, stamp) is not None
        why = "the address would have led there" + (", but the mailbox is full" if full else "")
        return self._difference(snapshot, account, fact, stamp, "refused" if full else "delivered", why)

    def _difference(
        self, snapshot: Snapshot, account: bytes, fact: MessageDelivered, stamp: Stamp, what: str, why: str
    ) -> Difference:
        box = self._mailboxes.get(account)
        address = box.address if box is not None else mailbox.address_of(snapshot.view(account))
        return Difference(
            stamp.position, utc(stamp.at_ms), what, why, fact.envelope_from, fact.envelope_to, address, fact.size
        )

    def _open(self, snapshot: Snapshot, address: str, first: int) -> None:
        """Follows the account that holds the address when it begins, or holds it now."""
        for position in (first - 1, snapshot.position):
            held = _holder(snapshot, address, position)
            if held is not None and held not in self._mailboxes:
                view = view_as_of(snapshot, held, registry.fold_event, position=first - 1)
                self._mailboxes[held] = _Mailbox(view, address, self._rule.quotas[address])
                return

    def _wanted(self, snapshot: Snapshot, recipient: str, position: int) -> dict[bytes, str] | None:
        """The accounts that the rule leads the recipient to; None where it says nothing of it."""
        targets = self._rule.aliases.get(_normalised(recipient))
        if targets is None:
            return None
        found: dict[bytes, str] = {}
        for address in targets:
            account = _holder(snapshot, address, position)
            if account is not None:
                found[account] = address
        return found


def _fact(type_: str, version: int, data: bytes) -> Any:
    try:
        return decode(type_, version, data)
    except UnknownEventType:
        return None


def _command(fact: MessageDelivered | MessageAppended | MessagesCopied) -> mailbox.MailboxCommand:
    """The command that the event once came from, as far as its decision goes."""
    if isinstance(fact, MessagesCopied):
        return mailbox.CopyMessages(fact.folder_id, fact.uids, fact.target_id)
    message = NewMessage(fact.message_id, fact.digest, fact.size, fact.internaldate_ms, fact.trace)
    if isinstance(fact, MessageAppended):
        return mailbox.Append(fact.folder_id, message, fact.flags)
    return mailbox.Deliver(message, envelope_from=fact.envelope_from, envelope_to=fact.envelope_to)


def _refuses(refusal: Refusal, recipient: str, sender: str) -> bool:
    return fnmatch.fnmatchcase(_normalised(recipient), refusal.recipient) and fnmatch.fnmatchcase(
        sender.lower(), refusal.sender
    )


def _normalised(address: str) -> str:
    try:
        return normalise_address(address)
    except CommandRefused:
        return address.lower()


def _holder(snapshot: Snapshot, address: str, position: int) -> bytes | None:
    """The account that held an address at a position; a name's stream holds a handful of records."""
    held = holder(view_as_of(snapshot, name_stream(address_name(address)), registry.fold_event, position=position))
    return held.owner if held is not None and held.purpose == "account" else None


# -- the rule's file


def _tables(document: dict[str, Any], name: str, keys: set[str]) -> list[dict[str, Any]]:
    tables = document.get(name, [])
    if not isinstance(tables, list) or not all(isinstance(one, dict) for one in tables):
        raise RuleError(f"{name}: a list of tables, [[{name}]]")
    for one in tables:
        if unknown := set(one) - keys:
            raise RuleError(f"{name}.{min(unknown)}: not known; there are {', '.join(sorted(keys))}")
    return tables


def _address(table: dict[str, Any], key: str, name: str) -> str:
    value = table.get(name)
    try:
        return normalise_address(value if isinstance(value, str) else "")
    except CommandRefused as error:
        raise RuleError(f"{key} = {value!r}: {error}") from None


def _limit(table: dict[str, Any]) -> int | None:
    value = table.get("limit")
    if value == "none":
        return None
    try:
        found: int = TypeAdapter(Size).validate_python(value)
    except ValidationError:
        raise RuleError(f'quota.limit = {value!r}: a size as "50 MiB", or "none"') from None
    return found


def _targets(table: dict[str, Any]) -> tuple[str, ...]:
    targets = table.get("targets")
    if not isinstance(targets, list) or len(targets) > MOST_ALIASES:
        raise RuleError(f"alias.targets: a list of at most {MOST_ALIASES} addresses; empty: the address is nobody's")
    return tuple(_address({"target": one}, "alias.targets", "target") for one in targets)


def _pattern(table: dict[str, Any], name: str) -> str:
    value = table.get(name, "*")
    if not isinstance(value, str) or not value:
        raise RuleError(f'refuse.{name}: a pattern, as "*@example.test"')
    return value.lower()

"""A queue's tables: row keys and typed readers.

Rows of one domain's stream, by first byte of the key:
  d domain                                         i + item id: one item
  n totals [items, bytes]                          (changes with each item: peek, never a guard)
  t throttle [until_ms, reason, level]             s suspension [since_ms, reason]
  b + day: what became of recipients on that day   (peek, never a guard)
Fields were added to items; one that has their defaults is written as it was before, so that every refold of an old log
gives the same rows. Readers take any view and never write.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

from actors.mail_options import NO_OPTIONS, NO_RECIPIENT_OPTIONS, MailOptions, RecipientOptions
from actors.queue_terms import EVERY_DOMAIN
from actors.region import REGION, queue_domains
from eventlog.record import stream_id
from eventlog.store import Snapshot
from eventlog.views import View

DOMAIN_KEY = b"d"
ITEM_KEY = b"i"
TOTALS_KEY = b"n"
THROTTLE_KEY = b"t"
SUSPENSION_KEY = b"s"
DAY_KEY = b"b"
RETURN_KEY = b"v"
DAY_MS = 86_400_000
DAYS_KEPT = 30

State = Literal["waiting", "delivered", "failed"]


class Recipient(NamedTuple):
    address: str
    state: State
    next_ms: int  # not to be tried again before
    reason: str  # what the last attempt said
    options: RecipientOptions = NO_RECIPIENT_OPTIONS
    code: int = 0  # of the last attempt's reply
    enhanced: str = ""
    host: str = ""


class Claimed(NamedTuple):
    node: str
    until_ms: int


class Item(NamedTuple):
    id: bytes
    tenant: bytes
    sender: str
    recipients: tuple[Recipient, ...]
    digest: bytes
    size: int
    trace: bytes
    expires_ms: int
    queued_ms: int
    attempts: int
    claim: Claimed | None  # the last one; it may have run out
    options: MailOptions = NO_OPTIONS
    held: bool = False
    route: str = ""
    warned: bool = False
    duplicates: int = 0  # times that it may have been sent without our knowing
    counted: bool = False
    session: bytes = b""  # the id of the connection that brought it

    @property
    def next_ms(self) -> int | None:
        """When the next attempt is due; None when every recipient is settled."""
        return min((one.next_ms for one in self.recipients if one.state == "waiting"), default=None)


class Totals(NamedTuple):
    items: int = 0
    bytes: int = 0


class Throttle(NamedTuple):
    until_ms: int
    reason: str
    level: int


class Suspension(NamedTuple):
    since_ms: int
    reason: str


class Day(NamedTuple):
    """Recipients by what became of them; `day` counts from 1970."""

    day: int
    delivered: int = 0
    failed: int = 0
    deferred: int = 0
    unknown: int = 0  # attempts that may have delivered
    taken_over: int = 0  # items whose holder let its claim run out: these may have been delivered too


_ITEM_FIELDS = Item._fields[1:]
_ITEM_DEFAULTS = tuple(Item._field_defaults.get(name) for name in _ITEM_FIELDS)
_ITEM_BASE = len(_ITEM_FIELDS) - len(Item._field_defaults)
_RECIPIENT_DEFAULTS = tuple(Recipient._field_defaults.get(name) for name in Recipient._fields)
_RECIPIENT_BASE = len(Recipient._fields) - len(Recipient._field_defaults)


def queue_stream(domain: str) -> bytes:
    """The stream of the queue for a normalised destination domain."""
    return stream_id("queue", domain)


EVERY_QUEUE = queue_stream(EVERY_DOMAIN)


def item_key(item_id: bytes) -> bytes:
    return ITEM_KEY + item_id


def day_key(day: int) -> bytes:
    return DAY_KEY + day.to_bytes(4, "big")


def put_item(view: View, item: Item) -> None:
    recipients = tuple([_trimmed(one, _RECIPIENT_DEFAULTS, _RECIPIENT_BASE) for one in item.recipients])
    view.put(ITEM_KEY + item.id, _trimmed((*item[1:3], recipients, *item[4:]), _ITEM_DEFAULTS, _ITEM_BASE))


def _trimmed(values: tuple[Any, ...], defaults: tuple[Any, ...], base: int) -> tuple[Any, ...]:
    end = len(values)
    while end > base and values[end - 1] == defaults[end - 1]:
        end -= 1
    return tuple(values[:end])


def from_row(item_id: bytes, row: tuple[Any, ...]) -> Item:
    built = Item(item_id, *row)
    return built._replace(
        recipients=tuple([_recipient(one) for one in built.recipients]),
        claim=Claimed(*built.claim) if built.claim else None,
        options=MailOptions(*built.options),
    )


def _recipient(row: tuple[Any, ...]) -> Recipient:
    built = Recipient(*row)
    return built._replace(options=RecipientOptions(*built.options)) if built.options else built


def items(view: View) -> list[Item]:
    """What is queued for this destination, oldest first."""
    return [from_row(key[1:], row) for key, row in view.range(ITEM_KEY)]


def items_after(view: View, after: bytes = b"") -> Iterator[Item]:
    """The same, lazily, from behind an item's id."""
    start = after + b"\0" if after else b""
    return (from_row(key[1:], row) for key, row in view.range(ITEM_KEY, start))


def item(view: View, item_id: bytes) -> Item | None:
    row = view.peek(ITEM_KEY + item_id)
    return from_row(item_id, row) if row else None


def domain(view: View) -> str | None:
    """The destination domain; None before anything was queued."""
    name: str | None = view.peek(DOMAIN_KEY)
    return name


def totals(view: View) -> Totals:
    """How many items wait here, and their bytes, of those that were queued since totals are kept."""
    return Totals(*(view.peek(TOTALS_KEY) or ()))


def throttle(view: View) -> Throttle | None:
    """The last throttle, which may be past: its level stands until something is delivered."""
    row = view.peek(THROTTLE_KEY)
    return Throttle(*row) if row else None


def suspension(view: View) -> Suspension | None:
    row = view.peek(SUSPENSION_KEY)
    return Suspension(*row) if row else None


def days(view: View) -> list[Day]:
    """The days of the last month on which something was tried, oldest first."""
    return [Day(int.from_bytes(key[1:], "big"), *row) for key, row in view.range(DAY_KEY)]


def returned(view: View, since_day: int) -> int:
    """Recipients whose mail was taken and came back, from that day on (days count from 1970)."""
    return sum(count for _, count in view.range(RETURN_KEY, since_day.to_bytes(4, "big")))


def queues(snapshot: Snapshot) -> list[str]:
    """Destination domains that ever had a queue, sorted; `queue_stream` finds each."""
    return queue_domains(snapshot.view(REGION))

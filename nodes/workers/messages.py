"""What stands in the messages between a node and its workers: outcomes, applied events, configurations.

Plain MessagePack types only. Of what `evolve` gave, the changes of mailboxes are told; front ends ask for no other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

from actors.kind import decode
from actors.mailbox import Change, FlagsOfMany
from eventlog.errors import LogError, OutcomeUnknown, Rejected
from eventlog.log import Applied, Committed
from eventlog.record import By, Event, Stamp

COMMITTED, REJECTED, UNKNOWN = 0, 1, 2

Row = tuple[Any, ...]


def pack_outcome(outcome: asyncio.Future[Committed]) -> Row:
    """What became of a proposal."""
    error = None if outcome.cancelled() else outcome.exception()
    if outcome.cancelled() or error is not None:
        return pack_error(error or OutcomeUnknown("the node gave it up"))
    position, at_ms, results = outcome.result()
    return (COMMITTED, position, at_ms, [_pack_result(one) for one in results])


def pack_error(error: BaseException) -> Row:
    """Of a proposal that failed: what is no refusal may have taken effect."""
    if isinstance(error, Rejected):
        return (REJECTED, error.reason, error.detail)
    return (UNKNOWN, str(error) or type(error).__name__, "")


def settle(caller: asyncio.Future[Committed], outcome: Row) -> None:
    """Gives an outcome to who waits for it."""
    if caller.done():
        return
    if outcome[0] == COMMITTED:
        _, position, at_ms, results = outcome
        caller.set_result(Committed(position, at_ms, tuple(map(_read_result, results))))
    else:
        caller.set_exception(read_error(outcome))


def read_error(outcome: Row) -> LogError:
    kind, first, second = outcome
    return Rejected(first, second) if kind == REJECTED else OutcomeUnknown(first)


def pack_applied(items: Iterable[Applied]) -> list[Row]:
    """Events that took effect; the facts are in them."""
    return [(one.stamp, one.event, _pack_result(one.result)) for one in items]


def read_applied(rows: Sequence[Row]) -> list[Applied]:
    """Raises UnknownEvent for one of a later program, which the node that sent it is not."""
    found = []
    for stamp, event, result in rows:
        whole = Event(*event)
        position, at_ms, term, record_id, by, cause, level = stamp
        told = Stamp(position, at_ms, term, record_id, By(*by), cause, level)
        fact = decode(whole.type, whole.version, whole.data)
        found.append(Applied(told, whole, fact, _read_result(result)))
    return found


def _pack_result(result: Any) -> Sequence[Row] | None:
    return result if isinstance(result, list) and all(isinstance(one, Change | FlagsOfMany) for one in result) else None


def _read_result(rows: Sequence[Row] | None) -> list[Change | FlagsOfMany] | None:
    if rows is None:
        return None
    return [Change(*row) if len(row) == len(Change._fields) else FlagsOfMany(*row) for row in rows]

"""The feature level of the cell: which event types may be written, so that every node can read what is.

Each version of the program knows a highest level, and tells it to the leader. The level in force is an event like any
other; it only rises, when every member knows the higher one. An event type says since which level it may be written.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import msgpack

from eventlog.record import NO_TENANT, SALT_BYTES, By, Event, Record, RecordError, decode, decode_events, stream_id
from eventlog.tables import LOG_HEAD

if TYPE_CHECKING:
    from eventlog.store import Snapshot
    from eventlog.views import View

OLDEST = 1  # of a cell whose log says nothing of levels: the first release
NEWEST = 3  # what this program knows
MEMBERS_SINCE = 2  # the members of the cell stand in its log
TAILS_SINCE = 3  # rows of a database may have tails (eventlog/tails.py); until then an earlier release may come back

SYNC_SINCE = 3  # accounts note what was expunged, rows of messages say when they were saved

LEVEL = stream_id("log", "level")
FEATURE_LEVEL_RAISED = "FeatureLevelRaised"
EXPIRES_MS = 60_000

_ROW = b"l"  # -> level


def raise_record(level: int, by: By, cause: str, now_ms: int, entropy: Callable[[int], bytes]) -> Record:
    """The record that raises the level; a second one changes nothing. `entropy` gives so many random bytes."""
    data = bytes(msgpack.packb((level,)))
    event = Event(NO_TENANT, LEVEL, FEATURE_LEVEL_RAISED, 1, data, entropy(SALT_BYTES))
    id_ = now_ms.to_bytes(6, "big") + entropy(10)
    return Record(id_, now_ms + EXPIRES_MS, by, cause, (), (event,))


def raised_by(data: bytes) -> int:
    """The level to which a record raises the cell. Raises RecordError for another record."""
    events = decode(data).events
    if len(events) != 1 or events[0].stream != LEVEL or events[0].type != FEATURE_LEVEL_RAISED:
        raise RecordError("it does not raise the feature level")
    return raised_to(events[0])


def raised_to(event: Event) -> int:
    """The level that the event names."""
    return int(msgpack.unpackb(event.data, use_list=False)[0])


def why_not_raise(level: int, known: Mapping[str, int]) -> str | None:
    """Why the cell can not be raised to a level, by what its members know: a reason, a colon, what to tell people."""
    behind = [name for name in sorted(known) if known[name] < level]
    if not behind:
        return None
    told = ", ".join(f"{name} ({f'it knows {known[name]}' if known[name] else 'it has not said'})" for name in behind)
    return f"feature_level: not every member is known to know feature level {level}: {told}"


def why_not_write(needed: int, level: int) -> str | None:
    """Why what was introduced with level `needed` can not be written at `level` yet."""
    if needed <= level:
        return None
    return (
        f"feature_level: this needs feature level {needed} and the cell is at {level}; once every node runs this "
        "version: mailraft cluster upgrade, which names those that do not"
    )


def evolve(view: View, event: Event) -> int:
    """Folds the event; gives the level in force."""
    level = max(in_force(view), raised_to(event))
    view.put(_ROW, level)
    return level


def history(snapshot: Snapshot, last: int | None = None) -> list[tuple[int, int]]:
    """Each position up to `last` at which the level was raised, ascending, and the level behind it."""
    raised, level = [], OLDEST
    for position, value in snapshot.stream_entries(LEVEL, last):
        for event in decode_events(value[LOG_HEAD.size :], LEVEL)[3]:
            level = max(level, raised_to(event))
        raised.append((position, level))
    return raised


def at(history: list[tuple[int, int]], position: int) -> int:
    """The level that a record at this position found."""
    before = bisect_left(history, (position,))
    return history[before - 1][1] if before else OLDEST


def in_force(view: View) -> int:
    """The level that a node has folded."""
    row = view.peek(_ROW)
    return OLDEST if row is None else int(row)

"""Who is told of what takes effect on this node: subscribers to one stream, or to all.

Event loop only. What a tick has folded is told in the log's order; a subscriber that fails keeps nobody else from it.
"""

import contextlib
from collections.abc import Callable
from typing import Any, NamedTuple

import structlog

from eventlog.fold import Folded
from eventlog.record import Event, Stamp

_tuple = tuple.__new__  # of a NamedTuple: as its own constructor, at half the cost
_log = structlog.get_logger("mailraft.log")


class Applied(NamedTuple):
    """One event that took effect: the decoded fact, and what `evolve` gave for it."""

    stamp: Stamp
    event: Event
    fact: Any
    result: Any


Callback = Callable[[list[Applied]], None]


class Subscriptions:
    """The subscribers of one node."""

    def __init__(self) -> None:
        self._by_stream: dict[bytes | None, list[Callback]] = {}  # None: to all streams

    def add(self, stream: bytes | None, callback: Callback) -> Callable[[], None]:
        """Has `callback` told of a stream (None: of all) from the next tick on; what is given ends that."""
        self._by_stream.setdefault(stream, []).append(callback)

        def unsubscribe() -> None:
            callbacks = self._by_stream.get(stream, [])
            with contextlib.suppress(ValueError):
                callbacks.remove(callback)
            if not callbacks:
                self._by_stream.pop(stream, None)

        return unsubscribe

    def tell(self, folded: list[Folded]) -> None:
        """Tells of what a tick has folded."""
        subscribed = self._by_stream
        if not subscribed:
            return
        everything: list[Applied] = []
        by_stream: dict[bytes, list[Applied]] = {}
        to_all = None in subscribed
        for stamp, record, _, facts, results in folded:
            for event, fact, result in zip(record.events if record else (), facts, results, strict=True):
                stream = event.stream
                is_followed = stream in subscribed
                if to_all or is_followed:
                    applied = _tuple(Applied, (stamp, event, fact, result))
                    everything.append(applied)
                    if is_followed:
                        by_stream.setdefault(stream, []).append(applied)
        for stream, items in by_stream.items():
            self._tell(stream, items)
        if to_all and everything:
            self._tell(None, everything)

    def _tell(self, stream: bytes | None, items: list[Applied]) -> None:
        for callback in tuple(self._by_stream.get(stream, ())):
            try:
                callback(items)
            except Exception as error:  # one that fails must not keep the others, or the log, from going on
                _log.error("a subscriber failed", code="subscriber_failed", error=repr(error), exc_info=True)

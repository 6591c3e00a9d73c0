"""Who is told of the log's changes to a mailbox: the sessions that look at it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eventlog.log import Applied, EventLog

Callback = Callable[[list["Applied"]], None]


class Watchers:
    """Hands the log's changes to the sessions that look at the mailbox.

    One subscription to everything, from before the first session on: a change that is being folded while a session
    begins to watch is then either in the snapshot that the session takes next, or still comes here.
    """

    def __init__(self, log: EventLog) -> None:
        self._by_stream: dict[bytes, list[Callback]] = {}
        self.close = log.subscribe(None, self._applied)

    def watch(self, stream: bytes, callback: Callback) -> Callable[[], None]:
        """Gives the function that ends it."""
        callbacks = self._by_stream.setdefault(stream, [])
        callbacks.append(callback)

        def unwatch() -> None:
            if callback in callbacks:
                callbacks.remove(callback)
            if not callbacks and self._by_stream.get(stream) is callbacks:
                del self._by_stream[stream]

        return unwatch

    def _applied(self, items: list[Applied]) -> None:
        if not self._by_stream:
            return
        for item in items:
            for callback in tuple(self._by_stream.get(item.event.stream, ())):
                callback([item])

"""What a stream's tables say, kept in memory until the stream changes: for what is asked with each message.

A read of LMDB lets go of the interpreter lock and has to win it back; policies are read a thousand times a second and
change once a month.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from eventlog.log import Applied, EventLog
    from eventlog.views import View

T = TypeVar("T")


class Followed(Generic[T]):
    """The value that `read` makes of a stream's rows. Event loop only."""

    def __init__(self, log: EventLog, stream: bytes, read: Callable[[View], T]) -> None:
        self._log = log
        self._stream = stream
        self._read = read
        self._kept: list[T] = []  # none, or the one
        log.subscribe(stream, self._changed)  # first, as what no later snapshot shows will be told

    @property
    def value(self) -> T:
        """As of now."""
        if not self._kept:
            with self._log.snapshot() as snapshot:
                self._kept.append(self._read(snapshot.view(self._stream)))
        return self._kept[0]

    def _changed(self, _: list[Applied]) -> None:
        self._kept.clear()

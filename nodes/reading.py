"""What a front end reads a mailbox through: as it is now, or as it was at a moment of the log.

Every read is short and never held across an await. The two sources give the same thing, so that no command of a
protocol knows which of them it reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import NamedTuple, Protocol

from actors.directory import Target
from eventlog.log import EventLog
from eventlog.views import View


class Reading(NamedTuple):
    """A mailbox's tables, and the bytes of a message's body by digest (None where they are not kept)."""

    view: View
    body: Callable[[bytes], bytes | None]


class Source(Protocol):
    """Where a session reads its mailbox."""

    def __call__(self) -> AbstractContextManager[Reading]: ...


class Present:
    """The mailbox as it is now."""

    def __init__(self, log: EventLog, target: Target) -> None:
        self._log = log
        self._target = target

    @contextmanager
    def __call__(self) -> Iterator[Reading]:
        target = self._target
        with self._log.snapshot() as snapshot:
            yield Reading(snapshot.view(target.account), lambda digest: snapshot.body(target.tenant, digest))

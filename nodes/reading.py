"""What a front end reads a mailbox through: as it is now, or as it was at a moment of the log.

Every read is short and never held across an await. The two sources give the same thing, so that no command of a
protocol knows which of them it reads.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple, Protocol

from actors import custody
from actors.directory import Target
from actors.kind import Fact, decode, encode
from actors.mailbox_terms import MessageAppended, MessageDelivered
from actors.redaction import PLACEHOLDER, PLACEHOLDER_DIGEST
from actors.registry import fold_event
from eventlog.fold import Evolve
from eventlog.log import EventLog
from eventlog.record import ERASED_SALT_BYTES, Event, Stamp
from eventlog.store import Snapshot
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


def body_of(snapshot: Snapshot, tenant: bytes, digest: bytes) -> bytes | None:
    """A message's bytes; of one that was redacted, what is shown instead, wherever it is asked for."""
    return PLACEHOLDER if digest == PLACEHOLDER_DIGEST else snapshot.body(tenant, digest)


def folded_as_shown(snapshot: Snapshot) -> Evolve:
    """The fold for a look back: a message whose content has been redacted since is shown as one then, too.

    Its size is that of what is shown, so that a client gets as many octets as it was told.
    """
    custody_rows = snapshot.view(custody.CUSTODY)

    def evolve(view: View, event: Event, stamp: Stamp) -> tuple[Fact, Any]:
        if event.type in (MessageDelivered.TYPE, MessageAppended.TYPE):
            fact = decode(event.type, event.version, event.data)
            assert isinstance(fact, MessageDelivered | MessageAppended)
            redacted = custody.body_redacted_at(custody_rows, event.tenant, fact.digest) is not None
            if redacted and not snapshot.has_body(event.tenant, fact.digest):
                shown = dataclasses.replace(fact, digest=PLACEHOLDER_DIGEST, size=len(PLACEHOLDER), trace=b"")
                event = event._replace(data=encode(shown), version=shown.VERSION)
            elif len(event.salt) == ERASED_SALT_BYTES:
                data = snapshot.body(event.tenant, fact.digest)
                shown = dataclasses.replace(fact, size=len(data) if data is not None else fact.size)
                event = event._replace(data=encode(shown), version=shown.VERSION)
        return fold_event(view, event, stamp)

    return evolve

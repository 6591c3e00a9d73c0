"""How a tick becomes durable: in a commit of the database, or ahead of it where few entries are all that must last.

What is ahead is in the open transaction too, and committed with what comes next, or when it has waited long enough
(docs/ADR/0048-ahead-of-the-database.md).
"""

import lmdb
import msgpack
import structlog

from eventlog.ticks import Ticking

SETTLE_S = 0.02  # what is on disk ahead of the database is committed after so long, or twice that amid appends

_packb = msgpack.Packer(use_bin_type=True, autoreset=True).pack
_log = structlog.get_logger("mailraft.writer")


class Durability(Ticking):
    """A tick that can be put on disk."""

    def _make_durable(self, now: float) -> None:
        """Puts on disk what the tick has done: ahead of the database where that is all that anybody waits for."""
        store, journal = self._store, self._journal
        if not store.dirty:
            return
        if self._can_wait(now):
            if not (journal.must_last or journal.term_changed) and self._settle_due:
                return  # this tick has done nothing that must last
            if self._write_ahead():
                self._settle_due = self._settle_due or now + SETTLE_S
                journal.committed()
                return
        self._commit()

    def _can_wait(self, now: float) -> bool:
        """Whether the database need not have this tick yet: nobody reads entries in it, but what is folded."""
        if self._stopping or not self._writable or self._fold.applied != self._applied_before:
            return False
        due = self._settle_due
        return not due or now < due or (now < due + SETTLE_S and bool(self._journal.small_addition()))

    def _waits_for_entries(self, now: float) -> bool:
        """Whether all that anybody waits for is that few entries are on disk."""
        return self._store.ahead is not None and self._can_wait(now) and bool(self._journal.small_addition())

    def _write_ahead(self) -> bool:
        ahead, added = self._store.ahead, self._journal.small_addition()
        if ahead is None or not added:
            return False
        rows = [(index, term, each.kind, each.at_ms, each.data, each.bodies) for each, index, term in added]
        payload = bytes(_packb(rows))
        return ahead.takes(len(payload)) and ahead.write(payload)

    def _commit(self) -> None:
        self._writable = self._writable or self._store.dirty
        self._store.commit(last=self._journal.must_last or self._journal.term_changed)
        self._journal.committed()
        self._settle_due, self._fold_waits = 0.0, False

    def _commit_found(self) -> bool:
        """Has the database hold what was found ahead of it: the thread that began a transaction must end it.

        False where it can not be written: then the first tick finds it anew.
        """
        try:
            self._store.commit()
            self._journal.committed()
            return True
        except lmdb.Error as error:
            _log.error("what was found could not be written", code="not_writable", error=str(error))
            self._store.abort()
            return False

    def _deadline(self) -> float:
        deadline = self._raft.next_deadline()
        return min(deadline, self._settle_due) if self._settle_due else deadline

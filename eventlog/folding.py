"""What of a tick is folded: all that is committed, within a budget, unless it can wait or the fold is stalled."""

import time

import structlog

from eventlog.durability import Durability
from eventlog.errors import FoldStalled
from eventlog.fold import Folded, Outcome
from eventlog.ticks import Answer

FOLD_BUDGET_S = 0.05  # a heartbeat must not wait for a long fold

_COMMITTED = Outcome.COMMITTED  # an enum's class takes long to find a member
_log = structlog.get_logger("mailraft.writer")


class Folding(Durability):
    """A tick that folds, and notes what callers of this node and subscribers are told."""

    def _behind(self) -> bool:
        return self._stalled is None and self._fold.applied < self._raft.commit_index

    def _may_fold_later(self, now: float) -> bool:
        """Whether what is committed is folded with what follows, because that is near and nobody here waits for it.

        A follower has few entries to put on disk first, which its leader waits for; a leader expects more of them.
        """
        if self._wanted or self._store.ahead is None or self._fold.applied < self._awaited:
            return False
        if self._raft.is_leader:
            return self._can_wait(now) and self._raft.expects_entries() and self._settle_due > 0
        return self._waits_for_entries(now)

    def _fold_committed(self) -> None:
        """Folds what is committed, for as long as the budget lasts; the next tick goes on."""
        self._take_way_out()
        if not self._behind():
            return
        deadline = time.monotonic() + FOLD_BUDGET_S
        journal, fold = self._journal, self._fold
        some_quarantined = journal.quarantines_some
        for index in range(fold.applied + 1, self._raft.commit_index + 1):
            if some_quarantined and journal.quarantine_of(index) is not None and not journal.is_quarantined(index):
                self._stalled = f"record {index}: its quarantine is not committed yet"
                self._awaiting_quarantine = True
                return
            try:
                self._note(fold.apply(journal.entry(index)))
            except FoldStalled as error:
                self._stalled = str(error)
                told = {"code": error.code, "position": index, "error": str(error), "cause": error.cause}
                _log.error("the fold is stalled", **told, exc_info=True)
                return
            if index % 32 == 0 and time.monotonic() > deadline:
                return

    def _take_way_out(self) -> None:
        """Goes on where the fold was stalled once its quarantine is committed; or, never committed, is gone."""
        index = self._fold.applied + 1
        if self._stalled is not None and (
            self._journal.is_quarantined(index)
            or (self._awaiting_quarantine and self._journal.quarantine_of(index) is None)
        ):
            _log.warning("the fold goes on", position=index, quarantined=self._journal.is_quarantined(index))
            self._stalled, self._awaiting_quarantine = None, False

    def _note(self, folded: Folded) -> None:
        """Keeps what callers of this node wait for, and what took effect: the loop knows who subscribed to what."""
        stamp, record, outcome, _, results = folded
        if record is None:
            return
        if outcome is _COMMITTED:
            self._folded.append(folded)
        if record.id in self._wanted:
            position = stamp.position
            if outcome is Outcome.DUPLICATE:
                outcome, position = self._fold.first_outcome(record)
            self._answers.append(Answer(record.id, outcome, position, stamp.at_ms, results))

"""What a leader proposes by itself: level and members of a new cell, a learner's vote, the end of unclaimed chunks.

Asked in each tick of the consensus thread, so what is not due must cost next to nothing.
"""

import random
from typing import NamedTuple

from eventlog import levels, uploads
from eventlog.fold import Fold
from eventlog.journal import KIND_CONFIG, KIND_RECORD, LmdbJournal
from eventlog.members import Members, change_record, promoted
from eventlog.raft import Raft
from eventlog.record import By, Record, encode
from eventlog.store import Store

COLLECT_EVERY_S = 60.0
ASK_AGAIN_S = 5.0  # for a level that was proposed and is not folded yet


class Due(NamedTuple):
    """A record to propose; `kind` is that of its entry."""

    id: bytes
    data: bytes
    kind: int


class Duties:
    """Of one node; they are due only while it leads and its fold goes on."""

    def __init__(
        self, store: Store, journal: LmdbJournal, raft: Raft, fold: Fold, rng: random.Random, now: float
    ) -> None:
        self._store, self._journal, self._raft, self._fold = store, journal, raft, fold
        self._rng = rng
        self._born = int(store.get_meta(b"born", levels.OLDEST))
        self._level_due = 0.0
        self.collect_due = now + COLLECT_EVERY_S

    def of_members(self, now: float, now_ms: int) -> Due | None:
        """The next step that the cell needs; none while a change is under way."""
        raft = self._raft
        if not raft.can_serve_reads:
            return None
        if self._fold.level == levels.OLDEST:
            return self._found_cell(now, now_ms)
        if raft.config.position == 0:
            return self._put_in_force(raft.config.members, "as configured", now_ms)
        name = raft.caught_up()
        if name is None or raft.levels_known()[name] < self._fold.level:
            return None
        return self._put_in_force(promoted(raft.config.members, name), "caught up", now_ms)

    def of_chunks(self, now: float, now_ms: int) -> Due | None:
        """Now and then: to drop chunks of large bodies that nothing claimed."""
        if now < self.collect_due:
            return None
        self.collect_due = now + COLLECT_EVERY_S
        before_ms = self._journal.last_at_ms - uploads.CLAIM_MS
        with self._store.snapshot() as snapshot:
            chunks = uploads.unclaimed(snapshot.view(uploads.UPLOADS), before_ms)
        if not chunks:
            return None
        return Due(*uploads.collection(chunks, before_ms, now_ms, self._raft.name), KIND_RECORD)

    def _found_cell(self, now: float, now_ms: int) -> Due | None:
        """A new cell begins at the newest level that all know; an older one waits until it is told to upgrade."""
        if self._born == levels.OLDEST or now < self._level_due:
            return None
        level = min(self._raft.levels_known().values())
        if level <= levels.OLDEST:
            return None
        self._level_due = now + ASK_AGAIN_S
        record = levels.raise_record(level, self._by(), "a new cell", self._at_ms(now_ms), self._rng.randbytes)
        return _due(record, KIND_RECORD)

    def _put_in_force(self, members: Members, cause: str, now_ms: int) -> Due | None:
        if self._raft.why_no_change(members) is not None:
            return None
        record = change_record(members, self._by(), cause, self._at_ms(now_ms), self._rng.randbytes)
        return _due(record, KIND_CONFIG)

    def _by(self) -> By:
        return By("node", self._raft.name.encode(), "leader")

    def _at_ms(self, now_ms: int) -> int:
        """The log's time may be ahead of this node's clock."""
        return max(now_ms, self._journal.last_at_ms)


def _due(record: Record, kind: int) -> Due:
    return Due(record.id, encode(record), kind)

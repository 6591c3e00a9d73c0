"""Which proposals a leader takes into its log: its own, those of peers, and what it proposes by itself.

A reason not to take one is a word, or a word, a colon and what to tell people.
"""

from eventlog import custody, levels
from eventlog.duties import Due
from eventlog.folding import Folding
from eventlog.journal import KIND_CONFIG, KIND_RECORD, Command
from eventlog.members import members_in
from eventlog.record import RecordError, decode
from eventlog.ticks import KIND_LEVEL, Proposal

MAX_UNCOMMITTED = 20_000
PROPOSER_CLOCK_MS = 5000
SMALL_RECORD_BYTES = 16 * 1024  # what may still be written from the reserve: votes, expunges, redactions


class Admission(Folding):
    """A tick that takes proposals, or refuses them."""

    def _propose(self, proposal: Proposal, now_ms: int) -> bool:
        reason = self._why_not(proposal, now_ms)
        if reason is not None:
            self._refuse(proposal, reason)
            return False
        self._proposals.append(proposal)
        self._free_bytes -= 2 * proposal.size_bytes  # until it is measured again; LMDB stores in whole pages
        at_ms = max(now_ms, self._journal.last_at_ms)
        if proposal.kind == KIND_CONFIG:
            self._raft.change_members(Command(KIND_CONFIG, at_ms, proposal.data))
            self._expect(proposal)
            return True
        kind = custody.KIND_QUARANTINE if self._stalled else KIND_RECORD
        command = Command(kind, at_ms, proposal.data, proposal.bodies)
        if proposal.encoded is not None:
            command.known_as(proposal.encoded.record, proposal.encoded.header)
        elif proposal.origin is not None and proposal.token:
            command.held = proposal.origin, proposal.token
        self._raft.propose(command)
        self._expect(proposal)
        return True

    def _propose_due(self, due: Due | None, now_ms: int) -> bool:
        """Proposes what is this leader's own duty, if something is; true if it was appended."""
        return due is not None and self._propose(Proposal(due.id, due.data, (), now_ms, None, None, due.kind), now_ms)

    def _expect(self, proposal: Proposal) -> None:
        """The peer that forwarded it wants to hear at once that it is committed."""
        if proposal.origin is not None:
            self._raft.asked_by(proposal.origin, self._journal.last_index)

    def _refuse(self, proposal: Proposal, reason: str) -> None:
        if proposal.origin is None:
            self._refusals.append((proposal.id, reason))
        else:
            self._messages.append((proposal.origin, {"type": "refused", "id": proposal.id, "reason": reason}))

    def _why_not(self, proposal: Proposal, now_ms: int) -> str | None:
        if not self._raft.is_leader or self._raft.is_handing_over:
            return "not_leader"
        if self._clock_is_off or abs(proposal.clock_ms - now_ms) > PROPOSER_CLOCK_MS:
            return "clock"
        if self._journal.last_index - self._raft.commit_index > MAX_UNCOMMITTED:
            return "busy"
        if self._stalled and not self._is_way_out(proposal, now_ms):
            return "busy"
        small = not proposal.bodies and len(proposal.data) <= SMALL_RECORD_BYTES
        if self._free_bytes < (self._reserve_bytes // 8 if small else self._reserve_bytes):
            self._refused_for_space = self._raft.low_on_space = True
            return "disk_full"
        return None if proposal.kind == KIND_RECORD else self._why_not_change(proposal)

    def _why_not_change(self, proposal: Proposal) -> str | None:
        """Of a change of the members, or of the feature level: a reason, a colon, what to tell people."""
        if proposal.kind == KIND_CONFIG:
            behind = levels.why_not_write(levels.MEMBERS_SINCE, self._fold.level)
            return behind or self._raft.why_no_change(members_in(proposal.data)) or self._why_not_again(proposal)
        if proposal.kind == KIND_LEVEL:
            return levels.why_not_raise(levels.raised_by(proposal.data), self._raft.levels_known())
        return "bad_record: a proposal of no kind that this version knows"

    def _why_not_again(self, proposal: Proposal) -> str | None:
        """A change that is sent again must not be made again: the cell may have changed since."""
        if self._fold.applied < self._raft.config.position:
            return "change_under_way: a change of the members is under way; ask again"
        record = decode(proposal.data)
        if self._journal.last_at_ms > record.expires_ms or self._fold.is_known(record):
            return "members_changed: this change was asked for before; look and ask again"
        return None

    def _is_way_out(self, proposal: Proposal, now_ms: int) -> bool:
        """Whether it quarantines what this node is stalled at: nothing else is taken meanwhile."""
        try:
            record = proposal.encoded.record if proposal.encoded is not None else decode(proposal.data)
        except RecordError:
            return False
        at_ms = max(now_ms, self._journal.last_at_ms)
        return custody.quarantined_by(record, self._journal.last_index + 1, at_ms) == self._fold.applied + 1

    def _hand_over(self, token: bytes, name: str, timeout_s: float, origin: str | None) -> None:
        reason = self._raft.hand_over(name, timeout_s)
        if reason is not None:
            self._refuse(Proposal(token, b"", (), 0, origin), reason)

    def _leads(self) -> bool:
        return self._raft.is_leader and not self._stalled

"""Whatever is done to a mailbox, in whatever order, its tables stay true to themselves and to its history."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from actors.errors import CommandRefused
from actors.kind import Command, Fact
from actors.mailbox import (
    SEEN,
    Append,
    Change,
    ChangeFlags,
    CloseMailbox,
    CopyMessages,
    CreateFolder,
    DeleteFolder,
    Deliver,
    Expunge,
    FlagsOfMany,
    Mode,
    MoveMessages,
    RenameFolder,
    SpreadFlags,
    Subscribe,
    Unsubscribe,
    counters,
    folders,
    is_open,
    messages,
    usage,
)
from tests.actors.mail import a_message, an_id, open_mailbox
from tests.actors.stage import DictTables, Stage

MODES: list[Mode] = ["add", "remove", "replace"]
FLAGS = st.lists(st.sampled_from(["\\Seen", "\\Deleted", "\\Flagged", "work", "WORK"]), max_size=3).map(tuple)
UIDS = st.lists(st.integers(1, 12), max_size=6).map(tuple)
NAMES = st.sampled_from(["a", "a/b", "a/b/c", "b", "Sent", "INBOX/x", "inbox"])
SIZES = st.integers(1, 400)


class Mailbox(RuleBasedStateMachine):
    """Commands at random; some are decided now and folded later, when the state is no longer what they saw."""

    def __init__(self) -> None:
        super().__init__()
        self.stage = Stage(DictTables(b"a" * 16))
        self.used_uids: set[tuple[bytes, int]] = set()
        self.uidvalidities: dict[int, bytes] = {}
        self.modseq = 0
        self.late: list[tuple[Fact, ...]] = []

    @initialize()
    def open(self) -> None:
        open_mailbox(self.stage, quota_bytes=20_000)

    def carry_out(self, command: Command, late: bool) -> None:
        try:
            facts = self.stage.decide(command)
        except CommandRefused:
            return
        if late:
            self.late.append(facts)
        else:
            self.fold(facts)

    def fold(self, facts: tuple[Fact, ...]) -> None:
        for changes in self.stage.fold(*facts):
            self.note(changes)

    def note(self, found: list[Change | FlagsOfMany]) -> None:
        changes = [change for change in found if isinstance(change, Change)]
        for change in changes:
            if change.kind == "added":
                assert (change.folder, change.uid) not in self.used_uids
                self.used_uids.add((change.folder, change.uid))
            if change.kind in ("added", "expunged"):
                assert change.modseq > self.modseq
        self.modseq = max([self.modseq, *(change.modseq for change in changes)])

    def folder(self, pick: int) -> bytes:
        found = folders(self.stage.view)
        return found[pick % len(found)].id if found else an_id()

    @rule(pick=st.integers(0, 9), flags=FLAGS, size=SIZES, late=st.booleans())
    def append(self, pick: int, flags: tuple[str, ...], size: int, late: bool) -> None:
        self.carry_out(Append(self.folder(pick), a_message(size), flags), late)

    @rule(name=NAMES, size=SIZES, late=st.booleans())
    def deliver(self, name: str, size: int, late: bool) -> None:
        self.carry_out(Deliver(a_message(size), name), late)

    @rule(
        pick=st.integers(0, 9),
        uids=UIDS,
        mode=st.sampled_from(MODES),
        flags=FLAGS,
        since=st.none() | st.integers(1, 40),
        late=st.booleans(),
    )
    def change_flags(
        self, pick: int, uids: tuple[int, ...], mode: Mode, flags: tuple[str, ...], since: int | None, late: bool
    ) -> None:
        self.carry_out(ChangeFlags(self.folder(pick), uids, mode, flags, since), late)

    @rule(pick=st.integers(0, 9), uids=UIDS, mode=st.sampled_from(MODES), flags=FLAGS, late=st.booleans())
    def spread_flags(self, pick: int, uids: tuple[int, ...], mode: Mode, flags: tuple[str, ...], late: bool) -> None:
        spans = tuple((uid, uid + 2) for uid in uids)
        self.carry_out(SpreadFlags(self.folder(pick), spans, mode, flags), late)

    @rule(pick=st.integers(0, 9), to=st.integers(0, 9), uids=UIDS, move=st.booleans(), late=st.booleans())
    def transfer(self, pick: int, to: int, uids: tuple[int, ...], move: bool, late: bool) -> None:
        command = MoveMessages if move else CopyMessages
        self.carry_out(command(self.folder(pick), uids, self.folder(to)), late)

    @rule(pick=st.integers(0, 9), uids=UIDS, force=st.booleans(), late=st.booleans())
    def expunge(self, pick: int, uids: tuple[int, ...], force: bool, late: bool) -> None:
        self.carry_out(Expunge(self.folder(pick), uids, force), late)

    @rule(name=NAMES, late=st.booleans())
    def create(self, name: str, late: bool) -> None:
        self.carry_out(CreateFolder(an_id(), name), late)

    @rule(pick=st.integers(0, 9), name=NAMES, late=st.booleans())
    def rename(self, pick: int, name: str, late: bool) -> None:
        self.carry_out(RenameFolder(self.folder(pick), name, inbox_id=an_id()), late)

    @rule(pick=st.integers(0, 9), late=st.booleans())
    def delete(self, pick: int, late: bool) -> None:
        self.carry_out(DeleteFolder(self.folder(pick)), late)

    @rule(name=NAMES, on=st.booleans())
    def subscribe(self, name: str, on: bool) -> None:
        self.carry_out(Subscribe(name) if on else Unsubscribe(name), late=False)

    @rule(seconds=st.integers(0, 5))
    def time_passes(self, seconds: int) -> None:
        self.stage.at_ms += seconds * 1000

    @rule()
    def fold_what_was_decided_before(self) -> None:
        late, self.late = self.late, []
        for facts in late:
            self.fold(facts)

    @rule(sure=st.integers(0, 30))
    def close(self, sure: int) -> None:
        if sure == 30:
            self.carry_out(CloseMailbox(), late=False)

    @invariant()
    def counters_equal_the_rows(self) -> None:
        view = self.stage.view
        for found in folders(view):
            rows = list(messages(view, found.id))
            counted = counters(view, found.id)
            assert counted.messages == len(rows)
            assert counted.unseen == sum(SEEN not in row.flags for row in rows)
            assert counted.size_bytes == sum(row.size for row in rows)
            assert counted.uidnext > max((row.uid for row in rows), default=0)
            assert counted.highestmodseq >= max((row.modseq for row in rows), default=0)

    @invariant()
    def usage_equals_the_sum_of_the_folders(self) -> None:
        view = self.stage.view
        counted = [counters(view, found.id) for found in folders(view)]
        assert usage(view)[:2] == (sum(one.size_bytes for one in counted), sum(one.messages for one in counted))

    @invariant()
    def names_and_uidvalidities_are_unique(self) -> None:
        found = folders(self.stage.view)
        assert len({one.name for one in found}) == len(found)
        for one in found:
            assert self.uidvalidities.setdefault(one.uidvalidity, one.id) == one.id
        assert not found or is_open(self.stage.view)

    def teardown(self) -> None:
        assert self.stage.refolded_rows() == self.stage.rows()


Mailbox.TestCase.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
test_a_mailbox_stays_consistent = Mailbox.TestCase

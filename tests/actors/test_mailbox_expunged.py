"""Notes of expunged messages: complete as far back as they say, and bounded."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors import mailbox_expunged
from actors.mailbox_expunged import BLOCK_MODSEQS, BLOCKS_KEPT, expunged_since, forget_all, note
from actors.mailbox_rows import counters, message
from actors.mailbox_terms import Expunge, MoveMessages
from eventlog.levels import SYNC_SINCE
from eventlog.views import DictView
from tests.actors.mail import deliver, folder_named, open_mailbox
from tests.actors.stage import Stage

FOLDER, OTHER = b"f" * 16, b"o" * 16


@given(st.lists(st.tuples(st.booleans(), st.sets(st.integers(1, 40), min_size=1)), max_size=30), st.integers(0, 3000))
def test_what_went_since_is_what_was_noted(steps: list[tuple[bool, set[int]]], since: int) -> None:
    view = DictView(b"s" * 16)
    mailbox_expunged.begin(view)
    gone: set[int] = set()
    for step, (here, uids) in enumerate(steps, 1):
        modseq = step * 100
        note(view, FOLDER if here else OTHER, modseq, sorted(uids))
        if here and modseq > since:
            gone |= uids
    spans = expunged_since(view, FOLDER, since)
    assert spans is not None
    assert [uid for first, last in spans for uid in range(first, last + 1)] == sorted(gone)


def test_a_mailbox_from_before_knows_only_what_went_since() -> None:
    view = DictView(b"s" * 16)
    assert expunged_since(view, FOLDER, 5) is None
    note(view, FOLDER, 10, [3, 4])
    assert expunged_since(view, FOLDER, 8) is None
    assert expunged_since(view, FOLDER, 9) == [(3, 4)]


def test_old_notes_go_and_are_not_pretended_to_be_known() -> None:
    view = DictView(b"s" * 16)
    mailbox_expunged.begin(view)
    for block in range(BLOCKS_KEPT + 20):
        note(view, FOLDER, block * BLOCK_MODSEQS + 5, [block + 1])
    assert len(view.rows()) <= BLOCKS_KEPT + 2
    assert expunged_since(view, FOLDER, 19 * BLOCK_MODSEQS - 2) is None
    spans = expunged_since(view, FOLDER, 19 * BLOCK_MODSEQS)
    assert spans == [(20, BLOCKS_KEPT + 20)]


def test_closing_leaves_nothing() -> None:
    view = DictView(b"s" * 16)
    mailbox_expunged.begin(view)
    note(view, FOLDER, 10, [1])
    forget_all(view)
    assert view.rows() == {}


@pytest.mark.parametrize(("uids", "spans"), [([], []), ([1], [(1, 1)]), ([1, 2, 4], [(1, 2), (4, 4)])])
def test_uids_become_spans(uids: list[int], spans: list[tuple[int, int]]) -> None:
    assert mailbox_expunged.spans_of(uids) == spans


def test_a_cell_of_an_earlier_level_is_given_no_row_that_its_other_nodes_would_not_make(stage: Stage) -> None:
    stage.level = SYNC_SINCE - 1
    open_mailbox(stage)
    inbox, trash = folder_named(stage, "INBOX"), folder_named(stage, "Trash")
    first, second, third = deliver(stage, 3)
    stage.do(Expunge(inbox.id, (first,), force=True))
    stage.do(MoveMessages(inbox.id, (second,), trash.id))
    assert {key[:1] for key in stage.rows()} & {b"x", b"X"} == set()
    assert {len(row) for key, (_, row) in stage.rows().items() if key[:1] == b"m"} == {7}
    stage.level = SYNC_SINCE
    stage.do(Expunge(inbox.id, (third,), force=True))
    (saved,) = deliver(stage)
    highest = counters(stage.view, inbox.id).highestmodseq
    assert expunged_since(stage.view, inbox.id, highest - 2) == [(third, third)]
    assert expunged_since(stage.view, inbox.id, 1) is None
    assert message(stage.view, inbox.id, saved).saved_ms is not None  # type: ignore[union-attr]
    assert stage.refolded_rows() == stage.rows()

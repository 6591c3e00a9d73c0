"""The checkpoint of what is followed, and that a followed event folds to what it folded to at home."""

from dataclasses import astuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors import following
from actors.errors import NameTaken, Superseded
from actors.following import ApplyOrigin, EventFollowed, FollowEvent, MoveCheckpoint
from actors.kind import Fact, UnknownEventType, encode
from actors.mailbox import DEFAULT_FOLDERS, MailboxOpened, MessageAppended
from actors.names import NameClaimed
from tests.actors.stage import ACCOUNT, START_MS, TENANT, DictTables, Stage

HOME_MS = START_MS - 86_400_000


def apply(after: int, position: int) -> ApplyOrigin:
    return ApplyOrigin(after, "cell-a", position, bytes(32), HOME_MS, "account 00 imap", "session")


def followed(fact: Fact, position: int = 7) -> FollowEvent:
    return FollowEvent(TENANT, "cell-a", position, 0, HOME_MS, fact.TYPE, fact.VERSION, encode(fact))


def test_the_checkpoint_moves_by_what_was_prepared_on_it_alone(stage: Stage) -> None:
    stage.do(apply(0, 5))
    assert following.checkpoint(stage.view) == (5, bytes(32), HOME_MS, 1)
    for late in (apply(0, 5), apply(0, 6), apply(4, 6), apply(5, 5), apply(5, 4)):
        with pytest.raises(Superseded):
            stage.decide(late)
    stage.do(MoveCheckpoint(5, "cell-a", 90, bytes(32), HOME_MS + 1))
    assert following.checkpoint(stage.view) == (90, bytes(32), HOME_MS + 1, 1)


def test_the_checkpoint_is_guarded_so_that_two_that_follow_can_not_both_commit(stage: Stage) -> None:
    stage.decide(apply(0, 5))
    assert [(guard.key, guard.version) for guard in stage.guards] == [(following.CHECKPOINT_KEY, 0)]


def test_a_mailbox_has_the_uidvalidity_of_its_home(stage: Stage) -> None:
    folders = tuple((bytes([n]) * 16, name, use) for n, (name, use) in enumerate(DEFAULT_FOLDERS))
    opened = MailboxOpened(TENANT, "alice@example.test", folders, None)
    home = Stage(DictTables(ACCOUNT))
    home.at_ms = HOME_MS
    home.fold(opened)
    stage.do(followed(opened))
    assert values(stage) == values(home)
    assert stage.rows() == stage.refolded_rows()


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 10_000)), max_size=20))
def test_messages_get_the_same_uids_and_modseqs(arrivals: list[tuple[int, int]]) -> None:
    folders = tuple((bytes([n]) * 16, name, use) for n, (name, use) in enumerate(DEFAULT_FOLDERS))
    home, replica = Stage(DictTables(ACCOUNT)), Stage(DictTables(ACCOUNT))
    home.at_ms = HOME_MS
    facts: list[Fact] = [MailboxOpened(TENANT, "alice@example.test", folders, None)]
    for number, (folder, size) in enumerate(arrivals):
        id_ = number.to_bytes(16, "big")
        facts.append(MessageAppended(bytes([folder]) * 16, id_, bytes(32), size, HOME_MS, (), b"", None, (), None))
    for fact in facts:
        assert replica.do(followed(fact)) == flat(home.fold(fact))
    assert values(replica) == values(home)


def flat(results: list[object]) -> list[object]:
    return [one for result in results for one in (result if isinstance(result, list) else [result])]


def values(stage: Stage) -> dict[bytes, object]:
    """The rows without their versions, which are positions of each log's own."""
    return {key: value for key, (_, value) in stage.rows().items()}


def test_a_name_that_somebody_here_holds_is_not_taken_from_them(stage: Stage) -> None:
    stage.fold(NameClaimed("domain:example.test", b"l" * 16, b"l" * 16, "domain"))
    with pytest.raises(NameTaken):
        stage.decide(followed(NameClaimed("domain:example.test", TENANT, TENANT, "domain")))


def test_an_event_of_a_later_program_is_not_followed(stage: Stage) -> None:
    with pytest.raises(UnknownEventType):
        stage.decide(FollowEvent(TENANT, "cell-a", 7, 0, HOME_MS, "PigsFlew", 1, b"\x90"))


def test_a_followed_event_carries_what_its_origin_wrote(stage: Stage) -> None:
    (fact,) = stage.decide(followed(NameClaimed("domain:example.test", TENANT, TENANT, "domain"), 9))
    assert isinstance(fact, EventFollowed)
    assert astuple(fact)[:4] == ("cell-a", 9, 0, HOME_MS)

"""Who alone has a maildrop open: what decide allows at which time, and what is left of it."""

import pytest

from actors.errors import MaildropInUse, NoSuchAccount, NotAllowed
from actors.mailbox import CloseMailbox
from actors.mailbox_maildrop import MOST_LEASE_MS, Holder, LockMaildrop, UnlockMaildrop, holder
from tests.actors.mail import open_mailbox
from tests.actors.stage import START_MS, Stage

ONE, TWO = b"1" * 16, b"2" * 16


@pytest.fixture
def opened(stage: Stage) -> Stage:
    open_mailbox(stage)
    return stage


def lock(session: bytes, at_s: float, *, renew: bool = False, lease_s: float = 60) -> LockMaildrop:
    now_ms = START_MS + int(at_s * 1000)
    return LockMaildrop(session, "n1", now_ms + int(lease_s * 1000), now_ms, renew)


def test_a_second_session_is_refused_until_the_first_has_ended(opened: Stage) -> None:
    opened.do(lock(ONE, 0))
    with pytest.raises(MaildropInUse):
        opened.do(lock(TWO, 59))
    assert holder(opened.view) == Holder(ONE, "n1", START_MS + 60_000)
    opened.do(UnlockMaildrop(ONE))
    opened.do(lock(TWO, 59))
    assert holder(opened.view) == Holder(TWO, "n1", START_MS + 119_000)


def test_a_lease_that_is_not_renewed_ends_by_itself(opened: Stage) -> None:
    opened.do(lock(ONE, 0))
    opened.do(lock(ONE, 40, renew=True))
    with pytest.raises(MaildropInUse):
        opened.do(lock(TWO, 99))
    opened.do(lock(TWO, 100))


def test_who_lost_it_can_neither_renew_nor_end_what_another_has(opened: Stage) -> None:
    opened.do(lock(ONE, 0))
    opened.do(lock(TWO, 60))
    with pytest.raises(MaildropInUse):
        opened.do(lock(ONE, 200, renew=True))
    assert opened.do(UnlockMaildrop(ONE)) == []
    assert holder(opened.view) == Holder(TWO, "n1", START_MS + 120_000)
    opened.do(UnlockMaildrop(TWO))
    with pytest.raises(MaildropInUse):
        opened.do(lock(TWO, 70, renew=True))


def test_of_two_who_come_at_once_the_row_decides(opened: Stage) -> None:
    opened.decide(lock(ONE, 0))
    assert b"P" in {guard.key for guard in opened.guards}


@pytest.mark.parametrize("lease_s", [0, -1, MOST_LEASE_MS / 1000 + 1])
def test_nobody_has_it_longer_than_ten_minutes_at_a_time(opened: Stage, lease_s: float) -> None:
    with pytest.raises(NotAllowed):
        opened.do(lock(ONE, 0, lease_s=lease_s))


def test_a_closed_mailbox_has_no_maildrop(opened: Stage) -> None:
    opened.do(lock(ONE, 0))
    opened.do(CloseMailbox())
    assert holder(opened.view) is None
    with pytest.raises(NoSuchAccount):
        opened.do(lock(ONE, 1))

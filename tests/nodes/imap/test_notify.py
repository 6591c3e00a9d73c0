"""NOTIFY over real connections: what happens elsewhere is told without being asked for, and no more than was wanted."""

import contextlib
from collections.abc import Callable, Iterator
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodes.imap import notify
from nodes.imap.cursor import ITEMS_LIMIT
from nodes.imap.errors import BadCommand, Refusal
from nodes.imap.notify_commands import EventGroup, Notify, Which
from nodes.imap.notify_others import covers
from tests.nodes.imap.client import RawClient
from tests.nodes.imap.node import PASSWORD, Node, User
from tests.nodes.imap.test_grammar import parse

Login = Callable[[], RawClient]

MESSAGES = "(MessageNew MessageExpunge FlagChange)"


# -- RFC 5465's grammar


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"a NOTIFY NONE", Notify(())),
        (
            b"b notify set (selected (MessageNew (uid flags) MessageExpunge)) (subtree x (MessageNew MessageExpunge))",
            Notify(
                (
                    EventGroup("SELECTED", frozenset(), frozenset({"MESSAGENEW", "MESSAGEEXPUNGE"}), ("UID", "FLAGS")),
                    EventGroup("SUBTREE", frozenset({"x"}), frozenset({"MESSAGENEW", "MESSAGEEXPUNGE"})),
                )
            ),
        ),
        (
            b"a NOTIFY SET STATUS (mailboxes (INBOX x) NONE) (personal (MailboxName))",
            Notify(
                (
                    EventGroup("MAILBOXES", frozenset({"INBOX", "x"}), frozenset()),
                    EventGroup("PERSONAL", frozenset(), frozenset({"MAILBOXNAME"})),
                ),
                status=True,
            ),
        ),
    ],
)
def test_rfc_5465_8_a_command_is_read(text: bytes, expected: Notify) -> None:
    assert parse(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        b"a NOTIFY",
        b"a NOTIFY SET",
        b"a NOTIFY SET (selected)",
        b"a NOTIFY SET (elsewhere (MessageNew MessageExpunge))",
        b"a NOTIFY SET (personal (MessageNew))",
        b"a NOTIFY SET (personal (FlagChange))",
        b"a NOTIFY SET (selected (MailboxName))",
        b"a NOTIFY SET (selected NONE) (selected-delayed NONE)",
        b"a NOTIFY SET (personal (MessageNew (UID) MessageExpunge))",
    ],
)
def test_rfc_5465_5_what_does_not_go_together_is_bad(text: bytes) -> None:
    with pytest.raises(BadCommand):
        parse(text)


def test_more_names_or_groups_than_anybody_means_are_refused() -> None:
    names = b" ".join(b"m%d" % number for number in range(ITEMS_LIMIT + 1))
    groups = b" (personal (MailboxName))" * (ITEMS_LIMIT + 1)
    for text in (b"a NOTIFY SET (mailboxes (%b) (MailboxName))" % names, b"a NOTIFY SET" + groups):
        with pytest.raises(Refusal) as refused:
            parse(text)
        assert refused.value.code == "LIMIT"


def test_a_name_is_looked_for_in_a_group_once_however_many_it_names() -> None:
    """Forty thousand names and five thousand folders would be two hundred million comparisons."""

    class Counting(frozenset[str]):
        looked = 0

        def __contains__(self, name: object) -> bool:
            Counting.looked += 1
            return super().__contains__(name)

        def __iter__(self) -> Iterator[str]:
            raise AssertionError("every name was looked at")

    names = Counting(f"m{number}" for number in range(ITEMS_LIMIT))
    for which in get_args(Which):
        assert covers(EventGroup(which, names, frozenset()), "m1/b/c", False) is (
            which not in ("INBOXES", "SUBSCRIBED", "MAILBOXES")
        )
    assert Counting.looked <= 4


def test_rfc_5465_5_an_unknown_event_is_answered_by_those_that_are_known() -> None:
    with pytest.raises(Refusal) as refused:
        parse(b"a NOTIFY SET (personal (AnnotationChange))")
    assert refused.value.code is not None
    assert refused.value.code.startswith("BADEVENT (MessageNew ")


# -- over connections


def test_rfc_5465_5_1_a_message_in_another_mailbox_is_told_by_status(node: Node, user: User, login: Login) -> None:
    client, other = login(), login()
    client.ok("SELECT Drafts")
    client.ok(f"NOTIFY SET (personal {MESSAGES})")
    node.deliver(user, b"Subject: x\r\n\r\nx\r\n")
    assert client.response() == b'* STATUS "INBOX" (MESSAGES 1 UIDNEXT 2)'
    other.ok("SELECT INBOX")
    other.ok("STORE 1 +FLAGS (\\Seen)")
    told = client.response()
    assert told.startswith(b'* STATUS "INBOX" (UIDVALIDITY ')
    assert told.endswith(b" UNSEEN 0)")
    other.ok("STORE 1 +FLAGS (\\Deleted)")
    client.response()
    other.ok("EXPUNGE")
    assert client.response() == b'* STATUS "INBOX" (MESSAGES 0)'


def test_rfc_5465_4_how_things_stand_is_told_at_once(node: Node, user: User, login: Login) -> None:
    node.deliver(user, b"Subject: x\r\n\r\nx\r\n")
    (told,) = login().ok(f"NOTIFY SET STATUS (inboxes {MESSAGES})")
    assert told.startswith(b'* STATUS "INBOX" (UIDVALIDITY ')
    assert told.endswith(b"MESSAGES 1 UIDNEXT 2 UNSEEN 1)")


def test_rfc_5465_5_1_a_new_message_of_the_selected_mailbox_is_fetched(node: Node, user: User, login: Login) -> None:
    node.deliver(user, b"Subject: before\r\n\r\nx\r\n")
    client = login()
    client.ok("SELECT INBOX")
    client.ok("NOTIFY SET (selected (MessageNew (UID BODY[HEADER.FIELDS (SUBJECT)]) MessageExpunge))")
    node.deliver(user, b"Subject: new\r\n\r\nx\r\n")
    assert client.response() == b"* 2 EXISTS"
    client.response()
    fetched = client.response()
    assert fetched.startswith(b"* 2 FETCH (UID 2 BODY[HEADER.FIELDS (SUBJECT)] {")
    assert b"Subject: new\r\n" in fetched
    assert node.held(user)[1][2] == ()  # told, not read


def test_rfc_5465_6_1_expunges_come_at_once_unless_delayed(node: Node, user: User, login: Login) -> None:
    node.deliver(user, *[b"Subject: x\r\n\r\nx\r\n"] * 2)
    at_once, delayed, other = login(), login(), login()
    for client, which in ((at_once, "selected"), (delayed, "selected-delayed")):
        client.ok("SELECT INBOX")
        client.ok(f"NOTIFY SET ({which} {MESSAGES})")
    other.ok("SELECT INBOX")
    other.ok("STORE 1 +FLAGS (\\Deleted)")
    assert at_once.response().startswith(b"* 1 FETCH (UID 1 FLAGS (\\Deleted")
    assert delayed.response().startswith(b"* 1 FETCH (UID 1 FLAGS (\\Deleted")
    other.ok("EXPUNGE")
    other.ok("STORE 1 +FLAGS (\\Flagged)")
    assert at_once.response() == b"* 1 EXPUNGE"
    assert at_once.response().startswith(b"* 1 FETCH (UID 2 FLAGS (\\Flagged")
    assert delayed.response().startswith(b"* 2 FETCH (UID 2 FLAGS (\\Flagged")
    assert delayed.ok("NOOP") == [b"* 1 EXPUNGE"]


def test_rfc_5465_5_4_names_that_come_and_go_are_told(login: Login) -> None:
    client, other = login(), login()
    client.ok("NOTIFY SET (subtree Work (MailboxName SubscriptionChange))")
    other.ok("CREATE Play")
    other.ok("CREATE Work")
    assert client.response() == b'* LIST () "/" "Work"'
    other.ok("SUBSCRIBE Work")
    assert client.response() == b'* LIST (\\Subscribed) "/" "Work"'
    other.ok("RENAME Work Toil")
    assert client.response() == b'* LIST () "/" "Toil" ("OLDNAME" ("Work"))'
    other.ok("UNSUBSCRIBE Work")
    assert client.response() == b'* LIST () "/" "Work"'
    other.ok("RENAME Toil Work")
    client.response()
    other.ok("DELETE Work")
    assert client.response() == b'* LIST (\\NonExistent) "/" "Work"'


def test_rfc_5465_5_6_entries_that_change_are_told(login: Login) -> None:
    client, other = login(), login()
    client.ok("NOTIFY SET (mailboxes INBOX (MailboxMetadataChange)) (personal (ServerMetadataChange))")
    other.ok('SETMETADATA INBOX (/private/comment "x")')
    assert client.response() == b'* METADATA "INBOX" "/private/comment"'
    other.ok('SETMETADATA "" (/private/comment "x")')
    assert client.response() == b'* METADATA "" "/private/comment"'


def test_rfc_5465_6_the_first_group_that_names_a_mailbox_counts_and_none_ends_it(
    node: Node, user: User, login: Login
) -> None:
    client, other = login(), login()
    client.ok(f"NOTIFY SET (mailboxes Junk NONE) (personal {MESSAGES})")
    node.deliver(user, b"Subject: x\r\n\r\nx\r\n", folder="Junk")
    node.deliver(user, b"Subject: x\r\n\r\nx\r\n")
    assert client.response().startswith(b'* STATUS "INBOX"')
    client.ok("NOTIFY NONE")
    node.deliver(user, b"Subject: x\r\n\r\nx\r\n")
    other.ok("NOOP")
    assert client.ok("NOOP") == []


def test_notices_come_while_idling_too(node: Node, user: User, login: Login) -> None:
    client = login()
    client.ok("SELECT Drafts")
    client.ok(f"NOTIFY SET (inboxes {MESSAGES})")
    client.send(b"i IDLE\r\n")
    assert client.response().startswith(b"+")
    node.deliver(user, b"Subject: x\r\n\r\nx\r\n")
    assert client.response().startswith(b'* STATUS "INBOX"')
    client.send(b"DONE\r\n")
    client.until(b"i")


def test_rfc_5465_5_8_too_much_at_once_ends_it_and_says_so(login: Login, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notify, "NAMES_LIMIT", 0)
    client, other = login(), login()
    client.ok("NOTIFY SET (personal (MailboxName))")
    other.ok("CREATE one")
    assert client.response().startswith(b"* OK [NOTIFICATIONOVERFLOW]")
    other.ok("CREATE two")
    assert client.ok("NOOP") == []


def test_the_past_is_quiet(node: Node, user: User, connect: Login) -> None:
    client = connect()
    client.ok(f'LOGIN "{user.login}@@#{node.log.status().applied}" "{PASSWORD}"')
    client.ok(f"NOTIFY SET (personal {MESSAGES})")
    node.deliver(user, b"Subject: x\r\n\r\nx\r\n")
    assert client.ok("NOOP") == []


def test_idle_in_the_past_is_quiet_while_the_present_hears_of_mail(node: Node, user: User, connect: Login) -> None:
    past, present = connect(), connect()
    past.ok(f'LOGIN "{user.login}@@#{node.log.status().applied}" "{PASSWORD}"')
    present.ok(f'LOGIN {user.login} "{PASSWORD}"')
    for client in (past, present):
        client.ok("SELECT INBOX")
        client.send(b"i IDLE\r\n")
        assert client.response().startswith(b"+")
    node.deliver(user, b"Subject: x\r\n\r\nx\r\n")
    assert present.response().endswith(b"EXISTS")
    past.send(b"DONE\r\n")
    assert past.until(b"i") == [b"OK IDLE completed"]


_WORDS = st.sampled_from(
    [
        b"SET",
        b"NONE",
        b"STATUS",
        b"(selected",
        b"(mailboxes",
        b"x",
        b"(",
        b")",
        b"(MessageNew",
        b"MessageExpunge)",
        b"UID",
    ]
)


@given(st.lists(_WORDS, max_size=12).map(b" ".join))
def test_words_in_any_order_are_a_command_or_a_refusal(text: bytes) -> None:
    with contextlib.suppress(Refusal):
        parse(b"a NOTIFY " + text)

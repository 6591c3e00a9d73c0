"""The POP3 session without I/O: what each command is answered, in which state."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodes.logins.sasl import Credentials
from nodes.pop3.events import (
    Authenticate,
    Close,
    Event,
    Listing,
    LogIn,
    Remove,
    Respond,
    Say,
    Send,
    StartTls,
)
from nodes.pop3.maildrop import Entry, Maildrop, unique_id
from nodes.pop3.session import COMMANDS, Limits, Session
from nodes.pop3.states import KNOWN, LEGAL, State

MECHANISMS = ("PLAIN", "LOGIN")
LIMITS = Limits(line_bytes=200, errors=5)
ENTRIES = [Entry(uid, bytes([uid]) * 16, b"d" * 32, uid * 10, b"") for uid in (3, 5, 9)]


def session(*, secure: bool = False, may_log_in: bool = True) -> Session:
    return Session(LIMITS, secure=secure, offers_tls=True, mechanisms=MECHANISMS if may_log_in else ())


def opened(entries: list[Entry] | None = None) -> Session:
    one = session()
    ask(one, b"USER alice")
    assert ask(one, b"PASS two words") == LogIn(Credentials("alice", "two words"), "USER")
    one.logged_in(Maildrop(b"t" * 16, b"a" * 16, b"f" * 16, ENTRIES if entries is None else entries))
    return one


def ask(one: Session, line: bytes) -> Event | None:
    one.feed(line + b"\r\n")
    return one.next_event()


def said(one: Session, line: bytes) -> bytes:
    return data_of(ask(one, line))


def data_of(event: Event | None) -> bytes:
    assert isinstance(event, Say | Listing)
    return event.data if isinstance(event, Say) else b"".join(event.pieces())


def test_every_command_of_the_table_is_carried_out_by_somebody() -> None:
    assert COMMANDS.keys() == KNOWN


def test_log_in_tells_how_much_there_is() -> None:
    one = session()
    assert said(one, b"user alice") == b"+OK Send PASS\r\n"
    assert isinstance(ask(one, b"pass secret"), LogIn)
    assert one.logged_in(Maildrop(b"t", b"a", b"f", ENTRIES)) == Say(b"+OK 3 messages (170 octets)\r\n")


def test_pass_must_follow_user_at_once() -> None:
    one = session()
    assert said(one, b"PASS secret") == b"-ERR Not in this state\r\n"
    said(one, b"USER alice")
    assert said(one, b"CAPA").startswith(b"+OK")
    assert isinstance(ask(one, b"PASS secret"), LogIn)
    two = session()
    said(two, b"USER alice")
    assert said(two, b"AUTH") == b"+OK Mechanisms follow\r\nPLAIN\r\nLOGIN\r\n.\r\n"
    assert said(two, b"PASS secret") == b"-ERR Not in this state\r\n"


@pytest.mark.parametrize("state", [State.AUTHORIZATION, State.NAMED, State.TRANSACTION])
def test_a_command_of_another_state_is_refused_and_harms_nothing(state: State) -> None:
    for verb in KNOWN - LEGAL[state]:
        one = opened() if state is State.TRANSACTION else session()
        if state is State.NAMED:
            said(one, b"USER alice")
        assert said(one, verb + b" 1") == b"-ERR Not in this state\r\n"
        assert one.state is state


def test_a_wrong_password_may_be_followed_by_a_right_one() -> None:
    one = session()
    said(one, b"USER alice")
    ask(one, b"PASS wrong")
    assert one.not_logged_in("Wrong name or password", "AUTH") == Say(b"-ERR [AUTH] Wrong name or password\r\n")
    said(one, b"USER alice")
    assert isinstance(ask(one, b"PASS right"), LogIn)


def test_auth_names_a_mechanism_and_may_bring_its_first_response() -> None:
    assert ask(session(), b"auth plain AGE=") == Authenticate("PLAIN", b"AGE=")
    assert ask(session(), b"AUTH LOGIN =") == Authenticate("LOGIN", b"=")
    assert ask(session(), b"AUTH LOGIN") == Authenticate("LOGIN", None)
    assert said(session(), b"AUTH CRAM-MD5") == b"-ERR Mechanism not supported\r\n"


def test_a_challenge_is_answered_by_the_next_line() -> None:
    one = session()
    ask(one, b"AUTH LOGIN")
    assert one.challenge(b"Username:") == Say(b"+ VXNlcm5hbWU6\r\n")
    assert ask(one, b"YWxpY2U=") == Respond(b"YWxpY2U=")
    one.feed(b"NOOP\r\n")
    assert one.next_event() is None
    assert one.challenge(b"") == Say(b"+ \r\n")
    assert one.next_event() == Respond(b"NOOP")


def test_a_cancelled_or_over_long_answer_leaves_the_session_where_it_was() -> None:
    one = session()
    for line in (b"*", b"x" * 300):
        ask(one, b"AUTH PLAIN")
        one.challenge(b"")
        assert said(one, line).startswith(b"-ERR ")
        assert one.state is State.AUTHORIZATION


def test_no_password_is_taken_in_clear_where_policy_forbids_it() -> None:
    one = session(may_log_in=False)
    refusal = b"-ERR A password may not come in clear: send STLS first\r\n"
    assert said(one, b"USER alice") == refusal
    assert said(one, b"AUTH PLAIN") == refusal
    assert b"\r\nUSER\r\n" not in said(one, b"CAPA")
    assert ask(one, b"STLS") == StartTls(b"+OK Begin TLS\r\n")
    one.tls_started(MECHANISMS)
    assert said(one, b"USER alice") == b"+OK Send PASS\r\n"


def test_what_came_in_clear_after_stls_is_thrown_away() -> None:
    one = session()
    one.feed(b"STLS\r\nUSER mallory\r\n")
    assert isinstance(one.next_event(), StartTls)
    assert one.next_event() is None
    one.tls_started(MECHANISMS)
    assert one.next_event() is None
    assert said(one, b"STLS") == b"-ERR TLS is active already\r\n"


def test_capabilities_are_those_of_the_state() -> None:
    before = said(session(), b"CAPA").split(b"\r\n")
    assert {b"USER", b"SASL PLAIN LOGIN", b"STLS", b"UIDL", b"TOP", b"PIPELINING", b"RESP-CODES"} <= set(before)
    assert b"STLS" not in said(opened(), b"CAPA").split(b"\r\n")
    assert b"STLS" not in said(session(secure=True), b"CAPA").split(b"\r\n")


def test_listings_leave_out_what_is_marked() -> None:
    one = opened()
    assert said(one, b"DELE 2") == b"+OK Message 2 is marked as deleted\r\n"
    assert said(one, b"STAT") == b"+OK 2 120\r\n"
    assert said(one, b"LIST") == b"+OK 2 messages (120 octets)\r\n1 30\r\n3 90\r\n.\r\n"
    assert said(one, b"LIST 3") == b"+OK 3 90\r\n"
    uidl = said(one, b"UIDL")
    assert uidl == b"+OK Unique ids follow\r\n1 %b-3\r\n3 %b-9\r\n.\r\n" % (b"03" * 16, b"09" * 16)
    assert said(one, b"UIDL 1") == b"+OK 1 %b-3\r\n" % (b"03" * 16)
    for line in (b"LIST 2", b"UIDL 2", b"RETR 2", b"DELE 2", b"TOP 2 1"):
        fresh = opened()
        said(fresh, b"DELE 2")
        assert said(fresh, line) == b"-ERR No such message\r\n"


def test_reset_takes_all_marks_back() -> None:
    one = opened()
    said(one, b"DELE 1")
    assert said(one, b"RSET") == b"+OK 3 messages (170 octets)\r\n"
    assert ask(one, b"RETR 1") == Send(ENTRIES[0], None)


def test_quit_asks_for_the_removal_of_what_is_marked_and_says_how_it_ended() -> None:
    for done, answer in ((True, b"+OK Bye\r\n"), (False, b"-ERR [SYS/TEMP] ")):
        one = opened()
        said(one, b"DELE 3")
        said(one, b"DELE 1")
        assert ask(one, b"QUIT") == Remove((3, 9))
        closing = one.removed(done)
        assert isinstance(closing, Close)
        assert closing.data.startswith(answer)


def test_quit_without_marks_removes_nothing() -> None:
    assert ask(opened(), b"QUIT") == Close(b"+OK Bye\r\n")
    assert ask(session(), b"QUIT") == Close(b"+OK Bye\r\n")


@pytest.mark.parametrize("argument", [b"", b" x", b" 0", b" -1", b" 4", b" 99999999999", b" 1 2 3"])
def test_a_bad_argument_is_refused(argument: bytes) -> None:
    for verb in (b"RETR", b"DELE", b"TOP"):
        assert said(opened(), verb + argument).startswith(b"-ERR ")


def test_top_takes_a_message_and_a_number_of_lines() -> None:
    assert ask(opened(), b"TOP 2 0") == Send(ENTRIES[1], 0)


def test_an_over_long_line_is_refused_and_the_session_goes_on() -> None:
    one = session()
    one.feed(b"x" * 500)
    assert one.next_event() is None
    one.feed(b"x" * 500 + b"\r\nCAPA\r\n")
    assert one.next_event() == Say(b"-ERR Line too long\r\n")
    assert data_of(one.next_event()).startswith(b"+OK")


def test_too_many_errors_close_the_session() -> None:
    one = session()
    events = [ask(one, b"FOO") for _ in range(5)]
    assert events == [Say(b"-ERR Unknown command\r\n")] * 4 + [
        Close(b"-ERR Unknown command\r\n-ERR Too many errors\r\n")
    ]
    assert ask(one, b"CAPA") is None


def test_unique_ids_stay_when_the_message_they_were_copied_from_goes() -> None:
    copy = ENTRIES[0]._replace(uid=77)
    assert said(opened([ENTRIES[0], copy]), b"UIDL 2") == b"+OK 2 %b-77\r\n" % (b"03" * 16)
    assert said(opened([copy]), b"UIDL 1") == b"+OK 1 %b-77\r\n" % (b"03" * 16)


@given(st.binary(min_size=16, max_size=16), st.integers(1, 2**32 - 1))
def test_a_unique_id_is_of_1_to_70_printable_characters(id_: bytes, uid: int) -> None:
    text = unique_id(Entry(uid, id_, b"", 0, b""))
    assert 1 <= len(text) <= 70
    assert all(0x21 <= ord(character) <= 0x7E for character in text)


@given(st.lists(st.binary(max_size=30), max_size=20))
def test_arbitrary_input_gives_status_lines_and_never_an_exception(chunks: list[bytes]) -> None:
    one = opened()
    for chunk in chunks:
        one.feed(chunk)
        while (event := one.next_event()) is not None:
            if isinstance(event, Listing):
                assert b"".join(event.pieces()).endswith(b"\r\n.\r\n")
            if isinstance(event, Say | Close):
                assert event.data.startswith((b"+", b"-ERR "))
            if isinstance(event, Remove):
                one.removed(True)


def test_rfc_6856_2_1_utf8_is_said_before_log_in_and_forgotten_with_stls() -> None:
    one = session()
    assert b"\r\nUTF8 USER\r\n" in said(one, b"CAPA")
    assert said(one, b"UTF8") == b"+OK UTF-8 it is\r\n"
    assert said(one, b"UTF8 x").startswith(b"-ERR ")
    ask(one, b"STLS")
    one.tls_started(MECHANISMS)
    assert not one.utf8
    assert said(one, b"UTF8").startswith(b"+OK ")
    assert said(opened(), b"UTF8") == b"-ERR Not in this state\r\n"


def test_rfc_6856_2_2_names_and_passwords_may_be_utf_8() -> None:
    one = session()
    said(one, b"UTF8")
    said(one, "USER jürgen@example.test".encode())
    assert ask(one, "PASS grüße".encode()) == LogIn(Credentials("jürgen@example.test", "grüße"), "USER")


@pytest.mark.parametrize("make", [session, opened])
def test_rfc_6856_3_languages_are_listed_and_chosen_in_both_states(make: Callable[[], Session]) -> None:
    one = make()
    assert b"\r\nLANG\r\n" in said(one, b"CAPA")
    assert said(one, b"LANG") == b"+OK Languages follow\r\nen English\r\ni-default The default, English\r\n.\r\n"
    for line, tag in ((b"EN", b"en"), (b"en-GB-oed", b"en"), (b"*", b"i-default"), (b"i-default", b"i-default")):
        assert said(one, b"LANG " + line).startswith(b"+OK %b " % tag)
    for line in (b"fr", b"i", b"-", b"\xff", b"x" * 150):
        assert said(make(), b"LANG " + line) == b"-ERR That language is not spoken here\r\n"
